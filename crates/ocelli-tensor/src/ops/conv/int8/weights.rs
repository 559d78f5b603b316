//! Weights as signed bytes: one scale for each output channel, symmetric, and packed into panels.
//!
//! ```text
//!   panel:  columns 0..width         of every tap, and of every four of its rows:
//!           ┌ k=0..4 of column 0 ┬ k=0..4 of column 1 ┬ …      then k=4..8 …
//! ```
//!
//! AVX2 needs sums that keep [`LARGEST_SUM`], and all instruction sets shall have the same integers. A channel's largest
//! weight would be 127 without that. With it, a larger scale leaves room for all sums, and a smaller one rounds finer but
//! cuts what has no room: of some scales between, that with the least squared error is taken.

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
    /// What rounding takes from the product of every column with the mean input.
    pub errors: Vec<f64>,
}

impl Bytes {
    /// Quantizes and packs weights `[taps, k, columns]`; `mean` is the mean input, repeated in all of the `taps · k` rows.
    pub fn new(w: &[f32], [taps, k, columns]: [usize; 3], mean: &[f32]) -> Self {
        let rows = k.next_multiple_of(STEP);
        let quantized = threads::map(columns, |column| {
            let mut padded = vec![0.0; taps * rows];
            for (tap, padded) in padded.chunks_exact_mut(rows).enumerate() {
                let weights = w[tap * k * columns + column..].iter().step_by(columns);
                padded.iter_mut().zip(weights).take(k).for_each(|(to, &w)| *to = w);
            }
            let (bytes, scale) = quantize(&padded);
            let lost = padded.iter().zip(&bytes).map(|(&w, &byte)| f64::from(w) - f64::from(byte) * f64::from(scale));
            let means = (0..taps).flat_map(|_| (0..rows).map(|row| if row < k { mean[row % mean.len()] } else { 0.0 }));
            let error: f64 = lost.zip(means).map(|(lost, mean)| lost * f64::from(mean)).sum();
            (bytes, scale, error)
        });
        let isa = simd::current();
        let width = dispatch_bytes(isa, Width);
        let k = rows;
        let mut panels = Buffer::zeros(columns.div_ceil(width) * taps * k * width);
        threads::for_each_chunk(&mut panels, taps * k * width, |panel, bytes| {
            for (column, (quantized, ..)) in quantized.iter().skip(panel * width).take(width).enumerate() {
                for (run, four) in quantized.chunks_exact(RUN).enumerate() {
                    bytes[(run * width + column) * RUN..][..RUN].copy_from_slice(four);
                }
            }
        });
        let scales = quantized.iter().map(|(_, scale, _)| *scale).collect();
        let sums = quantized.iter().map(|(bytes, ..)| bytes.iter().map(|&w| i32::from(w)).sum()).collect();
        let errors = quantized.iter().map(|(.., error)| *error).collect();
        Bytes { isa, taps, k, columns, width, panels, scales, sums, errors }
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

#[cfg(test)]
impl Bytes {
    /// The byte of a tap's row.
    pub fn get(&self, [tap, row]: [usize; 2], column: usize) -> i8 {
        let (panel, column) = (self.panel(column / self.width), column % self.width);
        let row = tap * self.k + row;
        panel[(row / RUN * self.width + column) * RUN + row % RUN]
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
    let (least, most) = (largest / 127.0, largest_sum / LARGEST_SUM as f32);
    if least < f32::MIN_POSITIVE {
        return (vec![0; column.len()], 1.0);
    }
    // Where the sums have room, all candidates are the same.
    let candidates = if most > least { CANDIDATES } else { 0 };
    let scales = (0..=candidates).map(|i| least + (most - least) * i as f32 / CANDIDATES as f32);
    let tried = scales.map(|scale| (rounded(column, scale), scale));
    let error = |(bytes, scale): &(Vec<i8>, f32)| -> f64 {
        let errors = column.iter().zip(bytes).map(|(x, &byte)| f64::from(x - f32::from(byte) * scale));
        errors.map(|error| error * error).sum()
    };
    let best = tried.map(|tried| (error(&tried), tried)).min_by(|a, b| a.0.total_cmp(&b.0));
    best.expect("there is a candidate").1
}

/// How many scales are tried beyond the least.
const CANDIDATES: usize = 6;

/// The nearest bytes that keep [`LARGEST_SUM`].
fn rounded(column: &[f32], scale: f32) -> Vec<i8> {
    let factor = 1.0 / scale;
    let mut bytes: Vec<i8> = column.iter().map(|x| (x * factor).round_ties_even().clamp(-127.0, 127.0) as i8).collect();
    for step in bytes.chunks_exact_mut(STEP) {
        for (rows, sign) in SUMMED.into_iter().flat_map(|rows| [(rows, 1), (rows, -1)]) {
            let mut excess = rows.iter().map(|&row| (i32::from(step[row]) * sign).max(0)).sum::<i32>() - LARGEST_SUM;
            // From the largest, one by one, which is the nearest.
            while excess > 0 {
                let largest = rows.into_iter().max_by_key(|&row| i32::from(step[row]) * sign).expect("four rows");
                step[largest] -= sign as i8;
                excess -= 1;
            }
        }
    }
    bytes
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
            // What isn't the nearest byte was cut, because its sum is full.
            for (i, (&byte, x)) in bytes.iter().zip(&column).enumerate() {
                if (f32::from(byte) * scale - x).abs() > scale * 0.5001 {
                    let (step, sign) = (&bytes[i / STEP * STEP..], x.signum() as i32);
                    let rows = SUMMED.into_iter().find(|rows| rows.contains(&(i % STEP))).unwrap();
                    let sum: i32 = rows.iter().map(|&row| (i32::from(step[row]) * sign).max(0)).sum();
                    assert_eq!(sum, LARGEST_SUM);
                }
            }
        }
    }
}
