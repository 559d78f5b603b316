//! The product over pixels, `C[t, m, n] = Σₚ A[source(p, t) + m] · B[p, n]`: the loops around its tile.
//!
//! For a convolution's weight gradient `A` is the input, read where it lies through pointers, so that there is no im2col
//! buffer, and `B` the output's gradient. Large products of few results cut the pixels into parts whose sums are added in
//! order afterwards; others cut the results. Either depends on the shape alone.

use std::ops::Range;

use super::gather::{Rows, cut};
use super::tile::{self, Strip, with_tile};
use super::{Grid, Shared, grid};
use crate::simd::{Kernel, Simd};
use crate::{Element, Tensor, threads};

/// Pixels that are multiplied at a time: a strip of B, 16 or 32 KiB, stays in the first-level cache.
pub(crate) const PIXEL_BLOCK: usize = 256;
/// Tasks that a product is cut into if it is large enough, and the multiply-adds that make a task worth it.
const TASKS: usize = 32;
const TASK_MACS: usize = 1 << 19;
/// Columns of either operand below which a task is not cut further, because both are copied for every task.
const SLICE: usize = 64;
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
    let (mut parts, mut slices) = (1, [1, 1]);
    while parts * slices[0] * slices[1] < wanted {
        let lengths = [m / slices[0], n / slices[1]];
        let longer = usize::from(lengths[1] > lengths[0]);
        if 2 * parts * size_of_val(out) <= PARTS_BYTES && pixels >= 2 * parts * PIXEL_BLOCK {
            parts *= 2;
        } else if lengths[longer] >= 2 * SLICE {
            slices[longer] *= 2;
        } else if pixels >= 4 * parts * PIXEL_BLOCK {
            parts *= 2;
        } else {
            break;
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
    if parts > 1 {
        let chunk = threads::rows_per_chunk(1);
        threads::for_each_chunk(out, chunk, |i, out| {
            for part in others.data().chunks_exact(size) {
                out.iter_mut().zip(&part[i * chunk..]).for_each(|(x, &y)| *x += y);
            }
        });
    }
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
        let (mut pixels, mut rows): (Vec<usize>, Vec<*const T>) = (Vec::new(), Vec::new());
        for start in self.pixels.clone().step_by(PIXEL_BLOCK) {
            let count = PIXEL_BLOCK.min(self.pixels.end - start);
            self.grid.sources(start, count, &mut pixels);
            rows.clear();
            rows.extend(pixels.iter().map(|&pixel| match pixel {
                grid::OUTSIDE => self.zeros.as_ptr(),
                pixel => self.a.data[pixel * self.a.columns + self.group * m..][self.a_columns.clone()].as_ptr(),
            }));
            // SAFETY: B has a row of all groups' columns for every pixel (checked in `reduce`), the rows' pointers were
            // made from slices of their columns, and each task has its own part, group, rows or columns of C.
            unsafe {
                let strips = Strips {
                    a: &rows,
                    count,
                    b: self.b.data[start * self.b.columns + self.group * n + self.b_columns.start..].as_ptr(),
                    b_stride: self.b.columns,
                    m: self.a_columns.len(),
                    n: self.b_columns.len(),
                    c: self.c.add(self.a_columns.start * self.c_stride + self.group * n + self.b_columns.start),
                    c_stride: self.c_stride,
                    c_tap: m * self.c_stride,
                    first: start == self.pixels.start,
                };
                strips.run();
            }
        }
    }
}

/// `C[t, m, n] = Σₚ A[t, p, m] · B[p, n]` over at most [`PIXEL_BLOCK`] rows, on one thread.
pub struct Strips<'a, T> {
    /// For each tap, pointers to `count` rows of `m` elements.
    pub a: &'a [*const T],
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
/// Both operands are copied before they are multiplied, B into strips of a tile's columns, A tap by tap into panels of a
/// tile's rows: where they lie, their rows may be a power of two apart, in one set of the first-level cache.
pub(crate) struct Tiles<'a, T>(pub Strips<'a, T>);

impl<T: Element> Kernel<T> for Tiles<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let this = self.0;
        let (count, m, n) = (this.count, this.m, this.n);
        let width = S::LANES * S::TILE_VECTORS;
        let tiles = m.div_ceil(S::TILE_ROWS);
        // A panel is written in whole registers, the last of which may reach beyond it.
        let mut scratch = Tensor::<T>::scratch([count * (n.next_multiple_of(width) + m) + S::LANES]);
        let (strips, panels) = scratch.data_mut().split_at_mut(count * n.next_multiple_of(width));
        for (strip, column) in strips.chunks_exact_mut(count * width).zip((0..n).step_by(width)) {
            let live = width.min(n - column);
            for p in 0..count {
                for v in 0..live.div_ceil(S::LANES) {
                    // SAFETY: B's row has n elements, of which `live` are left from `column` on; the strip has `count`
                    // rows of `width`.
                    unsafe {
                        let src = this.b.add(p * this.b_stride + column + v * S::LANES);
                        let x = tile::load(simd, src, S::LANES.min(live - v * S::LANES));
                        simd.store_ptr(x, strip.as_mut_ptr().add(p * width + v * S::LANES));
                    }
                }
            }
        }
        for tap in 0..this.a.len() / count {
            let rows = &this.a[tap * count..][..count];
            for t in 0..tiles {
                let tile = cut(m, tiles, t);
                // SAFETY: rows have m elements; tile t's panel starts at `tile.start · count` and has room for a
                // register beyond its end, which the next tile overwrites.
                unsafe { pack(simd, rows, tile.clone(), m, panels[tile.start * count..].as_mut_ptr()) };
            }
            for (strip, column) in strips.chunks_exact(count * width).zip((0..n).step_by(width)) {
                let live = width.min(n - column);
                for t in 0..tiles {
                    let tile = cut(m, tiles, t);
                    // SAFETY: the promise made to `Strips::run`; the panels and the strips were just filled.
                    unsafe {
                        let strip = Strip {
                            a: panels[tile.start * count..].as_ptr(),
                            b: strip.as_ptr(),
                            count,
                            live,
                            c: this.c.add(tap * this.c_tap + tile.start * this.c_stride + column),
                            c_stride: this.c_stride,
                            first: this.first,
                        };
                        with_tile!(S, tile.len(), live.div_ceil(S::LANES), |R, V| tile::reduce::<T, S, R, V>(
                            simd, &strip
                        ));
                    }
                }
            }
        }
    }
}

/// Copies columns `tile` of rows of `m` elements into a panel, contiguous row by row.
///
/// # Safety
/// The rows must be readable for `m` elements and `panel` writable for `rows · tile` and `LANES` more.
#[inline(always)]
unsafe fn pack<T: Element, S: Simd<T>>(simd: S, rows: &[*const T], tile: Range<usize>, m: usize, panel: *mut T) {
    let width = tile.len();
    let mut dst = panel;
    // A whole register is moved for every row where the rows are long enough; the next row overwrites what is too much.
    let whole = tile.start + S::LANES <= m;
    for &row in rows {
        // SAFETY: a whole register ends within the row; otherwise exactly the tile's columns are read, piece by piece.
        unsafe {
            let src = row.add(tile.start);
            if whole {
                simd.store_ptr(simd.load_ptr(src), dst);
            } else {
                simd.store_ptr(simd.load_partial_ptr(src, width.min(S::LANES)), dst);
            }
            for k in S::LANES..width {
                *dst.add(k) = *src.add(k);
            }
        }
        dst = dst.wrapping_add(width);
    }
}
