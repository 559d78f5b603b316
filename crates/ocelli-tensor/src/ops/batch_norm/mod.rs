//! Batch normalisation over the columns of `[…, C]`: y = γ · x̂ + β with x̂ = (x − mean) / √(var + eps).
//!
//! In training, mean and (biased) variance are those of the batch, [`batch_norm_stats`], and the gradient flows through
//! them, [`batch_norm_backward`]; in evaluation, or when the statistics are frozen, they are constants,
//! [`batch_norm_backward_frozen`]. Ioffe & Szegedy 2015, <https://arxiv.org/abs/1502.03167>.

mod backward;
#[cfg(test)]
mod tests;

pub use backward::{batch_norm_backward, batch_norm_backward_frozen};

use super::columns::{Terms, Values, chunk_sums, rounded, rows_per_chunk};
use super::pointwise::{load, store};
use crate::simd::{self, Kernel, Simd};
use crate::{Element, Error, Result, Tensor, threads};

/// The mean and the biased variance of every column, each `[C]`.
///
/// Both are as exact as the element type allows however large the mean is beside the deviation: squares are taken of
/// differences from the mean of a chunk of rows, and chunks are merged by Chan, Golub & LeVeque's formula in `f64`.
///
/// Errors if there is no row.
pub fn batch_norm_stats<T: Element>(x: &Tensor<T>) -> Result<(Tensor<T>, Tensor<T>)> {
    let (rows, columns) = (x.shape().rows(), x.shape().columns());
    if rows == 0 {
        return Err(Error::shape("batch_norm_stats", "input", "at least one row", x.shape()));
    }
    let chunk = rows_per_chunk(columns);
    let data = x.data();
    let parts = threads::map(rows.div_ceil(chunk), |i| {
        let (start, rows) = (i * chunk * columns, chunk.min(rows - i * chunk));
        let mut means = chunk_sums(Values(data), start, rows, columns);
        means.iter_mut().for_each(|mean| *mean /= rows as f64);
        let centres: Vec<T> = means.iter().map(|&mean| T::from_f64(mean)).collect();
        let squares = chunk_sums(SquaredDifferences { x: data, centres: &centres }, start, rows, columns);
        (rows as f64, means, squares)
    });
    let mut mean = vec![0.0; columns];
    for (n, means, _) in &parts {
        mean.iter_mut().zip(means).for_each(|(mean, part)| *mean += n * part / rows as f64);
    }
    let mut squares = vec![0.0; columns];
    for (n, means, parts) in &parts {
        for (((sum, part), part_mean), mean) in squares.iter_mut().zip(parts).zip(means).zip(&mean) {
            *sum += part + n * (part_mean - mean).powi(2);
        }
    }
    Ok((rounded([columns], &mean, 1.0), rounded([columns], &squares, 1.0 / rows as f64)))
}

/// y = γ (x − mean) / √(var + eps) + β, with mean, var, γ and β `[C]`.
///
/// Errors if one of them is not `[C]`.
pub fn batch_norm<T: Element>(
    x: &Tensor<T>,
    mean: &Tensor<T>,
    var: &Tensor<T>,
    gamma: &Tensor<T>,
    beta: &Tensor<T>,
    eps: f64,
) -> Result<Tensor<T>> {
    check_columns("batch_norm", x, [("mean", mean), ("var", var), ("gamma", gamma), ("beta", beta)])?;
    let columns = x.shape().columns();
    let inverse = inverse_deviation(var, eps);
    let scale: Vec<T> = gamma.data().iter().zip(&inverse).map(|(g, s)| T::from_f64(g.to_f64() * s)).collect();
    let (x, mean, beta) = (x, mean.data(), beta.data());
    let mut y = Tensor::scratch(x.shape());
    let chunk = threads::rows_per_chunk(columns) * columns;
    threads::for_each_chunk(y.data_mut(), chunk, |i, y| {
        let x = &x.data()[i * chunk..][..y.len()];
        simd::dispatch(Normalize { x, mean, scale: &scale, beta, y });
    });
    Ok(y)
}

fn check_columns<T: Element, const K: usize>(
    op: &'static str,
    x: &Tensor<T>,
    vectors: [(&'static str, &Tensor<T>); K],
) -> Result<()> {
    let columns = [x.shape().columns()];
    match vectors.iter().find(|(_, vector)| **vector.shape() != columns) {
        Some((what, vector)) => Err(Error::shape(op, what, format!("{columns:?}"), vector.shape())),
        None => Ok(()),
    }
}

/// 1 / √(var + eps)
fn inverse_deviation<T: Element>(var: &Tensor<T>, eps: f64) -> Vec<f64> {
    var.data().iter().map(|var| 1.0 / (var.to_f64() + eps).sqrt()).collect()
}

/// (x − centre)²
#[derive(Clone, Copy)]
struct SquaredDifferences<'a, T> {
    x: &'a [T],
    centres: &'a [T],
}

impl<T: Element> Terms<T, 1> for SquaredDifferences<'_, T> {
    #[inline(always)]
    fn terms<S: Simd<T>>(self, simd: S, at: usize, column: usize, n: usize) -> [S::V; 1] {
        let d = simd.sub(load(simd, self.x, at, n), load(simd, self.centres, column, n));
        [simd.mul(d, d)]
    }
}

/// y = (x − mean) · scale + β for whole rows. (One multiplication and addition with a precomputed shift would round
/// mean · scale, which may be much larger than the result.)
struct Normalize<'a, T> {
    x: &'a [T],
    mean: &'a [T],
    scale: &'a [T],
    beta: &'a [T],
    y: &'a mut [T],
}

impl<T: Element> Kernel<T> for Normalize<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Normalize { x, mean, scale, beta, y } = self;
        let columns = mean.len();
        for (x, y) in x.chunks_exact(columns).zip(y.chunks_exact_mut(columns)) {
            for c in (0..columns).step_by(S::LANES) {
                let n = S::LANES.min(columns - c);
                let centred = simd.sub(load(simd, x, c, n), load(simd, mean, c, n));
                let v = simd.mul_add(centred, load(simd, scale, c, n), load(simd, beta, c, n));
                store(simd, v, y, c, n);
            }
        }
    }
}
