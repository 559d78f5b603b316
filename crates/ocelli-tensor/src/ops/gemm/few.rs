//! Products of few rows, such as those of a fully connected layer in a small batch: the large matrix is read, or written,
//! once and where it lies, where [`gather`](super::gather) would have to pack it, which takes longer than such a product, or
//! [`reduce`](super::reduce) would write it several times.
//!
//! For x `[M, K]`, w `[K, N]` and y `[M, N]`, where M is small: y = x · w ([`sums`]), x = y · wᵀ ([`dots`]) and w = xᵀ · y
//! ([`outer`]). All walk w some rows at a time, from their first column to their last, so that memory is read in order, and
//! keep a tile of w (or sums over it) in registers while the rows of y pass by, in panels ([`Packed`]) in the second-level
//! cache.

// Registers are named by their place in the tile.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use super::pieces::{Cuts, compete, cut};
use super::tile::{load, store, with_tile};
use super::{Matrix, Packed, Shared};
use crate::memory::Scratch;
use crate::simd::{Kernel, Simd};
use crate::{Element, Tensor, threads};

/// The most rows of x and y. With more, packing w costs less than reading y again for every few rows of w.
const ROWS: usize = 64;
/// The most bytes of y, which is to stay in the second-level cache, and of what a task of [`sums`] makes of it.
const Y_BYTES: usize = 1 << 20;
const SUMS_BYTES: usize = 256 * 1024;
/// Tasks that a product is cut into if it is large enough, and the bytes of w that make a task worth it.
const TASKS: usize = 32;
const TASK_BYTES: usize = 256 * 1024;
/// Rows of w in a tile if they compete for one set of the first-level cache: as many as it holds.
const SET_ROWS: usize = 8;
/// Rows of w that [`dots`] multiplies at a time.
const DOT_ROWS: usize = 3;
/// Fewer rows of x than this suit [`sums`] in any case.
const GATHERED_ROWS: usize = 4;
/// The rows of y times the columns of a tile up to which [`dots`] is the faster way, and the bytes of w from which on
/// [`outer`] is.
const DOTS: usize = 768;
const LARGE_BYTES: usize = 4 << 20;

/// Whether y or x of such a product is small enough.
fn fits<T>([m, k, n]: [usize; 3]) -> bool {
    m * k * n > 0 && m <= ROWS && m * n * size_of::<T>() <= Y_BYTES
}

/// Whether [`sums`] of the sizes M, K and N is faster than a gathered product, which can read w [in place](Packed::in_place)
/// too if its rows do not compete for a cache set.
pub(crate) fn suits_sums<T>(size: [usize; 3]) -> bool {
    let [m, _, n] = size;
    fits::<T>(size) && (m < GATHERED_ROWS || compete::<T>(n))
}

/// Whether [`dots`] is faster than packing wᵀ.
pub(crate) fn suits_dots<T: Element>(size: [usize; 3]) -> bool {
    fits::<T>(size) && size[0] * Packed::<T>::tile_width() <= DOTS
}

/// Whether [`outer`] is faster than a product over pixels.
pub(crate) fn suits_outer<T>(size: [usize; 3]) -> bool {
    let [_, k, n] = size;
    fits::<T>(size) && k * n * size_of::<T>() >= LARGE_BYTES
}

/// The most rows of w in a tile.
#[inline(always)]
fn tile_rows<T: Element, S: Simd<T>>(n: usize) -> usize {
    if compete::<T>(n) { S::TILE_ROWS.min(SET_ROWS) } else { S::TILE_ROWS }
}

/// Copies some columns of x, at most a cache line's, whose rows have k elements, to rows that are a line apart: in x, those of a
/// tile might compete for one set of the first-level cache.
#[inline(always)]
fn copy_columns<T: Element, S: Simd<T>>(simd: S, x: &[T], k: usize, columns: Range<usize>, copy: &mut [T]) {
    for i in 0..copy.len() / S::LINE {
        let x = &x[i * k..][columns.clone()];
        for c in (0..x.len()).step_by(S::LANES) {
            simd.store(simd.load_partial(&x[c..]), &mut copy[i * S::LINE + c..]);
        }
    }
}

/// How many pieces w is cut into.
fn tasks<T>(w: &[T]) -> usize {
    (size_of_val(w) / TASK_BYTES).clamp(1, TASKS)
}

