//! The register tile of [gathered products](super::gather), their innermost loop; that of products over pixels is
//! [`strip`](super::strip).
//!
//! A tile keeps `ROWS × VECTORS` registers of C while it walks the common dimension: a step loads one row of `B`
//! (`VECTORS` registers), broadcasts one element of `A` for each of `ROWS` rows, and does `ROWS · VECTORS` fused
//! multiply-adds. On two panels side by side, 6 × 4 registers do 24 of them with 10 loads, where 14 × 2 do 28 with 16.

// Registers are named by their place in the tile.
#![allow(clippy::needless_range_loop)]

use super::counts::{Counting, Place, WIDEST};
use super::gate::PartRows;
use super::number::Number;
use crate::Element;
use crate::ops::Activation;
use crate::simd::Simd;

/// What is done to C when its last addend is in.
#[derive(Clone, Copy)]
pub struct Finish<T> {
    /// One number a column, or null.
    pub bias: *const T,
    /// A tensor laid out as the output that is added to it, or null.
    pub residual: *const T,
    /// Results are clamped from below and above; NaN passes.
    pub clamp: Option<[T; 2]>,
    /// An activation that comes last, by [`bend`](super::bend::bend).
    pub curve: Option<Activation>,
    /// Where sums over the rows are put, for the first column.
    pub counts: Option<Place<T>>,
}

impl<T: Element> Finish<T> {
    /// That of the columns from `column` on, without the sums.
    pub(super) fn from(&self, column: usize) -> Self {
        let at = |numbers: *const T| if numbers.is_null() { numbers } else { numbers.wrapping_add(column) };
        Finish { bias: at(self.bias), residual: at(self.residual), counts: None, ..*self }
    }
}

/// A block of a gathered product: `rows` rows, one panel or two, some taps, some of each tap's `k`.
pub(super) struct Block<T: Element, N> {
    /// For each of `taps`, pointers to all rows of A, each valid for `k_start + k_count` elements.
    pub sources: *const *const T,
    pub rows: usize,
    pub taps: usize,
    pub k_start: usize,
    pub k_count: usize,
    /// `taps · k_count` rows of a panel, `b_row` apart.
    pub b: *const N,
    pub b_row: usize,
    /// How far behind those of the panel the rows of a second one lie, if there is one.
    pub to_next: usize,
    /// The rows' offsets from `out`, where the panel's first column lies; `live` columns are written.
    pub targets: *const usize,
    pub out: *mut T,
    pub live: usize,
    /// Whether C starts at zero rather than at what `out` holds.
    pub first: bool,
    /// What follows if this is the last block, its pointers at the panel's first column.
    pub finish: Option<Finish<T>>,
    /// Sums over the rows that C is added to in the end.
    pub counting: Option<Counting<T>>,
    /// What a tile has to [pass](PartRows::pass) before it is stored, and where it waits for that, rows [`WIDEST`] apart.
    pub gate: Option<(PartRows<T>, *mut T)>,
    /// Whether rows of A that the next tile reads are fetched, at the same `k` (their pointers have to be among the sources).
    pub a_ahead: bool,
    /// Where rows of B are fetched for later, how far apart they lie, and which share of them the next tile fetches.
    pub b_ahead: *const N,
    pub b_ahead_row: usize,
    /// How far behind them lie those of a second panel that tiles of two panels fetch, or 0.
    pub b_ahead_to_next: usize,
    pub fetcher: usize,
}

/// Steps of the common dimension between two branches. Short taps (64 channels) would otherwise pay for a mispredicted
/// loop end each.
pub(super) const UNROLL: usize = 4;

/// How many tiles of so many rows together fetch the rows of B which follow the block: a turn of the loop reads `UNROLL` rows,
/// and each tile fetches whole lines. Tiles of few rows have few others beside them, since rows are cut evenly.
#[inline(always)]
const fn fetchers<N>(rows: usize, width: usize) -> usize {
    match UNROLL * width / line::<N>() {
        _ if rows <= 4 => 1,
        lines if lines < 4 => lines,
        _ => 4,
    }
}

/// Numbers in a cache line.
#[inline(always)]
const fn line<N>() -> usize {
    64 / size_of::<N>()
}

/// Rows of A that a tile of so many rows fetches: while a line of each of its rows is read, as many at every turn of the loop.
#[inline(always)]
const fn rows_ahead<T: Element, S: Simd<T>>(rows: usize) -> usize {
    rows.next_multiple_of(S::LINE / UNROLL)
}

