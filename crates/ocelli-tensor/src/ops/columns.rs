//! Sums over rows, column by column: what reductions, batch normalisation, pooling and the gradients of broadcasts
//! have in common.
//!
//! Rows are cut into chunks by shape alone. Within a chunk, blocks of at most [`BLOCK`] rows are summed in the element
//! type, and blocks are added up in `f64`, so the rounding error does not grow with the number of rows. Chunks are
//! combined in order.

use super::pointwise::{ask, load};
use crate::memory::{Buffer, Scratch};
use crate::simd::{self, Kernel, Simd};
use crate::{Element, Shape, Tensor, threads};

/// Rows that are summed in the element type.
const BLOCK: usize = 64;

/// `K` quantities of every element of a matrix, to be summed over rows.
pub(crate) trait Terms<T: Element, const K: usize>: Copy + Send + Sync {
    /// The quantities of `n <= LANES` elements from element `at` on, which lie in column `column` and the following;
    /// 0 in the other lanes. Implementations are `#[inline(always)]`.
    fn terms<S: Simd<T>>(self, simd: S, at: usize, column: usize, n: usize) -> [S::V; K];

    /// Asks for the memory that [`terms`](Self::terms) reads of element `at`, if there is one. Implementations are
    /// `#[inline(always)]`.
    fn ask<S: Simd<T>>(self, simd: S, at: usize);
}

/// A matrix's elements.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a, T>(pub &'a [T]);

impl<T: Element> Terms<T, 1> for Values<'_, T> {
    #[inline(always)]
    fn terms<S: Simd<T>>(self, simd: S, at: usize, _: usize, n: usize) -> [S::V; 1] {
        [load(simd, self.0, at, n)]
    }

    #[inline(always)]
    fn ask<S: Simd<T>>(self, simd: S, at: usize) {
        ask(simd, self.0, at);
    }
}

/// The products of two matrices' elements.
#[derive(Clone, Copy)]
pub(crate) struct Products<'a, T>(pub &'a [T], pub &'a [T]);

impl<T: Element> Terms<T, 1> for Products<'_, T> {
    #[inline(always)]
    fn terms<S: Simd<T>>(self, simd: S, at: usize, _: usize, n: usize) -> [S::V; 1] {
        [simd.mul(load(simd, self.0, at, n), load(simd, self.1, at, n))]
    }

    #[inline(always)]
    fn ask<S: Simd<T>>(self, simd: S, at: usize) {
        ask(simd, self.0, at);
        ask(simd, self.1, at);
    }
}

/// The sums over the rows of each of `groups` consecutive matrices `[rows, columns]`. A group's result is the
/// `columns` sums of the first quantity, then those of the second, and so on.
pub(crate) fn grouped_sums<T: Element, const K: usize>(
    f: impl Terms<T, K>,
    groups: usize,
    rows: usize,
    columns: usize,
) -> Buffer<f64> {
    let mut sums = Buffer::scratch(groups * K * columns);
    map_grouped_sums(f, rows, columns, |sum| sum, &mut sums);
    sums
}

