//! Depthwise convolution: one channel a group, so that lanes are channels and taps are multiply-adds.

use crate::ops::gemm::Grid;
use crate::ops::gemm::gather::Epilogue;
use crate::simd::{self, Kernel, Simd};
use crate::{Element, Tensor, threads};

/// Registers of channels that are summed at once, enough to hide the latency of a multiply-add.
const REGISTERS: usize = 4;
/// Multiply-adds that make a task worth it.
const TASK_MACS: usize = 1 << 17;
/// Parts that the pixels of a weight gradient are cut into at most.
const PARTS: usize = 16;

/// Writes `Σₜ x[source(r, t)] · w[t]` to the grid's targets in `y` `[.., C]`, for `w` `[taps, C]` by tap index; then
/// the epilogue. Serves the forward pass and, with the backward grids, the input's gradient.
pub(super) fn gather<T: Element>(grid: &Grid, x: &[T], w: &[T], y: &mut Tensor<T>, epilogue: Epilogue<'_, T>) {
    let channels = y.shape().columns();
    let row = grid.target[1] * channels;
    let rows = (TASK_MACS / (grid.taps.len() * row).max(1)).max(1);
    threads::for_each_chunk(y.data_mut(), (rows * row).max(1), |i, y| {
        simd::dispatch(Gather { grid, x, w, y, channels, first: i * rows, epilogue });
    });
}

/// Some of the target's rows; those between a parity class's are left as they are.
struct Gather<'a, T> {
    grid: &'a Grid,
    x: &'a [T],
    w: &'a [T],
    y: &'a mut [T],
    channels: usize,
    /// The first target row, counted over all images.
    first: usize,
    epilogue: Epilogue<'a, T>,
}

impl<T: Element> Kernel<T> for Gather<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(mut self, simd: S) {
        let (grid, channels) = (self.grid, self.channels);
        let row = grid.target[1] * channels;
        for r in 0..self.y.len() / row.max(1) {
            let (n, target_y) = ((self.first + r) / grid.target[0], (self.first + r) % grid.target[0]);
            let Some(from_first) = target_y.checked_sub(grid.target_offset[0]) else { continue };
            if !from_first.is_multiple_of(grid.target_step[0]) {
                continue;
            }
            let grid_y = from_first / grid.target_step[0];
            for grid_x in 0..grid.size[1] {
                let target_x = grid_x * grid.target_step[1] + grid.target_offset[1];
                let at = r * row + target_x * channels;
                let mut c = 0;
                while c + REGISTERS * S::LANES <= channels {
                    self.pixel::<S, REGISTERS>(simd, n, [grid_y, grid_x], at + c, c, REGISTERS * S::LANES);
                    c += REGISTERS * S::LANES;
                }
                while c < channels {
                    let live = S::LANES.min(channels - c);
                    self.pixel::<S, 1>(simd, n, [grid_y, grid_x], at + c, c, live);
                    c += live;
                }
            }
        }
    }
}

impl<T: Element> Gather<'_, T> {
    /// `live` channels from `c` on, in `R` registers, of one pixel, written at `at`.
    #[inline(always)]
    fn pixel<S: Simd<T>, const R: usize>(
        &mut self,
        simd: S,
        n: usize,
        [y, x]: [usize; 2],
        at: usize,
        c: usize,
        live: usize,
    ) {
        let grid = self.grid;
        let mut acc = [simd.splat(T::ZERO); R];
        for tap in &grid.taps {
            let sy = ((y * grid.step[0]) as isize + tap.offset[0]) as usize;
            let sx = ((x * grid.step[1]) as isize + tap.offset[1]) as usize;
            if sy >= grid.source[0] || sx >= grid.source[1] {
                continue;
            }
            let source = ((n * grid.source[0] + sy) * grid.source[1] + sx) * self.channels + c;
            let (x, w) = (&self.x[source..][..live], &self.w[tap.index * self.channels + c..][..live]);
            for (v, acc) in acc.iter_mut().enumerate() {
                *acc = simd.mul_add(lanes(simd, x, v), lanes(simd, w, v), *acc);
            }
        }
        let Epilogue { bias, residual, clamp } = self.epilogue;
        if let Some(bias) = bias {
            for (v, acc) in acc.iter_mut().enumerate() {
                *acc = simd.add(*acc, lanes(simd, &bias[c..][..live], v));
            }
        }
        if let Some(residual) = residual {
            let start = self.first * grid.target[1] * self.channels + at;
            for (v, acc) in acc.iter_mut().enumerate() {
                *acc = simd.add(*acc, lanes(simd, &residual[start..][..live], v));
            }
        }
        if let Some([low, high]) = clamp {
            acc = acc.map(|x| simd.min(simd.splat(high), simd.max(simd.splat(low), x)));
        }
        for (v, acc) in acc.into_iter().enumerate() {
            let y = &mut self.y[at..][..live][v * S::LANES..];
            if y.len() >= S::LANES { simd.store(acc, y) } else { simd.store_partial(acc, y) }
        }
    }
}

/// Register `v` of a slice, whose last may be partial.
#[inline(always)]
fn lanes<T: Element, S: Simd<T>>(simd: S, slice: &[T], v: usize) -> S::V {
    let rest = &slice[v * S::LANES..];
    if rest.len() >= S::LANES { simd.load(rest) } else { simd.load_partial(rest) }
}

/// Writes `dw[t] = Σᵣ x[source(r, t)] · dy[r]`, `[taps, C]`.
pub(super) fn backward_weight<T: Element>(grid: &Grid, x: &[T], dy: &[T], dw: &mut [T]) {
    let parts = (grid.len() * dw.len() / TASK_MACS).clamp(1, PARTS);
    let sums = threads::map(parts, |part| {
        let mut sums = vec![T::ZERO; dw.len()];
        let pixels = grid.len() * part / parts..grid.len() * (part + 1) / parts;
        simd::dispatch(Accumulate { grid, x, dy, sums: &mut sums, pixels });
        sums
    });
    dw.fill(T::ZERO);
    for sums in sums {
        dw.iter_mut().zip(&sums).for_each(|(total, &sum)| *total += sum);
    }
}

struct Accumulate<'a, T> {
    grid: &'a Grid,
    x: &'a [T],
    dy: &'a [T],
    sums: &'a mut [T],
    pixels: std::ops::Range<usize>,
}

impl<T: Element> Kernel<T> for Accumulate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        const BLOCK: usize = 64;
        let channels = self.sums.len() / self.grid.taps.len().max(1);
        let mut sources = Vec::new();
        for start in self.pixels.clone().step_by(BLOCK) {
            let count = BLOCK.min(self.pixels.end - start);
            self.grid.sources(start, count, &mut sources);
            for (tap, sources) in sources.chunks_exact(count).enumerate() {
                for c in (0..channels).step_by(S::LANES) {
                    let live = S::LANES.min(channels - c);
                    let sum = &mut self.sums[tap * channels + c..][..live];
                    let mut acc = lanes(simd, sum, 0);
                    for (i, &source) in sources.iter().enumerate() {
                        if source == crate::ops::gemm::grid::OUTSIDE {
                            continue;
                        }
                        let x = lanes(simd, &self.x[source * channels + c..][..live], 0);
                        let dy = lanes(simd, &self.dy[(start + i) * channels + c..][..live], 0);
                        acc = simd.mul_add(x, dy, acc);
                    }
                    simd.store_partial(acc, sum);
                }
            }
        }
    }
}