/// Rows of C, and of the residual, that a tile fetches at every turn of a short loop. In a long one they are fetched one by one
/// through all of it: what a processor has asked of memory is limited, and loads wait behind it.
const RESULTS_AHEAD: usize = 2;

/// Computes so many `tiles` of `ROWS` rows and `VECTORS` registers, one behind the other, from a block's row `start` on. One by
/// one, each would find anew what they have in common, which takes as long as some addends do.
///
/// # Safety
/// All pointers of `block` must be valid as described there (what is fetched need not be readable), and `start + tiles · ROWS` be
/// no more than its rows; nobody else may access the elements of `out` that it writes; `(VECTORS − 1) · LANES < live ≤
/// VECTORS · LANES`; and if that is more than a panel is wide, there must be as many rows of a second one, `to_next` behind.
/// With a gate there is one tile.
#[inline(always)]
pub(super) unsafe fn gather<
    T: Element,
    N: Number<T>,
    S: Simd<T>,
    const ROWS: usize,
    const VECTORS: usize,
    const GATED: bool,
>(
    simd: S,
    block: &mut Block<T, N>,
    start: usize,
    tiles: usize,
) {
    const { assert!(S::TILE_ROWS <= MOST_ROWS) }
    let &mut Block { rows, taps, k_start, k_count, b_row, to_next, out: c, live, first, ref finish, .. } = block;
    let (b_ahead_row, b_ahead_to_next) = (block.b_ahead_row, block.b_ahead_to_next);
    let gate = if GATED { block.gate } else { None };
    let width = S::LANES * S::TILE_VECTORS;
    let (b_row, b_ahead_row) = if N::APART { (b_row, b_ahead_row) } else { (width, width) };
    // Turns of the loop that read a line of each row.
    let line_turns = S::LINE / UNROLL;
    let fetched = rows_ahead::<T, S>(ROWS) / line_turns;
    let last_fetched = rows.checked_sub(rows_ahead::<T, S>(ROWS)).filter(|_| block.a_ahead);
    let fetchers = fetchers::<N>(ROWS, width);
    let share = taps * k_count / fetchers * b_ahead_row;
    debug_assert!(gate.is_none() || tiles == 1);
    if block.fetcher >= fetchers {
        block.fetcher = 0;
    }
    // The live columns of the last register.
    let last = live - (VECTORS - 1) * S::LANES;
    let lanes = |v: usize| if v + 1 == VECTORS { last } else { S::LANES };
    // What comes after the last step is fetched meanwhile: a row now and then, or some at every turn of a short loop.
    let residual = finish.as_ref().map_or(std::ptr::null(), |finish| finish.residual);
    let fetching_end = if first || !residual.is_null() || GATED { ROWS } else { 0 };
    let turns = taps * (k_count / UNROLL);
    let few = if GATED || turns >= ROWS { 1 } else { RESULTS_AHEAD };
    let pause = (turns / ROWS).saturating_sub(1);
    for row in (start..start + tiles * ROWS).step_by(ROWS) {
        // SAFETY: the pointers are valid as the caller vouches; `targets`, `out`, `bias` and `residual` are accessed at
        // `live` columns only, and panels of this token are `width` wide, of which `VECTORS` registers take one or two.
        unsafe {
            let targets = block.targets.add(row);
            let target = |i: usize| *targets.add(i);
            let mut acc = [[simd.splat(T::ZERO); VECTORS]; ROWS];
            if !first {
                for i in 0..ROWS {
                    for v in 0..VECTORS {
                        acc[i][v] = load(simd, c.add(target(i) + v * S::LANES), lanes(v));
                    }
                }
            }
            // As many pointers as are fetched lie behind `last_fetched`.
            let a_ahead = match last_fetched {
                Some(last) if row + ROWS < rows => block.sources.add(last.min(row + ROWS)),
                _ => std::ptr::null(),
            };
            let (mut b, mut b_ahead) = (block.b, block.b_ahead.wrapping_add(block.fetcher * share));
            block.fetcher = if block.fetcher + 1 == fetchers { 0 } else { block.fetcher + 1 };
            let (mut fetching, mut wait) = (0, 0);
            let mut sources = block.sources.add(row);
            for _ in 0..taps {
                let mut a = [std::ptr::null(); ROWS];
                for (i, a) in a.iter_mut().enumerate() {
                    *a = (*sources.add(i)).add(k_start);
                }
                sources = sources.wrapping_add(rows);
                let mut k = 0;
                while k + UNROLL <= k_count {
                    // Some rows, which lie one behind the other unless they may lie apart.
                    let some = UNROLL / fetchers;
                    let (runs, run) = if N::APART { (some, width) } else { (1, some * width) };
                    for _ in 0..runs {
                        for at in (0..run).step_by(line::<N>()) {
                            // The end: of a row that begins within a line, the panel before has read that line.
                            let end = b_ahead.wrapping_add(run.min(at + line::<N>()) - 1);
                            simd.prefetch(end.cast());
                            if VECTORS > S::TILE_VECTORS {
                                simd.prefetch(end.wrapping_add(b_ahead_to_next).cast());
                            }
                        }
                        b_ahead = b_ahead.wrapping_add(if N::APART { b_ahead_row } else { run });
                    }
                    if !a_ahead.is_null() {
                        let turn = k / UNROLL % line_turns;
                        for i in 0..fetched {
                            let row = *a_ahead.add(turn * fetched + i);
                            simd.prefetch(row.wrapping_add(k_start + k));
                        }
                    }
                    if wait > 0 {
                        wait -= 1;
                    } else if fetching < fetching_end {
                        wait = pause;
                        for i in fetching..fetching_end.min(fetching + few) {
                            // The ends of what a panel has of a row.
                            for v in (0..VECTORS).step_by(S::TILE_VECTORS) {
                                let (from, to) = (v * S::LANES, live.min((v + S::TILE_VECTORS) * S::LANES) - 1);
                                if first {
                                    let c = c.wrapping_add(target(i));
                                    simd.prefetch_to_write(c.wrapping_add(from));
                                    simd.prefetch_to_write(c.wrapping_add(to));
                                }
                                if !(residual.is_null() || GATED && residual == c.cast_const()) {
                                    let residual = residual.wrapping_add(target(i));
                                    simd.prefetch(residual.wrapping_add(from));
                                    simd.prefetch(residual.wrapping_add(to));
                                }
                            }
                            if let Some((gate, _)) = &gate {
                                gate.fetch(simd, i, live);
                            }
                        }
                        fetching += few;
                    }
                    // One by one, since a loop would not be unrolled in a large tile, which then keeps addresses of its rows.
                    const { assert!(UNROLL == 4) }
                    step(simd, &a, k, b, to_next, &mut acc);
                    step(simd, &a, k + 1, b.add(b_row), to_next, &mut acc);
                    step(simd, &a, k + 2, b.add(2 * b_row), to_next, &mut acc);
                    step(simd, &a, k + 3, b.add(3 * b_row), to_next, &mut acc);
                    k += UNROLL;
                    b = b.wrapping_add(UNROLL * b_row);
                }
                while k < k_count {
                    step(simd, &a, k, b, to_next, &mut acc);
                    k += 1;
                    b = b.wrapping_add(b_row);
                }
            }
            if let Some(finish) = finish {
                self::finish(simd, finish, targets, &mut acc, last);
            }
            if let Some((_, aside)) = gate {
                for i in 0..ROWS {
                    for v in 0..VECTORS {
                        store(simd, acc[i][v], aside.add(i * WIDEST + v * S::LANES), lanes(v));
                    }
                }
                return;
            }
            if let Some(counting) = &mut block.counting {
                counting.add(simd, &acc);
            }
            for i in 0..ROWS {
                for v in 0..VECTORS {
                    store(simd, acc[i][v], c.add(target(i) + v * S::LANES), lanes(v));
                }
            }
        }
    }
}

