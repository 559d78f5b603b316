//! What a gathered product does when it is the gradient behind a batch norm with a rectifier: that gradient is wanted only
//! where the rectifier let its input through, and with its column sums. Both are taken while a tile is in registers, so
//! that the norm's backward pass need not read the gradient and its own input for them.

use super::counts::Lines;
use super::tile::load;
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

/// Rows of a part of the norm's input, as tiles read them.
#[derive(Clone, Copy)]
pub(super) struct PartRows<T> {
    /// Elements from one row to the next.
    stride: usize,
    /// The first row, where the product's first column would be; and what is laid out as it: residual or output, or null.
    x: *const T,
    other: *const T,
    /// One number for each column of the product. If the output is known, there is no scale.
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

    /// The rows from `first` on of the part that the product's `column` lies in.
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
        let from = |elements: &[T]| elements.as_ptr().wrapping_add(first * stride).wrapping_sub(start);
        let (scale, other) = match self.saved {
            Saved::Normalized => (scale.as_ptr(), null),
            Saved::Residual(residual) => (scale.as_ptr(), from(residual)),
            Saved::Output(y) => (null, from(y)),
        };
        PartRows { stride, x: from(part.data()), other, mean: mean.as_ptr(), scale, beta: beta.as_ptr() }
    }
}

/// A loop over a tile's rows, written out: the compiler leaves one this long a loop, and then keeps the tile, whose registers it
/// would count through, in memory.
macro_rules! each_row {
    ($rows:ident, |$i:ident| $body:block) => {
        each_row!($rows, |$i| $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    ($rows:ident, |$i:ident| $body:block, $($n:literal)*) => {
        $(if $n < $rows {
            const $i: usize = $n;
            $body
        })*
    };
}

impl<T: Element> PartRows<T> {
    /// Those from row `i` on.
    pub(super) fn from(self, i: usize) -> Self {
        let at = i * self.stride;
        let other = if self.other.is_null() { self.other } else { self.other.wrapping_add(at) };
        PartRows { x: self.x.wrapping_add(at), other, ..self }
    }

    /// Fetches `n` elements, no more than two cache lines, of the `i`-th row from the product's `column` on.
    #[inline(always)]
    pub(super) fn fetch<S: Simd<T>>(&self, simd: S, i: usize, column: usize, n: usize) {
        let at = i * self.stride + column;
        simd.prefetch(self.x.wrapping_add(at));
        simd.prefetch(self.x.wrapping_add(at + n - 1));
        if !self.other.is_null() {
            simd.prefetch(self.other.wrapping_add(at));
            simd.prefetch(self.other.wrapping_add(at + n - 1));
        }
    }

    /// Leaves of a tile from the product's `column` on what the rectifier let through, and adds that, and its products with
    /// x − mean, to the sums.
    ///
    /// # Safety
    /// There must be the tile's rows and columns, of whose last register so many are live.
    #[inline(always)]
    pub(super) unsafe fn pass<S: Simd<T>, const ROWS: usize, const VECTORS: usize>(
        &self,
        simd: S,
        tile: &mut [[S::V; VECTORS]; ROWS],
        (column, last): (usize, usize),
        lines: &mut Lines<T>,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let lanes = |v: usize| if v + 1 == VECTORS { last } else { S::LANES };
            self.pass_register::<S, ROWS, VECTORS, 0>(simd, tile, (column, lanes(0)), lines);
            if VECTORS > 1 {
                self.pass_register::<S, ROWS, VECTORS, 1>(simd, tile, (column + S::LANES, lanes(1)), lines);
            }
        }
    }

    /// Of each row its `V`-th register, with `n` live columns from `column` on.
    ///
    /// # Safety
    /// As for [`pass`](Self::pass).
    #[inline(always)]
    unsafe fn pass_register<S: Simd<T>, const ROWS: usize, const VECTORS: usize, const V: usize>(
        &self,
        simd: S,
        tile: &mut [[S::V; VECTORS]; ROWS],
        (column, n): (usize, usize),
        lines: &mut Lines<T>,
    ) {
        const { assert!(ROWS <= 14, "rows that are written out") };
        let zero = simd.splat(T::ZERO);
        let (sums, products) = (&mut lines.sums[V * S::LANES..], &mut lines.products[V * S::LANES..]);
        let (mut sum, mut product) = (simd.load(sums), simd.load(products));
        // SAFETY: the caller's promise, and what the pointers are.
        unsafe {
            let mean = load(simd, self.mean.add(column), n);
            let known = self.scale.is_null();
            let coefficient = |numbers: *const T| if known { zero } else { load(simd, numbers.add(column), n) };
            let (scale, beta) = (coefficient(self.scale), coefficient(self.beta));
            each_row!(ROWS, |I| {
                let at = I * self.stride + column;
                let centred = simd.sub(load(simd, self.x.wrapping_add(at), n), mean);
                let mut input = simd.mul_add(centred, scale, beta);
                if !self.other.is_null() {
                    input = simd.add(input, load(simd, self.other.wrapping_add(at), n));
                }
                let g = simd.select_gt(input, zero, tile[I][V], zero);
                sum = simd.add(sum, g);
                product = simd.mul_add(g, centred, product);
                tile[I][V] = g;
            });
        }
        simd.store(sum, sums);
        simd.store(product, products);
    }
}
