//! Mean and variance of columns.

use crate::memory::Buffer;
use crate::ops::columns::{Terms, chunk_sums, rounded, rows_per_chunk};
use crate::ops::pointwise::{ask, load};
use crate::simd::Simd;
use crate::{Element, Error, Result, Tensor, threads};

/// What is known of the columns of `[…, C]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnStats<T: Element> {
    /// `[C]`
    pub mean: Tensor<T>,
    /// Biased, `[C]`.
    pub var: Tensor<T>,
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

/// Sums over some of the rows, column by column.
pub(crate) struct Part<'a, T> {
    pub rows: f64,
    /// What is subtracted.
    pub centre: &'a [T],
    /// Σ (x − centre)
    pub sums: &'a [f64],
    /// Σ (x − centre)²
    pub squares: &'a [f64],
}

/// The mean and the biased variance of every column of all parts together.
pub(crate) fn merge<'a, T: Element>(
    parts: impl Iterator<Item = Part<'a, T>> + Clone,
    columns: usize,
) -> (Tensor<T>, Tensor<T>) {
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

    #[inline(always)]
    fn ask<S: Simd<T>>(self, simd: S, at: usize) {
        ask(simd, self.x, at);
    }
}
