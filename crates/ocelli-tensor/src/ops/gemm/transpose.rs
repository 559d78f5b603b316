//! A matrix turned over its diagonal.

// Registers are named by their place in the block.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use crate::Element;
use crate::simd::{Kernel, Simd};

/// Lanes of the widest registers.
const MOST_LANES: usize = 16;

/// Writes `from[r, c]` to `to[c, r]` for all of `size`; rows lie so many elements apart.
pub struct Transpose<'a, T> {
    pub from: &'a [T],
    pub from_stride: usize,
    pub to: &'a mut [T],
    pub to_stride: usize,
    /// Rows and columns of `from`.
    pub size: [usize; 2],
}

impl<T: Element> Kernel<T> for Transpose<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(mut self, simd: S) {
        let whole = self.size.map(|n| n / S::LANES * S::LANES);
        for c in (0..whole[1]).step_by(S::LANES) {
            for r in (0..whole[0]).step_by(S::LANES) {
                self.block(simd, r, c);
            }
        }
        // What is left at the right, and at the bottom.
        self.elements(0..self.size[0], whole[1]..self.size[1]);
        self.elements(whole[0]..self.size[0], 0..whole[1]);
    }
}

impl<T: Element> Transpose<'_, T> {
    /// As many rows and columns as a register has lanes. Zipping row i with row i + LANES / 2 doubles the runs of a column
    /// that lie together; when they fill a register, each holds a column.
    #[inline(always)]
    fn block<S: Simd<T>>(&mut self, simd: S, r: usize, c: usize) {
        let mut rows = [simd.splat(T::ZERO); MOST_LANES];
        for i in 0..S::LANES {
            rows[i] = simd.load(&self.from[(r + i) * self.from_stride + c..]);
        }
        let mut run = 1;
        while run < S::LANES {
            let before = rows;
            for i in 0..S::LANES / 2 {
                [rows[2 * i], rows[2 * i + 1]] = simd.zip(before[i], before[i + S::LANES / 2]);
            }
            run *= 2;
        }
        for i in 0..S::LANES {
            simd.store(rows[i], &mut self.to[(c + i) * self.to_stride + r..]);
        }
    }

    #[inline(always)]
    fn elements(&mut self, rows: Range<usize>, columns: Range<usize>) {
        for c in columns {
            for r in rows.clone() {
                self.to[c * self.to_stride + r] = self.from[r * self.from_stride + c];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::on_every_isa;
    use crate::simd;

    #[test]
    fn every_element_finds_its_place() {
        on_every_isa(|| {
            for size in [[1, 1], [16, 16], [33, 7], [5, 40], [48, 35]] {
                let [rows, columns] = size;
                let (from_stride, to_stride) = (columns + 3, rows + 2);
                let from: Vec<f32> = (0..rows * from_stride).map(|i| i as f32).collect();
                let mut to = vec![-1.0; columns * to_stride];
                f32::dispatch_on(simd::current(), Transpose { from: &from, from_stride, to: &mut to, to_stride, size });
                for (c, row) in to.chunks(to_stride).enumerate() {
                    let expected = (0..to_stride).map(|r| if r < rows { from[r * from_stride + c] } else { -1.0 });
                    assert!(row.iter().copied().eq(expected), "{size:?}");
                }
            }
        });
    }
}
