//! Transformed tiles: planes, one a frequency, of tiles × channels.

use super::Tiles;
use super::transform::{INPUTS, Input, Map, OUTPUTS, OutputAdjoint};
use crate::Element;
use crate::memory::Scratch;
use crate::simd::Simd;

/// Elements between planes beyond their size, so that the same element of all planes does not fall into one cache set.
const GAP: usize = 16;

/// A buffer for planes of `rows` tiles. A plane is cut into panels of `width` channels, each a contiguous `[rows, width]`.
pub(super) struct Planes<T: Element> {
    data: Scratch<T>,
    view: View<T>,
}

/// The elements of so many planes, for at least `channels` channels in whole panels.
pub(super) fn elements(frequencies: usize, rows: usize, channels: usize, width: usize) -> usize {
    frequencies * (rows * channels.next_multiple_of(width) + GAP)
}

impl<T: Element> Planes<T> {
    /// So many planes of unspecified content, for at least `channels` channels in whole panels.
    pub fn new(frequencies: usize, rows: usize, channels: usize, width: usize) -> Self {
        let mut data = Scratch::new(elements(frequencies, rows, channels, width));
        let view = View::new(&mut data, [frequencies, rows, channels, width]);
        Planes { data, view }
    }

    pub fn view(&mut self) -> View<T> {
        View { data: self.data.as_mut_ptr(), ..self.view }
    }
}

/// A pointer to planes, for tasks that write different rows or read what is complete.
#[derive(Clone, Copy)]
pub(super) struct View<T> {
    data: *mut T,
    pub frequencies: usize,
    /// Elements from a plane to the next.
    pub stride: usize,
    pub rows: usize,
    pub channels: usize,
    pub width: usize,
}

// SAFETY: tasks write disjoint rows of a view, and read it only after all writers have ended.
unsafe impl<T: Send> Send for View<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for View<T> {}

impl<T: Element> View<T> {
    /// Planes in memory of as many [elements].
    pub fn new(data: &mut [T], [frequencies, rows, channels, width]: [usize; 4]) -> Self {
        assert_eq!(data.len(), elements(frequencies, rows, channels, width));
        View { data: data.as_mut_ptr(), frequencies, stride: data.len() / frequencies, rows, channels, width }
    }

    /// The element of plane `f` at a row and channel.
    #[inline(always)]
    pub fn at(&self, f: usize, row: usize, channel: usize) -> *mut T {
        assert!(f < self.frequencies && row < self.rows && channel < self.channels);
        let panel = channel / self.width;
        // SAFETY: the element lies within the buffer, as just asserted.
        unsafe { self.data.add(f * self.stride + (panel * self.rows + row) * self.width + channel % self.width) }
    }
}

/// Transforms the tiles' inputs `x` `[N, H, W, C]` to rows of planes, beginning with row `first`.
///
/// # Safety
/// Nobody else may access these rows.
#[inline(always)]
pub(super) unsafe fn input<T: Element, S: Simd<T>, const IN: usize, const OUT: usize>(
    simd: S,
    tiles: &Tiles,
    range: std::ops::Range<usize>,
    (x, zeros): (&[T], &[T]),
    planes: View<T>,
    first: usize,
) where
    Input: Map<IN, IN>,
{
    for (i, tile) in range.enumerate() {
        let pixels = tiles.pixels::<T, IN>(tiles.at(tile), tiles.input, tiles.padding, (x, planes.channels), zeros);
        // SAFETY: the pixels have all channels, and the row is the caller's.
        unsafe { each_vector::<T, S, Input, IN, IN, OUT>(simd, &pixels, planes, first + i) };
    }
}

/// Transforms the tiles' output gradients `dy` `[N, Ho, Wo, C]` to rows of planes, beginning with row `first`.
///
/// # Safety
/// Nobody else may access these rows.
#[inline(always)]
pub(super) unsafe fn output_adjoint<T: Element, S: Simd<T>>(
    simd: S,
    tiles: &Tiles,
    range: std::ops::Range<usize>,
    (dy, zeros): (&[T], &[T]),
    planes: View<T>,
    first: usize,
) {
    for (i, tile) in range.enumerate() {
        let pixels = tiles.pixels::<T, OUTPUTS>(tiles.at(tile), tiles.output, [0, 0], (dy, planes.channels), zeros);
        // SAFETY: the pixels have all channels, and the row is the caller's.
        unsafe { each_vector::<T, S, OutputAdjoint, OUTPUTS, INPUTS, OUTPUTS>(simd, &pixels, planes, first + i) };
    }
}

/// Writes the map of a window of pixels, register by register of channels, to a row of all planes. The panels' width is
/// a multiple of a register's.
///
/// # Safety
/// Each pixel must have the planes' channels, and nobody else may access the row.
#[inline(always)]
unsafe fn each_vector<
    T: Element,
    S: Simd<T>,
    M: Map<SIZE, IN>,
    const SIZE: usize,
    const IN: usize,
    const OUT: usize,
>(
    simd: S,
    pixels: &[[*const T; SIZE]; SIZE],
    planes: View<T>,
    row: usize,
) {
    assert!(planes.width.is_multiple_of(S::LANES));
    for c in (0..planes.channels).step_by(S::LANES) {
        if c.is_multiple_of(S::LINE) {
            // What the tile to the right will read and this one doesn't: its streams are too many for the hardware.
            for row in pixels {
                for pixel in &row[SIZE - OUT..] {
                    simd.prefetch(pixel.wrapping_add(OUT * planes.channels + c));
                }
            }
        }
        let (to, n) = (planes.at(0, row, c), planes.channels - c);
        // SAFETY: the caller's promise; a panel has whole registers.
        unsafe {
            if n >= S::LANES {
                window::<T, S, M, SIZE, IN, false>(simd, pixels, c, S::LANES, to, planes.stride);
            } else {
                window::<T, S, M, SIZE, IN, true>(simd, pixels, c, n, to, planes.stride);
            }
        }
    }
}

/// The map of a window at `n` channels from `c` on (`PARTIAL`: fewer than a register has) to `IN²` places `stride` apart.
///
/// Its first half, over columns, goes through the stack; results of the second are stored as they come, because no
/// processor has the registers for a tile.
///
/// # Safety
/// The pixels must have these channels, and the places, of a register each, must be the caller's.
#[inline(always)]
unsafe fn window<T: Element, S: Simd<T>, M: Map<SIZE, IN>, const SIZE: usize, const IN: usize, const PARTIAL: bool>(
    simd: S,
    pixels: &[[*const T; SIZE]; SIZE],
    c: usize,
    n: usize,
    mut to: *mut T,
    stride: usize,
) {
    let zero = simd.splat(T::ZERO);
    let mut half = [[zero; SIZE]; IN];
    // SAFETY: the caller's promise.
    unsafe {
        for x in 0..SIZE {
            let mut column = [zero; SIZE];
            for y in 0..SIZE {
                let from = pixels[y][x].add(c);
                column[y] = if PARTIAL { simd.load_partial_ptr(from, n) } else { simd.load_ptr(from) };
            }
            let column = M::apply(simd, column);
            for y in 0..IN {
                half[y][x] = column[y];
            }
        }
        for y in 0..IN {
            let values = M::apply(simd, half[y]);
            for x in 0..IN {
                simd.store_ptr(values[x], to);
                to = to.wrapping_add(stride);
            }
        }
    }
}
