//! Random and constant first values of weights.
//!
//! With fan-in n and fan-out m, the numbers of inputs of an output and of outputs of an input:
//! Kaiming (He et al. 2015, <https://arxiv.org/abs/1502.01852>) has standard deviation gain / √fan, Xavier (Glorot and
//! Bengio 2010) gain · √(2 / (n + m)); their uniform forms reach √3 times as far.

use ocelli_autograd::tensor::{Element, Shape, Tensor, threads};
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution as _, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::Layout;
use crate::mode::split_mix;

/// Which number of neighbours Kaiming initialisation counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fan {
    /// Inputs: keeps the variance of activations.
    In,
    /// Outputs: keeps the variance of gradients.
    Out,
}

/// How a weight is initialised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All this.
    Constant(f64),
    /// Normal with this standard deviation.
    Normal {
        /// The standard deviation.
        std: f64,
    },
    /// Normal with this standard deviation (before the cut), cut off beyond two of them.
    TruncatedNormal {
        /// The standard deviation.
        std: f64,
    },
    /// Uniform between −bound and bound.
    Uniform {
        /// The bound.
        bound: f64,
    },
    /// Kaiming's, normal.
    KaimingNormal {
        /// Which neighbours count.
        fan: Fan,
        /// √2 before a ReLU.
        gain: f64,
    },
    /// Kaiming's, uniform.
    KaimingUniform {
        /// Which neighbours count.
        fan: Fan,
        /// √2 before a ReLU.
        gain: f64,
    },
    /// Xavier's, normal.
    XavierNormal {
        /// 1 before a sigmoid.
        gain: f64,
    },
    /// Xavier's, uniform.
    XavierUniform {
        /// 1 before a sigmoid.
        gain: f64,
    },
}

impl Init {
    /// All 0.
    pub const ZEROS: Init = Init::Constant(0.0);
    /// All 1.
    pub const ONES: Init = Init::Constant(1.0);
    /// What torchvision's residual networks give their convolutions: Kaiming's normal, by outputs, for a ReLU.
    pub const RELU: Init = Init::KaimingNormal { fan: Fan::Out, gain: std::f64::consts::SQRT_2 };

    /// A weight of this shape and kind. The numbers depend on `seed` alone, not on threads.
    pub fn tensor<T: Element>(self, shape: impl Into<Shape>, layout: Layout, seed: u64) -> Tensor<T> {
        let shape = shape.into();
        match self.distribution(layout.fans(&shape)) {
            Distribution::Constant(value) => Tensor::full(shape, T::from_f64(value)),
            Distribution::Uniform { bound } => draw(shape, seed, |rng| (rng.random::<f64>() * 2.0 - 1.0) * bound),
            Distribution::Normal { std, cut } => draw(shape, seed, |rng| normal(rng, cut) * std),
        }
    }

    fn distribution(self, (inputs, outputs): (usize, usize)) -> Distribution {
        let kaiming = |fan, gain| gain / (if fan == Fan::In { inputs } else { outputs } as f64).max(1.0).sqrt();
        let xavier = |gain: f64| gain * (2.0 / ((inputs + outputs) as f64).max(1.0)).sqrt();
        let normal = |std| Distribution::Normal { std, cut: f64::INFINITY };
        let uniform = |std: f64| Distribution::Uniform { bound: std * 3f64.sqrt() };
        match self {
            Init::Constant(value) => Distribution::Constant(value),
            Init::Normal { std } => normal(std),
            Init::TruncatedNormal { std } => Distribution::Normal { std, cut: 2.0 },
            Init::Uniform { bound } => Distribution::Uniform { bound },
            Init::KaimingNormal { fan, gain } => normal(kaiming(fan, gain)),
            Init::KaimingUniform { fan, gain } => uniform(kaiming(fan, gain)),
            Init::XavierNormal { gain } => normal(xavier(gain)),
            Init::XavierUniform { gain } => uniform(xavier(gain)),
        }
    }
}

enum Distribution {
    Constant(f64),
    Uniform {
        bound: f64,
    },
    /// `cut` is in standard deviations.
    Normal {
        std: f64,
        cut: f64,
    },
}

/// Fills a tensor in chunks, each with its own seed, so that threads don't change the numbers.
fn draw<T: Element>(
    shape: Shape,
    seed: u64,
    number: impl Fn(&mut Xoshiro256PlusPlus) -> f64 + Send + Sync,
) -> Tensor<T> {
    let mut tensor = Tensor::scratch(shape);
    threads::for_each_chunk(tensor.data_mut(), 16 * 1024, |chunk, values| {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(split_mix(seed ^ split_mix(chunk as u64)));
        values.iter_mut().for_each(|value| *value = T::from_f64(number(&mut rng)));
    });
    tensor
}

/// A standard normal number within ±cut.
fn normal(rng: &mut Xoshiro256PlusPlus, cut: f64) -> f64 {
    loop {
        let z: f64 = StandardNormal.sample(rng);
        if z.abs() <= cut {
            return z;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(init: Init, layout: Layout, shape: [usize; 4]) -> (f64, f64, f64) {
        let tensor: Tensor<f64> = init.tensor(shape, layout, 7);
        let (n, data) = (tensor.len() as f64, tensor.data());
        let mean = data.iter().sum::<f64>() / n;
        let std = (data.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        (mean, std, data.iter().fold(0.0, |m: f64, x| m.max(x.abs())))
    }

    #[test]
    fn moments_are_those_of_the_papers() {
        let shape = [3, 3, 32, 128];
        let (fan_in, fan_out) = (288.0, 1152.0);
        let fan = |fan, gain| Init::KaimingNormal { fan, gain };
        let uniform = |fan, gain| Init::KaimingUniform { fan, gain };
        for (init, std, largest) in [
            (fan(Fan::In, 1.0), (1.0f64 / fan_in).sqrt(), f64::INFINITY),
            (Init::RELU, (2.0f64 / fan_out).sqrt(), f64::INFINITY),
            (uniform(Fan::In, 2.0), 2.0 / fan_in.sqrt(), 2.0 * (3.0 / fan_in).sqrt()),
            (Init::XavierNormal { gain: 1.0 }, (2.0f64 / (fan_in + fan_out)).sqrt(), f64::INFINITY),
            (
                Init::XavierUniform { gain: 1.0 },
                (2.0f64 / (fan_in + fan_out)).sqrt(),
                (6.0f64 / (fan_in + fan_out)).sqrt(),
            ),
            (Init::Normal { std: 0.3 }, 0.3, f64::INFINITY),
            // The standard deviation of a normal that is cut at ±2.
            (Init::TruncatedNormal { std: 0.1 }, 0.0879626, 0.2),
            (Init::Uniform { bound: 0.5 }, 0.5 / 3f64.sqrt(), 0.5),
        ] {
            let (mean, got, max) = moments(init, Layout::Conv, shape);
            assert!(mean.abs() < 0.02 * std, "{init:?}: mean {mean}");
            assert!((got / std - 1.0).abs() < 0.01, "{init:?}: {got} instead of {std}");
            assert!(max <= largest && max > 1.7 * std, "{init:?}: largest {max}");
        }
    }

    #[test]
    fn a_seed_is_a_tensor() {
        let tensor = |seed| Init::RELU.tensor::<f32>([40_000], Layout::Vector, seed);
        threads::set(1);
        let single = tensor(1);
        threads::set(3);
        assert_eq!(tensor(1), single);
        assert_ne!(tensor(2), single);
        assert_eq!(Init::ONES.tensor::<f32>([3], Layout::Vector, 0).data(), [1.0; 3]);
    }
}
