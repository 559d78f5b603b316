//! The products at one frequency, on one thread: M = V · U forward, dU = Vᵀ · D for the weights' gradient.
//!
//! Their register tile is that of [`gemm`](crate::ops::gemm) without its freedoms: rows lie at equal distances and
//! all columns of a panel exist, so that a tile of few addends has little to set up. Panels are large and used once by
//! every block of tiles, so the next one is fetched while one is multiplied.

use std::hint::black_box;
use std::ops::Range;

use super::planes::View;
use crate::Element;
use crate::ops::gemm::{Cuts, Packed, with_tile};
use crate::simd::Simd;

/// Addends of a block, so that a block of a panel (with 16 columns, 16 KiB) stays in the first-level cache.
const DEPTH_BLOCK: usize = 256;
/// Steps along the depth between two turns of fetching. Loops of this length are unrolled.
const STEPS: usize = 4;

/// Panels of U at some of its rows, which are input channels: `[panels, frequencies, channels, width]`.
#[derive(Clone, Copy)]
pub(super) struct Factor<'a, T> {
    pub data: &'a [T],
    pub width: usize,
    pub channels: usize,
    /// Elements from a frequency, and from a panel, to the next.
    pub apart: [usize; 2],
    /// Whether a cache holds it, so that v is what is to be fetched ahead.
    pub cached: bool,
}

impl<'a, T: Element> Factor<'a, T> {
    /// All rows of U, of which `panel` becomes the first panel.
    pub fn packed(u: &'a Packed<T>, panel: usize) -> Self {
        let size = u.depth * u.width;
        let apart = [size, u.groups * size];
        Factor { data: u.panels_from(panel), width: u.width, channels: u.depth, apart, cached: false }
    }

    #[inline(always)]
    fn panel(&self, f: usize, panel: usize) -> &'a [T] {
        &self.data[f * self.apart[0] + panel * self.apart[1]..][..self.channels * self.width]
    }
}

/// m = v · u or m += v · u at frequency `f`, for rows `rows` of v, its channels from `first` on, which are u's rows, and
/// as many panels of u as m has channels for.
///
/// # Safety
/// Nobody may write v or access m meanwhile.
#[inline(always)]
pub(super) unsafe fn multiply<T: Element, S: Simd<T>>(
    simd: S,
    f: usize,
    (v, rows, first): (View<T>, Range<usize>, usize),
    u: Factor<'_, T>,
    m: View<T>,
) {
    let width = S::LANES * S::TILE_VECTORS;
    assert!(u.width == width && first + u.channels <= v.channels && first % v.width + u.channels <= v.width);
    assert!(rows.end <= v.rows && rows.len() <= m.rows && m.channels.is_multiple_of(S::LANES) && m.width == m.channels);
    let tiles = rows.len().div_ceil(S::TILE_ROWS);
    if tiles == 0 {
        // Of an empty batch, which has no first row.
        return;
    }
    for panel in 0..m.channels.div_ceil(width) {
        let b = u.panel(f, panel);
        let vectors = S::TILE_VECTORS.min((m.channels - panel * width) / S::LANES);
        for start in (0..u.channels).step_by(DEPTH_BLOCK) {
            let depth = DEPTH_BLOCK.min(u.channels - start);
            let b = &b[start * width..][..depth * width];
            let (v_rows, m_rows) = (v.at(f, rows.start, first + start), m.at(f, 0, panel * width));
            for (t, part) in Cuts::new(rows.len(), tiles).enumerate() {
                let a = v_rows.wrapping_add(part.start * v.width);
                let tile = Tile {
                    a,
                    a_stride: v.width,
                    b: b.as_ptr(),
                    depth,
                    c: m_rows.wrapping_add(part.start * m.width),
                    c_stride: m.width,
                    first: first + start == 0,
                    next: if u.cached {
                        // The same rows at the next frequency.
                        a.wrapping_add(v.stride)
                    } else {
                        // The next block of the panel, or of the next frequency, which lies behind it.
                        fetched::<T, S>(b.as_ptr_range().end, t, depth * width)
                    },
                };
                // SAFETY: the rows and panels exist, as asserted; the rest is the caller's promise.
                unsafe { with_tile!(S, part.len(), vectors, |R, V| tile.run::<S, R, V, false>(simd)) }
            }
        }
    }
}

/// Sums at one frequency, of some panels of v by some of d.
pub(super) struct Sums<T> {
    pub c: *mut T,
    /// Elements from a row to the next.
    pub stride: usize,
    /// Whether they start at zero rather than at what they hold.
    pub first: bool,
    /// Whether the same panels' next frequency is multiplied next, rather than other panels.
    pub stays: bool,
}

