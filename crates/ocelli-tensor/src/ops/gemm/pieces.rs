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

/// How many times as large as B an A is that threads divide among themselves rather than a B that they have packed.
const FAR_LARGER: usize = 4;
/// Rows, in tiles, that are cut into chunks of whole tiles (of one panel). The chunks of fewer would differ too much.
const MANY_TILES: usize = 128;

/// How many pieces the rows and the panels are cut into.
#[derive(Clone, Copy)]
pub(super) struct Pieces {
    rows: usize,
    panels: usize,
    /// Panels that are not cut apart.
    beside: usize,
    /// What the chunks' rows are a multiple of, but the last one's.
    unit: usize,
    pub row_chunks: usize,
    pub panel_groups: usize,
    /// Whether tasks that follow each other, which are one thread's, share panels rather than rows.
    panels_first: bool,
}

impl Pieces {
    /// At most so many `tasks`, or as many as keep A in the cache. Those that follow each other share rows: the thread has
    /// written these itself, and will read what it makes of them.
    pub fn new<T: Element>(rows: usize, k: usize, b: &Packed<T>, tasks: usize) -> Self {
        Self::of_groups(rows, k, b, tasks, 1)
    }

    /// As [`new`](Self::new), for a `b` that so many threads have just packed. Each multiplies the panels that it has packed,
    /// which may be in a cache of its own, unless all would read an A that is far larger.
    pub fn of_new<T: Element>(rows: usize, k: usize, b: &Packed<T>, tasks: usize, threads: usize) -> Self {
        if rows * k > FAR_LARGER * b.depth * b.columns {
            return Self::new(rows, k, b, tasks);
        }
        Pieces { panels_first: true, ..Self::of_groups(rows, k, b, tasks, threads) }
    }

    /// With so many groups of panels or more, if there are as many tasks.
    fn of_groups<T: Element>(rows: usize, k: usize, b: &Packed<T>, tasks: usize, panel_groups: usize) -> Self {
        let a_bytes = rows * k * size_of::<T>();
        let (macs, b_bytes) = (rows * b.depth * b.columns, b.depth * b.columns * size_of::<T>());
        let wanted = (macs / TASK_MACS).max(b_bytes / TASK_BYTES).clamp(1, tasks).div_ceil(b.groups);
        let mut panel_groups = panel_groups.min(wanted).min(b.panels());
        let mut row_chunks = a_bytes.div_ceil(ROWS_BYTES).min(rows / LEAST_ROWS).max(1);
        if row_chunks > EVEN_CHUNKS {
            row_chunks = row_chunks.next_multiple_of(EVEN_CHUNKS);
        }
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
        let [tile_rows, ..] = Packed::<T>::tile(b.isa);
        let unit = if rows >= MANY_TILES * tile_rows { tile_rows } else { 1 };
        Pieces { rows, panels: b.panels(), beside: 1, unit, row_chunks, panel_groups, panels_first: false }
    }

    /// The chunk of rows, the group and the panels' group of a task, of which each group has as many.
    pub fn of_task(&self, task: usize, groups: usize) -> [usize; 3] {
        let all = groups * self.panel_groups;
        let [chunk, task] = match self.panels_first {
            true => [task % self.row_chunks, task / self.row_chunks],
            false => [task / all, task % all],
        };
        [chunk, task / self.panel_groups, task % self.panel_groups]
    }

    /// The panel that the task begins with which follows that of a chunk and a group of panels.
    pub fn panel_after(&self, chunk: usize, panels_at: usize) -> usize {
        let group = match (self.panels_first, panels_at + 1) {
            (true, _) if chunk + 1 < self.row_chunks => panels_at,
            (_, next) if next < self.panel_groups => next,
            _ => 0,
        };
        self.panels(group).start
    }

    /// The rows of a chunk.
    pub fn rows(&self, chunk: usize) -> Range<usize> {
        let units = cut(self.rows.div_ceil(self.unit), self.row_chunks, chunk);
        self.rows.min(units.start * self.unit)..self.rows.min(units.end * self.unit)
    }

    /// The panels of a group.
    pub fn panels(&self, group: usize) -> Range<usize> {
        let several = cut(self.panels.div_ceil(self.beside), self.panel_groups, group);
        several.start * self.beside..self.panels.min(several.end * self.beside)
    }

    /// With so many panels kept together, of which the last group may have fewer.
    pub fn kept_together(mut self, beside: usize) -> Self {
        self.beside = beside;
        self.panel_groups = self.panel_groups.min(self.panels.div_ceil(beside));
        self
    }

    /// With the panels cut further, into so many tasks if there are enough.
    pub fn cut_panels(mut self, groups: usize, tasks: usize) -> Self {
        let most = self.panels.div_ceil(self.beside);
        while self.row_chunks * self.panel_groups * groups < tasks && self.panel_groups * 2 <= most {
            self.panel_groups *= 2;
        }
        self
    }
}

/// Piece `i` of `0..n` cut into nearly equal `pieces`.
pub(crate) fn cut(n: usize, pieces: usize, i: usize) -> Range<usize> {
    n * i / pieces..n * (i + 1) / pieces
}

