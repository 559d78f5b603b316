//! M, transformed back and written: the end of a task.

use std::ops::Range;

use super::super::planes::View;
use super::super::transform::{Map, Output};
use super::{Epilogue, Pass};
use crate::Element;
use crate::simd::Simd;

/// Transforms a row of m back and writes the tile's pixels of y at some channels, which are m's first ones.
///
/// # Safety
/// Nobody else may access these channels of the pixels, and m's row must be complete.
#[inline(always)]
pub(super) unsafe fn write<T: Element, S: Simd<T>, const IN: usize, const OUT: usize>(
    simd: S,
    pass: &Pass<'_, T>,
    tile: usize,
    (m, row): (View<T>, usize),
    channels: Range<usize>,
) where
    Output: Map<IN, OUT>,
{
    let (n, [y, x]) = pass.tiles.at(tile);
    let [height, width] = pass.tiles.output;
    let columns = pass.slice.columns;
    let corner = ((n * height + y) * width + x) * columns;
    let window =
        Window { stride: m.stride, size: [OUT.min(height - y), OUT.min(width - x)], pitch: [width * columns, columns] };
    for channel in channels.clone().step_by(S::LANES) {
        let (from, n) = (m.at(0, row, channel - channels.start), channels.end - channel);
        // SAFETY: the caller's promise; these channels exist, and m has whole registers.
        unsafe {
            if n >= S::LANES {
                window.write::<T, S, IN, OUT, false>(simd, pass, from, (channel, S::LANES), corner + channel);
            } else {
                window.write::<T, S, IN, OUT, true>(simd, pass, from, (channel, n), corner + channel);
            }
        }
    }
}

/// A tile of M and of the output.
struct Window {
    /// Elements from one frequency to the next.
    stride: usize,
    /// Rows and columns of the tile that lie within the output.
    size: [usize; 2],
    /// Elements from an output row, and an output pixel, to the next.
    pitch: [usize; 2],
}

impl Window {
    /// Writes the tile at `n` channels (`PARTIAL`: fewer than a register has) from `channel` on, whose first element in
    /// the output is `at`; `from` is a register's place at frequency 0.
    ///
    /// # Safety
    /// These channels must exist in m and the output, and be the caller's.
    #[inline(always)]
    unsafe fn write<T: Element, S: Simd<T>, const IN: usize, const OUT: usize, const PARTIAL: bool>(
        &self,
        simd: S,
        pass: &Pass<'_, T>,
        mut from: *const T,
        (channel, n): (usize, usize),
        at: usize,
    ) where
        Output: Map<IN, OUT>,
    {
        let zero = simd.splat(T::ZERO);
        let mut half = [[zero; IN]; OUT];
        let Epilogue { bias, residual, clamp, curve, onto, .. } = pass.epilogue;
        // Without a clamp: what leaves every number as it is.
        let [low, high] = clamp.unwrap_or([T::NEG_INFINITY, -T::NEG_INFINITY]);
        let (low, high) = (simd.splat(low), simd.splat(high));
        // SAFETY: the caller's promise; bias and residual are as long as the output's channels and elements (checked in
        // `forward`).
        unsafe {
            for x in 0..IN {
                let mut column = [zero; IN];
                for y in 0..IN {
                    column[y] = simd.load_ptr(from.add(y * IN * self.stride));
                }
                from = from.wrapping_add(self.stride);
                let column = Output::apply(simd, column);
                for y in 0..OUT {
                    half[y][x] = column[y];
                }
            }
            let bias = match bias {
                Some(bias) => load::<T, S, PARTIAL>(simd, bias.as_ptr().add(channel), n),
                None => zero,
            };
            for y in 0..OUT {
                if y >= self.size[0] {
                    break;
                }
                let at = at + y * self.pitch[0];
                let values = Output::apply(simd, half[y]);
                for x in 0..OUT {
                    let at = at + x * self.pitch[1];
                    if channel.is_multiple_of(S::LINE) {
                        // The tile to the right writes here next.
                        simd.prefetch(pass.y.wrapping_add(at + OUT * self.pitch[1]));
                    }
                    if x >= self.size[1] {
                        continue;
                    }
                    let mut value = simd.add(values[x], bias);
                    if let Some(residual) = residual {
                        value = simd.add(value, load::<T, S, PARTIAL>(simd, residual.as_ptr().add(at), n));
                    }
                    if onto {
                        value = simd.add(value, load::<T, S, PARTIAL>(simd, pass.y.add(at), n));
                    }
                    value = simd.min(high, simd.max(low, value));
                    if let Some(curve) = curve {
                        value = curve.activate(simd, value);
                    }
                    if PARTIAL {
                        simd.store_partial_ptr(value, pass.y.add(at), n);
                    } else {
                        simd.store_ptr(value, pass.y.add(at));
                    }
                }
            }
        }
    }
}

/// # Safety
/// `n` elements must be readable at `from`, a whole register unless `PARTIAL`.
#[inline(always)]
unsafe fn load<T: Element, S: Simd<T>, const PARTIAL: bool>(simd: S, from: *const T, n: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { if PARTIAL { simd.load_partial_ptr(from, n) } else { simd.load_ptr(from) } }
}