fn in_panels<T: Element>(y: &[T], m: usize, n: usize) -> Packed<T> {
    Packed::new(y, Matrix::of_rows(n), 1, &[0], m, n)
}

/// y = x · w
///
/// Parts of w's rows have sums of their own, which are added in order.
pub(crate) fn sums<T: Element>(x: &[T], w: &[T], size: [usize; 3], y: &mut [T]) {
    let [m, k, n] = size;
    assert_eq!([x.len(), w.len(), y.len()], [m * k, k * n, m * n]);
    let width = Packed::<T>::tile_width();
    let (tasks, panels) = (tasks(w), n.div_ceil(width));
    // The parts' sums are memory too, of which w should have far more.
    let parts = tasks.min(k / (8 * m)).max(1);
    let slices = tasks.div_ceil(parts).max(size_of_val(y).div_ceil(SUMS_BYTES)).min(panels);
    let mut sums = Tensor::scratch([parts, panels, m, width]);
    let mut tasks = Vec::with_capacity(parts * slices);
    for (part, mut rest) in sums.data_mut().chunks_exact_mut(panels * m * width).enumerate() {
        for slice in 0..slices {
            let panels = cut(panels, slices, slice);
            let sums = rest.split_off_mut(..panels.len() * m * width).expect("a part has all panels");
            tasks.push(Some(Sums { x, w, size, rows: cut(k, parts, part), panels, sums }));
        }
    }
    threads::for_each_chunk(&mut tasks, 1, |_, task| T::few_sums(task[0].take().expect("a task runs once")));
    threads::for_each_chunk(y, n, |i, y| {
        for (panel, y) in y.chunks_mut(width).enumerate() {
            let part = |part: usize| &sums.data()[((part * panels + panel) * m + i) * width..];
            y.copy_from_slice(&part(0)[..y.len()]);
            for p in 1..parts {
                y.iter_mut().zip(part(p)).for_each(|(y, &sum)| *y += sum);
            }
        }
    });
}

/// x = y · wᵀ
pub(crate) fn dots<T: Element>(y: &[T], w: &[T], size: [usize; 3], x: &mut [T]) {
    let [m, k, n] = size;
    assert_eq!([x.len(), w.len(), y.len()], [m * k, k * n, m * n]);
    let (tasks, y, x) = (tasks(w), in_panels(y, m, n), Shared(x.as_mut_ptr()));
    threads::for_each(tasks, |task| {
        T::few_dots(Dots { y: &y, w, size, rows: cut(k, tasks, task), x: x.get() });
    });
}

/// w = xᵀ · y
pub(crate) fn outer<T: Element>(x: &[T], y: &[T], size: [usize; 3], w: &mut [T]) {
    let [m, k, n] = size;
    assert_eq!([x.len(), w.len(), y.len()], [m * k, k * n, m * n]);
    let (y, rows) = (in_panels(y, m, n), k.div_ceil(tasks(w)));
    threads::for_each_chunk(w, rows * n, |task, w| {
        T::few_outer(Outer { x, y: &y, size, first: task * rows, w });
    });
}

/// The sums over some rows of w, for some panels.
pub struct Sums<'a, T> {
    x: &'a [T],
    w: &'a [T],
    size: [usize; 3],
    rows: Range<usize>,
    panels: Range<usize>,
    sums: &'a mut [T],
}

impl<T: Element> Kernel<T> for Sums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        const { assert!(S::TILE_ROWS <= S::LINE) }
        let ([m, k, n], width, rows) = (self.size, S::LANES * S::TILE_VECTORS, self.rows);
        let most = tile_rows::<T, S>(n);
        // A larger tile reads so much of each line of x that with copies it took 10 % longer.
        let copies = most <= SET_ROWS;
        let (apart, copied) = if copies { (S::LINE, m * S::LINE) } else { (k, 0) };
        let (mut columns, size) = (Scratch::new(copied), [m, apart, n]);
        let tiles = rows.len().div_ceil(most);
        for tile in Cuts::new(rows.len(), tiles) {
            let row = rows.start + tile.start;
            let x = if copies {
                copy_columns(simd, self.x, k, row..row + tile.len(), &mut columns);
                columns.as_ptr()
            } else {
                self.x[row..].as_ptr()
            };
            for panel in self.panels.clone() {
                let (column, y) =
                    (panel * width, &mut self.sums[(panel - self.panels.start) * m * width..][..m * width]);
                let (live, w) = (width.min(n - column), self.w[row * n + column..].as_ptr());
                let (vectors, y, on) = (live.div_ceil(S::LANES), y.as_mut_ptr(), tile.start > 0);
                // SAFETY: x, w and y have the sizes that `sums` checked, copies of x a line for each of its m rows, and the tile
                // lies within them.
                unsafe { with_tile!(S, tile.len(), vectors, |R, V| add::<T, S, R, V>(simd, size, x, w, live, y, on)) };
            }
        }
    }
}

