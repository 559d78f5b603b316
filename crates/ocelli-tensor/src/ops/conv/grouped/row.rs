//! The forward kernel, which with turned weights is also that of the input's gradient: one row of outputs.

// Registers are named by their place in the tile.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use super::ahead::{Next, Part, fetches_at};
use super::channels::Reads;
use super::filters::Filters;
use super::pixel_of;
use super::read::{Group, Own, Read, Spread, for_each_column, load, store, with_windows};
use super::windows::{EIGHT, FOURTEEN, SEVEN, Windows, bits};
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
    /// The first of as many successive outputs of a later row as this one has.
    pub below: *const T,
    /// Whether these, and what the next row's windows are the first to read, are to be fetched meanwhile, if the windows have a
    /// kernel of their own.
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
        match self.row.windows.pixels::<S>(R::SINGLE) {
            _ if K == 0 => self.any_tiles(simd),
            SEVEN => self.tiles::<S, SEVEN>(simd),
            FOURTEEN => self.tiles::<S, FOURTEEN>(simd),
            _ => self.tiles::<S, EIGHT>(simd),
        }
    }
}

impl<T: Element, R: Read, const K: usize, const STEP: usize> Tiles<'_, T, R, K, STEP> {
    /// The row in tiles of windows that have a kernel of their own. What does not depend on the register is found before, for
    /// all that take the tile together.
    #[inline(always)]
    fn tiles<S: Simd<T>, const PIXELS: usize>(&self, simd: S) {
        let row = &self.row;
        let (windows, channels, size) = (&row.windows, &row.filters.channels, row.filters.size());
        let mut filters = row.filters.data().as_ptr().wrapping_add(row.vectors.start * size);
        let (x, pitch) = windows.rows();
        let next = Next::new(windows, channels, &row.vectors, row.below);
        let registers = &channels.vectors[row.vectors.clone()];
        let mut earlier = 0;
        for registers in registers.chunks(windows.together::<S>(registers.len())) {
            for i in 0..windows.tiles::<PIXELS>() {
                let tile = windows.tile::<PIXELS>(i);
                let first = windows.column(&tile);
                let inside = windows.inside_columns(first, &tile, K);
                let is_inner = inside == const { bits(0..(PIXELS - 1) * STEP + K) };
                let x = x.wrapping_offset(first * windows.pixel as isize);
                let mut filter = filters;
                for &[output, input] in registers {
                    let at = (x.wrapping_add(input), pitch, filter);
                    let next = next.parts::<S>([output, input], (i, earlier), [PIXELS, STEP]);
                    // SAFETY: the promise made to `run`, which chose K and STEP by the windows and has checked that registers
                    // are full. The pointers are this tile's and register's; a tile all of whose columns are inside is a full
                    // one.
                    unsafe {
                        let acc = match (is_inner, row.fetches) {
                            (true, false) => self.tile::<S, PIXELS, false, false>(simd, at, inside, next),
                            (true, true) => self.tile::<S, PIXELS, false, true>(simd, at, inside, next),
                            (false, false) => self.tile::<S, PIXELS, true, false>(simd, at, inside, next),
                            (false, true) => self.tile::<S, PIXELS, true, true>(simd, at, inside, next),
                        };
                        // The last tile may repeat some pixels.
                        let place = (output, &tile, i * PIXELS - tile.start);
                        if tile.len() == PIXELS {
                            row.finish::<S, PIXELS, false>(simd, acc, place, S::LANES);
                        } else {
                            row.finish::<S, PIXELS, true>(simd, acc, place, S::LANES);
                        }
                    }
                    filter = filter.wrapping_add(size);
                    earlier += 1;
                }
            }
            filters = filters.wrapping_add(registers.len() * size);
        }
    }

    /// The sums of a tile for a register, given its first input and its weights. At a `BORDER` only the columns `inside` of the
    /// image are read; elsewhere all. If it `FETCH`es, it asks for what the next row reads and writes.
    ///
    /// # Safety
    /// That of [`run`], for windows that K and STEP describe: x must be where the tile's first column is or would be, `filter` the
    /// register's, and `inside` must have no column that is not; all of the tile's if this is no `BORDER`.
    #[inline(always)]
    unsafe fn tile<S: Simd<T>, const PIXELS: usize, const BORDER: bool, const FETCH: bool>(
        &self,
        simd: S,
        (mut x, pitch, filter): (*const T, usize, *const T),
        inside: u64,
        [mut ahead, mut below]: [Part<T>; 2],
    ) -> [S::V; PIXELS] {
        let Tiles { row: Row { windows, filters, .. }, read } = self;
        let (pixel, depth) = (windows.pixel, if R::SINGLE { 1 } else { filters.channels.depth });
        // Asking to write brings a line to the first-level cache, whose buffers registers of half a line need themselves. It is
        // worth that only where another processor may have written the line last: near by.
        let for_writing = S::LANES == S::LINE || windows.ahead.is_none();
        let mut acc = [simd.splat(T::ZERO); PIXELS];
        let mut filter = filter.wrapping_add(windows.inside.start * depth * K * S::LANES);
        for _ in windows.inside.clone() {
            for i in 0..depth {
                // SAFETY: a filter has `K` registers for every kernel row and channel of the depth; columns are read
                // only inside of the image, which inner tiles do not leave.
                unsafe {
                    let mut w = [simd.splat(T::ZERO); K];
                    for (k, w) in w.iter_mut().enumerate() {
                        *w = simd.load_ptr(filter.add(k * S::LANES));
                    }
                    let mut at = x;
                    for_each_column!((PIXELS - 1) * STEP + K, |J| {
                        if FETCH && i == 0 && const { fetches_at(J, [PIXELS, K, STEP], S::LANES, S::LINE) } {
                            for _ in 0..STEP * STEP {
                                simd.prefetch_near(ahead.next());
                            }
                            if for_writing {
                                simd.prefetch_to_write(below.next());
                            } else {
                                simd.prefetch(below.next());
                            }
                        }
                        if !BORDER || inside & (1 << J) != 0 {
                            let x = read.read(simd, at, i, S::LANES);
                            for k in 0..K {
                                if let Some(p) = pixel_of(J, k, STEP)
                                    && p < PIXELS
                                {
                                    acc[p] = simd.mul_add(x, w[k], acc[p]);
                                }
                            }
                        }
                        at = at.wrapping_add(pixel);
                    });
                }
                filter = filter.wrapping_add(K * S::LANES);
            }
            x = x.wrapping_add(pitch);
        }
        acc
    }

    /// The row in tiles of any windows, and of registers that may have lanes without a channel.
    #[inline(always)]
    fn any_tiles<S: Simd<T>>(&self, simd: S) {
        let Tiles { row, read } = self;
        let channels = &row.filters.channels;
        for i in 0..row.windows.tiles::<EIGHT>() {
            let tile = row.windows.tile::<EIGHT>(i);
            for v in row.vectors.clone() {
                let [output, input] = channels.vectors[v];
                let filter = row.filters.data().as_ptr().wrapping_add(v * row.filters.size());
                // SAFETY: the promise made to `run`.
                unsafe {
                    let acc = row.any::<S, R, EIGHT>(simd, *read, (input, filter), &tile);
                    let place = (output, &tile, i * EIGHT - tile.start);
                    row.finish::<S, EIGHT, true>(simd, acc, place, channels.live());
                }
            }
        }
    }
}

