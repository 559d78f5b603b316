//! The product: a panel's runs are put together in registers, and multiplied there.

// Registers are named by their place in the tile.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use super::Compact;
use crate::ops::gemm::gather::Epilogue;
use crate::ops::gemm::tile::{load, store};
use crate::ops::gemm::{Cuts, Shared, cut};
use crate::simd::compact::{REGISTERS, run_bytes};
use crate::simd::{Kernel, Simd};
use crate::{Element, threads};

/// The bytes that make a task worth it, and tasks for each thread if there are enough.
const TASK_BYTES: usize = 128 * 1024;
const TASKS: usize = 4;
/// Bytes of a panel that all rows are multiplied with before the next, meant to stay in the second-level cache.
const BLOCK_BYTES: usize = 128 * 1024;
/// How far ahead of what is read memory is asked for.
const AHEAD_BYTES: usize = 16 * 1024;

/// y `[rows, w.columns]` = x · w and what follows; `x` is `[rows, k]`.
pub(crate) fn product<T: Element>(x: &[T], w: &Compact, y: &mut [T], epilogue: Epilogue<'_, T>) {
    assert_eq!(y.len() / w.columns * w.k, x.len(), "the rows have an element for each row of the matrix");
    let rows = y.len() / w.columns;
    assert_eq!(epilogue.slice_of(w.columns, rows, y.len()).columns, w.columns, "slices are others' business");
    assert!(!epilogue.onto, "sums are others' business too");
    let (panels, y) = (w.panels(), Shared(y.as_mut_ptr()));
    let tasks = (w.bytes.len() / TASK_BYTES).clamp(1, TASKS * threads::count()).min(panels);
    threads::for_each(tasks, |task| {
        T::compact_product(Panels { x, w, rows, panels: cut(panels, tasks, task), y: y.get(), epilogue: &epilogue });
    });
}

/// All rows times some panels.
pub struct Panels<'a, T: Element> {
    x: &'a [T],
    w: &'a Compact,
    rows: usize,
    panels: Range<usize>,
    y: *mut T,
    epilogue: &'a Epilogue<'a, T>,
}

impl<T: Element> Panels<'_, T> {
    /// Whose panels they are.
    pub(crate) fn isa(&self) -> crate::simd::Isa {
        self.w.isa
    }
}

impl<T: Element> Kernel<T> for Panels<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Compact { k, columns, width, run, .. } = *self.w;
        assert_eq!([width, run], [REGISTERS * S::LANES, run_bytes(S::LANES)], "the panels are the token's");
        let block = (BLOCK_BYTES / run).max(1);
        // Beside the sums there are the numbers of a run, and what they are put together from.
        let tiles = self.rows.div_ceil((S::TILE_ROWS / 3).max(1));
        for panel in self.panels.clone() {
            let first = panel * width;
            let live = width.min(columns - first);
            for from in (0..k).step_by(block) {
                let runs = &self.w.panel(panel)[from * run..];
                let count = block.min(k - from);
                for tile in Cuts::new(self.rows, tiles) {
                    let x = self.x[tile.start * k + from..].as_ptr();
                    // SAFETY: `product` checked the sizes of x and y, in which the tile lies; nobody else writes these columns.
                    unsafe {
                        let y = self.y.add(tile.start * columns + first);
                        let sums = Sums { x, k, runs, count, y, columns, live, first: from == 0 };
                        match tile.len() {
                            1 => sums.add::<S, 1>(simd, &self.w.tops),
                            2 if S::TILE_ROWS >= 6 => sums.add::<S, 2>(simd, &self.w.tops),
                            3 if S::TILE_ROWS >= 9 => sums.add::<S, 3>(simd, &self.w.tops),
                            4 if S::TILE_ROWS >= 12 => sums.add::<S, 4>(simd, &self.w.tops),
                            rows => unreachable!("a tile of {rows} rows"),
                        }
                    }
                }
            }
            for row in 0..self.rows {
                // SAFETY: as above.
                let y = unsafe { std::slice::from_raw_parts_mut(self.y.add(row * columns + first), live) };
                for exception in &self.w.exceptions[panel] {
                    y[exception.column] += self.x[row * k + exception.row] * T::from_f64(f64::from(exception.value));
                }
                self.finish(simd, y, row * columns, first);
            }
        }
    }
}

impl<T: Element> Panels<'_, T> {
    /// What follows the product, for the columns from `first` on of the row that begins at an element of the output.
    #[inline(always)]
    fn finish<S: Simd<T>>(&self, simd: S, y: &mut [T], row: usize, first: usize) {
        let &Epilogue { bias, residual, clamp, curve, .. } = self.epilogue;
        for (i, y) in y.chunks_mut(S::LANES).enumerate() {
            let column = first + i * S::LANES;
            let mut v = simd.load_partial(y);
            if let Some(bias) = bias {
                v = simd.add(v, simd.load_partial(&bias[column..]));
            }
            if let Some(residual) = residual {
                v = simd.add(v, simd.load_partial(&residual[row + column..]));
            }
            if let Some([low, high]) = clamp {
                v = simd.min(simd.splat(high), simd.max(simd.splat(low), v));
            }
            if let Some(curve) = curve {
                v = curve.activate(simd, v);
            }
            simd.store_partial(v, y);
        }
    }
}

/// Some rows times some runs of a panel.
struct Sums<'a, T> {
    /// Rows `k` apart.
    x: *const T,
    k: usize,
    runs: &'a [u8],
    count: usize,
    /// Rows of `columns`, of which `live` are the panel's.
    y: *mut T,
    columns: usize,
    live: usize,
    /// Whether the sums start at zero rather than at what y holds.
    first: bool,
}

impl<T: Element> Sums<'_, T> {
    /// y += x · w, for `ROWS` rows.
    ///
    /// # Safety
    /// The rows of x must be readable for `count` elements, and those of y for the `live` columns, which nobody else may
    /// access; the runs must be the token's.
    #[inline(always)]
    unsafe fn add<S: Simd<T>, const ROWS: usize>(&self, simd: S, tops: &crate::simd::compact::Tops) {
        let bytes = run_bytes(S::LANES);
        assert!(self.runs.len() >= self.count * bytes);
        let lanes = |v: usize| S::LANES.min(self.live.saturating_sub(v * S::LANES));
        let mut sums = [[simd.splat(T::ZERO); REGISTERS]; ROWS];
        // SAFETY: the caller's promise, and the assertion.
        unsafe {
            if !self.first {
                for i in 0..ROWS {
                    for v in 0..REGISTERS {
                        sums[i][v] = load(simd, self.y.wrapping_add(i * self.columns + v * S::LANES), lanes(v));
                    }
                }
            }
            let mut run = self.runs.as_ptr();
            for k in 0..self.count {
                for line in (0..bytes).step_by(64) {
                    simd.prefetch(run.wrapping_add(AHEAD_BYTES + line).cast());
                }
                let w = simd.expand(run, tops);
                for i in 0..ROWS {
                    let x = simd.splat(*self.x.add(i * self.k + k));
                    for v in 0..REGISTERS {
                        sums[i][v] = simd.mul_add(x, w[v], sums[i][v]);
                    }
                }
                run = run.add(bytes);
            }
            for i in 0..ROWS {
                for v in 0..REGISTERS {
                    store(simd, sums[i][v], self.y.wrapping_add(i * self.columns + v * S::LANES), lanes(v));
                }
            }
        }
    }
}
