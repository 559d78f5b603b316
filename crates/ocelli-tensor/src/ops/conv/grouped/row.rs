//! The forward kernel, which with turned weights is also that of the input's gradient: one row of outputs.

// Registers are named by their place in the tile.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use super::channels::Reads;
use super::filters::Filters;
use super::pixel_of;
use super::read::{Group, Own, Read, Spread, for_each_column, load, store, with_windows};
use super::windows::{NARROW, WIDE, Windows, fetch};
use crate::Element;
use crate::ops::activation::{Activation, with_curve};
use crate::simd::{Kernel, Simd};

/// A row of outputs, of some registers of channels.
pub struct Row<'a, T: Element> {
    pub windows: Windows<'a, T>,
    pub filters: &'a Filters<T>,
    pub vectors: Range<usize>,
    /// The first output's channels, and the elements from an output to the next.
    pub out: *mut T,
    pub stride: usize,
    /// The elements from an output to that of the next row.
    pub below: usize,
    /// Whether that, and what the next row's windows are the first to read, is to be fetched meanwhile.
    pub fetches: bool,
    /// A number a channel, or null.
    pub bias: *const T,
    /// Laid out as `out` and added to it, or null.
    pub residual: *const T,
    pub clamp: Option<[T; 2]>,
    pub curve: Option<Activation>,
    /// Where the mean over the row's outputs is put, all channels', of which no two registers share any; or null. And an
    /// output's share in it.
    pub means: *mut T,
    pub share: T,
}

/// Computes a row.
///
/// # Safety
/// The windows must lie in an image, the filters be packed for their taps, and the outputs, the residuals and the means be valid
/// as described at the fields; nobody else may access the outputs and means of these registers.
pub unsafe fn run<T: Element>(row: Row<'_, T>) {
    let (channels, taps) = (&row.filters.channels, row.windows.taps);
    let run = if channels.live() == channels.lanes { taps.run() } else { 0 };
    let isa = row.filters.isa;
    with_windows!(channels.reads, run, row.windows.step, |read, K, STEP| {
        T::dispatch_on(isa, Tiles::<T, _, K, STEP> { row, read });
    });
}

/// A [`Row`] whose caller has made the promise of [`run`], with kernel rows of `K` neighbouring taps and windows `STEP`
/// pixels apart; both are 0 where there is no kernel of their own.
struct Tiles<'a, T: Element, R, const K: usize, const STEP: usize> {
    row: Row<'a, T>,
    read: R,
}

impl<T: Element, R: Read, const K: usize, const STEP: usize> Kernel<T> for Tiles<'_, T, R, K, STEP> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let windows = &self.row.windows;
        if R::SINGLE && K > 0 && S::REGISTERS >= 32 && windows.computed::<WIDE>() <= windows.computed::<NARROW>() {
            self.tiles::<S, WIDE>(simd);
        } else {
            self.tiles::<S, NARROW>(simd);
        }
    }
}

impl<T: Element, R: Read, const K: usize, const STEP: usize> Tiles<'_, T, R, K, STEP> {
    #[inline(always)]
    fn tiles<S: Simd<T>, const PIXELS: usize>(&self, simd: S) {
        let Tiles { row, read } = self;
        let (windows, filters) = (&row.windows, row.filters.data().as_ptr());
        for i in 0..windows.tiles::<PIXELS>() {
            let tile = windows.tile::<PIXELS>(i);
            // The last tile may repeat some pixels.
            let repeated = i * PIXELS - tile.start;
            let inner = windows.is_inner::<PIXELS>(&tile);
            for v in row.vectors.clone() {
                let [output, input] = row.filters.channels.vectors[v];
                if row.fetches {
                    windows.fetch(simd, &tile, input);
                    let below = row.out.wrapping_add(row.below + tile.start * row.stride);
                    fetch::<T, S, true>(simd, below, tile.len(), row.stride, output);
                }
                // SAFETY: the promise made to `run`, which chose K and STEP by the windows and has checked that
                // registers are full wherever K isn't 0.
                unsafe {
                    let filter = filters.add(v * row.filters.size());
                    if K == 0 {
                        let acc = row.any::<S, R, PIXELS>(simd, *read, (input, filter), &tile);
                        row.finish::<S, PIXELS, true>(
                            simd,
                            acc,
                            (output, &tile, repeated),
                            row.filters.channels.live(),
                        );
                    } else if inner {
                        let acc = row.tile::<S, R, PIXELS, K, STEP, false>(simd, *read, (input, filter), &tile);
                        row.finish::<S, PIXELS, false>(simd, acc, (output, &tile, repeated), S::LANES);
                    } else {
                        let acc = row.tile::<S, R, PIXELS, K, STEP, true>(simd, *read, (input, filter), &tile);
                        row.finish::<S, PIXELS, true>(simd, acc, (output, &tile, repeated), S::LANES);
                    }
                }
            }
        }
    }
}