/// `finish` of each of [`grouped_sums`], into a slice for all groups.
pub(crate) fn map_grouped_sums<T: Element, R: Send, const K: usize>(
    f: impl Terms<T, K>,
    rows: usize,
    columns: usize,
    finish: impl Fn(f64) -> R + Sync,
    out: &mut [R],
) {
    let len = K * columns;
    if out.is_empty() {
        return;
    }
    let put = |sums: &[f64], out: &mut [R]| out.iter_mut().zip(sums).for_each(|(out, &sum)| *out = finish(sum));
    let groups = out.len() / len;
    let mut chunk = rows_per_chunk(columns);
    if rows <= chunk && rows / 2 >= threads::rows_per_chunk(columns) {
        // One chunk, but long rows: work for two threads.
        chunk = rows.div_ceil(2);
    }
    if rows <= chunk {
        let together = (chunk / rows.max(1)).max(1);
        threads::for_each_chunk(out, together * len, |i, out| {
            let mut sums = Scratch::new(len);
            for (g, out) in out.chunks_exact_mut(len).enumerate() {
                chunk_sums(f, (i * together + g) * rows * columns, rows, columns, &mut sums);
                put(&sums, out);
            }
        });
        return;
    }
    let chunks = rows.div_ceil(chunk);
    let mut parts = Scratch::new(groups * chunks * len);
    threads::for_each_chunk(&mut parts, len, |i, part| {
        let (group, first) = (i / chunks, i % chunks * chunk);
        chunk_sums(f, (group * rows + first) * columns, chunk.min(rows - first), columns, part);
    });
    let mut sums = Scratch::new(len);
    for (out, parts) in out.chunks_exact_mut(len).zip(parts.chunks_exact(chunks * len)) {
        sums.fill(0.0);
        add_in_order(&mut sums, parts);
        put(&sums, out);
    }
}

/// Adds the sums of consecutive chunks to `sums`, one after the other.
pub(crate) fn add_in_order(sums: &mut [f64], parts: &[f64]) {
    for part in parts.chunks_exact(sums.len().max(1)) {
        sums.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
    }
}

/// The sums over all rows of a matrix; laid out as in [`grouped_sums`].
pub(crate) fn column_sums<T: Element, const K: usize>(f: impl Terms<T, K>, rows: usize, columns: usize) -> Buffer<f64> {
    grouped_sums(f, 1, rows, columns)
}

/// The sum of each row of a matrix.
pub(crate) fn row_sums<T: Element>(f: impl Terms<T, 1>, rows: usize, columns: usize) -> Buffer<f64> {
    let mut sums = Buffer::zeros(rows);
    let chunk = threads::rows_per_chunk(columns);
    threads::for_each_chunk(&mut sums, chunk, |i, sums| {
        simd::dispatch(Rows { f, start: i * chunk * columns, columns, sums });
    });
    sums
}

/// The sum of all elements of a slice of length `len`.
pub(crate) fn total<T: Element>(f: impl Terms<T, 1>, len: usize) -> f64 {
    // As a matrix of a few registers' columns, and a rest.
    const COLUMNS: usize = 64;
    let rows = len / COLUMNS;
    let mut rest = [0.0];
    simd::dispatch(Rows { f, start: rows * COLUMNS, columns: len % COLUMNS, sums: &mut rest });
    column_sums(f, rows, COLUMNS).iter().sum::<f64>() + rest[0]
}

/// A tensor of sums, each times `scale`, rounded.
pub(crate) fn rounded<T: Element>(shape: impl Into<Shape>, sums: &[f64], scale: f64) -> Tensor<T> {
    Tensor::from_fn(shape, |i| T::from_f64(sums[i] * scale))
}

/// Rows of a chunk: at least a block, so that wide matrices do not drown in partial sums.
pub(crate) fn rows_per_chunk(columns: usize) -> usize {
    threads::rows_per_chunk(columns).max(BLOCK)
}

/// Writes the sums over `rows` rows from element `start` on to `sums`, laid out as in [`grouped_sums`].
pub(crate) fn chunk_sums<T: Element, const K: usize>(
    f: impl Terms<T, K>,
    start: usize,
    rows: usize,
    columns: usize,
    sums: &mut [f64],
) {
    debug_assert_eq!(sums.len(), K * columns);
    sums.fill(0.0);
    if columns != 0 {
        let mut block = Scratch::new(K * padded(columns));
        simd::dispatch(Chunk { f, start, rows, columns, block: &mut block, sums });
    }
}

/// Room for whole registers, the widest of which is 16 lanes.
fn padded(columns: usize) -> usize {
    columns.next_multiple_of(16)
}

