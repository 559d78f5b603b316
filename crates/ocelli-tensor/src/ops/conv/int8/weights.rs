//! Weights as signed bytes: one scale for each output channel, symmetric, and packed into panels.
//!
//! ```text
//!   panel:  columns 0..width         of every tap, and of every four of its rows:
//!           ┌ k=0..4 of column 0 ┬ k=0..4 of column 1 ┬ …      then k=4..8 …
//! ```
//!
//! A channel's scale is the smallest with which its largest weight is at most 127 and its sums keep
//! [`LARGEST_SUM`], which AVX2 needs; it costs about half a bit where weights are normally distributed, and gives all
//! instruction sets the same integers.

use crate::memory::Buffer;
use crate::simd::int8::{ByteKernel, Int8, LARGEST_SUM, RUN, STEP, SUMMED, dispatch_bytes};
use crate::simd::{self, Isa, Simd};
use crate::threads;

/// A matrix `[taps, k, columns]` of signed bytes.
#[derive(Clone)]
pub struct Bytes {
    /// Whose panels they are.
    pub isa: Isa,
    pub taps: usize,
    /// Rows of a tap, padded with zeros to a multiple of [`STEP`].
    pub k: usize,
    pub columns: usize,
    /// Columns of a panel.
    pub width: usize,
    panels: Buffer<i8>,
    /// The value of 1 in every column.
    pub scales: Vec<f32>,
    /// The sum of every column.
    pub sums: Vec<i32>,
}

impl Bytes {
    /// Quantizes and packs weights `[taps, k, columns]`.
    pub fn new(w: &[f32], taps: usize, k: usize, columns: usize) -> Self {
        let quantized = threads::map(columns, |column| {
            let of_tap = |tap: usize| (0..k).map(move |k_at| w[(tap * k + k_at) * columns + column]);
            let padded = (0..taps).flat_map(|tap| of_tap(tap).chain(vec![0.0; k.next_multiple_of(STEP) - k]));
            quantize(&padded.collect::<Vec<_>>())
        });
        let isa = simd::current();
        let width = dispatch_bytes(isa, Width);
        let k = k.next_multiple_of(STEP);
        let mut panels = Buffer::zeros(columns.div_ceil(width) * taps * k * width);
        threads::for_each_chunk(&mut panels, taps * k * width, |panel, bytes| {
            for (column, (quantized, _)) in quantized.iter().skip(panel * width).take(width).enumerate() {
                for (run, four) in quantized.chunks_exact(RUN).enumerate() {
                    bytes[(run * width + column) * RUN..][..RUN].copy_from_slice(four);
                }
            }
        });
        let scales = quantized.iter().map(|(_, scale)| *scale).collect();
        let sums = quantized.iter().map(|(bytes, _)| bytes.iter().map(|&w| i32::from(w)).sum()).collect();
        Bytes { isa, taps, k, columns, width, panels, scales, sums }
    }

    pub fn panels(&self) -> usize {
        self.columns.div_ceil(self.width)
    }

    /// Panel `panel`, `[taps, k / RUN, width, RUN]`.
    pub fn panel(&self, panel: usize) -> &[i8] {
        let size = self.taps * self.k * self.width;
        &self.panels[panel * size..][..size]
    }
}

/// A column, of which every [`STEP`] are summed together, as bytes, and their scale.
fn quantize(column: &[f32]) -> (Vec<i8>, f32) {
    let largest = column.iter().fold(0.0, |m: f32, x| m.max(x.abs()));
    let mut largest_sum = 0.0f32;
    for (step, rows) in column.chunks_exact(STEP).flat_map(|step| SUMMED.map(|rows| (step, rows))) {
        let positive: f32 = rows.iter().map(|&row| step[row].max(0.0)).sum();
        let negative: f32 = rows.iter().map(|&row| step[row].min(0.0)).sum();
        largest_sum = largest_sum.max(positive).max(-negative);
    }
    // Rounding may add a half to each of four.
    let scale = (largest / 127.0).max(largest_sum / (LARGEST_SUM - 2) as f32);
    if scale < f32::MIN_POSITIVE {
        return (vec![0; column.len()], 1.0);
    }
    (column.iter().map(|x| (x / scale).round_ties_even() as i8).collect(), scale)
}

/// The columns of a panel.
struct Width;

impl ByteKernel for Width {
    type Output = usize;

    #[inline(always)]
    fn run<S: Int8>(self, _: S) -> usize {
        S::Floats::LANES * S::TILE_VECTORS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::Rng;

    #[test]
    fn sums_stay_in_sixteen_bits() {
        let mut rng = Rng::new(3);
        let drawn = rng.tensor::<f32>([64 * 40]);
        let spike = |i: usize, size: f32| if i.is_multiple_of(97) { size } else { 0.01 };
        for column in drawn.data().chunks_exact(64).map(<[f32]>::to_vec).chain([
            vec![1.0; 64],
            vec![-1.0; 64],
            vec![0.0; 64],
            (0..64).map(|i| spike(i, 5.0)).collect(),
            (0..64).map(|i| spike(i, -5.0)).collect(),
        ]) {
            let (bytes, scale) = quantize(&column);
            for (step, rows) in bytes.chunks_exact(STEP).flat_map(|step| SUMMED.map(|rows| (step, rows))) {
                let parts = rows.map(|row| i32::from(step[row]));
                assert!(parts.iter().map(|x| x.max(&0)).sum::<i32>() <= LARGEST_SUM);
                assert!(parts.iter().map(|x| x.min(&0)).sum::<i32>() >= -LARGEST_SUM);
            }
            for (&byte, &x) in bytes.iter().zip(&column) {
                assert!((f32::from(byte) * scale - x).abs() <= scale * 0.5001);
            }
        }
    }
}
