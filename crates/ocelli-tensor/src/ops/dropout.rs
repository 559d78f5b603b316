//! Dropout masks from a counter-based generator.
//!
//! Each block of 4096 elements has two keys, the halves of a hash of the seed and the block's number (splitmix64's
//! output function: Steele, Lea & Flood 2014, <https://doi.org/10.1145/2714064.2660195>); each element of a block is
//! decided by a hash of its number in the block and these keys (two rounds of shifts and multiplications, with the
//! constants of Murmur3's finalizer; a key goes into each round). So an element depends on nothing but the seed and its
//! index, and the mask is the same for any number of threads. Dropout: Srivastava et al. 2014.

use crate::simd::{Kernel, Simd};
use crate::{Element, Error, Result, Shape, Tensor, threads};

/// A tensor of 0 with probability p and of 1 / (1 − p) otherwise, so that multiplying by it keeps the mean.
///
/// Errors if p is not in [0, 1).
pub fn dropout_mask<T: Element>(shape: &Shape, p: f64, seed: u64) -> Result<Tensor<T>> {
    if !(0.0..1.0).contains(&p) {
        return Err(Error::argument("dropout_mask", "probability", "in [0, 1)", p));
    }
    let kept = T::from_f64(1.0 / (1.0 - p));
    // An element is dropped if its hash, of 31 bits, is below this share of the range.
    let threshold = (p * (1u64 << 31) as f64).round() as i32;
    let seed = mix(seed);
    let mut mask = Tensor::scratch(shape);
    let chunk = threads::rows_per_chunk(1).next_multiple_of(BLOCK);
    threads::for_each_chunk(mask.data_mut(), chunk, |i, mask| {
        T::dropout_mask(Mask { seed, first: i * chunk / BLOCK, threshold, kept, mask });
    });
    Ok(mask)
}

/// Elements that share keys.
const BLOCK: usize = 4096;

/// Elements for which memory is asked at a time.
const RUN: usize = 128;

/// Blocks of a mask, of which the first is block `first`. Plain code, which the compiler turns into vector code: `Simd`
/// has no integers.
pub struct Mask<'a, T> {
    seed: u64,
    first: usize,
    threshold: i32,
    kept: T,
    mask: &'a mut [T],
}

impl<T: Element> Kernel<T> for Mask<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Mask { seed, first, threshold, kept, mask } = self;
        for (i, mask) in mask.chunks_mut(BLOCK).enumerate() {
            let keys = mix(seed.wrapping_add(((first + i) as u64 + 1).wrapping_mul(GAMMA)));
            let keys = [keys as u32, (keys >> 32) as u32];
            for (r, mask) in mask.chunks_mut(RUN).enumerate() {
                for at in (0..mask.len()).step_by(S::LINE) {
                    simd.ask_ahead(mask, at);
                }
                for (i, x) in mask.iter_mut().enumerate() {
                    *x = if hash((r * RUN + i) as u32, keys) < threshold { T::ZERO } else { kept };
                }
            }
        }
    }
}

/// 31 bits for element `i` of a block.
#[inline(always)]
fn hash(i: u32, keys: [u32; 2]) -> i32 {
    // Neighbours differ in many bits from the start.
    let z = i.wrapping_mul(GAMMA as u32) ^ keys[0];
    let z = (z ^ (z >> 16)).wrapping_mul(0x85EB_CA6B).wrapping_add(keys[1]);
    let z = (z ^ (z >> 13)).wrapping_mul(0xC2B2_AE35);
    ((z ^ (z >> 16)) >> 1) as i32
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
    fn every_element_is_decided_by_its_own_number() {
        let mask = dropout_mask::<f32>(&Shape::from([BLOCK + 1000]), 0.5, 11).unwrap();
        for (i, &x) in mask.data().iter().enumerate() {
            let keys = mix(mix(11).wrapping_add(((i / BLOCK) as u64 + 1).wrapping_mul(GAMMA)));
            let dropped = hash((i % BLOCK) as u32, [keys as u32, (keys >> 32) as u32]) < 1 << 30;
            assert_eq!(x == 0.0, dropped, "element {i}");
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
