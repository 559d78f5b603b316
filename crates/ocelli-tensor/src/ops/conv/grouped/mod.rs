//! Convolutions of narrow groups, depthwise ones among them: lanes are output channels, tiles are pixels of a row.
//!
//! ```text
//! task:    a band of rows × a block of registers    enough of them for every thread, cut by shape alone
//!   row:     one row of the output, of all the block's registers or, if no cache holds the images, of some at a time
//!     tile:    up to 7, 8 or 14 pixels of it           window columns outside of the image are skipped
//!       register:  16 channels, say, of all the tile's pixels; their weights lie in one run
//!         each kernel row, each channel of a group: its taps' weights in registers, and every input pixel under the
//!         tile read once, for all the taps that it serves
//! ```
//!
//! A depthwise lane reads its own channel. Where groups are narrower than a register, several share one, and the lanes
//! of each group read its channels in turn, by a permutation of the pixel's register; so no part of a register is
//! wasted, and nothing is copied. Groups of at least a register read one channel for all lanes.

mod ahead;
mod channels;
mod filters;
mod read;
pub(crate) mod row;
pub(crate) mod sums;
mod windows;

use channels::Channels;
pub use filters::Filters;
use filters::{Direction, Taps};
pub use row::Row;
pub use sums::SumRow;
pub(super) use windows::Windows;

use super::Geometry;
use crate::ops::gemm::gather::Epilogue;
use crate::ops::gemm::{Grid, Shared, cut};
use crate::simd::{self, Kernel, Simd};
use crate::{Element, Tensor, threads};

/// Tasks that a pass is cut into if it is large enough, and the multiply-adds that make a task worth it.
const TASKS: usize = 64;
const TASK_MACS: usize = 1 << 17;
/// Bytes of weights that a task reads again for every tile, and of sums that it reads and writes, meant to stay in the nearer
/// caches. More channels to a task would be read in longer runs; more bands of sums take longer to be added up.
const FILTER_BYTES: usize = 32 * 1024;
const SUM_BYTES: usize = 20 * 1024;
/// Channels of a group up to which the kernels here are faster than the products of [`gemm`](crate::ops::gemm).
const NARROW: usize = 64;

/// The lanes of the current instruction set's registers.
fn lanes<T: Element>() -> usize {
    struct Lanes;
    impl<T: Element> Kernel<T> for Lanes {
        type Output = usize;
        #[inline(always)]
        fn run<S: Simd<T>>(self, _: S) -> usize {
            S::LANES
        }
    }
    simd::dispatch::<T, _>(Lanes)
}

/// The pixel of a tile that reads column `j` of the tile's input with tap `k`.
#[inline(always)]
const fn pixel_of(j: usize, k: usize, step: usize) -> Option<usize> {
    if j >= k && (j - k).is_multiple_of(step) { Some((j - k) / step) } else { None }
}

/// The share of a row's output in their mean.
pub(super) fn share<T: Element>(outputs: usize) -> T {
    T::ONE / T::from_f64(outputs as f64)
}

/// Whether the groups are narrow enough for this module, and there are any.
fn is_narrow(g: &Geometry) -> bool {
    g.groups > 1 && g.group().into_iter().all(|channels| (1..=NARROW).contains(&channels))
}

/// The weights packed for [`forward`], if the kernels of this module serve the convolution.
pub(super) fn pack<T: Element>(g: &Geometry, w: &[T]) -> Option<Filters<T>> {
    if !is_narrow(g) {
        return None;
    }
    Filters::new(w, Taps::new(&g.forward_grid(g.taps())), g.groups, g.group(), Direction::Forward)
}

/// Writes `epilogue(conv2d(x, w))`, whose grid is given, to `y`, and if they are wanted, the means over each row of its pixels,
/// `[N, Ho, Cout]`.
pub(super) fn forward<T: Element>(
    grid: &Grid,
    x: &[T],
    filters: &Filters<T>,
    (y, means): (&mut [T], Option<&mut [T]>),
    epilogue: Epilogue<'_, T>,
) {
    gather(&[Pass { grid, filters }], x, (y, means), epilogue);
}

/// Writes the input's gradient to `dx`, if the kernels of this module serve the convolution; else returns `false`.
pub(super) fn backward_input<T: Element>(g: &Geometry, dy: &[T], w: &[T], dx: &mut [T]) -> bool {
    if !is_narrow(g) {
        return false;
    }
    let grids = Grid::backward(g.batch, g.input, g.output, &g.window);
    let pack = |grid: &Grid| Filters::new(w, Taps::new(grid), g.groups, g.group(), Direction::Backward);
    let Some(filters) = grids.iter().map(pack).collect::<Option<Vec<_>>>() else { return false };
    let passes: Vec<_> = grids.iter().zip(&filters).map(|(grid, filters)| Pass { grid, filters }).collect();
    gather(&passes, dy, (dx, None), Epilogue::NONE);
    true
}

/// A grid and the weights of its taps.
struct Pass<'a, T: Element> {
    grid: &'a Grid,
    filters: &'a Filters<T>,
}

/// How a pass is cut into tasks.
struct Pieces {
    bands: usize,
    blocks: usize,
}

impl Pieces {
    /// For `rows` rows, `macs` multiply-adds and `vectors` registers, each with so many bytes, of which a task should have no
    /// more than `most`.
    fn new(rows: usize, macs: usize, vectors: usize, (bytes, most): (usize, usize)) -> Self {
        let blocks = (vectors * bytes).div_ceil(most).clamp(1, vectors.max(1));
        let bands = (macs / TASK_MACS).clamp(1, TASKS).div_ceil(blocks).min(rows).max(1);
        Pieces { bands, blocks }
    }
}

