//! The register tile of [products over pixels](super::reduce), their innermost loop: as [`tile`](super::tile), but a step
//! takes one row of A, of which it broadcasts `ROWS` neighbouring elements.

// Registers are named by their place in the tile.
#![allow(clippy::needless_range_loop)]

use super::ahead::Ahead;
use super::tile::{UNROLL, load, store};
use crate::Element;
use crate::simd::Simd;

/// A block of a product over pixels: `ROWS` columns of A against one run of B's columns.
pub(super) struct Strip<T> {
    /// `count` rows of A, of which the tile takes `ROWS` elements from `a_from` on.
    pub a: *const *const T,
    pub a_from: usize,
    /// `count` rows of the tile's registers, `b_stride` apart.
    pub b: *const T,
    pub b_stride: usize,
    /// Where the tile's part of A's rows, [`a_width`] of each, and rows of B are copied to that others read, one behind the other.
    pub a_copy: *mut T,
    pub b_copy: *mut T,
    pub count: usize,
    pub live: usize,
    /// `ROWS` rows of C, `c_stride` apart.
    pub c: *mut T,
    pub c_stride: usize,
    /// Whether C starts at zero rather than at what it holds.
    pub first: bool,
    /// The next tile's C, which is fetched: it is read and written in turns with others, as much as a cache holds.
    pub c_next: *const T,
}

/// Elements of a row of a copy of A: a tile's, in whole registers.
#[inline(always)]
pub(super) const fn a_width<T: Element, S: Simd<T>>() -> usize {
    S::TILE_ROWS.next_multiple_of(S::LANES)
}

/// C[i, n] += Σₚ A[p, i] · B[p, n] over a strip, while some of what is `ahead` is fetched and, if it `COPIES_A` or `COPIES_B`, these
/// are copied.
///
/// # Safety
/// All pointers of `strip` must be valid as described there, the rows of B for `VECTORS` registers, and `ahead`'s pointers
/// must be where they were; nobody else may access the `ROWS × live` elements of C; if it `COPIES_B`, `count · VECTORS`
/// registers must be writable at `b_copy`, apart from `b`; if it `COPIES_A`, `count · a_width` elements at `a_copy`, apart from A, and
/// `a_width` be readable of each of A's rows; and `(VECTORS − 1) · LANES < live ≤ VECTORS · LANES`.
#[inline(always)]
pub(super) unsafe fn reduce<
    T: Element,
    S: Simd<T>,
    const ROWS: usize,
    const VECTORS: usize,
    const COPIES_A: bool,
    const COPIES_B: bool,
>(
    simd: S,
    strip: &Strip<T>,
    ahead: &mut Ahead<T>,
) {
    let last = strip.live - (VECTORS - 1) * S::LANES;
    let lanes = |v: usize| if v + 1 == VECTORS { last } else { S::LANES };
    let mut acc = [[simd.splat(T::ZERO); VECTORS]; ROWS];
    // SAFETY: the pointers are valid as the caller vouches, and only live columns of C are accessed.
    unsafe {
        let c = |i: usize, v: usize| strip.c.add(i * strip.c_stride + v * S::LANES);
        if !strip.first {
            for i in 0..ROWS {
                for v in 0..VECTORS {
                    acc[i][v] = load(simd, c(i, v), lanes(v));
                }
            }
        }
        let (mut a, mut b) = (strip.a, strip.b);
        let (mut a_copy, mut b_copy) = (strip.a_copy, strip.b_copy);
        let (mut rest, mut c_next, mut rows_next) = (strip.count, strip.c_next, ROWS);
        while rest >= UNROLL {
            ahead.fetch(simd);
            if rows_next > 0 {
                simd.prefetch_to_write(c_next);
                simd.prefetch_to_write(c_next.wrapping_add(strip.live - 1));
                c_next = c_next.wrapping_add(strip.c_stride);
                rows_next -= 1;
            }
            for _ in 0..UNROLL {
                let from = (*a).add(strip.a_from);
                outer::<T, S, ROWS, VECTORS, COPIES_A, COPIES_B>(simd, from, b, [a_copy, b_copy], &mut acc);
                (a, b) = (a.add(1), b.wrapping_add(strip.b_stride));
                a_copy = a_copy.wrapping_add(a_width::<T, S>());
                b_copy = b_copy.wrapping_add(VECTORS * S::LANES);
            }
            rest -= UNROLL;
        }
        for _ in 0..rest {
            let from = (*a).add(strip.a_from);
            outer::<T, S, ROWS, VECTORS, COPIES_A, COPIES_B>(simd, from, b, [a_copy, b_copy], &mut acc);
            (a, b) = (a.add(1), b.wrapping_add(strip.b_stride));
            a_copy = a_copy.wrapping_add(a_width::<T, S>());
            b_copy = b_copy.wrapping_add(VECTORS * S::LANES);
        }
        for i in 0..ROWS {
            for v in 0..VECTORS {
                store(simd, acc[i][v], c(i, v), lanes(v));
            }
        }
    }
}

/// One step of a product over pixels, an outer product: C[i, n] += A[i] · B[n].
///
/// # Safety
/// `ROWS` elements must be readable at `a`, `VECTORS` registers at `b`, and what is copied be readable and writable as
/// [`reduce`] says.
#[inline(always)]
unsafe fn outer<
    T: Element,
    S: Simd<T>,
    const ROWS: usize,
    const VECTORS: usize,
    const COPIES_A: bool,
    const COPIES_B: bool,
>(
    simd: S,
    a: *const T,
    b: *const T,
    [a_copy, b_copy]: [*mut T; 2],
    acc: &mut [[S::V; VECTORS]; ROWS],
) {
    if COPIES_A {
        for i in (0..a_width::<T, S>()).step_by(S::LANES) {
            // SAFETY: the caller's promise.
            unsafe { simd.store_ptr(simd.load_ptr(a.add(i)), a_copy.add(i)) };
        }
    }
    let mut row = [simd.splat(T::ZERO); VECTORS];
    for v in 0..VECTORS {
        // SAFETY: the caller's promise.
        unsafe {
            row[v] = simd.load_ptr(b.add(v * S::LANES));
            if COPIES_B {
                simd.store_ptr(row[v], b_copy.add(v * S::LANES));
            }
        }
    }
    for i in 0..ROWS {
        // SAFETY: the caller's promise.
        let x = simd.splat(unsafe { *a.add(i) });
        for v in 0..VECTORS {
            acc[i][v] = simd.mul_add(x, row[v], acc[i][v]);
        }
    }
}
