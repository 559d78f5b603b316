//! What comes next is fetched while a tile multiplies, so that memory and arithmetic need not take turns.

use std::ops::Range;

use crate::Element;
use crate::simd::Simd;

/// The cache lines of some rows, to be fetched for later. A few at a time: what a processor has asked of memory is limited,
/// and loads wait behind it.
#[derive(Clone, Copy)]
pub(super) struct Ahead<T> {
    rows: *const *const T,
    /// Where in a row the fetched elements begin.
    from: usize,
    row_lines: usize,
    /// The next line of `*rows`, and how many there are from it on.
    line: usize,
    left: usize,
    /// Lines at a time.
    few: usize,
}

impl<T: Element> Ahead<T> {
    /// The elements `columns` of each of `rows`, in so many calls of [`fetch`](Self::fetch).
    pub fn new<S: Simd<T>>(rows: &[*const T], columns: Range<usize>, calls: usize) -> Self {
        let row_lines = columns.len().div_ceil(S::LINE);
        let left = rows.len() * row_lines;
        Ahead { rows: rows.as_ptr(), from: columns.start, row_lines, line: 0, left, few: left.div_ceil(calls.max(1)) }
    }

    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Fetches the next few lines.
    ///
    /// # Safety
    /// The rows' pointers must still be where they were. What they point to need not be readable.
    #[inline(always)]
    pub unsafe fn fetch<S: Simd<T>>(&mut self, simd: S) {
        let few = self.few.min(self.left);
        for _ in 0..few {
            // SAFETY: the caller's promise; there are lines left, so there is a row.
            unsafe {
                simd.prefetch((*self.rows).wrapping_add(self.from + self.line * S::LINE));
                self.line += 1;
                if self.line == self.row_lines {
                    (self.rows, self.line) = (self.rows.add(1), 0);
                }
            }
        }
        self.left -= few;
    }
}
