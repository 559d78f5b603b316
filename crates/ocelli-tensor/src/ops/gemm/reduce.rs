//! The product over pixels, `C[t, m, n] = Σₚ A[p, m] · B[source(p, t) + n]`: the loops around its tile.
//!
//! For a convolution's weight gradient `A` is the output's gradient and `B` the input, read where it lies through
//! pointers, so that there is no im2col buffer. Large products of few results cut the pixels into parts whose sums
//! are added in order afterwards; others cut the results. Either depends on the shape alone.

use super::gather::{Rows, cut};
use super::tile::{self, Strip, with_tile};
use super::{Grid, Shared, grid};
use crate::simd::{Kernel, Simd};
use crate::{Element, Tensor, threads};

/// Pixels that a task walks again for every tile, whose rows are meant to stay in the second-level cache.
pub(crate) const PIXEL_BLOCK: usize = 256;
/// Tasks that a product is cut into if it is large enough, and the multiply-adds that make a task worth it.
const TASKS: usize = 32;
const TASK_MACS: usize = 1 << 19;
/// Bytes that all parts' sums may take together.
const PARTS_BYTES: usize = 4 << 20;

/// The sums `[parts, groups, taps, m, n]`, whose parts are yet to be added up.
pub(crate) struct Sums<T: Element> {
    sums: Tensor<T>,
    parts: usize,
    groups: usize,
    taps: usize,
    m: usize,
    n: usize,
}

/// Multiplies rows of `a` (one a grid pixel; `a.k` columns in each of `groups`) with the gathered rows of `b`.
pub(crate) fn reduce<T: Element>(grid: &Grid, a: Rows<'_, T>, b: Rows<'_, T>, groups: usize) -> Sums<T> {
    let (pixels, taps, m, n) = (grid.len(), grid.taps.len(), a.k, b.k);
    let cells = groups * taps * m * n;
    if pixels == 0 || cells == 0 {
        return Sums { sums: Tensor::zeros([1, groups, taps, m, n]), parts: 1, groups, taps, m, n };
    }
    assert_eq!(a.data.len(), pixels * a.columns, "A has a row a grid pixel");

    let wanted = (pixels * cells / TASK_MACS).clamp(1, TASKS).div_ceil(groups);
    let (mut parts, mut slices) = (1, 1);
    while parts * slices < wanted {
        if 2 * parts * cells * size_of::<T>() <= PARTS_BYTES && pixels >= 2 * parts * PIXEL_BLOCK {
            parts *= 2;
        } else if slices * 2 * 16 <= m {
            slices *= 2;
        } else if pixels >= 4 * parts * PIXEL_BLOCK {
            parts *= 2;
        } else {
            break;
        }
    }
    let mut sums = Tensor::<T>::scratch([parts, groups, taps, m, n]);
    let c = Shared(sums.data_mut().as_mut_ptr());
    let zeros = vec![T::ZERO; n];
    threads::for_each(parts * groups * slices, |task| {
        let (task, slice) = (task / slices, task % slices);
        let (part, group) = (task / groups, task % groups);
        let task = Task {
            grid,
            a,
            b,
            // SAFETY: the part's and group's cells lie within `sums`.
            c: unsafe { c.get().add((part * groups + group) * taps * m * n) },
            zeros: &zeros,
            group,
            pixels: cut(pixels, parts, part),
            columns: cut(m, slices, slice),
        };
        task.run();
    });
    Sums { sums, parts, groups, taps, m, n }
}

struct Task<'a, T> {
    grid: &'a Grid,
    a: Rows<'a, T>,
    b: Rows<'a, T>,
    c: *mut T,
    zeros: &'a [T],
    group: usize,
    pixels: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
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
                pixel => self.b.data[pixel * self.b.columns + self.group * n..][..n].as_ptr(),
            }));
            for (tap, b) in rows.chunks_exact(count).enumerate() {
                // SAFETY: A has a row of all groups' columns for every pixel (checked in `reduce`), the rows' pointers
                // were made from slices of n elements, and each task has its own part, group or rows of C.
                unsafe {
                    let strips = Strips {
                        a: self.a.data[start * self.a.columns + self.group * m + self.columns.start..].as_ptr(),
                        a_stride: self.a.columns,
                        b,
                        m: self.columns.len(),
                        n,
                        c: self.c.add((tap * m + self.columns.start) * n),
                        first: start == self.pixels.start,
                    };
                    strips.run();
                }
            }
        }
    }
}

