//! The product over pixels, `C[t, m, n] = Σₚ A[source(p, t) + m] · B[p, n]`: the loops around its tile.
//!
//! For a convolution's weight gradient `A` is the input, read where it lies through pointers, so that there is no im2col
//! buffer, and `B` the output's gradient. Large products of few results cut the pixels into parts, by the shape alone, whose
//! sums are added in order afterwards; others cut the results.

use std::ops::Range;

use super::ahead::Ahead;
use super::gather::Rows;
use super::grid::Pixels;
use super::pieces::{compete, cut};
use super::strip::{self, Strip};
use super::tile::{self, UNROLL, with_tile};
use super::{Grid, Shared, pointers};
use crate::memory::Scratch;
use crate::ops::elementwise::add_parts;
use crate::simd::{Kernel, Simd};
use crate::{Element, Tensor, threads};

/// Pixels that are multiplied at a time: a strip of B, at most 32 KiB, stays in the first-level cache.
pub(crate) const PIXEL_BLOCK: usize = 256;
/// Pixels of a part.
const PART_PIXELS: usize = 256;
/// Tasks that a product is cut into if it is large enough, and the multiply-adds that make a task worth it.
const TASKS: usize = 32;
const TASK_MACS: usize = 1 << 19;
/// Tasks for each thread, if it takes slices to have so many.
const SLICED_TASKS: usize = 4;
/// Columns of either operand below which a task is not cut further, because it reads all of the other's.
const SLICE: usize = 64;
/// Bytes between rows of A of which the lines of a block share a thirty-second of the first-level cache's sets or fewer, so that
/// it holds none of them until the next tile reads them.
const FAR_APART: usize = 2048;
/// Strips of B from which on those of A are worth a copy, and tiles up to which those of B are not.
const COPY_COLUMNS: usize = 3;
const IN_PLACE_TILES: usize = 10;
/// Bytes of a block of B up to which all of the next one is fetched, row by row. Of a larger one, what came first would have left
/// the second-level cache before it is read: each strip is fetched while the one before it is multiplied.
const WHOLE_BYTES: usize = 256 << 10;
/// Bytes that all parts' sums may take together.
const PARTS_BYTES: usize = 4 << 20;

/// Multiplies the gathered rows of `a` (`a.k` columns in each of `groups`) with the rows of `b`, one a grid pixel, and
/// writes `[taps, a.k, groups · b.k]`: a convolution's weights.
pub(crate) fn reduce<T: Element>(grid: &Grid, a: Rows<'_, T>, b: Rows<'_, T>, groups: usize, out: &mut [T]) {
    let (pixels, taps, m, n) = (grid.len(), grid.taps.len(), a.k, b.k);
    assert_eq!(out.len(), taps * m * groups * n);
    if pixels == 0 || out.is_empty() {
        return out.fill(T::ZERO);
    }
    assert_eq!(b.data.len(), pixels * b.columns, "B has a row a grid pixel");

    let wanted = (pixels * out.len() / TASK_MACS).clamp(1, TASKS).div_ceil(groups);
    let mut parts = 1;
    while parts < wanted && pixels >= 2 * parts * PART_PIXELS && 2 * parts * size_of_val(out) <= PARTS_BYTES {
        parts *= 2;
    }
    // Slices add nothing up, so that their number may depend on that of the threads: each reads what it multiplies.
    let wanted = wanted.min(SLICED_TASKS * threads::count());
    let mut slices = [1, 1];
    while parts * slices[0] * slices[1] < wanted {
        // A task reads all of the operand that is not cut: cut A, unless B's rows are far longer.
        match [m / slices[0], n / slices[1]] {
            [m, n] if m >= 2 * SLICE && 4 * m > n => slices[0] *= 2,
            [_, n] if n >= 2 * SLICE => slices[1] *= 2,
            _ => break,
        }
    }
    // The first part is summed in place.
    let mut others = Tensor::<T>::scratch([parts - 1, out.len()]);
    let size = out.len();
    let (first, rest) = (Shared(out.as_mut_ptr()), Shared(others.data_mut().as_mut_ptr()));
    let zeros = vec![T::ZERO; m];
    threads::for_each(parts * groups * slices[0] * slices[1], |task| {
        let (task, b_slice) = (task / slices[1], task % slices[1]);
        let (task, a_slice) = (task / slices[0], task % slices[0]);
        let (part, group) = (task / groups, task % groups);
        let task = Task {
            grid,
            a,
            b,
            // SAFETY: the part's cells lie within `out` or `others`.
            c: if part == 0 { first.get() } else { unsafe { rest.get().add((part - 1) * size) } },
            c_stride: groups * n,
            zeros: &zeros,
            group,
            pixels: cut(pixels, parts, part),
            a_columns: cut(m, slices[0], a_slice),
            b_columns: cut(n, slices[1], b_slice),
        };
        task.run();
    });
    add_parts(out, others.data());
}

