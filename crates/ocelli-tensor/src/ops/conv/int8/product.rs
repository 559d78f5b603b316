//! The gathered product of bytes: as that of numbers ([`gemm::gather`](crate::ops::gemm::gather)), but for its depth, which
//! isn't cut: panels of bytes are short enough to come from the second-level cache in time, and so sums never leave the
//! registers.

use std::ops::Range;

use super::tile::{Block, Finish, tile};
use super::weights::Bytes;
use crate::memory::Scratch;
use crate::ops::gemm::grid::Pixels;
use crate::ops::gemm::{Cuts, Grid, Shared, cut, pointers};
use crate::simd::Simd;
use crate::simd::int8::{ByteKernel, Int8, dispatch_bytes};
use crate::threads;

/// Bytes of the left operand that a task walks again for every panel, meant to stay in the second-level cache.
const ROWS_BYTES: usize = 256 * 1024;
/// Tasks that a product is cut into if it is large enough, and the multiply-adds that make a task worth it.
const TASKS: usize = 32;
const TASK_MACS: usize = 1 << 20;

/// Writes the product of the gathered rows of `a` with `b`, one row for every grid pixel.
///
/// # Safety
/// The finish's pointers must be valid for all of the grid's pixels, and nobody else may access its output.
pub unsafe fn product(grid: &Grid, a: &Pixels<'_, u8>, b: &Bytes, finish: Finish) {
    let rows = grid.len();
    assert!(grid.taps.len() == b.taps && a.part.len() == b.k, "the weights have the taps");
    let [row_chunks, panel_groups] = pieces(rows, b);
    let finish = Shared(finish);
    threads::for_each(row_chunks * panel_groups, |task| {
        let rows = cut(rows, row_chunks, task % row_chunks);
        let (mut sources, mut targets) = (Scratch::new(grid.taps.len() * rows.len()), Scratch::new(rows.len()));
        let sources = pointers(&mut sources);
        grid.put_pointers(rows.start, rows.len(), a, sources);
        grid.put_targets(rows.start, 1, &mut targets);
        let panels = cut(b.panels(), panel_groups, task / row_chunks);
        let finish = finish.get();
        dispatch_bytes(b.isa, Task { sources, targets: &targets, b, panels, finish });
    });
}

/// How many pieces the rows and the panels are cut into: as [`gather`](crate::ops::gemm::gather::gather) does.
fn pieces(rows: usize, b: &Bytes) -> [usize; 2] {
    let (a_bytes, depth) = (rows * b.k, b.taps * b.k);
    let wanted = (rows * depth * b.columns / TASK_MACS).clamp(1, TASKS);
    let (mut row_chunks, mut panel_groups) = (a_bytes.div_ceil(ROWS_BYTES).max(1), 1);
    while row_chunks * panel_groups < wanted {
        if a_bytes / row_chunks < depth * b.columns / panel_groups && panel_groups * 2 <= b.panels() {
            panel_groups *= 2;
        } else if row_chunks * 32 <= rows {
            row_chunks *= 2;
        } else {
            break;
        }
    }
    [row_chunks, panel_groups]
}

/// Some rows times some panels, whose caller has made the promise of [`product`].
struct Task<'a> {
    sources: &'a [*const u8],
    targets: &'a [usize],
    b: &'a Bytes,
    panels: Range<usize>,
    finish: Finish,
}

impl ByteKernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Int8>(self, simd: S) {
        let (rows, lanes) = (self.targets.len(), S::Floats::LANES);
        let tiles = rows.div_ceil(S::TILE_ROWS);
        for panel in self.panels {
            let column = panel * self.b.width;
            let live = self.b.width.min(self.finish.out.columns() - column);
            for tile in Cuts::new(rows, tiles) {
                let block = Block {
                    sources: self.sources[tile.start..].as_ptr(),
                    stride: rows,
                    taps: self.b.taps,
                    k: self.b.k,
                    weights: self.b.panel(panel).as_ptr(),
                    targets: self.targets[tile.clone()].as_ptr(),
                    column,
                    finish: &self.finish,
                };
                // SAFETY: `pointers` made the tables from slices, for every row and tap; the panel has the weights of `taps · k`
                // rows; tasks have disjoint rows or panels; the rest is the promise made to `product`.
                unsafe { run_tile(simd, tile.len(), live.div_ceil(lanes), &block) };
            }
        }
    }
}

/// Calls [`tile`] for run-time numbers of rows and registers; larger variants than the token has vanish at compile time.
///
/// # Safety
/// That of [`tile`].
#[inline(always)]
unsafe fn run_tile<S: Int8>(simd: S, rows: usize, vectors: usize, block: &Block<'_>) {
    macro_rules! variants {
        ($($n:literal)*) => {
            match rows {
                // SAFETY: the caller's promise.
                $($n if $n <= S::TILE_ROWS => unsafe {
                    if vectors == 1 {
                        tile::<S, $n, 1>(simd, block)
                    } else if S::TILE_VECTORS > 1 {
                        tile::<S, $n, 2>(simd, block)
                    }
                })*
                rows => unreachable!("a tile of {rows} rows"),
            }
        };
    }
    variants!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
}
