//! The gathered product: the loops around its tile.
//!
//! ```text
//! task:    some rows × some panels           enough of them for every thread
//!   span:    some of k, for all taps           a piece of the rows that stays in the second-level cache
//!     panel:   its columns of C, or those of two side by side
//!       block:   some of the depth taps · k      a piece of the panel, read in order from the first levels of cache
//!         tile:    a few rows of C in registers    A is read where it lies, through the rows' pointers
//! ```

use std::marker::PhantomData;
use std::ops::Range;

use super::bend::bend;
use super::counts::{Counting, Counts, WIDEST};
pub(crate) use super::epilogue::{ColumnSlice, Epilogue};
use super::gate::{self, Gate};
use super::grid::Pixels;
use super::number::Number;
use super::pieces::{COUNTED_TASKS, Pieces, ROWS_BYTES, TASKS, compete, sizes};
pub use super::tile::Finish;
use super::tile::{self, Block, MOST_ROWS, with_tile, with_wide_tile};
use super::{Grid, Packed, Shared, pointers};
use crate::memory::Scratch;
use crate::simd::{Kernel, Simd};
use crate::{Element, threads};

/// Rows of a panel that are multiplied at a time: in `f32`, 128 KiB with AVX-512 (twice as much of two panels) and 64 with AVX2.
/// They are read in order, so that what the first-level cache does not hold comes from the second in time; a smaller block would
/// load and store C more often.
const DEPTH: usize = 1024;
/// As many of one that is read in place, if its rows lie a multiple of [`APART_BYTES`] apart.
const DEPTH_APART: usize = 512;
/// Bytes between rows that share a sixteenth of the second-level cache's sets or fewer.
const APART_BYTES: usize = 1024;

/// Tiles that are computed before what follows them, where that reads them again or sums so many rows at most.
const FEW_TILES: usize = 4;

/// Rows of A whose lines a set of the first-level cache holds beside one of B.
const SET_ROWS: usize = 7;

/// The left operand: rows of `columns` elements, of which group `g` reads `k` from `g · k` on.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, T> {
    pub data: &'a [T],
    pub columns: usize,
    pub k: usize,
}

/// Writes the product of gathered rows of `a` with `b` to the grid's targets in `out`, whose rows have `groups ·
/// b.columns` elements, or to a slice of its columns if the epilogue says so.
pub(crate) fn gather<T: Element>(grid: &Grid, a: Rows<'_, T>, b: &Packed<T>, out: &mut [T], epilogue: Epilogue<'_, T>) {
    if grid.len() > 0 && b.columns > 0 {
        let pieces = Pieces::new(grid.len(), a.k, b, TASKS * threads::count());
        product(grid, a, b, out, epilogue, pieces, None);
    }
}

/// As [`gather`], with all of the grid's targets and nothing that follows the product, of a `b` that was made for it.
pub(crate) fn gather_once<T: Element>(grid: &Grid, a: Rows<'_, T>, b: &Packed<T>, out: &mut [T]) {
    if grid.len() > 0 && b.columns > 0 {
        let (rows, threads) = (grid.len(), threads::count());
        let pieces = match b.is_in_place() {
            true => Pieces::new(rows, a.k, b, TASKS * threads),
            false => Pieces::of_new(rows, a.k, b, TASKS * threads, threads),
        };
        product(grid, a, b, out, Epilogue::NONE, pieces, None);
    }
}

/// As [`gather`], of at least one row and column, with sums over all rows, which are cut by shape alone, of the product or
/// what of it passes a gate. This must [fit](Gate::fits), and the grid have all targets.
pub(crate) fn gather_counted<'g, T: Element>(
    grid: &Grid,
    a: Rows<'_, T>,
    b: &Packed<T>,
    out: &mut [T],
    epilogue: Epilogue<'_, T>,
    gate: Option<Gate<'g, T>>,
) -> Counts<'g, T> {
    // Which rows are summed together depends on the tiles, so that those of two panels may not depend on how threads cut.
    let [.., beside] = Packed::<T>::tile(b.isa);
    let beside = if gate.is_none() { beside } else { 1 };
    let pieces = Pieces::new(grid.len(), a.k, b, COUNTED_TASKS).kept_together(beside);
    let pieces = pieces.cut_panels(b.groups, TASKS * threads::count());
    let mut counts = Counts::new(pieces, b.groups * b.columns, gate);
    product(grid, a, b, out, epilogue, pieces, Some(&mut counts));
    counts
}

