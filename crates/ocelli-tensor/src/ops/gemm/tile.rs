//! The register tile of [gathered products](super::gather), their innermost loop; that of products over pixels is
//! [`strip`](super::strip).
//!
//! A tile keeps `ROWS × VECTORS` registers of C while it walks the common dimension: a step loads one row of `B`
//! (`VECTORS` registers), broadcasts one element of `A` for each of `ROWS` rows, and does `ROWS · VECTORS` fused
//! multiply-adds.

// Registers are named by their place in the tile.
#![allow(clippy::needless_range_loop)]

use super::counts::{Lines, Place, WIDEST};
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

/// A block of a gathered product: `ROWS` rows, one panel, some taps, some of each tap's `k`.
pub(super) struct Block<'a, T, N> {
    /// `taps` groups, `stride` apart, of the rows' pointers into A, each valid for `k_start + k_count` elements.
    pub sources: *const *const T,
    pub stride: usize,
    pub taps: usize,
    pub k_start: usize,
    pub k_count: usize,
    /// `taps · k_count` rows of a panel, `b_row` apart.
    pub b: *const N,
    pub b_row: usize,
    /// The rows' offsets into `out`; the tile writes `live` columns from `column` on.
    pub targets: *const usize,
    pub out: *mut T,
    pub column: usize,
    pub live: usize,
    /// Whether C starts at zero rather than at what `out` holds.
    pub first: bool,
    pub finish: Option<&'a Finish<T>>,
    /// Sums over the rows that C is added to in the end, and whether it is the first tile.
    pub counts: Option<(&'a mut Lines<T>, bool)>,
    /// What the tile has to [pass](PartRows::pass) before it is stored, and where it waits for that, rows [`WIDEST`] apart.
    pub gate: Option<(PartRows<T>, *mut T)>,
    /// Where rows of B are fetched for later, how far apart they lie, and as many rows of A as [`rows_ahead`] says whose same `k`
    /// are, or null.
    pub b_ahead: *const N,
    pub b_ahead_row: usize,
    pub a_ahead: *const *const T,
}

/// Steps of the common dimension between two branches. Short taps (64 channels) would otherwise pay for a mispredicted
/// loop end each.
pub(super) const UNROLL: usize = 4;

