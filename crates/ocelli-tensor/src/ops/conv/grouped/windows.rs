//! A row of windows over an image: what the tiles of a pass read.

use std::ops::Range;

use super::filters::Taps;
use crate::Element;
use crate::ops::gemm::Grid;
use crate::simd::Simd;

/// Pixels of a tile. With the weights of seven taps and one input they fill the 16 registers of AVX2.
pub const EIGHT: usize = 8;
/// Pixels of a tile in rows that consist of them, as those of maps of 7, 14, 28, 56 and 112 columns do.
pub const SEVEN: usize = 7;
/// As [`SEVEN`], where there are 32 registers.
pub const FOURTEEN: usize = 14;

/// Elements of images from which on tiles fetch ahead.
pub const LARGE: usize = 1 << 20;

/// Registers of less than a line that take all tiles of a row before the next ones do.
const TOGETHER: usize = 8;

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
    /// The first of the rows, in this image or behind it, that the next row of windows is the first to read, if the images are
    /// too large for the nearer caches.
    pub ahead: Option<usize>,
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
        // Behind an image's last row the next image begins.
        let ahead = windows.y.saturating_add_signed(taps.rows.last().unwrap_or(&0) + 1);
        Windows { ahead: Some(ahead), ..windows }
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
        Windows { image, pixel, width, y, taps, inside, step: grid.step[1], outputs: grid.size[1], ahead: None }
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

    /// How many of the registers take all tiles of the row before the next ones do: few of less than a line, if the images are
    /// too large for the nearer caches. The columns that tiles share, weights and sums stay in the first cache.
    #[inline(always)]
    pub fn together<S: Simd<T>>(&self, registers: usize) -> usize
    where
        T: Element,
    {
        if S::LANES < S::LINE && self.ahead.is_some() { TOGETHER } else { registers.max(1) }
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

    /// The columns under a tile of `taps` neighbouring taps that lie inside of the image, a bit each, given the first.
    #[inline(always)]
    pub fn inside_columns(&self, first: isize, tile: &Range<usize>, taps: usize) -> u64 {
        let columns = (tile.len() - 1) * self.step + taps;
        let before = (-first).clamp(0, columns as isize);
        let end = (self.width as isize - first).clamp(before, columns as isize);
        bits(before as usize..end as usize)
    }

    /// The first pixel of the rows [`ahead`](Self::ahead); where there are none, of a row that is near.
    #[inline(always)]
    pub fn first_ahead(&self) -> *const T {
        self.image.wrapping_add(self.ahead.unwrap_or(self.y) * self.width * self.pixel)
    }

    /// The pixels of the row's tiles: those of which the fewest are computed in vain, and of equals the more.
    #[inline(always)]
    pub fn pixels<S: Simd<T>>(&self, single: bool) -> usize
    where
        T: Element,
    {
        match (single, S::REGISTERS >= 32) {
            (true, true) if self.computed::<FOURTEEN>() <= self.computed::<EIGHT>() => FOURTEEN,
            (true, false) if self.computed::<SEVEN>() < self.computed::<EIGHT>() => SEVEN,
            _ => EIGHT,
        }
    }
}

/// A number whose bits of that range are set.
#[inline(always)]
pub const fn bits(range: Range<usize>) -> u64 {
    ((1 << range.end) - 1) & (u64::MAX << range.start)
}