/// Y[m, n] += Σᵣ X[m, r] · W[r, n] over a tile of w; Y is overwritten unless it `continues`.
///
/// # Safety
/// `ROWS` columns of x, whose m rows lie `apart`, must be readable, as must `live` columns of as many rows of w; y must be a
/// panel; and `(VECTORS − 1) · LANES < live ≤ VECTORS · LANES`.
#[inline(always)]
unsafe fn add<T: Element, S: Simd<T>, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    [m, apart, n]: [usize; 3],
    x: *const T,
    w: *const T,
    live: usize,
    y: *mut T,
    continues: bool,
) {
    let mut tile = [[simd.splat(T::ZERO); VECTORS]; ROWS];
    // SAFETY: the caller's promise; panels are `TILE_VECTORS ≥ VECTORS` registers wide.
    unsafe {
        for r in 0..ROWS {
            for v in 0..VECTORS {
                tile[r][v] = load(simd, w.add(r * n + v * S::LANES), S::LANES.min(live - v * S::LANES));
            }
        }
        for i in 0..m {
            let (x, y) = (x.add(i * apart), y.add(i * S::TILE_VECTORS * S::LANES));
            let mut sums = [simd.splat(T::ZERO); VECTORS];
            if continues {
                for v in 0..VECTORS {
                    sums[v] = simd.load_ptr(y.add(v * S::LANES));
                }
            }
            for r in 0..ROWS {
                let x = simd.splat(*x.add(r));
                for v in 0..VECTORS {
                    sums[v] = simd.mul_add(x, tile[r][v], sums[v]);
                }
            }
            for v in 0..VECTORS {
                simd.store_ptr(sums[v], y.add(v * S::LANES));
            }
        }
    }
}

/// Some rows of w, `first` being the first.
pub struct Outer<'a, T: Element> {
    x: &'a [T],
    y: &'a Packed<T>,
    size: [usize; 3],
    first: usize,
    w: &'a mut [T],
}

impl<T: Element> Kernel<T> for Outer<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        const { assert!(S::TILE_ROWS <= S::LINE) }
        let ([m, k, n], width) = (self.size, S::LANES * S::TILE_VECTORS);
        let rows = self.w.len() / n;
        let (mut columns, size) = (Scratch::new(m * S::LINE), [m, S::LINE, n]);
        let tiles = rows.div_ceil(tile_rows::<T, S>(n));
        for tile in Cuts::new(rows, tiles) {
            copy_columns(simd, self.x, k, self.first + tile.start..self.first + tile.end, &mut columns);
            let x = columns.as_ptr();
            for panel in 0..self.y.panels() {
                let (column, y) = (panel * width, self.y.panel(0, panel).as_ptr());
                let (live, w) = (width.min(n - column), self.w[tile.start * n + column..].as_mut_ptr());
                let vectors = live.div_ceil(S::LANES);
                // SAFETY: y and w have the sizes that `outer` checked, x is a line for each of m rows, and the tile lies within
                // them.
                unsafe { with_tile!(S, tile.len(), vectors, |R, V| write::<T, S, R, V>(simd, size, x, y, live, w)) };
            }
        }
    }
}

/// W[r, n] = Σₘ X[m, r] · Y[m, n] over a tile of w.
///
/// # Safety
/// As for [`add`], w being written.
#[inline(always)]
unsafe fn write<T: Element, S: Simd<T>, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    [m, apart, n]: [usize; 3],
    x: *const T,
    y: *const T,
    live: usize,
    w: *mut T,
) {
    let mut tile = [[simd.splat(T::ZERO); VECTORS]; ROWS];
    // SAFETY: the caller's promise; panels are `TILE_VECTORS ≥ VECTORS` registers wide.
    unsafe {
        for i in 0..m {
            let (x, y) = (x.add(i * apart), y.add(i * S::TILE_VECTORS * S::LANES));
            let mut row = [simd.splat(T::ZERO); VECTORS];
            for v in 0..VECTORS {
                row[v] = simd.load_ptr(y.add(v * S::LANES));
            }
            for r in 0..ROWS {
                let x = simd.splat(*x.add(r));
                for v in 0..VECTORS {
                    tile[r][v] = simd.mul_add(x, row[v], tile[r][v]);
                }
            }
        }
        for r in 0..ROWS {
            for v in 0..VECTORS {
                store(simd, tile[r][v], w.add(r * n + v * S::LANES), S::LANES.min(live - v * S::LANES));
            }
        }
    }
}

