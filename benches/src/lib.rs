//! What the benchmarks share: this machine's peaks, the networks' layer shapes, other crates' products, and a clock.

pub mod clock;
pub mod layers;
pub mod peak;
pub mod peers;
pub mod products;
pub mod streams;

use ocelli_tensor::{Shape, Tensor};

/// Numbers in [−1, 1) without a pattern that a kernel could notice.
pub fn random(shape: impl Into<Shape>) -> Tensor {
    Tensor::from_fn(shape, |i| (i * 7919 % 2003) as f32 / 1001.5 - 1.0)
}