/// Adds a chunk of rows to `sums`.
struct Chunk<'a, T, F, const K: usize> {
    f: F,
    start: usize,
    rows: usize,
    columns: usize,
    /// The sums of a block of rows: [`padded`] columns for each quantity.
    block: &'a mut [T],
    sums: &'a mut [f64],
}

impl<T: Element, F: Terms<T, K>, const K: usize> Kernel<T> for Chunk<'_, T, F, K> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Chunk { f, start, rows, columns, block, sums } = self;
        for first in (0..rows).step_by(BLOCK) {
            block.fill(T::ZERO);
            let shape = (BLOCK.min(rows - first), columns);
            add_block(simd, f, start + first * columns, shape, block);
            for (sums, block) in sums.chunks_exact_mut(columns).zip(block.chunks_exact(padded(columns))) {
                sums.iter_mut().zip(block).for_each(|(sum, x)| *sum += x.to_f64());
            }
        }
    }
}

/// Adds rows of `columns` columns, from element `at` on, to `sums`: [`padded`] columns for each quantity.
#[inline(always)]
fn add_block<T: Element, S: Simd<T>, const K: usize>(
    simd: S,
    f: impl Terms<T, K>,
    at: usize,
    (rows, columns): (usize, usize),
    sums: &mut [T],
) {
    // Four rows at once, so that sums are loaded and stored a fourth as often.
    let quads = rows / 4 * 4;
    for row in (0..quads).step_by(4) {
        add_rows::<T, S, K, 4>(simd, f, at + row * columns, columns, sums);
    }
    for row in quads..rows {
        add_rows::<T, S, K, 1>(simd, f, at + row * columns, columns, sums);
    }
}

/// Adds `R` rows, 1 or 4.
#[inline(always)]
fn add_rows<T: Element, S: Simd<T>, const K: usize, const R: usize>(
    simd: S,
    f: impl Terms<T, K>,
    at: usize,
    columns: usize,
    sums: &mut [T],
) {
    // A page ahead of one of four rows may lie in another of them, unless they are much longer than a page: then it is in the same
    // one but for its end, and the row behind the four would be so far away that it had left the caches before it is read.
    let ahead = if columns <= 4 * S::PAGE { (4 * columns).max(S::PAGE) } else { S::PAGE };
    for c in (0..columns).step_by(S::LANES) {
        let (at, n) = (at + c, S::LANES.min(columns - c));
        for row in 0..R {
            f.ask(simd, at + row * columns + ahead);
        }
        let mut terms = f.terms(simd, at, c, n);
        if R == 4 {
            let second = f.terms(simd, at + columns, c, n);
            let third = f.terms(simd, at + 2 * columns, c, n);
            let fourth = f.terms(simd, at + 3 * columns, c, n);
            for (k, term) in terms.iter_mut().enumerate() {
                *term = simd.add(simd.add(*term, second[k]), simd.add(third[k], fourth[k]));
            }
        }
        for (k, term) in terms.into_iter().enumerate() {
            let sum = &mut sums[k * padded(columns) + c..];
            simd.store(simd.add(simd.load(sum), term), sum);
        }
    }
}

/// The sums of consecutive rows.
struct Rows<'a, F> {
    f: F,
    start: usize,
    columns: usize,
    sums: &'a mut [f64],
}

impl<T: Element, F: Terms<T, 1>> Kernel<T> for Rows<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Rows { f, start, columns, sums } = self;
        for (row, sum) in sums.iter_mut().enumerate() {
            for first in (0..columns).step_by(BLOCK * S::LANES) {
                let end = columns.min(first + BLOCK * S::LANES);
                let mut total = simd.splat(T::ZERO);
                for c in (first..end).step_by(S::LANES) {
                    let at = start + row * columns + c;
                    f.ask(simd, at + S::PAGE);
                    let [x] = f.terms(simd, at, c, S::LANES.min(end - c));
                    total = simd.add(total, x);
                }
                *sum += simd.reduce_add(total).to_f64();
            }
        }
    }
}
