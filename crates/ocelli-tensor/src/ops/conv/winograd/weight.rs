//! Transformed weights, and the gradient of weights.

use std::ops::Range;

use super::planes::{self, Planes, View};
use super::product::{self, Sums};
use super::transform::{FREQUENCIES, INPUTS, Map, OUTPUTS, SMALL_INPUTS, SMALL_OUTPUTS, TAPS, Weight, WeightAdjoint};
use super::{Geometry, Tiles};
use crate::ops::gemm::{Packed, Shared, cut};
use crate::simd::{self, Kernel, Simd};
use crate::{Element, Tensor, threads};

/// Bytes of transformed tiles that are made before they are multiplied, meant to stay in the last-level cache.
const BLOCK_BYTES: usize = 8 << 20;
/// Tiles that a task transforms.
const TASK_TILES: usize = 16;

/// U = G w Gᵀ of `w` `[3, 3, Cin, Cout]` for tiles of so many outputs along an axis, packed as a matrix a frequency.
pub(in super::super) fn pack<T: Element>(w: &Tensor<T>, outputs: usize) -> Packed<T> {
    let [cin, cout] = [w.shape()[2], w.shape()[3]];
    let frequencies = (outputs + TAPS - 1).pow(2);
    let mut packed = Packed::scratch(frequencies, cin, cout);
    let (width, isa) = (packed.width, packed.isa);
    threads::for_each_chunk(packed.panels_mut(), frequencies * cin * width, |panel, u| {
        let first = panel * width;
        simd::with_isa(isa, || T::winograd_weights(Weights { w: w.data(), cin, cout, outputs, first, width, u }));
    });
    packed
}

/// The weights of the backward pass to the input: turned by 180° and transposed, `[3, 3, Cout, Cin]`.
pub(in super::super) fn flipped<T: Element>(w: &Tensor<T>) -> Tensor<T> {
    const BLOCK: usize = 16;
    let [cin, cout] = [w.shape()[2], w.shape()[3]];
    let mut out = Tensor::scratch([TAPS, TAPS, cout, cin]);
    // Blocks of rows must not straddle taps.
    let block = if cout % BLOCK == 0 { BLOCK } else { cout };
    threads::for_each_chunk(out.data_mut(), block * cin, |i, rows| {
        let (tap, first) = (i * block / cout, i * block % cout);
        let source = &w.data()[(TAPS * TAPS - 1 - tap) * cin * cout..];
        for ci in 0..cin {
            let run = &source[ci * cout + first..][..block];
            run.iter().enumerate().for_each(|(k, &x)| rows[k * cin + ci] = x);
        }
    });
    out
}

/// A panel of transformed weights, `[frequencies, Cin, width]`.
pub struct Weights<'a, T> {
    w: &'a [T],
    cin: usize,
    cout: usize,
    outputs: usize,
    first: usize,
    width: usize,
    u: &'a mut [T],
}

impl<T: Element> Kernel<T> for Weights<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        match self.outputs {
            SMALL_OUTPUTS => self.transform::<S, SMALL_INPUTS>(simd),
            OUTPUTS => self.transform::<S, INPUTS>(simd),
            outputs => unreachable!("tiles of {outputs} outputs"),
        }
    }
}

impl<T: Element> Weights<'_, T> {
    #[inline(always)]
    fn transform<S: Simd<T>, const IN: usize>(self, simd: S)
    where
        Weight: Map<TAPS, IN>,
    {
        let Weights { w, cin, cout, first, width, u, .. } = self;
        let mut g = [[simd.splat(T::ZERO); TAPS]; TAPS];
        for ci in 0..cin {
            for v in (0..width).step_by(S::LANES) {
                let start = (first + v).min(cout);
                let n = S::LANES.min(cout - start);
                for tap in 0..TAPS * TAPS {
                    g[tap / TAPS][tap % TAPS] = simd.load_partial(&w[(tap * cin + ci) * cout + start..][..n]);
                }
                let x: [[S::V; IN]; IN] = Weight::both(simd, &g);
                for f in 0..IN * IN {
                    simd.store(x[f / IN][f % IN], &mut u[(f * cin + ci) * width + v..]);
                }
            }
        }
    }
}

