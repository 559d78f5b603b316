//! Choosing what the bytes of a value stand for, from what it was on the calibration images.
//!
//! The whole range wastes bytes on the few largest numbers. Clipping these costs their distance from the bounds, and makes
//! the steps between bytes, whose error is scale² / 12 on average, smaller for all others: the range with the least mean
//! squared error of both is taken. Zeros, of which a ReLU makes many, are exact in any case and don't count. The means of
//! channels are for the biases.

use ocelli_tensor::Tensor;
use ocelli_tensor::ops::Quantization;

const BINS: usize = 2048;
/// The bounds that are tried are these shares of the outermost ones.
const SHARES: std::ops::RangeInclusive<usize> = 16..=64;

/// The numbers of one value: first their range, then how they are spread over it.
pub struct Range {
    low: f32,
    high: f32,
    counts: Vec<u64>,
    /// Of every channel, and the number of pixels.
    sums: Vec<f64>,
    pixels: usize,
}

impl Range {
    pub fn new() -> Self {
        Range { low: 0.0, high: 0.0, counts: vec![0; BINS], sums: Vec::new(), pixels: 0 }
    }

    /// Takes more numbers into the range.
    pub fn widen(&mut self, x: &Tensor) {
        for &x in x.data().iter().filter(|x| x.is_finite()) {
            self.low = self.low.min(x);
            self.high = self.high.max(x);
        }
    }

    /// Counts numbers, all of which have been taken into the range.
    pub fn count(&mut self, x: &Tensor) {
        let factor = BINS as f32 / (self.high - self.low).max(f32::MIN_POSITIVE);
        self.sums.resize(x.shape().columns(), 0.0);
        self.pixels += x.shape().rows();
        for pixel in x.data().chunks_exact(x.shape().columns().max(1)) {
            self.sums.iter_mut().zip(pixel).filter(|(_, x)| x.is_finite()).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        for &x in x.data().iter().filter(|x| x.is_finite() && **x != 0.0) {
            self.counts[(((x - self.low) * factor) as usize).min(BINS - 1)] += 1;
        }
    }

    /// The mean of every channel of what was counted.
    pub fn means(&self) -> Tensor {
        Tensor::from_fn([self.sums.len()], |channel| (self.sums[channel] / self.pixels.max(1) as f64) as f32)
    }

    /// The quantization with the least mean squared error.
    pub fn quantization(&self) -> Quantization {
        let (mut low, mut high) = (self.low, self.high);
        let least = |bound: f32, range: &dyn Fn(f32) -> [f32; 2]| {
            let candidates = SHARES.rev().map(|share| bound * share as f32 / *SHARES.end() as f32);
            let error = |bound: f32| self.error(range(bound));
            candidates.min_by(|&a, &b| error(a).total_cmp(&error(b))).unwrap_or(bound)
        };
        // Each bound depends little on the other.
        for _ in 0..2 {
            high = least(self.high, &|high| [low, high]);
            low = least(self.low, &|low| [low, high]);
        }
        Quantization::of_range(low, high)
    }

    /// The sum of squared errors with a quantization of this range.
    fn error(&self, [low, high]: [f32; 2]) -> f64 {
        let bin = f64::from(self.high - self.low) / BINS as f64;
        let rounding = (f64::from(high - low) / 255.0).powi(2) / 12.0;
        let errors = self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(i, &count)| {
            let x = f64::from(self.low) + (i as f64 + 0.5) * bin;
            let beyond = (f64::from(low) - x).max(x - f64::from(high)).max(0.0);
            count as f64 * if beyond > 0.0 { beyond * beyond } else { rounding }
        });
        errors.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantization(x: &[f32]) -> Quantization {
        let x = Tensor::from_slice([x.len(), 1], x).unwrap();
        let mut range = Range::new();
        range.widen(&x);
        range.count(&x);
        range.quantization()
    }

    #[test]
    fn even_numbers_keep_their_range() {
        let x: Vec<f32> = (0..=1000).map(|i| i as f32 / 500.0 - 0.5).collect();
        let q = quantization(&x);
        let [low, high] = [q.dequantize(0), q.dequantize(255)];
        assert!((low + 0.5).abs() < 0.02 && (high - 1.5).abs() < 0.02, "{low} {high}");
    }

    #[test]
    fn outliers_are_clipped_if_that_pays() {
        let mut x: Vec<f32> = (0..=1_000_000).map(|i| i as f32 / 1e6).collect();
        x.push(4.0);
        let high = quantization(&x).dequantize(255);
        // The least of h² · 10⁶ / (12 · 255²) + (4 − h)² is at 1.75.
        assert!((1.6..1.9).contains(&high), "{high}");
        // Three numbers are no reason to clip any.
        assert_eq!(quantization(&[0.5, 1.0, 4.0]).dequantize(255), 4.0);
        // Nor do zeros weigh.
        x = vec![0.0; 1_000_000];
        x.extend([0.5, 1.0, 4.0]);
        assert_eq!(quantization(&x).dequantize(255), 4.0);
    }

    #[test]
    fn means_are_of_channels() {
        let mut range = Range::new();
        [[1.0, 5.0], [2.0, 7.0]].iter().for_each(|x| range.count(&Tensor::from_slice([1, 2], x).unwrap()));
        assert_eq!(range.means(), Tensor::from_slice([2], &[1.5, 6.0]).unwrap());
    }

    #[test]
    fn what_is_not_finite_is_left_out() {
        let q = quantization(&[f32::NAN, f32::INFINITY, 2.0, f32::NEG_INFINITY]);
        assert_eq!((q.dequantize(0), q.zero_point), (0.0, 0));
        assert_eq!(quantization(&[]), Quantization { scale: 1.0, zero_point: 0 });
    }
}