struct Task<'a, T> {
    grid: &'a Grid,
    a: Rows<'a, T>,
    b: Rows<'a, T>,
    /// All taps' cells, rows `c_stride` apart.
    c: *mut T,
    c_stride: usize,
    zeros: &'a [T],
    group: usize,
    pixels: Range<usize>,
    a_columns: Range<usize>,
    b_columns: Range<usize>,
}

impl<T: Element> Task<'_, T> {
    fn run(self) {
        let (m, n) = (self.a.k, self.b.k);
        let blocks = self.pixels.len().div_ceil(PIXEL_BLOCK);
        let block = |i: usize| {
            let block = cut(self.pixels.len(), blocks, i);
            self.pixels.start + block.start..self.pixels.start + block.end
        };
        let (mut rows, mut next) = (Vec::new(), Vec::new());
        self.rows(block(0), &mut rows);
        for i in 0..blocks {
            let (start, count) = (block(i).start, block(i).len());
            if i + 1 < blocks {
                self.rows(block(i + 1), &mut next);
            }
            // SAFETY: B has a row of all groups' columns for every pixel (checked in `reduce`), the rows' pointers were
            // made from slices of their columns, and each task has its own part, group, rows or columns of C.
            unsafe {
                let strips = Strips {
                    a: &rows,
                    a_apart: self.grid.step[1] * self.a.columns,
                    count,
                    ahead: if i + 1 < blocks && next.len() >= count { &next } else { &rows },
                    b: self.b.data[start * self.b.columns + self.group * n + self.b_columns.start..].as_ptr(),
                    b_stride: self.b.columns,
                    m: self.a_columns.len(),
                    n: self.b_columns.len(),
                    c: self.c.add(self.a_columns.start * self.c_stride + self.group * n + self.b_columns.start),
                    c_stride: self.c_stride,
                    c_tap: m * self.c_stride,
                    first: i == 0,
                };
                strips.run();
            }
            std::mem::swap(&mut rows, &mut next);
        }
    }

    /// Pointers to A's rows of some pixels, tap by tap.
    fn rows(&self, block: Range<usize>, rows: &mut Vec<*const T>) {
        let first = self.group * self.a.k;
        let part = first + self.a_columns.start..first + self.a_columns.end;
        let pixels = Pixels { data: self.a.data, columns: self.a.columns, part, outside: self.zeros };
        rows.resize(self.grid.taps.len() * block.len(), std::ptr::null());
        self.grid.put_pointers(block.start, block.len(), &pixels, rows);
    }
}

/// `C[t, m, n] = Σₚ A[t, p, m] · B[p, n]` over at most [`PIXEL_BLOCK`] rows, on one thread.
pub struct Strips<'a, T> {
    /// For each tap, pointers to `count` rows of `m` elements.
    pub a: &'a [*const T],
    /// At least `count` pointers to rows of A that are read next, to be fetched meanwhile.
    pub ahead: &'a [*const T],
    /// Elements between neighbouring rows of A, most of the time.
    pub a_apart: usize,
    pub count: usize,
    /// `count` rows of `n` elements, `b_stride` apart.
    pub b: *const T,
    pub b_stride: usize,
    pub m: usize,
    pub n: usize,
    /// The first tap's `m` rows of `n` elements, `c_stride` apart; the next tap's lie `c_tap` further on.
    pub c: *mut T,
    pub c_stride: usize,
    pub c_tap: usize,
    /// Whether C is overwritten rather than added to.
    pub first: bool,
}

