//! What a gathered product does when it is the gradient behind a batch norm with a rectifier: that gradient is wanted only
//! where the rectifier let its input through, and with its column sums. Both are taken from a tile before it is stored, so
//! that the norm's backward pass need not read the gradient and its own input for them.
//!
//! A tile waits for that in memory of its own, not in its registers, which a loop this long would leave too few for, nor in
//! its place in C: addresses there differ from those of the norm's input by whole pages, mostly, and loads that look like
//! stores before them wait for these.

use std::ops::Range;

use super::counts::{Lines, WIDEST};
use super::tile::{Block, load, store};
use crate::ops::batch_norm::Lanes;
use crate::ops::batch_norm::gradient::Saved;
use crate::simd::Simd;
use crate::{Element, Tensor};

/// The norm in front of the rectifier.
#[derive(Clone, Copy)]
pub(crate) struct Gate<'a, T: Element> {
    /// Of all columns of the product.
    pub columns: Lanes<'a, T>,
    /// The norm's input, side by side: together of the product's shape.
    pub parts: &'a [Tensor<T>],
    /// What else the rectifier's input is known from: something of the product's shape, if there is one part.
    pub saved: Saved<'a, T>,
}

/// Rows of a part of the norm's input, as the tiles of a panel read them: pointers are to what belongs to its first column.
#[derive(Clone, Copy)]
pub(super) struct PartRows<T> {
    /// Elements from one row to the next.
    stride: usize,
    /// The first row; and what is laid out as it: residual or output, or null.
    x: *const T,
    other: *const T,
    /// One number for each column. If the output is known, there is no scale.
    mean: *const T,
    scale: *const T,
    beta: *const T,
}

impl<T: Element> Gate<'_, T> {
    /// Whether it is for a product of so many rows and columns, and all columns of every panel, which are `width` wide, lie
    /// in one part.
    pub fn fits(&self, rows: usize, columns: usize, width: usize) -> bool {
        let widths = self.parts.iter().map(|part| part.shape().columns());
        let mut starts = widths.clone().scan(0, |start, width| Some(std::mem::replace(start, *start + width)));
        let other = match self.saved {
            Saved::Normalized => true,
            Saved::Residual(other) | Saved::Output(other) => self.parts.len() == 1 && other.len() == rows * columns,
        };
        self.parts.iter().all(|part| part.shape().rows() == rows)
            && [widths.sum(), self.columns.len()] == [columns; 2]
            && starts.all(|start| start.is_multiple_of(width))
            && other
    }

    /// The rows from `first` on of the part that a panel lies in, which begins with the product's `column`.
    pub(super) fn rows(&self, first: usize, column: usize) -> PartRows<T> {
        let (mut part, mut start) = (&self.parts[0], 0);
        for next in &self.parts[1..] {
            let end = start + part.shape().columns();
            if column < end {
                break;
            }
            (part, start) = (next, end);
        }
        let Lanes { mean, scale, beta } = self.columns;
        let null = std::ptr::null();
        let stride = part.shape().columns();
        let from = |elements: &[T]| elements.as_ptr().wrapping_add(first * stride + column - start);
        let number = |numbers: &[T]| numbers.as_ptr().wrapping_add(column);
        let (scale, other) = match self.saved {
            Saved::Normalized => (number(scale), null),
            Saved::Residual(residual) => (number(scale), from(residual)),
            Saved::Output(y) => (null, from(y)),
        };
        PartRows { stride, x: from(part.data()), other, mean: number(mean), scale, beta: number(beta) }
    }
}

impl<T: Element> PartRows<T> {
    /// Those from row `i` on.
    pub(super) fn from(self, i: usize) -> Self {
        let at = i * self.stride;
        let other = if self.other.is_null() { self.other } else { self.other.wrapping_add(at) };
        PartRows { x: self.x.wrapping_add(at), other, ..self }
    }

    /// Fetches `n` elements, no more than two cache lines, of the `i`-th row.
    #[inline(always)]
    pub(super) fn fetch<S: Simd<T>>(&self, simd: S, i: usize, n: usize) {
        let at = i * self.stride;
        simd.prefetch(self.x.wrapping_add(at));
        simd.prefetch(self.x.wrapping_add(at + n - 1));
        if !self.other.is_null() {
            simd.prefetch(self.other.wrapping_add(at));
            simd.prefetch(self.other.wrapping_add(at + n - 1));
        }
    }

    /// Leaves of a tile of so many `rows`, [`WIDEST`] elements apart, what the rectifier let through, and adds that, and its
    /// products with x − mean, to the sums. The tile has `live` columns.
    ///
    /// # Safety
    /// There must be such rows and columns.
    #[inline(always)]
    pub(super) unsafe fn pass<S: Simd<T>>(
        &self,
        simd: S,
        tile: &mut [T],
        rows: usize,
        live: usize,
        lines: &mut Lines<T>,
    ) {
        let zero = simd.splat(T::ZERO);
        for c in (0..live).step_by(S::LANES) {
            let n = S::LANES.min(live - c);
            let (sums, products) = (&mut lines.sums[c..], &mut lines.products[c..]);
            let (mut sum, mut product) = (simd.load(sums), simd.load(products));
            // SAFETY: the caller's promise, and what the pointers are.
            unsafe {
                let mean = load(simd, self.mean.add(c), n);
                let known = self.scale.is_null();
                let coefficient = |numbers: *const T| if known { zero } else { load(simd, numbers.add(c), n) };
                let (scale, beta) = (coefficient(self.scale), coefficient(self.beta));
                for (i, row) in tile.chunks_exact_mut(WIDEST).take(rows).enumerate() {
                    let at = i * self.stride + c;
                    let centred = simd.sub(load(simd, self.x.wrapping_add(at), n), mean);
                    let mut input = simd.mul_add(centred, scale, beta);
                    if !self.other.is_null() {
                        input = simd.add(input, load(simd, self.other.wrapping_add(at), n));
                    }
                    let g = simd.select_gt(input, zero, simd.load(&row[c..]), zero);
                    sum = simd.add(sum, g);
                    product = simd.mul_add(g, centred, product);
                    simd.store(g, &mut row[c..]);
                }
            }
            simd.store(sum, sums);
            simd.store(product, products);
        }
    }
}

/// Stores a tile that waited, rows [`WIDEST`] apart, in its place, which are `rows` of the block.
///
/// # Safety
/// As for [`tile::gather`](super::tile::gather), with these rows for the block's.
#[inline(always)]
pub(super) unsafe fn put<T: Element, N, S: Simd<T>>(simd: S, tile: &[T], block: &Block<T, N>, rows: Range<usize>) {
    for (i, row) in rows.zip(tile.chunks_exact(WIDEST)) {
        for c in (0..block.live).step_by(S::LANES) {
            // SAFETY: the caller's promise; `live` columns are the block's.
            unsafe {
                let out = block.out.add(*block.targets.add(i) + c);
                store(simd, simd.load(&row[c..]), out, S::LANES.min(block.live - c));
            }
        }
    }
}
