//! Gradient checks over random geometries, for the tests of all operations.

use ocelli_tensor::ops::{Padding, Window};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::gradcheck::GradError;
pub use crate::gradcheck::gradcheck;
pub use crate::{Shape, Tensor};

/// The outcome of an operation's gradient check.
pub type Checked = Result<(), GradError>;

/// An operation's gradient check.
pub type Check = fn(&Geometry) -> Checked;

/// Sizes that every operation's check makes its operands from.
#[derive(Debug, Clone)]
pub struct Geometry {
    pub batch: usize,
    /// Height and width; the padded image is no smaller than the window.
    pub input: [usize; 2],
    pub channels: usize,
    pub out_channels: usize,
    pub groups: usize,
    pub window: Window,
    pub seed: u64,
}

impl Geometry {
    /// `[N, H, W, C]`
    pub fn image(&self, stream: u64) -> Tensor<f64> {
        self.image_of(self.channels, stream)
    }

    pub fn image_of(&self, channels: usize, stream: u64) -> Tensor<f64> {
        let [h, w] = self.input;
        random([self.batch, h, w, channels], self.seed ^ stream)
    }

    /// The shapes that broadcast to that of [`image`](Self::image).
    pub fn broadcasts(&self) -> [Shape; 4] {
        let ([n, c], [h, w]) = ([self.batch, self.channels], self.input);
        [[n, h, w, c].into(), [c].into(), [n, 1, 1, c].into(), [n, h, w, 1].into()]
    }
}

/// Distinct numbers in [−1, 1).
pub fn random(shape: impl Into<Shape>, seed: u64) -> Tensor<f64> {
    Tensor::from_fn(shape, |i| {
        let mut z =
            seed.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add((i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    })
}

/// Runs an operation's check on random geometries, and shrinks the first that fails.
pub fn for_all_geometries(check: Check) {
    let config = Config { cases: 256, failure_persistence: None, ..Config::default() };
    let run = |g: Geometry| check(&g).map_err(|e| TestCaseError::fail(e.to_string()));
    TestRunner::new(config).run(&geometries(), run).unwrap_or_else(|e| panic!("{e}"));
}

fn geometries() -> impl Strategy<Value = Geometry> {
    let pair = |range: std::ops::Range<usize>| [range.clone(), range];
    let window = (pair(1..4), pair(1..4), pair(1..3), [0usize..3, 0..3, 0..3, 0..3]);
    let sizes = (1usize..4, pair(1..6), 1usize..5, 1usize..5, 1usize..4);
    (window, sizes, any::<u64>()).prop_map(|((kernel_size, stride, dilation, edges), sizes, seed)| {
        let (batch, input, channels, out_channels, groups) = sizes;
        // At most half of the kernel, which is what pooling accepts.
        let edge = |i: usize, axis: usize| edges[i].min(kernel_size[axis] / 2);
        let padding = Padding { top: edge(0, 0), bottom: edge(1, 0), left: edge(2, 1), right: edge(3, 1) };
        let window = Window { kernel_size, stride, padding, dilation };
        let padded = [padding.top + padding.bottom, padding.left + padding.right];
        let input = [0, 1].map(|axis| input[axis].max(window.extent(axis).saturating_sub(padded[axis])));
        Geometry { batch, input, channels, out_channels, groups, window, seed }
    })
}
