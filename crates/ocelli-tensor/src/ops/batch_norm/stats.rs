//! Mean and variance of columns, from x or from sums that another kernel took while it had x in registers.

use crate::memory::Buffer;
use crate::ops::columns::{Terms, chunk_sums, rounded, rows_per_chunk};
use crate::ops::pointwise::load;
use crate::simd::Simd;
use crate::{Element, Error, Result, Tensor, threads};

/// Sums over some of a tensor's rows, column by column: of x − centre, and of its square.
///
/// The variance that comes of them is the more exact the nearer the centre is to the mean. If sums are taken with a
/// relative error of ε (2⁻²⁴ · √64 or so for blocks of 64 rows in `f32` that are added up in `f64`), the variance's is
/// at most about ε (1 + (mean − centre)² / var), so that a centre of 0 is good for means of up to some hundred
/// deviations.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments<T> {
    /// How many rows were summed, at least one.
    pub rows: usize,
    /// `[C]`: what was subtracted, such as the first of the rows or an expected mean.
    pub centre: Vec<T>,
    /// `[C]`: Σ (x − centre)
    pub sums: Vec<f64>,
    /// `[C]`: Σ (x − centre)²
    pub squares: Vec<f64>,
}

/// The mean and the biased variance of every column, each `[C]`.
///
/// However large the mean is beside the deviation, they are good to about the element type's precision: squares are
/// taken of differences from the first row of a chunk of rows, which is some deviations from the chunk's mean, and
/// chunks are merged by Chan, Golub & LeVeque's formula in `f64`.
///
/// Errors if there is no row.
pub fn batch_norm_stats<T: Element>(x: &Tensor<T>) -> Result<(Tensor<T>, Tensor<T>)> {
    let (rows, columns) = (x.shape().rows(), x.shape().columns());
    if rows == 0 {
        return Err(Error::shape("batch_norm_stats", "input", "at least one row", x.shape()));
    }
    // Merging a part costs about as much as adding some rows, but a small input is to be enough for some threads.
    const LEAST_PARTS: usize = 8;
    let chunk = rows.div_ceil(LEAST_PARTS).clamp(rows_per_chunk(columns), 4 * rows_per_chunk(columns));
    let centre = |i: usize| &x.data()[i * chunk * columns..][..columns];
    let rows_of = |i: usize| chunk.min(rows - i * chunk);
    let mut sums = Buffer::scratch(rows.div_ceil(chunk) * 2 * columns);
    threads::for_each_chunk(&mut sums, 2 * columns, |i, sums| {
        let differences = Differences { x: x.data(), centre: centre(i) };
        chunk_sums(differences, i * chunk * columns, rows_of(i), columns, sums);
    });
    let parts = sums.chunks_exact((2 * columns).max(1)).enumerate().map(|(i, sums)| {
        let (sums, squares) = sums.split_at(columns);
        Part { rows: rows_of(i) as f64, centre: centre(i), sums, squares }
    });
    Ok(merge(parts, columns))
}

/// [`batch_norm_stats`] from the moments of parts of x which together are all of it, such as a convolution can sum
/// up while it computes x. They are combined in the given order.
///
/// Errors if there is no part, or if one has no rows or not as many columns as the first.
pub fn batch_norm_stats_from_moments<T: Element>(parts: &[Moments<T>]) -> Result<(Tensor<T>, Tensor<T>)> {
    const OP: &str = "batch_norm_stats_from_moments";
    let Some(first) = parts.first() else {
        return Err(Error::argument(OP, "part count", "of at least 1", 0));
    };
    let columns = first.centre.len();
    for part in parts {
        if part.rows == 0 {
            return Err(Error::argument(OP, "rows of a part", "of at least 1", 0));
        }
        let lengths = [part.centre.len(), part.sums.len(), part.squares.len()];
        if lengths != [columns; 3] {
            return Err(Error::argument(OP, "columns of a part", columns, format!("{lengths:?}")));
        }
    }
    let parts =
        parts.iter().map(|Moments { rows, centre, sums, squares }| Part { rows: *rows as f64, centre, sums, squares });
    Ok(merge(parts, columns))
}

/// [`Moments`] that lie elsewhere.
struct Part<'a, T> {
    rows: f64,
    centre: &'a [T],
    sums: &'a [f64],
    squares: &'a [f64],
}

fn merge<'a, T: Element>(parts: impl Iterator<Item = Part<'a, T>> + Clone, columns: usize) -> (Tensor<T>, Tensor<T>) {
    let rows: f64 = parts.clone().map(|part| part.rows).sum();
    let mut mean = Buffer::<f64>::zeros(columns);
    for part in parts.clone() {
        let share = part.rows / rows;
        for ((mean, centre), sum) in mean.iter_mut().zip(part.centre).zip(part.sums) {
            *mean += centre.to_f64() * share + sum / rows;
        }
    }
    let mut squares = Buffer::<f64>::zeros(columns);
    for part in parts {
        let n = part.rows;
        for (c, total) in squares.iter_mut().enumerate() {
            let shift = part.sums[c] / n;
            let within = (part.squares[c] - n * shift * shift).max(0.0);
            *total += within + n * (part.centre[c].to_f64() + shift - mean[c]).powi(2);
        }
    }
    (rounded([columns], &mean, 1.0), rounded([columns], &squares, 1.0 / rows))
}

/// x − centre and its square.
#[derive(Clone, Copy)]
struct Differences<'a, T> {
    x: &'a [T],
    centre: &'a [T],
}

impl<T: Element> Terms<T, 2> for Differences<'_, T> {
    #[inline(always)]
    fn terms<S: Simd<T>>(self, simd: S, at: usize, column: usize, n: usize) -> [S::V; 2] {
        let d = simd.sub(load(simd, self.x, at, n), load(simd, self.centre, column, n));
        [d, simd.mul(d, d)]
    }
}
