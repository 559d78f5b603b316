//! What the next row of windows reads and writes first: tiles ask for it meanwhile, a line at a time.

use std::ops::Range;

use super::channels::Channels;
use super::windows::Windows;
use crate::Element;
use crate::simd::Simd;

/// What a row asks for in the name of the next one.
pub struct Next<T> {
    /// The pixels that the next row is the first to read.
    ahead: Lines<T>,
    /// Outputs of it, or their gradients.
    below: Lines<T>,
    /// Whether outputs are as many as inputs; registers share inputs elsewhere.
    even: bool,
}

impl<T: Element> Next<T> {
    /// For the given registers; the outputs that they ask for begin at `below`.
    #[inline(always)]
    pub fn new(windows: &Windows<'_, T>, channels: &Channels, vectors: &Range<usize>, below: *const T) -> Self {
        let [outputs, inputs] = channels.of(vectors);
        let even = channels.inputs == channels.outputs;
        Next {
            ahead: Lines::new(windows.first_ahead(), inputs, windows.pixel, even),
            below: Lines::new(below, outputs, channels.outputs, true),
            even,
        }
    }

    /// What a register, whose first output and input are given, asks for in tile `i` of `pixels` windows, `step` columns apart, if
    /// tiles and registers before it have asked `earlier` times.
    #[inline(always)]
    pub fn parts<S: Simd<T>>(
        &self,
        [output, input]: [usize; 2],
        (i, earlier): (usize, usize),
        [pixels, step]: [usize; 2],
    ) -> [Part<T>; 2] {
        let input = if self.even { output } else { input };
        [
            self.ahead.part::<S>(input, (i, earlier), pixels * step * step),
            self.below.part::<S>(output, (i, earlier), pixels),
        ]
    }
}

/// The lines of memory that hold some channels of successive pixels.
///
/// If a task has all channels that the pixels hold, registers take them in the order of memory, whichever their own are: the
/// processor then fetches them of its own accord too, into the second-level cache, and the few buffers for lines on their way to
/// the first are free sooner. Others take those of their own channels.
struct Lines<T> {
    /// Where they begin or, if they are not taken in order, where channel 0 of the first pixel is.
    first: *const T,
    /// Elements from a pixel to the next.
    pixel: usize,
    in_order: bool,
}

impl<T: Element> Lines<T> {
    /// `channels` of pixels from `first` on. They `may` be taken in order if all of them are to be asked for by as many registers
    /// as hold them.
    #[inline(always)]
    fn new(first: *const T, channels: Range<usize>, pixel: usize, may: bool) -> Self {
        let in_order = may && channels.len() == pixel;
        Lines { first: if in_order { first.wrapping_add(channels.start) } else { first }, pixel, in_order }
    }

    /// A register's in tile `i`, for which each asks for what a register has of `pixels` pixels. (Of an odd number of registers
    /// of half a line the last one asks for half of its pixels.)
    #[inline(always)]
    fn part<S: Simd<T>>(&self, channel: usize, (i, earlier): (usize, usize), pixels: usize) -> Part<T> {
        if self.in_order {
            return Part { at: self.first.wrapping_add(earlier * pixels * S::LANES), apart: S::LINE };
        }
        // Registers that have a line in common take a part of the pixels each.
        let other = channel % S::LINE / S::LANES;
        let at = (i * pixels + other * (pixels * S::LANES / S::LINE)) * self.pixel + channel - channel % S::LINE;
        Part { at: self.first.wrapping_add(at), apart: self.pixel }
    }
}

/// Lines at equal distances.
pub struct Part<T> {
    at: *const T,
    apart: usize,
}

impl<T> Part<T> {
    /// The next one.
    #[inline(always)]
    pub fn next(&mut self) -> *const T {
        let line = self.at;
        self.at = line.wrapping_add(self.apart);
        line
    }
}

/// Whether something is to be asked for at column `j` of a row of `taps` taps over a tile of `pixels` pixels, `step` columns
/// apart, so that in as many kernel rows (a square window's) as many lines as a register of the pixels has are asked for, evenly:
/// a processor that is asked for many at once lets every other load wait.
pub const fn fetches_at(j: usize, [pixels, taps, step]: [usize; 3], lanes: usize, line: usize) -> bool {
    if taps == 0 {
        return false;
    }
    // Rows of two taps occur alone, too, in the passes of an input's gradient.
    let rows = if taps == 2 { 1 } else { taps };
    let wanted = (pixels * lanes).div_ceil(line).div_ceil(rows);
    let apart = ((pixels - 1) * step + taps) / wanted;
    j.is_multiple_of(apart) && j / apart < wanted
}
