//! The kernel of the weights' gradient: what one row of outputs adds to it.

// Registers are named by their place in the tile.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use super::channels::{Channels, Reads};
use super::pixel_of;
use super::read::{Group, Own, Read, Spread, for_each_column, load, with_windows};
use super::windows::{NARROW as PIXELS, Windows, fetch};
use crate::Element;
use crate::simd::{self, Kernel, Simd};

/// A row of outputs' gradients, of some registers of channels, whose products with the pixels under their windows are
/// added to `sums`.
pub struct SumRow<'a, T> {
    pub windows: Windows<'a, T>,
    pub channels: &'a Channels,
    pub vectors: Range<usize>,
    /// The gradients of the row's first output.
    pub dy: *const T,
    /// `[vectors, kernel rows, depth, taps of a row, lanes]`, laid out as [`Filters`](super::Filters).
    pub sums: *mut T,
}

/// Adds a row.
///
/// # Safety
/// The windows must lie in an image, and the gradients and sums be valid as described at the fields, for the lanes of
/// the current instruction set; nobody else may access these sums.
pub unsafe fn run<T: Element>(row: SumRow<'_, T>) {
    let (channels, taps) = (row.channels, row.windows.taps);
    let run = if channels.live() == channels.lanes { taps.run() } else { 0 };
    with_windows!(channels.reads, run, row.windows.step, |read, K, STEP| {
        simd::dispatch(Tiles::<T, _, K, STEP> { row, read });
    });
}

/// A [`SumRow`] whose caller has made the promise of [`run`], with kernel rows of `K` neighbouring taps and windows
/// `STEP` pixels apart; both are 0 where there is no kernel of their own.
struct Tiles<'a, T, R, const K: usize, const STEP: usize> {
    row: SumRow<'a, T>,
    read: R,
}

impl<T: Element, R: Read, const K: usize, const STEP: usize> Kernel<T> for Tiles<'_, T, R, K, STEP> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Tiles { row, read } = &self;
        let windows = &row.windows;
        for i in 0..windows.tiles::<PIXELS>() {
            let tile = windows.tile::<PIXELS>(i);
            let inner = windows.is_inner::<PIXELS>(&tile);
            // What the tile before this one has added.
            let skip = i * PIXELS - tile.start;
            for v in row.vectors.clone() {
                let [output, input] = row.channels.vectors[v];
                if !windows.ahead.is_empty() {
                    windows.fetch(simd, &tile, input);
                    let below = row.dy.wrapping_add((windows.outputs + tile.start) * row.channels.outputs);
                    fetch::<T, S, false>(simd, below, tile.len(), row.channels.outputs, output);
                }
                // SAFETY: the promise made to `run`, which chose K and STEP by the windows and has checked that
                // registers are full wherever K isn't 0.
                unsafe {
                    if K == 0 {
                        row.any(simd, *read, v, &tile, skip);
                    } else if inner {
                        row.tile::<S, R, K, STEP, false>(simd, *read, v, &tile, skip);
                    } else {
                        row.tile::<S, R, K, STEP, true>(simd, *read, v, &tile, skip);
                    }
                }
            }
        }
    }
}