impl<T: Element> Row<'_, T> {
    /// The sums of a tile for a register, given its first input and its weights, for any windows and any number of live lanes.
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
    /// That of [`run`]; and the tile must be a full one if this is no `BORDER`.
    #[inline(always)]
    unsafe fn finish<S: Simd<T>, const PIXELS: usize, const BORDER: bool>(
        &self,
        simd: S,
        mut acc: [S::V; PIXELS],
        (channel, tile, repeated): (usize, &Range<usize>, usize),
        live: usize,
    ) {
        let at = tile.start * self.stride + channel;
        let (first, stride) = (self.out.wrapping_add(at), self.stride);
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
                let mut from = self.residual.add(at);
                for p in 0..PIXELS {
                    if p < count {
                        acc[p] = simd.add(acc[p], load(simd, from, live));
                    }
                    from = from.wrapping_add(stride);
                }
            }
            if let Some([low, high]) = self.clamp {
                let (low, high) = (simd.splat(low), simd.splat(high));
                for p in 0..PIXELS {
                    acc[p] = simd.min(high, simd.max(low, acc[p]));
                }
            }
            let mut to = first;
            for p in 0..PIXELS {
                if p < count {
                    store(simd, acc[p], to, live);
                }
                to = to.wrapping_add(stride);
            }
            if self.curve.is_none() && self.means.is_null() {
                return;
            }
            // Curves are long: a loop over what was just stored keeps them from being repeated for every pixel.
            let mut sum = simd.splat(T::ZERO);
            let mut y = first;
            if let Some(curve) = self.curve {
                with_curve!(curve, |curve| for p in 0..count {
                    let v = curve.activate(simd, load(simd, y, live));
                    store(simd, v, y, live);
                    if p >= repeated {
                        sum = simd.add(sum, v);
                    }
                    y = y.wrapping_add(stride);
                });
            } else {
                y = y.wrapping_add(repeated * stride);
                for _ in repeated..count {
                    sum = simd.add(sum, load(simd, y, live));
                    y = y.wrapping_add(stride);
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