/// One step of a gathered product: C[i, n] += A[i, k] · B[n].
///
/// # Safety
/// Each row of A must be readable at `k`, and `b` for `VECTORS` registers, those of a second panel `to_next` further on.
#[inline(always)]
unsafe fn step<T: Element, N: Number<T>, S: Simd<T>, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    a: &[*const T; ROWS],
    k: usize,
    b: *const N,
    to_next: usize,
    acc: &mut [[S::V; VECTORS]; ROWS],
) {
    let mut row = [simd.splat(T::ZERO); VECTORS];
    for v in 0..VECTORS {
        let (panel, v_of_panel) = (v / S::TILE_VECTORS, v % S::TILE_VECTORS);
        // SAFETY: the caller's promise.
        row[v] = unsafe { N::load(simd, b.add(panel * to_next + v_of_panel * S::LANES)) };
    }
    for i in 0..ROWS {
        // SAFETY: the caller's promise.
        let x = simd.splat(unsafe { *a[i].add(k) });
        for v in 0..VECTORS {
            acc[i][v] = simd.mul_add(x, row[v], acc[i][v]);
        }
    }
}

/// # Safety
/// As for [`gather`].
#[inline(always)]
unsafe fn finish<T: Element, S: Simd<T>, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    finish: &Finish<T>,
    targets: *const usize,
    acc: &mut [[S::V; VECTORS]; ROWS],
    last: usize,
) {
    let lanes = |v: usize| if v + 1 == VECTORS { last } else { S::LANES };
    // SAFETY: a bias has all columns, a residual all elements of the output; only live ones are read.
    unsafe {
        if !finish.bias.is_null() {
            for v in 0..VECTORS {
                let bias = load(simd, finish.bias.add(v * S::LANES), lanes(v));
                for row in acc.iter_mut() {
                    row[v] = simd.add(row[v], bias);
                }
            }
        }
        if !finish.residual.is_null() {
            for (i, row) in acc.iter_mut().enumerate() {
                let residual = finish.residual.add(*targets.add(i));
                for (v, c) in row.iter_mut().enumerate() {
                    *c = simd.add(*c, load(simd, residual.add(v * S::LANES), lanes(v)));
                }
            }
        }
    }
    if let Some([low, high]) = finish.clamp {
        let (low, high) = (simd.splat(low), simd.splat(high));
        for row in acc.iter_mut() {
            for c in row.iter_mut() {
                *c = simd.min(high, simd.max(low, *c));
            }
        }
    }
}