impl<T: Element> Row<'_, T> {
    /// The sums of a tile for a register, given its first input and its weights. At a `BORDER` a tile may be narrow and its windows reach out of the image.
    ///
    /// # Safety
    /// That of [`run`].
    #[inline(always)]
    unsafe fn tile<S: Simd<T>, R: Read, const PIXELS: usize, const K: usize, const STEP: usize, const BORDER: bool>(
        &self,
        simd: S,
        read: R,
        (input, filter): (usize, *const T),
        tile: &Range<usize>,
    ) -> [S::V; PIXELS] {
        let (windows, channels) = (&self.windows, &self.filters.channels);
        let (pixel, width, depth) = (windows.pixel, windows.width, if R::SINGLE { 1 } else { channels.depth });
        let first = windows.column(tile);
        let columns = (tile.len() - 1) * STEP + K;
        let mut acc = [simd.splat(T::ZERO); PIXELS];
        let (x, pitch) = windows.rows();
        let mut x = x.wrapping_offset(first * pixel as isize).wrapping_add(input);
        let mut from = filter.wrapping_add(windows.inside.start * depth * K * S::LANES);
        for _ in windows.inside.clone() {
            for i in 0..depth {
                // SAFETY: a filter has `K` registers for every kernel row and channel of the depth; columns are read
                // only inside of the image, which inner tiles do not leave.
                unsafe {
                    let mut w = [simd.splat(T::ZERO); K];
                    for (k, w) in w.iter_mut().enumerate() {
                        *w = simd.load_ptr(from.add(k * S::LANES));
                    }
                    for_each_column!((PIXELS - 1) * STEP + K, |J| {
                        let inside = J < columns && ((first + J as isize) as usize) < width;
                        if !BORDER || inside {
                            let x = read.read(simd, x.wrapping_add(J * pixel), i, S::LANES);
                            for k in 0..K {
                                if let Some(p) = pixel_of(J, k, STEP)
                                    && p < PIXELS
                                {
                                    acc[p] = simd.mul_add(x, w[k], acc[p]);
                                }
                            }
                        }
                    });
                }
                from = from.wrapping_add(K * S::LANES);
            }
            x = x.wrapping_add(pitch);
        }
        acc
    }

    /// As [`tile`](Self::tile), for any windows and any number of live lanes.
    ///
    /// # Safety
    /// That of [`run`].
    #[inline(always)]
    unsafe fn any<S: Simd<T>, R: Read, const PIXELS: usize>(
        &self,
        simd: S,
        read: R,
        (input, filter): (usize, *const T),
        tile: &Range<usize>,
    ) -> [S::V; PIXELS] {
        let (windows, channels) = (&self.windows, &self.filters.channels);
        let (columns, depth, live) = (&windows.taps.columns, channels.depth, channels.live());
        let mut acc = [simd.splat(T::ZERO); PIXELS];
        let (x, pitch) = windows.rows();
        let mut x = x.wrapping_add(input);
        for kernel_row in windows.inside.clone() {
            for i in 0..depth {
                for (k, offset) in columns.iter().enumerate() {
                    // SAFETY: a filter has a register for every tap and channel of the depth, and only pixels inside of
                    // the image are read.
                    unsafe {
                        let w = simd.load_ptr(filter.add(((kernel_row * depth + i) * columns.len() + k) * S::LANES));
                        for p in 0..PIXELS {
                            let column = (((tile.start + p) * windows.step) as isize + offset) as usize;
                            if p < tile.len() && column < windows.width {
                                let x = read.read(simd, x.wrapping_add(column * windows.pixel), i, live);
                                acc[p] = simd.mul_add(x, w, acc[p]);
                            }
                        }
                    }
                }
            }
            x = x.wrapping_add(pitch);
        }
        acc
    }

    /// The epilogue of a tile's sums, and their storing. The tile before has had its first `repeated` pixels.
    ///
    /// # Safety
    /// That of [`run`].
    #[inline(always)]
    unsafe fn finish<S: Simd<T>, const PIXELS: usize, const BORDER: bool>(
        &self,
        simd: S,
        mut acc: [S::V; PIXELS],
        (channel, tile, repeated): (usize, &Range<usize>, usize),
        live: usize,
    ) {
        let at = tile.start * self.stride + channel;
        let count = if BORDER { tile.len() } else { PIXELS };
        // SAFETY: the outputs of the tile, and the residuals laid out alike, have the register's channels, as
        // have the bias and the means.
        unsafe {
            if !self.bias.is_null() {
                let bias = load(simd, self.bias.add(channel), live);
                for p in 0..PIXELS {
                    acc[p] = simd.add(acc[p], bias);
                }
            }
            if !self.residual.is_null() {
                for p in 0..PIXELS {
                    if p < count {
                        acc[p] = simd.add(acc[p], load(simd, self.residual.add(at + p * self.stride), live));
                    }
                }
            }
            if let Some([low, high]) = self.clamp {
                let (low, high) = (simd.splat(low), simd.splat(high));
                for p in 0..PIXELS {
                    acc[p] = simd.min(high, simd.max(low, acc[p]));
                }
            }
            for p in 0..PIXELS {
                if p < count {
                    store(simd, acc[p], self.out.add(at + p * self.stride), live);
                }
            }
            // Curves are long: a loop over what was just stored keeps them from being repeated for every pixel.
            let mut sum = simd.splat(T::ZERO);
            if let Some(curve) = self.curve {
                with_curve!(curve, |curve| for p in 0..count {
                    let y = self.out.add(at + p * self.stride);
                    let v = curve.activate(simd, load(simd, y, live));
                    store(simd, v, y, live);
                    if p >= repeated {
                        sum = simd.add(sum, v);
                    }
                });
            } else if !self.means.is_null() {
                for p in repeated..count {
                    sum = simd.add(sum, load(simd, self.out.add(at + p * self.stride), live));
                }
            }
            if !self.means.is_null() {
                let mean = self.means.add(channel);
                let others = if tile.start == 0 { simd.splat(T::ZERO) } else { load(simd, mean, live) };
                store(simd, simd.mul_add(sum, simd.splat(self.share), others), mean, live);
            }
        }
    }
}
