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
    /// Where rows of B are copied to that other tiles read, one behind the other.
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

/// C[i, n] += Σₚ A[p, i] · B[p, n] over a strip, while some of what is `ahead` is fetched, and, if it `COPIES`, B is copied.
///
/// # Safety
/// All pointers of `strip` must be valid as described there, the rows of B for `VECTORS` registers, and `ahead`'s pointers
/// must be where they were; nobody else may access the `ROWS × live` elements of C; if it `COPIES`, `count · VECTORS`
/// registers must be writable at `b_copy`, apart from `b`; and
/// `(VECTORS − 1) · LANES < live ≤ VECTORS · LANES`.
#[inline(always)]
pub(super) unsafe fn reduce<T: Element, S: Simd<T>, const ROWS: usize, const VECTORS: usize, const COPIES: bool>(
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
        let (mut a, mut b, mut b_copy) = (strip.a, strip.b, strip.b_copy);
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
                outer::<T, S, ROWS, VECTORS, COPIES>(simd, (*a).add(strip.a_from), b, b_copy, &mut acc);
                (a, b) = (a.add(1), b.wrapping_add(strip.b_stride));
                b_copy = b_copy.wrapping_add(VECTORS * S::LANES);
            }
            rest -= UNROLL;
        }
        for _ in 0..rest {
            outer::<T, S, ROWS, VECTORS, COPIES>(simd, (*a).add(strip.a_from), b, b_copy, &mut acc);
            (a, b) = (a.add(1), b.wrapping_add(strip.b_stride));
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
/// `ROWS` elements must be readable at `a`, `VECTORS` registers at `b`, and if it `COPIES`, as many writable at `b_copy`.
#[inline(always)]
unsafe fn outer<T: Element, S: Simd<T>, const ROWS: usize, const VECTORS: usize, const COPIES: bool>(
    simd: S,
    a: *const T,
    b: *const T,
    b_copy: *mut T,
    acc: &mut [[S::V; VECTORS]; ROWS],
) {
    let mut row = [simd.splat(T::ZERO); VECTORS];
    for v in 0..VECTORS {
        // SAFETY: the caller's promise.
        unsafe {
            row[v] = simd.load_ptr(b.add(v * S::LANES));
            if COPIES {
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
