//! What the gradient tests share.

use ocelli_autograd::{Shape, Tensor};

/// Distinct numbers in [−1, 1).
pub fn random(shape: impl Into<Shape>, seed: u64) -> Tensor<f64> {
    // SplitMix64: Steele et al. 2014, <https://doi.org/10.1145/2660193.2660195>.
    let mix = |z: u64, shift: u32, factor: u64| (z ^ (z >> shift)).wrapping_mul(factor);
    let start = seed.wrapping_mul(0xD134_2543_DE82_EF95);
    Tensor::from_fn(shape, |i| {
        let z = start.wrapping_add((i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let z = mix(mix(z, 30, 0xBF58_476D_1CE4_E5B9), 27, 0x94D0_49BB_1331_11EB);
        (z >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    })
}