/// dU = vᵀ · d or dU += vᵀ · d at frequency `f` over the first `count` rows, for some panels of v and of d.
///
/// # Safety
/// Nobody may write v or d, or access these panels' sums, meanwhile.
#[inline(always)]
pub(super) unsafe fn accumulate<T: Element, S: Simd<T>>(
    simd: S,
    f: usize,
    count: usize,
    (v, rows): (View<T>, Range<usize>),
    (d, columns): (View<T>, Range<usize>),
    sums: &Sums<T>,
) {
    let width = v.width;
    let vectors = width / S::LANES;
    assert!(width == vectors * S::LANES && (1..=S::TILE_VECTORS).contains(&vectors));
    assert!(d.width == width && count <= v.rows && count <= d.rows);
    for column in columns.clone() {
        for start in (0..count).step_by(DEPTH_BLOCK) {
            let depth = DEPTH_BLOCK.min(count - start);
            for row in rows.clone() {
                let channels = width.min(v.channels - row * width);
                let tiles = channels.div_ceil(S::TILE_ROWS);
                let (a, b) = (v.at(f, start, row * width), d.at(f, start, column * width));
                let next = match column - columns.start {
                    _ if !sums.stays => a.wrapping_add(v.rows * width),
                    0 => a.wrapping_add(v.stride),
                    // As many panels of d as rows' panels of v passed: with as many of each, all are fetched.
                    _ => d
                        .at(f, start, columns.start * width)
                        .wrapping_add(d.stride + (row - rows.start) * d.rows * width),
                };
                for (t, part) in Cuts::new(channels, tiles).enumerate() {
                    let at = ((row - rows.start) * width + part.start) * sums.stride + (column - columns.start) * width;
                    // SAFETY: the rows and panels exist, as asserted; the rest is the caller's promise.
                    unsafe {
                        let tile = Tile {
                            a: a.add(part.start),
                            a_stride: width,
                            b,
                            depth,
                            c: sums.c.add(at),
                            c_stride: sums.stride,
                            first: sums.first && start == 0,
                            next: fetched::<T, S>(next, t, depth * width),
                        };
                        with_tile!(S, part.len(), vectors, |R, V| tile.run::<S, R, V, true>(simd));
                    }
                }
            }
        }
    }
}

/// Tiles that together fetch the block that follows theirs. A block may have as few, if its tiles have many rows; what they
/// leave out comes late from memory.
const fn fetchers<T: Element, S: Simd<T>>() -> usize {
    if S::TILE_ROWS > 8 { 2 } else { 4 }
}

/// Where tile `t` of a block begins to fetch, so that together they fetch the `size` elements at `next`.
#[inline(always)]
fn fetched<T: Element, S: Simd<T>>(next: *const T, t: usize, size: usize) -> *const T {
    next.wrapping_add(t % fetchers::<T, S>() * size / fetchers::<T, S>())
}

/// A register tile's operands. Rows of A and C lie at equal distances, B is a panel, of which the tile takes some registers.
struct Tile<T> {
    a: *const T,
    a_stride: usize,
    b: *const T,
    depth: usize,
    c: *mut T,
    c_stride: usize,
    /// Whether C starts at zero rather than at what it holds.
    first: bool,
    /// Where to fetch cache lines for later.
    next: *const T,
}

impl<T: Element> Tile<T> {
    /// C = A · B or C += A · B; with `TRANSPOSED`, A is what the transpose of `a` holds, which is a panel.
    ///
    /// # Safety
    /// The pointers must be valid for `ROWS` rows, `depth`, and `VECTORS` registers, and C be the caller's.
    #[inline(always)]
    unsafe fn run<S: Simd<T>, const ROWS: usize, const VECTORS: usize, const TRANSPOSED: bool>(self, simd: S) {
        let width = S::LANES * if TRANSPOSED { VECTORS } else { S::TILE_VECTORS };
        // Known when compiled, so that a step's elements of A need no addresses of their own.
        let (from_row, from_step) = if TRANSPOSED { (1, width) } else { (self.a_stride, 1) };
        let mut acc = [[simd.splat(T::ZERO); VECTORS]; ROWS];
        let mut a = [self.a; ROWS];
        let (mut b, mut next) = (self.b, self.next);
        // SAFETY: the caller's promise.
        unsafe {
            for i in 0..ROWS {
                // Of unknown origin: a compiler that sees the stride keeps addresses in step, and spills the tile for it.
                a[i] = black_box(self.a.add(i * from_row));
            }
            if !self.first {
                for i in 0..ROWS {
                    for v in 0..VECTORS {
                        acc[i][v] = simd.load_ptr(self.c.add(i * self.c_stride + v * S::LANES));
                    }
                }
            }
            let mut k = 0;
            while k + STEPS <= self.depth {
                for _ in 0..STEPS * width / (fetchers::<T, S>() * S::LINE) {
                    simd.prefetch(next);
                    next = next.wrapping_add(S::LINE);
                }
                for step in 0..STEPS {
                    add(simd, &mut acc, &a, (k + step) * from_step, b.add(step * width));
                }
                k += STEPS;
                b = b.add(STEPS * width);
            }
            while k < self.depth {
                add(simd, &mut acc, &a, k * from_step, b);
                k += 1;
                b = b.add(width);
            }
            for i in 0..ROWS {
                for v in 0..VECTORS {
                    simd.store_ptr(acc[i][v], self.c.add(i * self.c_stride + v * S::LANES));
                }
            }
        }
    }
}

/// Adds one addend to every register: a row of B times element `at` of each row of A.
///
/// # Safety
/// These elements and `VECTORS` registers of `b` must be readable.
#[inline(always)]
unsafe fn add<T: Element, S: Simd<T>, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    acc: &mut [[S::V; VECTORS]; ROWS],
    a: &[*const T; ROWS],
    at: usize,
    b: *const T,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut row = [simd.splat(T::ZERO); VECTORS];
        for v in 0..VECTORS {
            row[v] = simd.load_ptr(b.add(v * S::LANES));
        }
        for i in 0..ROWS {
            let x = simd.splat(*a[i].add(at));
            for v in 0..VECTORS {
                acc[i][v] = simd.mul_add(x, row[v], acc[i][v]);
            }
        }
    }
}