impl<T: Element> Strips<'_, T> {
    /// # Safety
    /// The pointers must be valid as described at the fields, and nobody else may access the elements of C.
    pub unsafe fn run(self) {
        if self.count > 0 {
            // SAFETY: passed on.
            unsafe { T::reduce(self) }
        }
    }
}

/// [`Strips`] whose caller has made the promise of [`Strips::run`].
///
/// What comes next is fetched meanwhile. A is read where it lies, from the second-level cache, unless its rows lie a
/// multiple of [`FAR_APART`] apart and B has some strips: it is copied into strips of a tile's rows then. So is B into strips of a
/// tile's columns, each where it is first used, but for a few tiles, unless they are of few rows and those of B would compete for
/// a set of the first-level cache.
pub(crate) struct Tiles<'a, T>(pub Strips<'a, T>);

impl<T: Element> Kernel<T> for Tiles<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let this = self.0;
        let (count, m, n) = (this.count, this.m, this.n);
        let (a_width, b_width) = (strip::a_width::<T, S>(), S::LANES * S::TILE_VECTORS);
        let (tiles, columns) = (m.div_ceil(S::TILE_ROWS), n.div_ceil(b_width));
        let few_rows = 2 * S::TILE_ROWS < S::LINE;
        let copies = columns >= COPY_COLUMNS && (this.a_apart * size_of::<T>()).is_multiple_of(FAR_APART);
        let may_lie = tiles <= IN_PLACE_TILES && !(few_rows && compete::<T>(this.b_stride));
        // A line is added so that the strips' rows lie in different sets.
        let strip = count * a_width + S::LINE;
        let taps = this.a.len() / count;
        let mut a_strips = Scratch::<T>::new(if copies { tiles * strip } else { 0 });
        // Those of B that later taps read again are kept: of what lies in place none but an incomplete last one.
        let strips = if taps == 1 || may_lie { 1 } else { columns };
        let mut b_strips = Scratch::<T>::new(strips * count * b_width);
        let (mut copied, mut b_rows) = (Scratch::new(count), Scratch::new(count));
        let (copied, b_rows) = (pointers(&mut copied), pointers(&mut b_rows));
        let a_copies = a_strips.as_mut_ptr();
        for p in 0..count {
            copied[p] = a_copies.wrapping_add(p * a_width).cast_const();
            b_rows[p] = this.b.wrapping_add(p * this.b_stride);
        }
        // Elements from a block's first row to the next block's.
        let b_block = count * this.b_stride;
        let whole = count * n * size_of::<T>() <= WHOLE_BYTES;
        let mut starts = Scratch::new(tiles + 1);
        starts.iter_mut().enumerate().for_each(|(t, start)| *start = m * t / tiles);
        for (tap, sources) in this.a.chunks_exact(count).enumerate() {
            // The next tap's rows of A, or the next block's. Where B is fetched too, it has the first tiles of each column.
            let (last, calls) = (tap + 1 == taps, count / UNROLL);
            let a_next = if last { &this.ahead[..count] } else { &this.a[(tap + 1) * count..][..count] };
            let b_tiles = if last || tap == 0 && !whole { (tiles * n / (m + n)).max(1) } else { 0 };
            let mut a_ahead = Ahead::new::<S>(a_next, 0..m, calls * (tiles - b_tiles).max(1) * columns);
            let b_calls = calls * b_tiles * if whole { columns } else { 1 };
            let mut b_ahead = Ahead::new::<S>(b_rows, 0..0, b_calls);
            for i in 0..columns {
                let b_strip = &mut b_strips[i % strips * count * b_width..][..count * b_width];
                let (column, live) = (i * b_width, b_width.min(n - i * b_width));
                let b = this.b.wrapping_add(column);
                let in_place = may_lie && live % S::LANES == 0;
                let b_next = match column + live {
                    _ if whole => (last && i == 0).then_some(b_block..b_block + n),
                    end if end < n => (tap == 0).then_some(end..n.min(end + b_width)),
                    _ => last.then_some(b_block..b_block + n.min(b_width)),
                };
                if let Some(next) = b_next {
                    b_ahead = Ahead::new::<S>(b_rows, next, b_calls);
                }
                // A whole strip of one line is filled by the first tile on its way. (Strips of two lines take longer so.)
                let fills_b = tap == 0 && !in_place;
                let on_the_way = fills_b && live == S::LINE && b_width == S::LINE;
                let strip_of_b = b_strip.as_mut_ptr();
                if fills_b && !on_the_way {
                    // SAFETY: B has `count` rows, of which `live` elements are left from `column` on, and so has the strip.
                    unsafe { copy(simd, b_rows, column..column + live, strip_of_b, b_width) };
                }
                for t in 0..tiles {
                    let (start, rows) = (starts[t], starts[t + 1] - starts[t]);
                    let copies_b = on_the_way && t == 0;
                    // So are A's, but the first, whose tile may be copying B, those of low tiles, and what would be read behind a row.
                    let fills_a = copies && i == 0;
                    let whole_a = rows + 1 >= S::TILE_ROWS && start + a_width <= m;
                    let copies_a = fills_a && t > 0 && whole_a && b_width == S::LINE;
                    let strip_of_a = a_copies.wrapping_add(t * strip);
                    if fills_a && !copies_a {
                        let live = start..m.min(start + a_width);
                        // SAFETY: there are `count` sources of m elements, and as many rows in a strip.
                        unsafe { copy(simd, sources, live, strip_of_a, a_width) };
                    }
                    let (a, a_from) = if copies && !copies_a { (&*copied, t * strip) } else { (sources, start) };
                    let lies = in_place || copies_b;
                    let c = this.c.wrapping_add(tap * this.c_tap);
                    let c_next = match t + 1 {
                        next if next < tiles => c.wrapping_add(starts[next] * this.c_stride + column),
                        _ if column + live < n => c.wrapping_add(column + live),
                        _ if last => this.c,
                        _ => c.wrapping_add(this.c_tap),
                    };
                    // (A copy, so that its counters may stay in registers.)
                    let of_b = !b_ahead.is_empty();
                    let mut ahead = if of_b { b_ahead } else { a_ahead };
                    // SAFETY: the promise made to `Strips::run`; `a` are A's rows or copies of them, and `b` a strip that
                    // was filled or B itself, of whose `count` rows, `b_stride` apart, `live` elements are whole registers; a
                    // strip has `count · b_width` elements, and a tile that copies reads B itself and is as wide.
                    unsafe {
                        let strip = Strip {
                            a: a.as_ptr(),
                            a_from,
                            b: if lies { b } else { strip_of_b.cast_const() },
                            b_stride: if lies { this.b_stride } else { b_width },
                            a_copy: strip_of_a,
                            b_copy: strip_of_b,
                            count,
                            live,
                            c: c.add(start * this.c_stride + column),
                            c_next,
                            c_stride: this.c_stride,
                            first: this.first,
                        };
                        let vectors = live.div_ceil(S::LANES);
                        with_tile!(S, rows, vectors, |R, V| {
                            let may_copy = V == S::TILE_VECTORS && V * S::LANES == S::LINE;
                            if may_copy && copies_b {
                                strip::reduce::<T, S, R, V, false, true>(simd, &strip, &mut ahead)
                            } else if may_copy && R + 1 >= S::TILE_ROWS && copies_a {
                                strip::reduce::<T, S, R, V, true, false>(simd, &strip, &mut ahead)
                            } else {
                                strip::reduce::<T, S, R, V, false, false>(simd, &strip, &mut ahead)
                            }
                        });
                    }
                    *if of_b { &mut b_ahead } else { &mut a_ahead } = ahead;
                }
            }
        }
    }
}

/// Copies some columns of all `rows` in whole registers, one row behind the other, each `width` wide.
///
/// # Safety
/// The columns must be readable in each row, and as many rows of `width` elements, which are whole registers, writable at `to`.
#[inline(always)]
unsafe fn copy<T: Element, S: Simd<T>>(simd: S, rows: &[*const T], columns: Range<usize>, to: *mut T, width: usize) {
    for (p, row) in rows.iter().enumerate() {
        for k in (0..columns.len()).step_by(S::LANES) {
            // SAFETY: the caller's promise.
            unsafe {
                let from = row.add(columns.start + k);
                simd.store_ptr(tile::load(simd, from, S::LANES.min(columns.len() - k)), to.add(p * width + k));
            }
        }
    }
}