fn product<T: Element>(
    grid: &Grid,
    a: Rows<'_, T>,
    b: &Packed<T>,
    out: &mut [T],
    epilogue: Epilogue<'_, T>,
    pieces: Pieces,
    counts: Option<&mut Counts<'_, T>>,
) {
    let rows = grid.len();
    assert!(b.depth > 0, "a product without addends is the caller's to zero");
    let out_columns = b.groups * b.columns;
    assert_eq!(b.depth, grid.taps.len() * a.k, "the packed operand has the taps' rows");
    let slice = epilogue.slice_of(out_columns, grid.batch * grid.target[0] * grid.target[1], out.len());
    assert!(counts.is_none() || epilogue.slice.is_none());

    let zeros = Scratch::zeros(a.k);
    let out = out.as_mut_ptr().wrapping_add(slice.first);
    let (mut finish, mut onto) = (epilogue.finish(), epilogue.onto);
    if onto && b.depth <= DEPTH && finish.residual.is_null() {
        // A tile that is done in one block adds at its end, when what it adds to has come from memory.
        (finish.residual, onto) = (out.cast_const(), false);
    }
    let gate = counts.as_ref().and_then(|counts| counts.gate);
    // Its rows are the grid's.
    assert!(gate.is_none_or(|gate| grid.size == grid.target && gate.fits(rows, out_columns, b.width)));
    // The rows of what lies in place end within its only tap, which may take a block more than the depth has.
    assert!(!b.is_in_place() || gate.is_none() && grid.taps.len() == 1 && !epilogue.onto);
    finish.counts = counts.map(Counts::place);
    let (finish, out) = (Shared(finish), Shared(out));
    threads::for_each(pieces.row_chunks * b.groups * pieces.panel_groups, |task| {
        let [rows_at, group, panels_at] = pieces.of_task(task, b.groups);
        let finish = finish.get();
        let task = Task {
            grid,
            a,
            b,
            out: out.get(),
            out_columns: slice.columns,
            finish: Finish { counts: finish.counts.map(|place| place.at(rows_at, out_columns, 0)), ..finish },
            onto,
            gate,
            zeros: &zeros,
            group,
            rows: pieces.rows(rows_at),
            panels: pieces.panels(panels_at),
            next: pieces.panel_after(rows_at, panels_at),
        };
        task.run();
    });
}

struct Task<'a, T: Element> {
    grid: &'a Grid,
    a: Rows<'a, T>,
    b: &'a Packed<T>,
    out: *mut T,
    /// Elements from a row of the output to the next.
    out_columns: usize,
    finish: Finish<T>,
    onto: bool,
    gate: Option<Gate<'a, T>>,
    zeros: &'a [T],
    group: usize,
    rows: Range<usize>,
    panels: Range<usize>,
    next: usize,
}

impl<T: Element> Task<'_, T> {
    fn run(self) {
        let rows = self.rows.len();
        let (mut sources, mut targets) = (Scratch::new(self.grid.taps.len() * rows), Scratch::new(rows));
        let sources = pointers(&mut sources);
        let part = self.group * self.a.k..(self.group + 1) * self.a.k;
        let pixels = Pixels { data: self.a.data, columns: self.a.columns, part, outside: self.zeros };
        self.grid.put_pointers(self.rows.start, rows, &pixels, sources);
        self.grid.put_targets(self.rows.start, self.out_columns, &mut targets);
        let panels = Panels {
            sources,
            targets: &targets,
            taps: self.grid.taps.len(),
            k: self.a.k,
            apart: self.grid.step[1] * self.a.columns,
            b: self.b,
            group: self.group,
            panels: self.panels,
            next: self.next,
            out: self.out,
            column: self.group * self.b.columns,
            onto: self.onto,
            finish: Some(self.finish),
            gate: self.gate.map(|gate| (gate, self.rows.start)),
        };
        // SAFETY: the sources were made from slices, so that each row has k elements and each target the output's
        // columns (checked in `product`, like the epilogue and the gate); tasks have disjoint rows or panels.
        unsafe { panels.run() }
    }
}

/// Some rows times some panels, on one thread.
pub struct Panels<'a, T: Element> {
    /// Pointers to the rows' `k` elements, tap by tap.
    pub sources: &'a [*const T],
    /// The rows' offsets in `out`.
    pub targets: &'a [usize],
    pub taps: usize,
    pub k: usize,
    /// Elements between neighbouring rows, most of the time.
    pub apart: usize,
    pub b: &'a Packed<T>,
    pub group: usize,
    pub panels: Range<usize>,
    /// The panel that the next task begins with.
    pub next: usize,
    pub out: *mut T,
    /// Where the first panel's columns lie in a row of `out`.
    pub column: usize,
    /// Whether C starts at what `out` holds rather than at zero.
    pub onto: bool,
    pub finish: Option<Finish<T>>,
    /// What the results pass before they are counted, and which of its rows is that of the first source.
    pub(crate) gate: Option<(Gate<'a, T>, usize)>,
}

