//! A row of windows over an image: what the tiles of a pass read.

use std::ops::Range;

use super::filters::Taps;
use crate::ops::gemm::{Grid, cut};

/// Pixels of a tile. With the weights of seven taps and one input they fill the 16 registers of AVX2.
pub const PIXELS: usize = 8;

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
}

impl<'a, T> Windows<'a, T> {
    /// The windows of row `y` of a grid over `x`, images of `pixel` channels, in image `n`.
    pub(super) fn new(grid: &Grid, taps: &'a Taps, x: &[T], pixel: usize, [n, y]: [usize; 2]) -> Self {
        let [height, width] = grid.source;
        assert_eq!(x.len(), grid.batch * height * width * pixel);
        let y = y * grid.step[0];
        // Offsets ascend, so that the rows inside are consecutive.
        let row = |offset: &isize| y as isize + offset;
        let start = taps.rows.partition_point(|offset| row(offset) < 0);
        let end = taps.rows.partition_point(|offset| row(offset) < height as isize);
        let image = x[n * height * width * pixel..].as_ptr();
        let inside = start..end.max(start);
        Windows { image, pixel, width, y, taps, inside, step: grid.step[1], outputs: grid.size[1] }
    }

    /// The first pixel of the image row under kernel row `row`, which must be one of those inside.
    #[inline(always)]
    pub fn row(&self, row: usize) -> *const T {
        let y = self.y.wrapping_add_signed(self.taps.rows[row]);
        self.image.wrapping_add(y * self.width * self.pixel)
    }

    /// The image column of the first window of a tile's first tap.
    #[inline(always)]
    pub fn column(&self, tile: &Range<usize>) -> isize {
        (tile.start * self.step) as isize + self.taps.columns.first().unwrap_or(&0)
    }

    /// The number of tiles, and tile `i`: all of about equal width.
    #[inline(always)]
    pub fn tiles(&self) -> usize {
        self.outputs.div_ceil(PIXELS)
    }

    #[inline(always)]
    pub fn tile(&self, i: usize) -> Range<usize> {
        cut(self.outputs, self.tiles(), i)
    }

    /// Whether a tile is as wide as it can be and all its windows lie inside of the image's columns.
    #[inline(always)]
    pub fn is_inner(&self, tile: &Range<usize>) -> bool {
        let last = ((tile.end - 1) * self.step) as isize + self.taps.columns.last().unwrap_or(&0);
        tile.len() == PIXELS && self.column(tile) >= 0 && last < self.width as isize
    }
}