/// Some columns of x, as many as there are `rows` of w.
pub struct Dots<'a, T: Element> {
    y: &'a Packed<T>,
    w: &'a [T],
    size: [usize; 3],
    rows: Range<usize>,
    x: *mut T,
}

impl<T: Element> Kernel<T> for Dots<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let ([m, k, n], width) = (self.size, S::LANES * S::TILE_VECTORS);
        let tiles = m.div_ceil((S::TILE_ROWS * S::TILE_VECTORS / DOT_ROWS).max(1));
        let y = self.y.panels_from(0).as_ptr();
        for first in self.rows.clone().step_by(DOT_ROWS) {
            let live = DOT_ROWS.min(self.rows.end - first);
            // The last rows, if there are fewer, are filled up with one of them, whose results nobody takes.
            let mut w = [std::ptr::null(); DOT_ROWS];
            for r in 0..DOT_ROWS {
                w[r] = self.w[(first + r.min(live - 1)) * n..].as_ptr();
            }
            for tile in Cuts::new(m, tiles) {
                // SAFETY: x, y and w have the sizes that `dots` checked, and the tile lies within them. Nobody else writes
                // these columns of x.
                unsafe {
                    let (y, x) = (y.add(tile.start * width), self.x.add(tile.start * k + first));
                    with_rows!(S, tile.len(), |R| dot::<T, S, R>(simd, self.size, y, &w, live, x));
                }
            }
        }
    }
}

/// Calls `$f::<T, S, ROWS>` for a run-time number of rows such that sums of `ROWS` times [`DOT_ROWS`] fit into registers.
macro_rules! with_rows {
    ($s:ident, $rows:expr, |$r:ident| $call:expr) => {
        with_rows!(@ $s, $rows, |$r| $call, 1 2 3 4 5 6 7 8 9)
    };
    (@ $s:ident, $rows:expr, |$r:ident| $call:expr, $($n:literal)*) => {
        match $rows {
            $($n if $n == 1 || $n * DOT_ROWS <= $s::TILE_ROWS * $s::TILE_VECTORS => {
                const $r: usize = $n;
                $call
            })*
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}
use with_rows;

/// X[m, r] = Σₙ Y[m, n] · W[r, n] for `ROWS` rows of x and y, and the first `live` of [`DOT_ROWS`] rows of w.
///
/// # Safety
/// y must point to the rows' columns in the first of the panels, which lie one behind the other; the rows of w must be
/// readable for n elements; and nobody else may access the elements of x.
#[inline(always)]
unsafe fn dot<T: Element, S: Simd<T>, const ROWS: usize>(
    simd: S,
    [m, k, n]: [usize; 3],
    y: *const T,
    w: &[*const T; DOT_ROWS],
    live: usize,
    x: *mut T,
) {
    let width = S::LANES * S::TILE_VECTORS;
    let mut sums = [[simd.splat(T::ZERO); DOT_ROWS]; ROWS];
    // SAFETY: the caller's promise. Beyond column n, y has columns of zeros.
    unsafe {
        for column in (0..n).step_by(S::LANES) {
            let y = y.add(column / width * m * width + column % width);
            let mut row = [simd.splat(T::ZERO); DOT_ROWS];
            for r in 0..DOT_ROWS {
                row[r] = load(simd, w[r].add(column), S::LANES.min(n - column));
            }
            for i in 0..ROWS {
                let y = simd.load_ptr(y.add(i * width));
                for r in 0..DOT_ROWS {
                    sums[i][r] = simd.mul_add(y, row[r], sums[i][r]);
                }
            }
        }
        for i in 0..ROWS {
            for r in 0..live {
                *x.add(i * k + r) = simd.reduce_add(sums[i][r]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
