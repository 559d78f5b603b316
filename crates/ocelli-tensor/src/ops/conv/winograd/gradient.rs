//! The gradient of the weights: dU, summed over the tiles, and turned into taps.
//!
//! With few channels each of some tasks does all of it for its own tiles in its cache. Otherwise all tiles, or a block of
//! them, are transformed; then tasks divide dU, by channels where it can be turned into taps at once, else by frequencies.

use std::ops::Range;

use super::planes::{self, Planes, View};
use super::product::{self, Sums};
use super::transform::{FREQUENCIES, INPUTS, Map, OUTPUTS, TAPS, WeightAdjoint};
use super::{Form, Geometry, Tiles};
use crate::memory::Scratch;
use crate::ops::elementwise::add_parts;
use crate::ops::gemm::{Packed, Shared, cut};
use crate::simd::{Kernel, Simd};
use crate::{Element, Tensor, threads};

/// Bytes of transformed tiles that are made before they are multiplied, meant to stay in the last-level cache.
const BLOCK_BYTES: usize = 8 << 20;
/// Tiles that a task transforms.
const TASK_TILES: usize = 16;
/// Channels, in geometric mean, up to which a task may have dU for itself, and the tiles it transforms before it multiplies
/// them: v, d and dU then take 1.7 megabytes of `f32`, with 32 channels less than half of it.
const OWN_CHANNELS: usize = 64;
const OWN_BLOCK: usize = 64;
/// Tiles of such a task if there are as many, and the tasks that there must be, and may be.
const OWN_TILES: usize = 64;
const OWN_TASKS: [usize; 2] = [8, 32];
/// Input and output channels whose part of dU, half a megabyte of `f32`, is turned into dw while a cache holds it, if
/// nothing is to be added to it later; and how many such parts there must be.
const PART_CHANNELS: usize = 64;
const LEAST_PARTS: usize = 8;

/// Writes the gradient of the weights, `[3, 3, Cin, Cout]`.
pub(in super::super) fn backward_weight<T: Element>(g: &Geometry, x: &[T], dy: &[T], dw: &mut [T]) {
    let tiles = Tiles::new(g, Form::Large);
    let (cin, cout) = (g.in_channels, g.out_channels);
    assert_eq!(x.len(), g.batch * g.input[0] * g.input[1] * cin);
    assert_eq!(dy.len(), g.batch * g.output[0] * g.output[1] * cout);
    assert_eq!(dw.len(), TAPS * TAPS * cin * cout);
    if tiles.len() == 0 {
        return dw.fill(T::ZERO);
    }
    let zeros = vec![T::ZERO; cin.max(cout)];
    if let Some(tasks) = own_tasks(&tiles, [cin, cout]) {
        return in_own_sums(&tiles, tasks, (x, dy, &zeros), [cin, cout], dw);
    }
    let width = Packed::<T>::tile_width();
    let columns = cout.next_multiple_of(width);

    let fitting = BLOCK_BYTES / (FREQUENCIES * (cin + cout) * size_of::<T>());
    // Sums are as many as a block's tiles have elements if it has this many tiles.
    let balanced = cin * cout / (cin + cout);
    let blocks = tiles.len().div_ceil(fitting.max(balanced));
    let rows = tiles.len().div_ceil(blocks);
    let (mut v, mut d) = (Planes::new(FREQUENCIES, rows, cin, width), Planes::new(FREQUENCIES, rows, cout, width));
    let (v, d) = (v.view(), d.view());
    let transform = |start: usize, count: usize| {
        let chunks = count.div_ceil(TASK_TILES);
        threads::for_each(chunks, |i| {
            let rows = cut(count, chunks, i);
            T::winograd_tiled(Tiled { tiles: &tiles, start, rows, x, dy, zeros: &zeros, v, d });
        });
    };
    let (panels, dw) = ([cin, cout].map(|channels| channels.div_ceil(width)), Shared(dw.as_mut_ptr()));
    let [inputs, outputs] = panels.map(|panels| panels.div_ceil((PART_CHANNELS / width).max(1)));
    if blocks == 1 && inputs * outputs >= LEAST_PARTS {
        transform(0, rows);
        return threads::for_each(inputs * outputs, |i| {
            let (ci, co) = (cut(panels[0], inputs, i / outputs), cut(panels[1], outputs, i % outputs));
            T::winograd_part(Part { count: rows, v, d, ci, co, dw: dw.get() });
        });
    }
    let mut du = Tensor::<T>::scratch([FREQUENCIES, cin, columns]);
    // Two pieces a frequency where that is worth it, so that threads end at about the same time.
    let pieces = panels[0].min(2);
    for block in 0..blocks {
        let Range { start, end } = cut(tiles.len(), blocks, block);
        let count = end - start;
        transform(start, count);
        let sums = Shared(du.data_mut().as_mut_ptr());
        threads::for_each(FREQUENCIES * pieces, |i| {
            let (f, ci) = (i / pieces, cut(panels[0], pieces, i % pieces));
            // SAFETY: the sums of the frequency and these channels lie within dU.
            let c = unsafe { sums.get().add((f * cin + ci.start * width) * columns) };
            let sums = Sums { c, stride: columns, first: block == 0, stays: false };
            T::winograd_product(Product { f, count, v, ci, d, sums });
        });
    }
    threads::for_each(cin, |ci| {
        T::winograd_taps(Taps { du: du.data(), cin, columns, cout, ci, dw: dw.get() });
    });
}