/// How many tiles of so many rows together fetch the rows of B which follow the block: a turn of the loop reads `UNROLL` rows,
/// and each tile fetches whole lines. Tiles of few rows have few others beside them, since rows are cut evenly.
#[inline(always)]
pub(super) const fn fetchers<N>(rows: usize, width: usize) -> usize {
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
pub(super) const fn rows_ahead<T: Element, S: Simd<T>>(rows: usize) -> usize {
    rows.next_multiple_of(S::LINE / UNROLL)
}

/// Rows of C, and of the residual, that a tile fetches at every turn of a short loop. In a long one they are fetched one by one
/// through all of it: what a processor has asked of memory is limited, and loads wait behind it.
const RESULTS_AHEAD: usize = 2;

/// Computes a block with a tile of `ROWS` rows and `VECTORS` registers.
///
/// # Safety
/// All pointers of `block` must be valid as described there, for `ROWS` rows (what is fetched need not be readable); nobody
/// else may access the elements of `out` that it writes; and `(VECTORS − 1) · LANES < live ≤ VECTORS · LANES`.
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
    block: &mut Block<'_, T, N>,
) {
    const { assert!(S::TILE_ROWS <= MOST_ROWS) }
    let gate = if GATED { block.gate } else { None };
    let width = S::LANES * S::TILE_VECTORS;
    // Turns of the loop that read a line of each row.
    let line_turns = S::LINE / UNROLL;
    let fetched = rows_ahead::<T, S>(ROWS) / line_turns;
    // The live columns of the last register.
    let last = block.live - (VECTORS - 1) * S::LANES;
    let lanes = |v: usize| if v + 1 == VECTORS { last } else { S::LANES };
    let mut acc = [[simd.splat(T::ZERO); VECTORS]; ROWS];
    // SAFETY: the pointers are valid as the caller vouches; `targets`, `out`, `bias` and `residual` are accessed at
    // `live` columns only, and panels of this token are `width ≥ VECTORS · LANES` wide.
    unsafe {
        let mut out = [block.out; ROWS];
        for (i, out) in out.iter_mut().enumerate() {
            *out = block.out.add(*block.targets.add(i) + block.column);
        }
        if !block.first {
            for i in 0..ROWS {
                for v in 0..VECTORS {
                    acc[i][v] = load(simd, out[i].add(v * S::LANES), lanes(v));
                }
            }
        }
        let residual = block.finish.map_or(std::ptr::null(), |finish| finish.residual);
        // What comes after the last step is fetched meanwhile: a row now and then, or some at every turn of a short loop.
        let (mut fetching, mut wait) = (0, 0);
        let end = if block.first || !residual.is_null() || GATED { ROWS } else { 0 };
        let turns = block.taps * (block.k_count / UNROLL);
        let few = if GATED || turns >= ROWS { 1 } else { RESULTS_AHEAD };
        let pause = turns / ROWS;
        let (b_row, b_ahead_row) = if N::APART { (block.b_row, block.b_ahead_row) } else { (width, width) };
        let (mut b, mut b_ahead) = (block.b, block.b_ahead);
        for tap in 0..block.taps {
            let mut a = [std::ptr::null(); ROWS];
            for (i, a) in a.iter_mut().enumerate() {
                *a = (*block.sources.add(tap * block.stride + i)).add(block.k_start);
            }
            let mut k = 0;
            while k + UNROLL <= block.k_count {
                // Some rows, which lie one behind the other unless they may lie apart.
                let rows = UNROLL / fetchers::<N>(ROWS, width);
                let (runs, run) = if N::APART { (rows, width) } else { (1, rows * width) };
                for _ in 0..runs {
                    for at in (0..run).step_by(line::<N>()) {
                        simd.prefetch(b_ahead.wrapping_add(at).cast());
                    }
                    b_ahead = b_ahead.wrapping_add(if N::APART { b_ahead_row } else { run });
                }
                if !block.a_ahead.is_null() {
                    let turn = k / UNROLL % line_turns;
                    for i in 0..fetched {
                        let row = *block.a_ahead.add(turn * fetched + i);
                        simd.prefetch(row.wrapping_add(block.k_start + k));
                    }
                }
                if wait > 0 {
                    wait -= 1;
                } else if fetching < end {
                    wait = pause.saturating_sub(1);
                    for i in fetching..end.min(fetching + few) {
                        let place = *block.targets.add(i) + block.column;
                        if block.first {
                            simd.prefetch_to_write(block.out.wrapping_add(place));
                            simd.prefetch_to_write(block.out.wrapping_add(place + block.live - 1));
                        }
                        if !(residual.is_null() || GATED && residual == block.out.cast_const()) {
                            simd.prefetch(residual.wrapping_add(place));
                            simd.prefetch(residual.wrapping_add(place + block.live - 1));
                        }
                        if let Some((gate, _)) = &gate {
                            gate.fetch(simd, i, block.column, block.live);
                        }
                    }
                    fetching += few;
                }
                for u in 0..UNROLL {
                    step(simd, &a, k + u, b.add(u * b_row), &mut acc);
                }
                k += UNROLL;
                b = b.wrapping_add(UNROLL * b_row);
            }
            while k < block.k_count {
                step(simd, &a, k, b, &mut acc);
                k += 1;
                b = b.wrapping_add(b_row);
            }
        }
        if let Some(finish) = block.finish {
            self::finish(simd, finish, block, &mut acc, last);
        }
        if let Some((_, aside)) = gate {
            for (i, out) in out.iter_mut().enumerate() {
                *out = aside.add(i * WIDEST);
            }
        } else if let Some((lines, first)) = &mut block.counts {
            lines.add(simd, &acc, *first);
        }
        for i in 0..ROWS {
            for v in 0..VECTORS {
                store(simd, acc[i][v], out[i].add(v * S::LANES), lanes(v));
            }
        }
    }
}

/// One step of a gathered product: C[i, n] += A[i, k] · B[n].
///
/// # Safety
/// Each row of A must be readable at `k`, and `b` for `VECTORS` registers.
#[inline(always)]
unsafe fn step<T: Element, N: Number<T>, S: Simd<T>, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    a: &[*const T; ROWS],
    k: usize,
    b: *const N,
    acc: &mut [[S::V; VECTORS]; ROWS],
) {
    let mut row = [simd.splat(T::ZERO); VECTORS];
    for v in 0..VECTORS {
        // SAFETY: the caller's promise.
        row[v] = unsafe { N::load(simd, b.add(v * S::LANES)) };
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
unsafe fn finish<T: Element, N, S: Simd<T>, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    finish: &Finish<T>,
    block: &Block<'_, T, N>,
    acc: &mut [[S::V; VECTORS]; ROWS],
    last: usize,
) {
    let lanes = |v: usize| if v + 1 == VECTORS { last } else { S::LANES };
    // SAFETY: a bias has all columns, a residual all elements of the output; only live ones are read.
    unsafe {
        if !finish.bias.is_null() {
            for v in 0..VECTORS {
                let bias = load(simd, finish.bias.add(block.column + v * S::LANES), lanes(v));
                for row in acc.iter_mut() {
                    row[v] = simd.add(row[v], bias);
                }
            }
        }
        if !finish.residual.is_null() {
            for (i, row) in acc.iter_mut().enumerate() {
                let residual = finish.residual.add(*block.targets.add(i) + block.column);
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
