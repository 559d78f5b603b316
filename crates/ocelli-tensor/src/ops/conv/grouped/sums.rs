//! The kernel of the weights' gradient: what one row of outputs adds to it.

// Registers are named by their place in the tile.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use super::ahead::{Next, Part, fetches_at};
use super::channels::{Channels, Reads};
use super::pixel_of;
use super::read::{Group, Own, Read, Spread, for_each_column, load, with_windows};
use super::windows::{EIGHT, FOURTEEN, SEVEN, Windows, bits};
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
        match self.row.windows.pixels::<S>(R::SINGLE) {
            _ if K == 0 => self.any_tiles(simd),
            SEVEN => self.tiles::<S, SEVEN>(simd),
            FOURTEEN => self.tiles::<S, FOURTEEN>(simd),
            _ => self.tiles::<S, EIGHT>(simd),
        }
    }
}

impl<T: Element, R: Read, const K: usize, const STEP: usize> Tiles<'_, T, R, K, STEP> {
    /// The row in tiles of windows that have a kernel of their own.
    #[inline(always)]
    fn tiles<S: Simd<T>, const PIXELS: usize>(&self, simd: S) {
        let row = &self.row;
        let (windows, stride) = (&row.windows, row.channels.outputs);
        let fetches = windows.ahead.is_some();
        let (x, pitch) = windows.rows();
        let below = row.dy.wrapping_add(windows.outputs * stride);
        let next = Next::new(windows, row.channels, &row.vectors, below);
        let registers = &row.channels.vectors[row.vectors.clone()];
        let size = row.size::<S>();
        let (mut sums, mut earlier) = (row.sums, 0);
        for registers in registers.chunks(windows.together::<S>(registers.len())) {
            for i in 0..windows.tiles::<PIXELS>() {
                let tile = windows.tile::<PIXELS>(i);
                let first = windows.column(&tile);
                let inside = windows.inside_columns(first, &tile, K);
                // The tile before this one may have added some pixels.
                let counted = bits(i * PIXELS - tile.start..tile.len());
                let is_inner =
                    inside == const { bits(0..(PIXELS - 1) * STEP + K) } && counted == const { bits(0..PIXELS) };
                let x = x.wrapping_offset(first * windows.pixel as isize);
                let dy = row.dy.wrapping_add(tile.start * stride);
                let mut sum = sums;
                for &[output, input] in registers {
                    let at = (x.wrapping_add(input), pitch, dy.wrapping_add(output), sum);
                    let valid = (inside, counted);
                    let next = next.parts::<S>([output, input], (i, earlier), [PIXELS, STEP]);
                    // SAFETY: the promise made to `run`, which chose K and STEP by the windows and has checked that registers
                    // are full. The pointers are this tile's and register's; a tile all of whose columns are inside is a full
                    // one.
                    unsafe {
                        match (is_inner, fetches) {
                            (true, false) => self.tile::<S, PIXELS, false, false>(simd, at, valid, next),
                            (true, true) => self.tile::<S, PIXELS, false, true>(simd, at, valid, next),
                            (false, false) => self.tile::<S, PIXELS, true, false>(simd, at, valid, next),
                            (false, true) => self.tile::<S, PIXELS, true, true>(simd, at, valid, next),
                        }
                    }
                    sum = sum.wrapping_add(size);
                    earlier += 1;
                }
            }
            sums = sums.wrapping_add(registers.len() * size);
        }
    }

    /// Adds a tile to the sums of a register, given its first input, gradient and sum. At a `BORDER` only the columns `inside` of
    /// the image and the pixels `counted` are read; elsewhere all. If it `FETCH`es, it asks for what the next row reads.
    ///
    /// # Safety
    /// That of [`run`], for windows that K and STEP describe: x must be where the tile's first column is or would be, dy its first
    /// gradient, `sums` the register's; and no column that is not in the image, and no pixel beyond the row, may be said to be
    /// `inside` or `counted`; all of the tile's if this is no `BORDER`.
    #[inline(always)]
    unsafe fn tile<S: Simd<T>, const PIXELS: usize, const BORDER: bool, const FETCH: bool>(
        &self,
        simd: S,
        (mut x, pitch, mut dy, sums): (*const T, usize, *const T, *mut T),
        (inside, counted): (u64, u64),
        [mut ahead, mut below]: [Part<T>; 2],
    ) {
        let Tiles { row: SumRow { windows, channels, .. }, read } = self;
        let (pixel, depth) = (windows.pixel, if R::SINGLE { 1 } else { channels.depth });
        // SAFETY: the tile's outputs are the row's; sums have `K` registers for every kernel row and channel of the
        // depth; columns are read only inside of the image, which inner tiles do not leave.
        unsafe {
            let mut g = [simd.splat(T::ZERO); PIXELS];
            for p in 0..PIXELS {
                if !BORDER || counted & (1 << p) != 0 {
                    g[p] = simd.load_ptr(dy);
                }
                dy = dy.wrapping_add(channels.outputs);
            }
            let mut sums = sums.add(windows.inside.start * depth * K * S::LANES);
            for _ in windows.inside.clone() {
                for i in 0..depth {
                    let mut acc = [simd.splat(T::ZERO); K];
                    for (k, acc) in acc.iter_mut().enumerate() {
                        *acc = simd.load_ptr(sums.add(k * S::LANES));
                    }
                    let mut at = x;
                    for_each_column!((PIXELS - 1) * STEP + K, |J| {
                        if FETCH && i == 0 && const { fetches_at(J, [PIXELS, K, STEP], S::LANES, S::LINE) } {
                            for _ in 0..STEP * STEP {
                                simd.prefetch_near(ahead.next());
                            }
                            simd.prefetch_near(below.next());
                        }
                        if !BORDER || inside & (1 << J) != 0 {
                            let x = read.read(simd, at, i, S::LANES);
                            for k in 0..K {
                                if let Some(p) = pixel_of(J, k, STEP)
                                    && p < PIXELS
                                {
                                    acc[k] = simd.mul_add(x, g[p], acc[k]);
                                }
                            }
                        }
                        at = at.wrapping_add(pixel);
                    });
                    for (k, &acc) in acc.iter().enumerate() {
                        simd.store_ptr(acc, sums.add(k * S::LANES));
                    }
                    sums = sums.wrapping_add(K * S::LANES);
                }
                x = x.wrapping_add(pitch);
            }
        }
    }

    /// The row in tiles of any windows, and of registers that may have lanes without a channel.
    #[inline(always)]
    fn any_tiles<S: Simd<T>>(&self, simd: S) {
        let Tiles { row, read } = self;
        for i in 0..row.windows.tiles::<EIGHT>() {
            let tile = row.windows.tile::<EIGHT>(i);
            for v in 0..row.vectors.len() {
                // SAFETY: the promise made to `run`.
                unsafe { row.any(simd, *read, v, &tile, i * EIGHT - tile.start) };
            }
        }
    }
}

