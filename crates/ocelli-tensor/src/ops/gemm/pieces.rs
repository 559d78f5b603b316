//! How a gathered product is divided into tasks.

use std::ops::Range;

use super::Packed;
use crate::Element;

/// Bytes of A that are walked again for every panel, meant to stay in the second-level cache.
pub(super) const ROWS_BYTES: usize = 256 * 1024;
/// Rows that a task has if there are as many: fewer would read B too often.
const LEAST_ROWS: usize = 112;
/// Rows that it has where there would be fewer tasks than threads otherwise.
const FEW_ROWS: usize = 16;
/// More chunks of rows than this are a multiple of it: of 13 tasks, one of two threads would do a seventh alone.
const EVEN_CHUNKS: usize = 4;
/// Tasks for each thread, if a product is large enough, and the multiply-adds or, where rows are few, the bytes of B that
/// make a task worth it. They add nothing up, so that their number may depend on that of the threads.
pub(super) const TASKS: usize = 4;
const TASK_MACS: usize = 1 << 19;
const TASK_BYTES: usize = 64 * 1024;
/// Tasks of a product whose rows are summed, so that the parts of the rows do not depend on the number of threads.
pub(super) const COUNTED_TASKS: usize = 8;

/// Bytes from a line of a first-level cache to the next of its set.
const SET_BYTES: usize = 4096;

/// Whether lines of rows so many elements apart belong to one set of the first-level cache, which holds 8 of them or more.
#[inline(always)]
pub(super) const fn compete<T>(apart: usize) -> bool {
    (apart * size_of::<T>()).is_multiple_of(SET_BYTES)
}

/// How many pieces the rows and the panels are cut into.
pub(super) struct Pieces {
    pub row_chunks: usize,
    pub panel_groups: usize,
}

impl Pieces {
    /// At most so many `tasks`, or as many as keep A in the cache.
    pub fn new<T: Element>(rows: usize, k: usize, b: &Packed<T>, tasks: usize) -> Self {
        let a_bytes = rows * k * size_of::<T>();
        let (macs, b_bytes) = (rows * b.depth * b.columns, b.depth * b.columns * size_of::<T>());
        let wanted = (macs / TASK_MACS).max(b_bytes / TASK_BYTES).clamp(1, tasks).div_ceil(b.groups);
        let mut row_chunks = a_bytes.div_ceil(ROWS_BYTES).min(rows / LEAST_ROWS).max(1);
        if row_chunks > EVEN_CHUNKS {
            row_chunks = row_chunks.next_multiple_of(EVEN_CHUNKS);
        }
        let mut panel_groups = 1;
        // Cutting rows makes every task read all of B, cutting panels all of A: cut what is larger.
        while row_chunks * panel_groups < wanted {
            // Tasks of few rows have few tiles, too few to fetch all of B ahead.
            let has_few = row_chunks * panel_groups * b.groups < tasks / TASKS;
            let least_rows = if has_few { FEW_ROWS } else { LEAST_ROWS / 2 };
            if a_bytes / row_chunks < b_bytes / panel_groups && panel_groups * 2 <= b.panels() {
                panel_groups *= 2;
            } else if row_chunks * 2 * least_rows <= rows {
                row_chunks *= 2;
            } else {
                break;
            }
        }
        Pieces { row_chunks, panel_groups }
    }

    /// With the panels cut further, into so many tasks if there are enough.
    pub fn cut_panels<T: Element>(mut self, b: &Packed<T>, tasks: usize) -> Self {
        while self.row_chunks * self.panel_groups * b.groups < tasks && self.panel_groups * 2 <= b.panels() {
            self.panel_groups *= 2;
        }
        self
    }
}

/// Piece `i` of `0..n` cut into nearly equal `pieces`.
pub(crate) fn cut(n: usize, pieces: usize, i: usize) -> Range<usize> {
    n * i / pieces..n * (i + 1) / pieces
}

/// All pieces that [`cut`] makes, one after the other. Without divisions, which would take as long as a tile of few addends.
pub(crate) struct Cuts {
    each: usize,
    /// `n` mod `pieces`, and what of it the pieces up to the last one have left over.
    rest: usize,
    over: usize,
    pieces: usize,
    left: usize,
    end: usize,
}

impl Cuts {
    /// Of `0..n` in so many pieces.
    #[inline(always)]
    pub fn new(n: usize, pieces: usize) -> Self {
        let (each, rest) = (n / pieces.max(1), n % pieces.max(1));
        Cuts { each, rest, over: 0, pieces, left: pieces, end: 0 }
    }
}

impl Iterator for Cuts {
    type Item = Range<usize>;

    #[inline(always)]
    fn next(&mut self) -> Option<Range<usize>> {
        self.left = self.left.checked_sub(1)?;
        let start = self.end;
        self.over += self.rest;
        self.end += self.each;
        if self.over >= self.pieces {
            self.over -= self.pieces;
            self.end += 1;
        }
        Some(start..self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_the_pieces_of_cut() {
        for n in 0..60 {
            for pieces in 0..20 {
                assert_eq!(
                    Vec::from_iter(Cuts::new(n, pieces)),
                    Vec::from_iter((0..pieces).map(|i| cut(n, pieces, i)))
                );
            }
        }
    }
}
