//! Dropout masks from a counter-based generator.
//!
//! Hash k of a mask with seed s is splitmix64's output function of s' + (k + 1) · γ, where s' is the mixed seed (Steele,
//! Lea & Flood 2014, <https://doi.org/10.1145/2714064.2660195>). Each block of 64 elements is decided by the upper and
//! then the lower halves of 32 hashes, so an element depends on nothing but s and its index, and the mask is the same
//! for any number of threads. Dropout: Srivastava et al. 2014.

use crate::simd::{self, Kernel, Simd};
use crate::{Element, Error, Result, Shape, Tensor, threads};

/// A tensor of 0 with probability p and of 1 / (1 − p) otherwise, so that multiplying by it keeps the mean.
///
/// Errors if p is not in [0, 1).
pub fn dropout_mask<T: Element>(shape: &Shape, p: f64, seed: u64) -> Result<Tensor<T>> {
    if !(0.0..1.0).contains(&p) {
        return Err(Error::argument("dropout_mask", "probability", "in [0, 1)", p));
    }
    let kept = T::from_f64(1.0 / (1.0 - p));
    // An element is dropped if its half of a hash is below this share of the range.
    let threshold = (p * (1u64 << 32) as f64).round() as u32;
    let seed = mix(seed);
    let mut mask = Tensor::scratch(shape);
    let chunk = threads::rows_per_chunk(1).next_multiple_of(BLOCK);
    threads::for_each_chunk(mask.data_mut(), chunk, |i, mask| {
        simd::dispatch(Mask { seed, first: i * chunk / BLOCK, threshold, kept, mask });
    });
    Ok(mask)
}

/// Elements that are decided together.
const BLOCK: usize = 64;

/// Blocks of a mask, of which the first is block `first`. Plain code, which the compiler turns into vector code: `Simd`
/// has no integers.
struct Mask<'a, T> {
    seed: u64,
    first: usize,
    threshold: u32,
    kept: T,
    mask: &'a mut [T],
}

impl<T: Element> Kernel<T> for Mask<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, _: S) {
        let Mask { seed, first, threshold, kept, mask } = self;
        for (i, mask) in mask.chunks_mut(BLOCK).enumerate() {
            let mut halves = [0u32; BLOCK];
            let first = ((first + i) * (BLOCK / 2)) as u64;
            for k in 0..BLOCK / 2 {
                let hash = mix(seed.wrapping_add((first + k as u64 + 1).wrapping_mul(GAMMA)));
                halves[k] = (hash >> 32) as u32;
                halves[BLOCK / 2 + k] = hash as u32;
            }
            for (x, half) in mask.iter_mut().zip(halves) {
                *x = if half < threshold { T::ZERO } else { kept };
            }
        }
    }
}

/// The odd integer nearest to 2⁶⁴ over the golden ratio.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

#[inline(always)]
fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::testing::same_bits;
    use super::*;

    #[test]
    fn drops_the_asked_share_and_scales_the_rest() {
        let shape = Shape::from([100, 1000]);
        for p in [0.0, 0.1, 0.5, 0.9] {
            let mask = dropout_mask::<f64>(&shape, p, 7).unwrap();
            assert!(mask.data().iter().all(|&x| x == 0.0 || x == 1.0 / (1.0 - p)));
            let dropped = mask.data().iter().filter(|&&x| x == 0.0).count() as f64 / 1e5;
            // Four standard deviations of the share.
            assert!((dropped - p).abs() <= 4.0 * (p * (1.0 - p) / 1e5).sqrt(), "{p}: {dropped}");
        }
    }

    #[test]
    fn neighbouring_seeds_are_independent() {
        let shape = Shape::from([100_000]);
        let [a, b] = [1, 2].map(|seed| dropout_mask::<f32>(&shape, 0.5, seed).unwrap());
        for shift in 0..4 {
            let both = a.data().iter().zip(&b.data()[shift..]).filter(|(a, b)| a == b).count();
            assert!((both as f64 / 1e5 - 0.5).abs() < 0.01, "{shift}: {both}");
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        same_bits(|| vec![dropout_mask::<f32>(&Shape::from([50_001]), 0.3, 9).unwrap()]);
    }

    #[test]
    fn a_wrong_probability_is_an_error() {
        for (p, got) in [(1.0, "1"), (-0.1, "-0.1"), (f64::NAN, "NaN")] {
            let error = dropout_mask::<f32>(&Shape::from([3]), p, 0).unwrap_err();
            assert_eq!(error.to_string(), format!("dropout_mask: expected probability in [0, 1), got {got}"));
        }
    }
}