impl<T: Element> SumRow<'_, T> {
    /// The elements of a register's sums.
    #[inline(always)]
    fn size<S: Simd<T>>(&self) -> usize {
        self.windows.taps.indices.len() * self.channels.depth * S::LANES
    }

    /// Adds a tile, all but the first `skip` pixels, to the sums of the row's register `v`, for any windows and any number of live
    /// lanes.
    ///
    /// # Safety
    /// That of [`run`].
    #[inline(always)]
    unsafe fn any<S: Simd<T>, R: Read>(&self, simd: S, read: R, v: usize, tile: &Range<usize>, skip: usize) {
        let (windows, channels) = (&self.windows, self.channels);
        let (columns, depth, live) = (&windows.taps.columns, channels.depth, channels.live());
        let [output, input] = channels.vectors[self.vectors.start + v];
        // SAFETY: as in `tile`; only pixels inside of the image are read.
        unsafe {
            let mut dy = [simd.splat(T::ZERO); EIGHT];
            for p in skip..tile.len() {
                dy[p] = load(simd, self.dy.add((tile.start + p) * channels.outputs + output), live);
            }
            let (x, pitch) = windows.rows();
            let mut x = x.wrapping_add(input);
            for kernel_row in windows.inside.clone() {
                for i in 0..depth {
                    for (k, offset) in columns.iter().enumerate() {
                        let sum = self
                            .sums
                            .add(v * self.size::<S>() + ((kernel_row * depth + i) * columns.len() + k) * S::LANES);
                        let mut acc = simd.load_ptr(sum);
                        for p in 0..EIGHT {
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