/// The tasks that sum over tiles of their own, if channels are few enough for it.
pub(super) fn own_tasks(tiles: &Tiles, [cin, cout]: [usize; 2]) -> Option<usize> {
    let tasks = tiles.len() / OWN_TILES;
    (cin * cout <= OWN_CHANNELS * OWN_CHANNELS && tasks >= OWN_TASKS[0]).then(|| tasks.min(OWN_TASKS[1]))
}

/// Few channels: each of some tasks sums over tiles of its own, in its cache. Their gradients are added in order.
fn in_own_sums<T: Element>(
    tiles: &Tiles,
    tasks: usize,
    (x, dy, zeros): (&[T], &[T], &[T]),
    channels: [usize; 2],
    dw: &mut [T],
) {
    let size = dw.len();
    let mut others = Tensor::<T>::scratch([tasks - 1, size]);
    let (first, rest) = (Shared(dw.as_mut_ptr()), Shared(others.data_mut().as_mut_ptr()));
    threads::for_each(tasks, |i| {
        // SAFETY: the task's gradient lies within `dw` or `others`.
        let dw = if i == 0 { first.get() } else { unsafe { rest.get().add((i - 1) * size) } };
        T::winograd_own(Own { tiles, range: cut(tiles.len(), tasks, i), x, dy, zeros, channels, dw });
    });
    add_parts(dw, others.data());
}

/// dw from some tiles.
pub struct Own<'a, T> {
    tiles: &'a Tiles,
    range: Range<usize>,
    x: &'a [T],
    dy: &'a [T],
    zeros: &'a [T],
    channels: [usize; 2],
    dw: *mut T,
}

impl<T: Element> Kernel<T> for Own<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Own { tiles, range, x, dy, zeros, channels: [cin, cout], dw } = self;
        let width = S::LANES * cin.max(cout).div_ceil(S::LANES).min(S::TILE_VECTORS);
        let [rows, columns] = [cin, cout].map(|channels| channels.div_ceil(width));
        let blocks = range.len().div_ceil(OWN_BLOCK);
        let most = range.len().div_ceil(blocks);
        let (mut v, mut d) = (Planes::new(FREQUENCIES, most, cin, width), Planes::new(FREQUENCIES, most, cout, width));
        let (v, d) = (v.view(), d.view());
        let stride = columns * width;
        let apart = cin * stride + S::LINE;
        let mut du = Scratch::new(FREQUENCIES * apart);
        for block in 0..blocks {
            let part = cut(range.len(), blocks, block);
            let (count, part) = (part.len(), range.start + part.start..range.start + part.end);
            // SAFETY: v, d and the sums, which have all channels' size, are this task's.
            unsafe {
                planes::input::<T, S, INPUTS, OUTPUTS>(simd, tiles, part.clone(), (x, zeros), v, 0);
                planes::output_adjoint(simd, tiles, part, (dy, zeros), d, 0);
                for f in 0..FREQUENCIES {
                    let sums = Sums { c: du[f * apart..].as_mut_ptr(), stride, first: block == 0, stays: true };
                    product::accumulate(simd, f, count, (v, 0..rows), (d, 0..columns), &sums);
                }
            }
        }
        for ci in 0..cin {
            let row = Row { du: &du[ci * stride..], apart, size: [cin, cout], ci, co: 0..cout };
            // SAFETY: this task alone has `dw`, whose length `backward_weight` checks.
            unsafe { row.unmake(simd, dw) }
        }
    }
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
    ci: Range<usize>,
    d: View<T>,
    sums: Sums<T>,
}

