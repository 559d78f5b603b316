//! A row of windows over an image: what the tiles of a pass read.

use std::ops::Range;

use super::filters::Taps;
use crate::Element;
use crate::ops::gemm::Grid;
use crate::simd::Simd;

/// Pixels of a tile. With the weights of seven taps and one input they fill the 16 registers of AVX2.
pub const NARROW: usize = 8;
/// Pixels of a tile where there are 32 registers: what maps of 14, 28, 56 and 112 columns consist of.
pub const WIDE: usize = 14;

/// Elements of images from which on tiles fetch ahead.
pub const LARGE: usize = 1 << 20;

/// The windows under one row of outputs.
pub struct Windows<'a, T> {
    pub image: *const T,
    /// Elements of an image's pixel and pixels of its row.
    pub pixel: usize,
    pub width: usize,
    /// The vertical position of the windows in the image, to which the taps' offsets are added.
    pub y: usize,
    pub taps: &'a Taps,
    /// The kernel rows that lie inside of the image.
    pub inside: Range<usize>,
    /// Pixels from a window to the next.
    pub step: usize,
    /// Outputs of the row.
    pub outputs: usize,
    /// The rows of the image that the next row of windows is the first to read, if the images are too large for the
    /// nearer caches: tiles fetch them meanwhile, because pixels are read a register at a time, in an order that
    /// processors don't foresee.
    pub ahead: Range<usize>,
}

impl<'a, T> Windows<'a, T> {
    /// The windows of row `y` of a grid over `x`, images of `pixel` channels, in image `n`.
    pub(super) fn new(grid: &Grid, taps: &'a Taps, x: &[T], pixel: usize, [n, y]: [usize; 2]) -> Self {
        let [height, width] = grid.source;
        assert_eq!(x.len(), grid.batch * height * width * pixel);
        let image = x[n * height * width * pixel..].as_ptr();
        let windows = Self::of_row(grid, taps, image, pixel, y);
        if x.len() < LARGE {
            return windows;
        }
        let first = windows.y.saturating_add_signed(taps.rows.last().unwrap_or(&0) + 1).min(height);
        Windows { ahead: first..height.min(first + grid.step[0]), ..windows }
    }

    /// The windows of row `y` of a grid over an image of `pixel` channels that is near.
    pub(in crate::ops::conv) fn of_row(grid: &Grid, taps: &'a Taps, image: *const T, pixel: usize, y: usize) -> Self {
        let [height, width] = grid.source;
        let y = y * grid.step[0];
        // Offsets ascend, so that the rows inside are consecutive.
        let row = |offset: &isize| y as isize + offset;
        let start = taps.rows.partition_point(|offset| row(offset) < 0);
        let end = taps.rows.partition_point(|offset| row(offset) < height as isize);
        let inside = start..end.max(start);
        Windows { image, pixel, width, y, taps, inside, step: grid.step[1], outputs: grid.size[1], ahead: 0..0 }
    }

    /// The first pixel of the image row under the first kernel row inside, and the elements from there to that of the
    /// next kernel row: these are equally far apart.
    #[inline(always)]
    pub fn rows(&self) -> (*const T, usize) {
        let &[first, ref others @ ..] = &self.taps.rows[self.inside.clone()] else { return (self.image, 0) };
        let apart = others.first().map_or(0, |second| (second - first) as usize);
        let pitch = self.width * self.pixel;
        (self.image.wrapping_add(self.y.wrapping_add_signed(first) * pitch), apart * pitch)
    }

    /// The image column of the first window of a tile's first tap.
    #[inline(always)]
    pub fn column(&self, tile: &Range<usize>) -> isize {
        (tile.start * self.step) as isize + self.taps.columns.first().unwrap_or(&0)
    }

    /// The number of tiles, and tile `i`. All are full if the row is long enough: the last one begins earlier than its
    /// predecessor ends if it would reach beyond the last output.
    #[inline(always)]
    pub fn tiles<const PIXELS: usize>(&self) -> usize {
        self.outputs.div_ceil(PIXELS)
    }

    #[inline(always)]
    pub fn tile<const PIXELS: usize>(&self, i: usize) -> Range<usize> {
        let start = (i * PIXELS).min(self.outputs.saturating_sub(PIXELS));
        start..self.outputs.min(start + PIXELS)
    }

    /// The outputs that tiles of so many pixels compute: what tiles share or have beyond a short row counts as well.
    #[inline(always)]
    pub fn computed<const PIXELS: usize>(&self) -> usize {
        self.tiles::<PIXELS>() * PIXELS
    }

    /// Asks for the pixels of the rows [`ahead`](Self::ahead) under a tile, for a register whose first input is
    /// `channel`.
    #[inline(always)]
    pub fn fetch<S: Simd<T>>(&self, simd: S, tile: &Range<usize>, channel: usize)
    where
        T: Element,
    {
        for row in self.ahead.clone() {
            let first = (row * self.width + tile.start * self.step) * self.pixel;
            fetch::<T, S, false>(simd, self.image.wrapping_add(first), tile.len() * self.step, self.pixel, channel);
        }
    }

    /// Whether a tile is as wide as it can be and all its windows lie inside of the image's columns.
    #[inline(always)]
    pub fn is_inner<const PIXELS: usize>(&self, tile: &Range<usize>) -> bool {
        let last = ((tile.end - 1) * self.step) as isize + self.taps.columns.last().unwrap_or(&0);
        tile.len() == PIXELS && self.column(tile) >= 0 && last < self.width as isize
    }
}

/// Asks for a register's channels, from `channel` on, of `pixels` pixels `stride` elements apart, perhaps to write them.
#[inline(always)]
pub fn fetch<T: Element, S: Simd<T>, const TO_WRITE: bool>(
    simd: S,
    first: *const T,
    pixels: usize,
    stride: usize,
    channel: usize,
) {
    // The others share a cache line with their predecessor.
    if channel % S::LINE < S::LANES {
        let mut at = first.wrapping_add(channel);
        for _ in 0..pixels {
            if TO_WRITE {
                simd.prefetch_to_write(at)
            } else {
                simd.prefetch(at)
            }
            at = at.wrapping_add(stride);
        }
    }
}