impl<T: Element> SumRow<'_, T> {
    /// The gradients of a tile's outputs, 0 for the first `skip` and beyond its end.
    ///
    /// # Safety
    /// That of [`run`].
    #[inline(always)]
    unsafe fn gradients<S: Simd<T>>(
        &self,
        simd: S,
        v: usize,
        tile: &Range<usize>,
        skip: usize,
        live: usize,
    ) -> [S::V; PIXELS] {
        let mut dy = [simd.splat(T::ZERO); PIXELS];
        for p in 0..PIXELS {
            if p >= skip && p < tile.len() {
                let at = (tile.start + p) * self.channels.outputs + self.channels.vectors[v][0];
                // SAFETY: the caller's promise.
                dy[p] = unsafe { load(simd, self.dy.add(at), live) };
            }
        }
        dy
    }

    /// The sums of register `v`.
    #[inline(always)]
    fn sums<S: Simd<T>>(&self, v: usize) -> *mut T {
        let taps = self.windows.taps.indices.len();
        self.sums.wrapping_add((v - self.vectors.start) * taps * self.channels.depth * S::LANES)
    }

    /// Adds a tile to the sums of register `v`. At a `BORDER` a tile may be narrow and its windows reach out of the
    /// image.
    ///
    /// # Safety
    /// That of [`run`].
    #[inline(always)]
    unsafe fn tile<S: Simd<T>, R: Read, const K: usize, const STEP: usize, const BORDER: bool>(
        &self,
        simd: S,
        read: R,
        v: usize,
        tile: &Range<usize>,
        skip: usize,
    ) {
        let (windows, channels) = (&self.windows, self.channels);
        let (pixel, width, depth) = (windows.pixel, windows.width, if R::SINGLE { 1 } else { channels.depth });
        let first = windows.column(tile);
        let columns = (tile.len() - 1) * STEP + K;
        // SAFETY: the tile's outputs are the row's; sums have `K` registers for every kernel row and channel of the
        // depth; columns are read only inside of the image, which inner tiles do not leave.
        unsafe {
            let dy = self.gradients(simd, v, tile, skip, S::LANES);
            let (x, pitch) = windows.rows();
            let mut x = x.wrapping_offset(first * pixel as isize).wrapping_add(channels.vectors[v][1]);
            for kernel_row in windows.inside.clone() {
                for i in 0..depth {
                    let sums = self.sums::<S>(v).add((kernel_row * depth + i) * K * S::LANES);
                    let mut acc = [simd.splat(T::ZERO); K];
                    for (k, acc) in acc.iter_mut().enumerate() {
                        *acc = simd.load_ptr(sums.add(k * S::LANES));
                    }
                    for_each_column!((PIXELS - 1) * STEP + K, |J| {
                        let inside = J < columns && ((first + J as isize) as usize) < width;
                        if !BORDER || inside {
                            let x = read.read(simd, x.wrapping_add(J * pixel), i, S::LANES);
                            for k in 0..K {
                                if let Some(p) = pixel_of(J, k, STEP)
                                    && p < PIXELS
                                {
                                    acc[k] = simd.mul_add(x, dy[p], acc[k]);
                                }
                            }
                        }
                    });
                    for (k, &acc) in acc.iter().enumerate() {
                        simd.store_ptr(acc, sums.add(k * S::LANES));
                    }
                }
                x = x.wrapping_add(pitch);
            }
        }
    }

    /// As [`tile`](Self::tile), for any windows and any number of live lanes.
    ///
    /// # Safety
    /// That of [`run`].
    #[inline(always)]
    unsafe fn any<S: Simd<T>, R: Read>(&self, simd: S, read: R, v: usize, tile: &Range<usize>, skip: usize) {
        let (windows, channels) = (&self.windows, self.channels);
        let (columns, depth, live) = (&windows.taps.columns, channels.depth, channels.live());
        // SAFETY: as in `tile`; only pixels inside of the image are read.
        unsafe {
            let dy = self.gradients(simd, v, tile, skip, live);
            let (x, pitch) = windows.rows();
            let mut x = x.wrapping_add(channels.vectors[v][1]);
            for kernel_row in windows.inside.clone() {
                for i in 0..depth {
                    for (k, offset) in columns.iter().enumerate() {
                        let sum = self.sums::<S>(v).add(((kernel_row * depth + i) * columns.len() + k) * S::LANES);
                        let mut acc = simd.load_ptr(sum);
                        for p in 0..PIXELS {
                            let column = (((tile.start + p) * windows.step) as isize + offset) as usize;
                            if p < tile.len() && column < windows.width {
                                let x = read.read(simd, x.wrapping_add(column * windows.pixel), i, live);
                                acc = simd.mul_add(x, dy[p], acc);
                            }
                        }
                        simd.store_ptr(acc, sum);
                    }
                }
                x = x.wrapping_add(pitch);
            }
        }
    }
}