/// # Safety
/// `lanes` elements must be readable at `src`.
#[inline(always)]
pub(super) unsafe fn load<T: Element, S: Simd<T>>(simd: S, src: *const T, lanes: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { if lanes == S::LANES { simd.load_ptr(src) } else { simd.load_partial_ptr(src, lanes) } }
}

/// # Safety
/// `lanes` elements must be writable at `dst`.
#[inline(always)]
pub(super) unsafe fn store<T: Element, S: Simd<T>>(simd: S, v: S::V, dst: *mut T, lanes: usize) {
    // SAFETY: the caller's promise.
    unsafe { if lanes == S::LANES { simd.store_ptr(v, dst) } else { simd.store_partial_ptr(v, dst, lanes) } }
}

/// Rows of the largest tile.
pub(super) const MOST_ROWS: usize = 14;

/// Calls `$f::<T, S, ROWS, VECTORS …>` for run-time numbers of rows and registers, of which a token has at most
/// `TILE_ROWS` and `TILE_VECTORS`; larger variants vanish at compile time.
macro_rules! with_tile {
    ($s:ident, $rows:expr, $vectors:expr, |$r:ident, $v:ident| $call:expr) => {
        with_tile!(@rows $s, $rows, $vectors, |$r, $v| $call, 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    };
    (@rows $s:ident, $rows:expr, $vectors:expr, |$r:ident, $v:ident| $call:expr, $($n:literal)*) => {
        match $rows {
            $($n if $n <= $s::TILE_ROWS => {
                const $r: usize = $n;
                if $vectors == 1 {
                    const $v: usize = 1;
                    $call
                } else if $s::TILE_VECTORS > 1 {
                    const $v: usize = 2;
                    $call
                }
            })*
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}
pub(crate) use with_tile;

/// Calls `$f::<T, S, ROWS, VECTORS …>` for a run-time number of rows of a tile of two panels, of which a token has at most
/// `WIDE_ROWS`.
macro_rules! with_wide_tile {
    ($s:ident, $rows:expr, |$r:ident, $v:ident| $call:expr) => {
        with_wide_tile!(@rows $s, $rows, |$r, $v| $call, 1 2 3 4 5 6)
    };
    (@rows $s:ident, $rows:expr, |$r:ident, $v:ident| $call:expr, $($n:literal)*) => {
        match $rows {
            $($n if $n <= $s::WIDE_ROWS => {
                const $r: usize = $n;
                const $v: usize = 4;
                $call
            })*
            rows => unreachable!("a tile of {rows} rows of two panels"),
        }
    };
}
pub(super) use with_wide_tile;
