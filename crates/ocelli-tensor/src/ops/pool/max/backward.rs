//! The gradient of maximum pooling.

// Registers are named by their place.
#![allow(clippy::needless_range_loop)]

use super::Index;
use crate::ops::pointwise::{load, store};
use crate::ops::pool::{Geometry, index};
use crate::simd::{self, Kernel, Simd};
use crate::{Element, Tensor, threads};

/// dx, each dy added where its maximum was.
pub(super) fn unpool<T: Element, I: Index>(dy: &Tensor<T>, argmax: &[I], geometry: Geometry) -> Tensor<T> {
    let mut dx = Tensor::scratch([geometry.batch, geometry.input[0], geometry.input[1], geometry.channels]);
    let covers = [0, 1].map(|axis| Covers::new(&geometry, axis));
    let rows = threads::rows_per_chunk(geometry.input_row());
    threads::for_each_chunk(dx.data_mut(), rows * geometry.input_row(), |i, dx| {
        simd::dispatch(Backward { geometry, covers: &covers, dy: dy.data(), argmax, first: i * rows, dx });
    });
    dx
}

/// For every input position along an axis, the outputs whose windows cover it, each with the tap that does.
struct Covers {
    all: Vec<(usize, usize)>,
    /// Where each position's start, and where the last one's end.
    starts: Vec<usize>,
}

impl Covers {
    fn new(geometry: &Geometry, axis: usize) -> Self {
        let mut covers = Covers { all: Vec::new(), starts: vec![0] };
        for i in 0..geometry.input[axis] {
            covers.all.extend(geometry.covering(axis, i));
            covers.starts.push(covers.all.len());
        }
        covers
    }

    fn of(&self, i: usize) -> &[(usize, usize)] {
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
        let Geometry { window, input: [h, _], output: [oh, ow], channels, .. } = geometry;
        let mut windows = Vec::with_capacity(window.taps());
        for (r, dx) in dx.chunks_exact_mut(geometry.input_row()).enumerate() {
            let (image, iy) = ((first + r) / h, (first + r) % h);
            for (ix, dx) in dx.chunks_exact_mut(channels).enumerate() {
                windows.clear();
                for &(oy, ky) in vertical.of(iy) {
                    for &(ox, kx) in horizontal.of(ix) {
                        let output = (image * oh + oy) * ow + ox;
                        windows.push((output * channels, index(ky * window.kernel_size[1] + kx)));
                    }
                }
                let pixel = Gather { windows: &windows, dy, argmax };
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

/// The windows that cover a pixel of dx: where their outputs begin, and the index of the tap that each has here.
struct Gather<'a, T, I> {
    windows: &'a [(usize, T)],
    dy: &'a [T],
    argmax: &'a [I],
}

impl<T: Element, I: Index> Gather<'_, T, I> {
    /// Writes the gradients of the outputs whose maximum is here, added up, to `R` registers from channel `c` on, each of
    /// `n` channels.
    #[inline(always)]
    fn sum<S: Simd<T>, const R: usize>(&self, simd: S, (c, n): (usize, usize), dx: &mut [T]) {
        let (zero, half) = (simd.splat(T::ZERO), simd.splat(T::from_f64(0.5)));
        let mut sums = [zero; R];
        // The others' outputs have been read for earlier pixels.
        if let Some((newest, _)) = self.windows.last() {
            for r in 0..R {
                simd.ask_ahead(self.dy, newest + c + r * n);
                simd.ask_ahead(dx, c + r * n);
            }
        }
        for &(start, here) in self.windows {
            let (dy, argmax) = (&self.dy[start + c..][..R * n], &self.argmax[start + c..][..R * n]);
            let here = simd.splat(here);
            for r in 0..R {
                let apart = simd.sub(I::load(simd, &argmax[r * n..][..n]), here);
                let dy = load(simd, dy, r * n, n);
                sums[r] = simd.add(sums[r], simd.select_gt(half, simd.mul(apart, apart), dy, zero));
            }
        }
        for r in 0..R {
            store(simd, sums[r], dx, c + r * n, n);
        }
    }
}