/// `C[m, n] = Σₚ A[p, m] · B[p, n]` over at most [`PIXEL_BLOCK`] rows, on one thread.
pub struct Strips<'a, T> {
    /// Rows of `m` elements, `a_stride` apart, as many as `b` has.
    pub a: *const T,
    pub a_stride: usize,
    /// Pointers to rows of `n` elements.
    pub b: &'a [*const T],
    pub m: usize,
    pub n: usize,
    pub c: *mut T,
    /// Whether C is overwritten rather than added to.
    pub first: bool,
}

impl<T: Element> Strips<'_, T> {
    /// # Safety
    /// The pointers must be valid as described at the fields, and nobody else may access the `m × n` elements of C.
    pub unsafe fn run(self) {
        // SAFETY: passed on.
        unsafe { T::reduce(self) }
    }
}

/// [`Strips`] whose caller has made the promise of [`Strips::run`].
pub(crate) struct Tiles<'a, T>(pub Strips<'a, T>);

impl<T: Element> Kernel<T> for Tiles<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Strips { a, a_stride, b, m, n, c, first } = self.0;
        let tiles = m.div_ceil(S::TILE_ROWS);
        let mut column = 0;
        while column < n {
            // Whole registers first, as many as a tile has; then what is left of one.
            let vectors = ((n - column) / S::LANES).min(S::TILE_VECTORS);
            let live = if vectors > 0 { vectors * S::LANES } else { n - column };
            for t in 0..tiles {
                let tile = cut(m, tiles, t);
                // SAFETY: the promise made to `Strips::run`; the tile is chosen by `live`.
                unsafe {
                    let (a, c) = (a.add(tile.start), c.add(tile.start * n + column));
                    let b = b.as_ptr();
                    let strip = Strip { a, a_stride, b, count: self.0.b.len(), column, live, c, c_stride: n, first };
                    if vectors > 0 {
                        with_tile!(S, tile.len(), vectors, |R, V| tile::reduce::<T, S, R, V, false>(simd, &strip));
                    } else {
                        with_tile!(S, tile.len(), 1, |R, V| tile::reduce::<T, S, R, V, true>(simd, &strip));
                    }
                }
            }
            column += live;
        }
    }
}

impl<T: Element> Sums<T> {
    /// The totals as `[groups · taps · m, n]`.
    pub fn rows(&self, out: &mut [T]) {
        assert_eq!(out.len(), self.groups * self.taps * self.m * self.n);
        let size = out.len();
        let chunk = threads::rows_per_chunk(1);
        threads::for_each_chunk(out, chunk, |i, out| {
            out.copy_from_slice(&self.sums.data()[i * chunk..][..out.len()]);
            for part in 1..self.parts {
                let part = &self.sums.data()[part * size + i * chunk..];
                out.iter_mut().zip(part).for_each(|(x, &y)| *x += y);
            }
        });
    }

    /// The totals transposed, as `[taps, n, groups · m]`: a convolution's weights.
    pub fn columns(&self, out: &mut [T]) {
        const BLOCK: usize = 16;
        let Sums { parts, groups, taps, m, n, .. } = *self;
        let columns = groups * m;
        assert_eq!(out.len(), taps * n * columns);
        // Blocks must not straddle taps, so they divide n where it is large and are whole taps where it is small.
        let block = if n % BLOCK == 0 { BLOCK } else { n };
        threads::for_each_chunk(out, block * columns, |i, out| {
            let (tap, first) = (i * block / n, i * block % n);
            for column in 0..columns {
                let (group, row) = (column / m, column % m);
                for part in 0..parts {
                    let at = (((part * groups + group) * taps + tap) * m + row) * n + first;
                    let run = &self.sums.data()[at..][..block];
                    if part == 0 {
                        run.iter().enumerate().for_each(|(k, &x)| out[k * columns + column] = x);
                    } else {
                        run.iter().enumerate().for_each(|(k, &x)| out[k * columns + column] += x);
                    }
                }
            }
        });
    }
}