/// Writes what the passes' grids say to their targets in `y`, all of which they cover. The means are those of a single pass.
fn gather<T: Element>(
    passes: &[Pass<'_, T>],
    x: &[T],
    (y, mut means): (&mut [T], Option<&mut [T]>),
    epilogue: Epilogue<'_, T>,
) {
    let Some(&Pass { grid: &Grid { batch, target: [height, width], .. }, filters }) = passes.first() else { return };
    let (rows, channels) = (batch * height, &filters.channels);
    assert_eq!(y.len(), rows * width * channels.outputs, "the output has the targets");
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == channels.outputs));
    assert!(epilogue.residual.is_none_or(|residual| residual.len() == y.len()));
    let fits = |means: &[T]| passes.len() == 1 && means.len() == rows * channels.outputs && channels.are_apart();
    assert!(means.as_deref().is_none_or(fits), "each mean is one register's");

    let macs =
        |pass: &Pass<'_, T>| pass.grid.len() * pass.filters.taps.indices.len() * channels.depth * channels.outputs;
    let filter = passes.iter().map(|pass| pass.filters.size()).sum::<usize>() * size_of::<T>();
    let pieces = Pieces::new(rows, passes.iter().map(macs).sum(), channels.vectors.len(), (filter, FILTER_BYTES));
    let share = share(width);
    let out = Shared(y.as_mut_ptr());
    let means = means.as_mut().map(|means| Shared(means.as_mut_ptr()));
    threads::for_each(pieces.bands * pieces.blocks, |task| {
        let (band, block) = (task / pieces.blocks, task % pieces.blocks);
        let vectors = channels.block(pieces.blocks, block);
        for row in cut(rows, pieces.bands, band) {
            let (n, target_y) = (row / height, row % height);
            for &Pass { grid, filters } in passes {
                let Some(y) = target_y.checked_sub(grid.target_offset[0]) else { continue };
                if !y.is_multiple_of(grid.target_step[0]) {
                    continue;
                }
                let at = (row * width + grid.target_offset[1]) * channels.outputs;
                // Passes that share a row each ask for as many pixels of the row a step further down as they write: those behind
                // the pixels of the passes before.
                let (offset, step) = (grid.target_offset[1], grid.target_step[1]);
                let part = offset * (width / step) + offset.min(width % step);
                let below = ((row + grid.target_step[0]) * width + part) * channels.outputs;
                let means_at = row * channels.outputs;
                let row = Row {
                    windows: Windows::new(grid, &filters.taps, x, channels.inputs, [n, y / grid.target_step[0]]),
                    filters,
                    vectors: vectors.clone(),
                    out: out.get().wrapping_add(at),
                    stride: grid.target_step[1] * channels.outputs,
                    below: out.get().wrapping_add(below),
                    fetches: x.len() >= windows::LARGE,
                    bias: epilogue.bias.map_or(std::ptr::null(), <[T]>::as_ptr),
                    residual: epilogue.residual.map_or(std::ptr::null(), |residual| residual[at..].as_ptr()),
                    clamp: epilogue.clamp,
                    curve: epilogue.curve,
                    means: means.map_or(std::ptr::null_mut(), |means| means.get().wrapping_add(means_at)),
                    share,
                };
                // SAFETY: the windows lie in x (checked where they are made), whose channels, like the outputs', are
                // those that the filters were packed for; outputs and means are checked above, and no two tasks have both
                // rows and channels in common.
                unsafe { T::grouped_row(row) };
            }
        }
    });
}

/// Writes the weights' gradient to `dw`, if the kernels of this module serve the convolution; else returns `false`.
pub(super) fn backward_weight<T: Element>(g: &Geometry, x: &[T], dy: &[T], dw: &mut [T]) -> bool {
    let [cin, cout] = g.group();
    if !is_narrow(g) {
        return false;
    }
    let Some(channels) = Channels::new(g.groups, cin, cout, lanes::<T>()) else { return false };
    let grid = g.forward_grid(g.taps());
    let taps = Taps::new(&grid);
    let (rows, size) = (g.batch * g.output[0], taps.indices.len() * cin * channels.lanes);
    assert_eq!(dy.len(), rows * g.output[1] * g.out_channels, "a gradient for every output");
    let vectors = channels.vectors.len();
    let pieces = Pieces::new(rows, rows * g.output[1] * dw.len(), vectors, (size * size_of::<T>(), SUM_BYTES));
    let mut sums = Tensor::<T>::scratch([pieces.bands, vectors, size]);
    let all = Shared(sums.data_mut().as_mut_ptr());
    threads::for_each(pieces.bands * pieces.blocks, |task| {
        let (band, block) = (task / pieces.blocks, task % pieces.blocks);
        let vectors = channels.block(pieces.blocks, block);
        let sums = all.get().wrapping_add((band * channels.vectors.len() + vectors.start) * size);
        // SAFETY: a task's sums are those of its band and its registers, which no other task has.
        unsafe { std::slice::from_raw_parts_mut(sums, vectors.len() * size) }.fill(T::ZERO);
        for row in cut(rows, pieces.bands, band) {
            let row = SumRow {
                windows: Windows::new(&grid, &taps, x, g.in_channels, [row / g.output[0], row % g.output[0]]),
                channels: &channels,
                vectors: vectors.clone(),
                dy: dy[row * g.output[1] * g.out_channels..].as_ptr(),
                sums,
            };
            // SAFETY: the windows lie in x (checked where they are made) and the row in dy (checked above); the sums are
            // this task's own, as above.
            unsafe { T::grouped_sums(row) };
        }
    });
    filters::unpack(sums.data(), &taps, &channels, dw);
    true
}