impl<T: Element> Panels<'_, T> {
    /// # Safety
    /// The sources must be readable for `k` elements each; the targets' `b.columns` elements from `column` on must lie
    /// within `out` (and within what `finish` points to), and nobody else may access those of these panels.
    pub unsafe fn run(self) {
        // SAFETY: passed on.
        unsafe { T::gather(self) }
    }
}

/// [`Panels`] whose caller has made the promise of [`Panels::run`]. Those without a gate have code of their own, which knows
/// nothing of it: some instructions more in every tile would show.
pub(crate) struct Tiles<'a, T: Element, N, const GATED: bool>(Panels<'a, T>, PhantomData<N>);

impl<'a, T: Element, N, const GATED: bool> Tiles<'a, T, N, GATED> {
    /// Of panels whose operand is kept in numbers `N`.
    pub fn new(panels: Panels<'a, T>) -> Self {
        Tiles(panels, PhantomData)
    }
}

impl<T: Element, N: Number<T>, const GATED: bool> Kernel<T> for Tiles<'_, T, N, GATED> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Panels { taps, k, ref panels, .. } = self.0;
        // A block is some whole taps, or a part of one.
        let apart = N::APART && (self.0.b.columns * size_of::<N>()).is_multiple_of(APART_BYTES);
        let depth = if apart { DEPTH_APART } else { DEPTH };
        let (tap_block, k_block) = ((depth / k).max(1), k.min(depth));
        let row_bytes = self.0.targets.len() * size_of::<T>();
        // (Of some taps, the order of the addends would change with it, and so with the number of threads.)
        let span = if taps > 1 { k_block } else { (ROWS_BYTES / row_bytes.max(1) / k_block).max(1) * k_block };
        for from in (0..k).step_by(span) {
            let to = k.min(from + span);
            let mut panel = panels.start;
            while panel < panels.end {
                let to_next = self.to_next::<S>(panel, panels.end);
                let after = panel + if to_next > 0 { 2 } else { 1 };
                for tap in (0..taps).step_by(tap_block) {
                    let mut k_start = from;
                    while k_start < to {
                        let (tap_end, end) = (taps.min(tap + tap_block), to.min(k_start + k_block));
                        let k_end = N::end(self.0.b, panel, k_start, end);
                        // What follows a block that ends early are few rows, not worth fetching.
                        let next = if k_end < to && k_end == end {
                            [panel, tap, k_end]
                        } else if tap_end < taps {
                            [panel, tap_end, from]
                        } else if after < panels.end {
                            [after, 0, from]
                        } else if to < k {
                            [panels.start, 0, to]
                        } else {
                            [self.0.next, 0, 0]
                        };
                        self.block(simd, [panel, to_next], tap..tap_end, k_start..k_end, next);
                        k_start = k_end;
                    }
                }
                panel = after;
            }
        }
    }
}

