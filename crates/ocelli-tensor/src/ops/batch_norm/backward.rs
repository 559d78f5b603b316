//! Gradients of batch normalisation, in two passes over x and dy: the column sums Σ dy and Σ dy (x − mean), then dx.

use super::{check_columns, inverse_deviation};
use crate::ops::columns::{Terms, column_sums, rounded};
use crate::ops::elementwise::mul;
use crate::ops::pointwise::{load, store};
use crate::simd::{self, Kernel, Simd};
use crate::{Element, Error, Result, Tensor, threads};

/// The gradients (dx, dγ, dβ) of [`batch_norm`](super::batch_norm) in training, through mean and variance, which must
/// be those of x ([`batch_norm_stats`](super::batch_norm_stats)):
///
/// dβ = Σ dy, dγ = Σ dy x̂, dx = γ / √(var + eps) · (dy − dβ / m − x̂ dγ / m), with m rows.
///
/// Errors if dy's shape is not x's or one of mean, var and γ is not `[C]`.
pub fn batch_norm_backward<T: Element>(
    x: &Tensor<T>,
    mean: &Tensor<T>,
    var: &Tensor<T>,
    gamma: &Tensor<T>,
    eps: f64,
    dy: &Tensor<T>,
) -> Result<(Tensor<T>, Tensor<T>, Tensor<T>)> {
    check("batch_norm_backward", x, dy, [("mean", mean), ("var", var), ("gamma", gamma)])?;
    let (rows, columns) = (x.shape().rows() as f64, x.shape().columns());
    let inverse = inverse_deviation(var, eps);
    let (dgamma, dbeta) = parameter_gradients(x, mean, &inverse, dy);
    let mut coefficients = mean.data().to_vec();
    let scale = |c: usize| gamma.data()[c].to_f64() * inverse[c];
    coefficients.extend((0..columns).map(|c| T::from_f64(scale(c))));
    coefficients.extend((0..columns).map(|c| T::from_f64(-scale(c) * inverse[c] * dgamma[c] / rows)));
    coefficients.extend((0..columns).map(|c| T::from_f64(-scale(c) * dbeta[c] / rows)));
    let mut dx = Tensor::scratch(x.shape());
    let chunk = threads::rows_per_chunk(columns) * columns;
    threads::for_each_chunk(dx.data_mut(), chunk, |i, dx| {
        let rows = i * chunk..i * chunk + dx.len();
        simd::dispatch(Through { x: &x.data()[rows.clone()], dy: &dy.data()[rows], coefficients: &coefficients, dx });
    });
    Ok((dx, rounded([columns], &dgamma, 1.0), rounded([columns], &dbeta, 1.0)))
}

/// The gradients (dx, dγ, dβ) of [`batch_norm`](super::batch_norm) with constant mean and variance:
/// dβ = Σ dy, dγ = Σ dy x̂, dx = γ / √(var + eps) · dy.
///
/// Errors if dy's shape is not x's or one of mean, var and γ is not `[C]`.
pub fn batch_norm_backward_frozen<T: Element>(
    x: &Tensor<T>,
    mean: &Tensor<T>,
    var: &Tensor<T>,
    gamma: &Tensor<T>,
    eps: f64,
    dy: &Tensor<T>,
) -> Result<(Tensor<T>, Tensor<T>, Tensor<T>)> {
    check("batch_norm_backward_frozen", x, dy, [("mean", mean), ("var", var), ("gamma", gamma)])?;
    let columns = x.shape().columns();
    let inverse = inverse_deviation(var, eps);
    let (dgamma, dbeta) = parameter_gradients(x, mean, &inverse, dy);
    let scale = Tensor::from_fn([columns], |c| T::from_f64(gamma.data()[c].to_f64() * inverse[c]));
    Ok((mul(dy, &scale)?, rounded([columns], &dgamma, 1.0), rounded([columns], &dbeta, 1.0)))
}

fn check<T: Element>(
    op: &'static str,
    x: &Tensor<T>,
    dy: &Tensor<T>,
    vectors: [(&'static str, &Tensor<T>); 3],
) -> Result<()> {
    check_columns(op, x, vectors)?;
    if dy.shape() == x.shape() { Ok(()) } else { Err(Error::shape(op, "dy", x.shape(), dy.shape())) }
}

/// (dγ, dβ)
fn parameter_gradients<T: Element>(
    x: &Tensor<T>,
    mean: &Tensor<T>,
    inverse: &[f64],
    dy: &Tensor<T>,
) -> (Vec<f64>, Vec<f64>) {
    let (rows, columns) = (x.shape().rows(), x.shape().columns());
    let terms = Moments { x: x.data(), dy: dy.data(), mean: mean.data() };
    let mut dbeta = column_sums(terms, rows, columns);
    let mut dgamma = dbeta.split_off(columns);
    dgamma.iter_mut().zip(inverse).for_each(|(sum, inverse)| *sum *= inverse);
    (dgamma, dbeta)
}

/// dy and dy (x − mean)
#[derive(Clone, Copy)]
struct Moments<'a, T> {
    x: &'a [T],
    dy: &'a [T],
    mean: &'a [T],
}

impl<T: Element> Terms<T, 2> for Moments<'_, T> {
    #[inline(always)]
    fn terms<S: Simd<T>>(self, simd: S, at: usize, column: usize, n: usize) -> [S::V; 2] {
        let dy = load(simd, self.dy, at, n);
        let centred = simd.sub(load(simd, self.x, at, n), load(simd, self.mean, column, n));
        [dy, simd.mul(dy, centred)]
    }
}

/// dx = scale · dy + (slope · (x − mean) + shift) for whole rows.
struct Through<'a, T> {
    x: &'a [T],
    dy: &'a [T],
    /// mean, scale, slope and shift of all columns, one after the other
    coefficients: &'a [T],
    dx: &'a mut [T],
}

impl<T: Element> Kernel<T> for Through<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Through { x, dy, coefficients, dx } = self;
        let columns = coefficients.len() / 4;
        let (mean, rest) = coefficients.split_at(columns);
        let (scale, rest) = rest.split_at(columns);
        let (slope, shift) = rest.split_at(columns);
        let rows = x.chunks_exact(columns).zip(dy.chunks_exact(columns)).zip(dx.chunks_exact_mut(columns));
        for ((x, dy), dx) in rows {
            for c in (0..columns).step_by(S::LANES) {
                let n = S::LANES.min(columns - c);
                let centred = simd.sub(load(simd, x, c, n), load(simd, mean, c, n));
                let through = simd.mul_add(centred, load(simd, slope, c, n), load(simd, shift, c, n));
                let v = simd.mul_add(load(simd, dy, c, n), load(simd, scale, c, n), through);
                store(simd, v, dx, c, n);
            }
        }
    }
}