/// The sizes of `n` cut into so many nearly equal pieces, larger ones first: how long, and how many.
#[inline(always)]
pub(super) fn sizes(n: usize, pieces: usize) -> impl Iterator<Item = (usize, usize)> {
    let (each, larger) = (n / pieces.max(1), n % pieces.max(1));
    [(each + 1, larger), (each, pieces - larger)].into_iter().filter(|&(_, count)| count > 0)
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
    fn tasks_are_all_rows_times_all_panels() {
        for [rows, k, columns] in [[1, 1, 1], [100, 64, 200], [1000, 64, 1024], [5000, 300, 70], [2000, 1024, 1024]] {
            for threads in [1, 2, 3, 16] {
                let b = Packed::<f32>::scratch(2, k, columns);
                let pieces = [
                    Pieces::new(rows, k, &b, TASKS * threads),
                    Pieces::new(rows, k, &b, COUNTED_TASKS).cut_panels(2, TASKS * threads),
                    Pieces::new(rows, k, &b, COUNTED_TASKS).kept_together(2).cut_panels(2, TASKS * threads),
                    Pieces::of_new(rows, k, &b, TASKS * threads, threads),
                ];
                let [tile_rows, ..] = Packed::<f32>::tile(b.isa);
                for pieces in pieces {
                    let chunks = Vec::from_iter((0..pieces.row_chunks).map(|chunk| pieces.rows(chunk)));
                    assert!(chunks.iter().all(|chunk| !chunk.is_empty()));
                    let whole = |chunk: &Range<usize>| chunk.end.is_multiple_of(tile_rows) || chunk.end == rows;
                    assert!(rows < MANY_TILES * tile_rows || chunks.iter().all(whole));
                    assert_eq!(Vec::from_iter(chunks.into_iter().flatten()), Vec::from_iter(0..rows));
                    let groups = Vec::from_iter((0..pieces.panel_groups).map(|group| pieces.panels(group)));
                    assert!(groups.iter().all(|group| !group.is_empty() && group.start.is_multiple_of(pieces.beside)));
                    assert_eq!(Vec::from_iter(groups.into_iter().flatten()), Vec::from_iter(0..b.panels()));
                    let tasks = pieces.row_chunks * b.groups * pieces.panel_groups;
                    let order = Vec::from_iter((0..tasks).map(|task| pieces.of_task(task, b.groups)));
                    for next in order.windows(2) {
                        let [[chunk, _, at], [_, _, next_at]] = [next[0], next[1]];
                        assert_eq!(pieces.panel_after(chunk, at), pieces.panels(next_at).start);
                    }
                    let mut seen = order;
                    seen.sort_unstable();
                    seen.dedup();
                    assert_eq!(seen.len(), tasks);
                    assert!(seen.last().unwrap() == &[pieces.row_chunks - 1, 1, pieces.panel_groups - 1]);
                }
            }
        }
    }

    #[test]
    fn threads_multiply_the_panels_that_they_pack() {
        let b = Packed::<f32>::scratch(1, 1024, 1024);
        let pieces = Pieces::of_new(2000, 1024, &b, TASKS * 2, 2);
        let tasks = pieces.row_chunks * pieces.panel_groups;
        let panels = |task| pieces.panels(pieces.of_task(task, 1)[2]);
        assert!((0..tasks / 2).all(|task| panels(task).end <= b.panels() / 2));
        assert!((tasks / 2..tasks).all(|task| panels(task).start >= b.panels() / 2));
        // An A that is far larger is divided instead, and what is not worth two tasks is one.
        let small = Packed::<f32>::scratch(1, 64, 64);
        assert!(!Pieces::of_new(3136, 64, &small, TASKS * 2, 2).panels_first);
        assert_eq!(Pieces::of_new(8, 64, &small, TASKS * 2, 2).panel_groups, 1);
    }

    #[test]
    fn rows_that_are_summed_are_cut_by_the_shape_alone() {
        let b = Packed::<f32>::scratch(1, 64, 256);
        let chunks = [1, 2, 3, 16].map(|threads| {
            let pieces = Pieces::new(3136, 64, &b, COUNTED_TASKS).kept_together(2).cut_panels(1, TASKS * threads);
            Vec::from_iter((0..pieces.row_chunks).map(|chunk| pieces.rows(chunk)))
        });
        assert!(chunks.iter().all(|these| *these == chunks[0]));
    }

    #[test]
    fn sizes_are_nearly_equal_and_all_there_is() {
        for n in 0..60 {
            for pieces in 1..=n {
                let all = Vec::from_iter(sizes(n, pieces).flat_map(|(len, count)| vec![len; count]));
                assert_eq!([all.len(), all.iter().sum()], [pieces, n]);
                assert!(all.windows(2).all(|next| next[0] >= next[1]) && all[0] == n.div_ceil(pieces));
                assert!(all[0] - all[pieces - 1] <= 1);
            }
            assert_eq!(sizes(0, n).map(|(len, _)| len).sum::<usize>(), 0);
        }
        assert_eq!(sizes(0, 0).count(), 0);
    }

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