/// Writes the gradient of the weights, `[3, 3, Cin, Cout]`.
pub(in super::super) fn backward_weight<T: Element>(g: &Geometry, x: &[T], dy: &[T], dw: &mut [T]) {
    let tiles = Tiles::new(g, OUTPUTS);
    let (cin, cout) = (g.in_channels, g.out_channels);
    assert_eq!(x.len(), g.batch * g.input[0] * g.input[1] * cin);
    assert_eq!(dy.len(), g.batch * g.output[0] * g.output[1] * cout);
    assert_eq!(dw.len(), TAPS * TAPS * cin * cout);
    if tiles.len() == 0 {
        return dw.fill(T::ZERO);
    }
    let zeros = vec![T::ZERO; cin.max(cout)];
    let width = product::panel_width::<T>();
    let columns = cout.next_multiple_of(width);

    let fitting = BLOCK_BYTES / (FREQUENCIES * (cin + cout) * size_of::<T>());
    // Sums are as many as a block's tiles have elements if it has this many tiles.
    let balanced = cin * cout / (cin + cout);
    let blocks = tiles.len().div_ceil(fitting.max(balanced));
    let rows = tiles.len().div_ceil(blocks);
    let (mut v, mut d) = (Planes::new(FREQUENCIES, rows, cin, width), Planes::new(FREQUENCIES, rows, cout, width));
    let (v, d) = (v.view(), d.view());
    let mut du = Tensor::<T>::scratch([FREQUENCIES, cin, columns]);
    // Two pieces a frequency where that is worth it, so that threads end at about the same time.
    let panels = cin.div_ceil(width);
    let pieces = panels.min(2);
    for block in 0..blocks {
        let Range { start, end } = cut(tiles.len(), blocks, block);
        let count = end - start;
        let chunks = count.div_ceil(TASK_TILES);
        threads::for_each(chunks, |i| {
            let rows = cut(count, chunks, i);
            T::winograd_tiled(Tiled { tiles: &tiles, start, rows, x, dy, zeros: &zeros, v, d });
        });
        let sums = Shared(du.data_mut().as_mut_ptr());
        threads::for_each(FREQUENCIES * pieces, |i| {
            let (f, panels) = (i / pieces, cut(panels, pieces, i % pieces));
            // SAFETY: the frequency's sums lie within dU.
            let c = unsafe { sums.get().add(f * cin * columns) };
            let sums = Sums { c, stride: columns, first: block == 0 };
            T::winograd_product(Product { f, count, v, panels, d, sums });
        });
    }
    let out = Shared(dw.as_mut_ptr());
    threads::for_each(cin, |ci| {
        T::winograd_taps(Taps { du: du.data(), cin, columns, cout, ci, dw: out.get() });
    });
}

/// Transforms tiles `start + rows` of x and dy to the rows of v and d.
pub struct Tiled<'a, T> {
    tiles: &'a Tiles,
    start: usize,
    rows: Range<usize>,
    x: &'a [T],
    dy: &'a [T],
    zeros: &'a [T],
    v: View<T>,
    d: View<T>,
}

impl<T: Element> Kernel<T> for Tiled<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Tiled { tiles, start, rows, x, dy, zeros, v, d } = self;
        let range = start + rows.start..start + rows.end;
        // SAFETY: this task alone has these rows of v and d.
        unsafe {
            planes::input::<T, S, INPUTS, OUTPUTS>(simd, tiles, range.clone(), (x, zeros), v, rows.start);
            planes::output_adjoint(simd, tiles, range, (dy, zeros), d, rows.start);
        }
    }
}

/// The sums over the first `count` rows of v and d at one frequency, for some panels of v.
pub struct Product<T> {
    f: usize,
    count: usize,
    v: View<T>,
    panels: Range<usize>,
    d: View<T>,
    sums: Sums<T>,
}

impl<T: Element> Kernel<T> for Product<T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Product { f, count, v, panels, d, sums } = self;
        // SAFETY: v and d have been written by tasks that have ended; this task alone has these panels' rows of dU, which
        // has the sums' size.
        unsafe { product::accumulate(simd, f, count, (v, panels), d, &sums) }
    }
}

/// dw = Gᵀ dU G for one input channel.
pub struct Taps<'a, T> {
    /// `[36, cin, columns]`
    du: &'a [T],
    cin: usize,
    columns: usize,
    cout: usize,
    ci: usize,
    dw: *mut T,
}

impl<T: Element> Kernel<T> for Taps<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Taps { du, cin, columns, cout, ci, dw } = self;
        let mut u = [[simd.splat(T::ZERO); INPUTS]; INPUTS];
        for c in (0..cout).step_by(S::LANES) {
            let n = S::LANES.min(cout - c);
            for f in 0..FREQUENCIES {
                u[f / INPUTS][f % INPUTS] = simd.load_partial(&du[(f * cin + ci) * columns + c..][..n]);
            }
            let g = WeightAdjoint::both(simd, &u);
            for tap in 0..TAPS * TAPS {
                let at = (tap * cin + ci) * cout + c;
                // SAFETY: the element lies within dw, whose length `backward_weight` checks; this task alone has `ci`.
                unsafe { simd.store_partial_ptr(g[tap / TAPS][tap % TAPS], dw.add(at), n) }
            }
        }
    }
}