impl<T: Element> Kernel<T> for Product<T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Product { f, count, v, ci, d, sums } = self;
        let co = 0..d.channels.div_ceil(d.width);
        // SAFETY: v and d have been written by tasks that have ended; this task alone has these panels' rows of dU, which
        // has the sums' size.
        unsafe { product::accumulate(simd, f, count, (v, ci), (d, co), &sums) }
    }
}

/// dw from the first `count` rows of v and d, for some panels of input and of output channels.
pub struct Part<T> {
    count: usize,
    v: View<T>,
    d: View<T>,
    ci: Range<usize>,
    co: Range<usize>,
    dw: *mut T,
}

impl<T: Element> Kernel<T> for Part<T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Part { count, v, d, ci, co, dw } = self;
        let (rows, stride) = (ci.len() * v.width, co.len() * d.width);
        // A line more, so that the same element of all frequencies does not fall into one cache set.
        let apart = rows * stride + S::LINE;
        let mut du = Scratch::new(FREQUENCIES * apart);
        for f in 0..FREQUENCIES {
            let sums = Sums { c: du[f * apart..].as_mut_ptr(), stride, first: true, stays: true };
            // SAFETY: v and d have been written by tasks that have ended; the sums are this task's.
            unsafe { product::accumulate(simd, f, count, (v, ci.clone()), (d, co.clone()), &sums) }
        }
        let from = co.start * d.width;
        let channels = from..d.channels.min(from + stride);
        let first = ci.start * v.width;
        for (row, ci) in (first..v.channels.min(first + rows)).enumerate() {
            let row = Row { du: &du[row * stride..], apart, size: [v.channels, d.channels], ci, co: channels.clone() };
            // SAFETY: this task alone has these channels of dw, whose length `backward_weight` checks.
            unsafe { row.unmake(simd, dw) }
        }
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
        let row = Row { du: &du[ci * columns..], apart: cin * columns, size: [cin, cout], ci, co: 0..cout };
        // SAFETY: this task alone has `ci` of dw, whose length `backward_weight` checks.
        unsafe { row.unmake(simd, dw) }
    }
}

/// dU at an input channel and some output channels, with frequencies `apart` elements apart.
struct Row<'a, T> {
    du: &'a [T],
    apart: usize,
    /// Cin and Cout.
    size: [usize; 2],
    ci: usize,
    co: Range<usize>,
}

impl<T: Element> Row<'_, T> {
    /// Writes these channels of dw `[3, 3, Cin, Cout]`.
    ///
    /// # Safety
    /// They must exist in dw, and nobody else may access them.
    #[inline(always)]
    unsafe fn unmake<S: Simd<T>>(self, simd: S, dw: *mut T) {
        let [cin, cout] = self.size;
        let mut u = [[simd.splat(T::ZERO); INPUTS]; INPUTS];
        for c in (0..self.co.len()).step_by(S::LANES) {
            let n = S::LANES.min(self.co.len() - c);
            for f in 0..FREQUENCIES {
                u[f / INPUTS][f % INPUTS] = simd.load_partial(&self.du[f * self.apart + c..][..n]);
            }
            let g = WeightAdjoint::both(simd, &u);
            for tap in 0..TAPS * TAPS {
                let at = (tap * cin + self.ci) * cout + self.co.start + c;
                // SAFETY: the caller's promise.
                unsafe { simd.store_partial_ptr(g[tap / TAPS][tap % TAPS], dw.add(at), n) }
            }
        }
    }
}
