//! What the next row of windows reads and writes first: tiles ask for it meanwhile, a line at a time.

use crate::Element;
use crate::simd::Simd;

/// The lines of memory that hold some channels of successive pixels, of which each register of a tile asks for a share.
///
/// Registers of a whole line take theirs in the order of memory, if a task has all channels: a processor foresees that, and
/// then waits for more lines at once than it can be asked for. Others take those of their own channels.
pub struct Lines<T> {
    first: *const T,
    /// Elements from a pixel to the next.
    pixel: usize,
    in_order: bool,
}

impl<T: Element> Lines<T> {
    /// Those of `channels` channels of pixels that begin at `first`, `pixel` elements apart.
    #[inline(always)]
    pub fn new<S: Simd<T>>(first: *const T, channels: usize, pixel: usize) -> Self {
        Lines { first, pixel, in_order: S::LANES == S::LINE && channels == pixel }
    }

    /// The first one of a register, whose first channel is given, in tile `i` of `pixels` pixels, if its tiles before this one
    /// and the registers before it have had `earlier` shares; and the elements from each line to the next.
    #[inline(always)]
    pub fn share<S: Simd<T>>(&self, channel: usize, i: usize, pixels: usize, earlier: usize) -> Share<T> {
        let each = pixels * S::LANES / S::LINE;
        if self.in_order {
            return Share { at: self.first.wrapping_add(earlier * each * S::LINE), apart: S::LINE };
        }
        // Registers that have a line in common take a part of the pixels each.
        let part = channel % S::LINE / S::LANES;
        let at = (i * pixels + part * each) * self.pixel + channel - channel % S::LINE;
        Share { at: self.first.wrapping_add(at), apart: self.pixel }
    }
}

/// Some lines at equal distances.
pub struct Share<T> {
    at: *const T,
    apart: usize,
}

impl<T> Share<T> {
    /// The next one.
    #[inline(always)]
    pub fn next(&mut self) -> *const T {
        let line = self.at;
        self.at = line.wrapping_add(self.apart);
        line
    }
}

/// Whether something is to be asked for at column `j` of one of `taps` kernel rows over a tile of `pixels` pixels, `step`
/// columns apart, so that as many lines as a register of them has are asked for in all rows, evenly: a processor that is
/// asked for many at once lets every other load wait.
pub const fn fetches_at(j: usize, [pixels, taps, step]: [usize; 3], lanes: usize, line: usize) -> bool {
    if taps == 0 {
        return false;
    }
    let wanted = (pixels * lanes).div_ceil(line).div_ceil(taps);
    let apart = ((pixels - 1) * step + taps) / wanted;
    j.is_multiple_of(apart) && j / apart < wanted
}