impl<T: Element, N: Number<T>, const GATED: bool> Tiles<'_, T, N, GATED> {
    /// The rows of B from some tap and `k` of a panel on, and how far apart they lie.
    fn b_rows(&self, [panel, tap, k]: [usize; 3]) -> (*const N, usize) {
        let Panels { b, group, k: depth, .. } = self.0;
        let (numbers, apart) = N::rows(b, group, panel, tap * depth + k);
        (numbers.as_ptr(), apart)
    }

    /// Whether some tiles take two panels. Of rows that lie apart they would wait for twice as many lines, which share some sets
    /// of the caches.
    const fn may_be_wide<S: Simd<T>>() -> bool {
        assert!(S::WIDE_ROWS == 0 || S::WIDE_ROWS <= 6 && S::TILE_VECTORS == 2, "as `with_wide_tile` has them");
        S::WIDE_ROWS > 0 && !GATED && !N::APART
    }

    /// How far behind the numbers of a panel those of the next one lie, if tiles take both, or 0: that one has to be before the
    /// `end` and to fill all registers but the last one.
    #[inline(always)]
    fn to_next<S: Simd<T>>(&self, panel: usize, end: usize) -> usize {
        let b = self.0.b;
        let fills = (panel + 2) * b.width < b.columns + S::LANES;
        let wide = const { Self::may_be_wide::<S>() } && panel + 1 < end && fills;
        if wide { b.groups * b.depth * b.width } else { 0 }
    }

    /// All rows times a block of a panel, and of the one `to_next` behind it unless that is 0, while the rows of B that come `next`
    /// are fetched.
    #[inline(always)]
    fn block<S: Simd<T>>(
        &self,
        simd: S,
        [panel, to_next]: [usize; 2],
        taps: Range<usize>,
        k: Range<usize>,
        next: [usize; 3],
    ) {
        let this = &self.0;
        let (rows, first_column, wide) = (this.targets.len(), panel * this.b.width, to_next > 0);
        let live = (this.b.width << usize::from(wide)).min(this.b.columns - first_column);
        let vectors = live.div_ceil(S::LANES);
        let (b, b_row) = self.b_rows([panel, taps.start, k.start]);
        let (b_next, b_ahead_row) = self.b_rows(next);
        let first = taps.start == 0 && k.start == 0 && !this.onto;
        let finish = this.finish.as_ref().filter(|_| taps.end == this.taps && k.end == this.k);
        let sources = &this.sources[taps.start * rows..][..taps.len() * rows];
        let most = if wide { S::WIDE_ROWS } else { S::TILE_ROWS };
        let most = if compete::<T>(this.apart) { most.min(SET_ROWS) } else { most };
        let tiles = rows.div_ceil(most);
        let column = this.column + first_column;
        let gate = this.gate.filter(|_| GATED && finish.is_some()).map(|(gate, first)| gate.rows(first, column));
        let mut aside = [T::ZERO; MOST_ROWS * WIDEST];
        let together = match finish {
            _ if gate.is_some() => 1,
            Some(finish) if finish.curve.is_some() || finish.counts.is_some() => FEW_TILES,
            _ => tiles,
        };
        let mut block = Block {
            sources: sources.as_ptr(),
            rows,
            taps: taps.len(),
            k_start: k.start,
            k_count: k.len(),
            b,
            b_row,
            to_next,
            targets: this.targets.as_ptr(),
            out: this.out.wrapping_add(column),
            live,
            first,
            finish: finish.map(|finish| finish.from(column)),
            counting: finish.and_then(|finish| finish.counts).map(|place| Counting::new(place.at(0, 0, column))),
            gate: None,
            // The first panel is the first to read the next tile's rows.
            a_ahead: this.taps == 1 && panel == this.panels.start,
            b_ahead: b_next,
            b_ahead_row,
            b_ahead_to_next: if wide { self.to_next::<S>(next[0], this.b.panels()) } else { 0 },
            fetcher: 0,
        };
        let mut row = 0;
        for (tile_rows, count) in sizes(rows, tiles) {
            for start in (0..count).step_by(together) {
                let count = together.min(count - start);
                let done = row..row + count * tile_rows;
                block.gate = gate.map(|gate| (gate.from(row), aside.as_mut_ptr()));
                // SAFETY: the promise made to `Panels::run`; the rows of the tiles are `rows` together; a panel has `taps · k` rows of
                // whole registers, `b_row` apart (in place, those up to `Number::end`); there is a second one if `wide`, by `to_next`,
                // and the tiles' rows are no more than such have then; `vectors` is chosen by `live`; counts have the output's columns,
                // of which each panel has its own; and what waits for a gate has room for the largest tile.
                unsafe {
                    if const { Self::may_be_wide::<S>() } && wide {
                        with_wide_tile!(S, tile_rows, |R, V| tile::gather::<T, N, S, R, V, false>(
                            simd, &mut block, row, count
                        ));
                    } else {
                        with_tile!(S, tile_rows, vectors, |R, V| {
                            tile::gather::<T, N, S, R, V, GATED>(simd, &mut block, row, count);
                        });
                    }
                    if let (Some((gate, _)), Some(counting)) = (block.gate, &mut block.counting) {
                        gate.pass(simd, &mut aside, tile_rows, live, counting.lines(tile_rows));
                        gate::put(simd, &aside, &block, done.clone());
                    }
                    if let Some(curve) = finish.and_then(|finish| finish.curve) {
                        bend(simd, curve, &block, done.clone());
                    }
                    if let Some(counting) = &mut block.counting {
                        counting.put_blocks(live);
                    }
                }
                row = done.end;
            }
        }
        if let Some(mut counting) = block.counting {
            // SAFETY: as above; counts have the output's columns.
            unsafe { counting.put(live) }
        }
    }
}
