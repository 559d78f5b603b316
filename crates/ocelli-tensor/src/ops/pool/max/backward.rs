//! The gradient of maximum pooling.

// Registers are named by their place.
#![allow(clippy::needless_range_loop)]

use super::Index;
use crate::ops::pointwise::{load, store};
use crate::ops::pool::Geometry;
use crate::simd::{self, Kernel, Simd};
use crate::{Element, Tensor, threads};

/// dx, each dy added where its maximum was.
pub(super) fn unpool<T: Element, I: Index>(dy: &Tensor<T>, argmax: &[I], geometry: Geometry) -> Tensor<T> {
    let mut dx = Tensor::scratch([geometry.batch, geometry.input[0], geometry.input[1], geometry.channels]);
    let width = geometry.window.kernel_size[1];
    let vertical = Covers::new(&geometry, 0, [geometry.output_row(), width]);
    let covers = [vertical, Covers::new(&geometry, 1, [geometry.channels, 1])];
    let rows = threads::rows_per_chunk(geometry.input_row());
    threads::for_each_chunk(dx.data_mut(), rows * geometry.input_row(), |i, dx| {
        simd::dispatch(Backward { geometry, covers: &covers, dy: dy.data(), argmax, first: i * rows, dx });
    });
    dx
}

/// An output whose window covers an input position along an axis: where it lies, and the number of the tap that does.
#[derive(Clone, Copy)]
struct Cover {
    offset: usize,
    tap: usize,
}

/// For every input position along an axis, the outputs whose windows cover it.
struct Covers {
    all: Vec<Cover>,
    /// Where each position's start, and where the last one's end.
    starts: Vec<usize>,
}

impl Covers {
    /// From an output, and from a tap, to the next along the axis are so many elements and numbers.
    fn new(geometry: &Geometry, axis: usize, [output, tap]: [usize; 2]) -> Self {
        let mut covers = Covers { all: Vec::new(), starts: vec![0] };
        for i in 0..geometry.input[axis] {
            covers.all.extend(geometry.covering(axis, i).map(|(o, t)| Cover { offset: o * output, tap: t * tap }));
            covers.starts.push(covers.all.len());
        }
        covers
    }

    fn of(&self, i: usize) -> &[Cover] {
        &self.all[self.starts[i]..self.starts[i + 1]]
    }
}

/// Whole rows of dx, each pixel gathered from the windows that cover it, so that threads share nothing.
struct Backward<'a, T, I> {
    geometry: Geometry,
    covers: &'a [Covers; 2],
    dy: &'a [T],
    argmax: &'a [I],
    first: usize,
    dx: &'a mut [T],
}

impl<T: Element, I: Index> Kernel<T> for Backward<'_, T, I> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Backward { geometry, covers: [vertical, horizontal], dy, argmax, first, dx } = self;
        let Geometry { input: [h, _], output: [oh, _], channels, .. } = geometry;
        let image = oh * geometry.output_row();
        for (r, dx) in dx.chunks_exact_mut(geometry.input_row()).enumerate() {
            let (n, iy) = ((first + r) / h, (first + r) % h);
            let (dy, argmax) = (&dy[n * image..][..image], &argmax[n * image..][..image]);
            for (ix, dx) in dx.chunks_exact_mut(channels).enumerate() {
                let (rows, columns) = (vertical.of(iy), horizontal.of(ix));
                let pixel = Gather { rows, columns, dy, argmax };
                // The last window's output is the only one that no earlier pixel has read.
                let newest = rows.last().map_or(0, |row| row.offset) + columns.last().map_or(0, |column| column.offset);
                for c in (0..channels).step_by(S::LINE) {
                    simd.ask_ahead(dy, newest + c);
                    simd.ask_ahead(dx, c);
                }
                let mut c = 0;
                while c + 4 * S::LANES <= channels {
                    pixel.sum::<S, 4>(simd, (c, S::LANES), dx);
                    c += 4 * S::LANES;
                }
                while c < channels {
                    let n = S::LANES.min(channels - c);
                    pixel.sum::<S, 1>(simd, (c, n), dx);
                    c += n;
                }
            }
        }
    }
}

/// What a pixel of dx is gathered from: the rows and columns of its image's outputs whose windows cover it.
struct Gather<'a, T, I> {
    rows: &'a [Cover],
    columns: &'a [Cover],
    dy: &'a [T],
    argmax: &'a [I],
}

impl<T: Element, I: Index> Gather<'_, T, I> {
    /// Writes the gradients of the outputs whose maximum is here, added up, to `R` registers from channel `c` on, each of
    /// `n` channels.
    #[inline(always)]
    fn sum<S: Simd<T>, const R: usize>(&self, simd: S, (c, n): (usize, usize), dx: &mut [T]) {
        let mut sums = [simd.splat(T::ZERO); R];
        for row in self.rows {
            for column in self.columns {
                let start = row.offset + column.offset + c;
                let (dy, argmax) = (&self.dy[start..][..R * n], &self.argmax[start..][..R * n]);
                let here = I::of(row.tap + column.tap);
                for r in 0..R {
                    let dy = load(simd, dy, r * n, n);
                    sums[r] = simd.add(sums[r], I::keep(simd, dy, &argmax[r * n..][..n], here));
                }
            }
        }
        for r in 0..R {
            store(simd, sums[r], dx, c + r * n, n);
        }
    }
}
