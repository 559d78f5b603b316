//! Squeeze-and-excitation (Hu et al. 2017, <https://arxiv.org/abs/1709.01507>): y = x · σ(W₂ f(W₁ mean(x) + b₁) + b₂),
//! one weight for each image and channel.

use ocelli_autograd::ops::Activation;
use ocelli_autograd::tensor::Element;
use ocelli_autograd::{Var, scope};

use super::{Conv2d, Conv2dOptions, Layer};
use crate::{Builder, Init, Mode, Result};

/// The attributes of a squeeze-and-excitation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SqueezeOptions {
    /// Channels between the two layers.
    pub squeezed: usize,
    /// f, behind the first layer.
    pub activation: Activation,
    /// The weights' first values.
    pub init: Init,
    /// The biases' first values; `None` is PyTorch's default, uniform within ±1/√inputs.
    pub bias_init: Option<Init>,
}

impl SqueezeOptions {
    /// With a ReLU between the layers, initialised for it, and biases that begin at 0.
    pub fn new(squeezed: usize) -> Self {
        SqueezeOptions { squeezed, activation: Activation::Relu, init: Init::RELU, bias_init: Some(Init::ZEROS) }
    }
}

/// Channels weighed by their averages: `[N, H, W, C]` to the same. Its two layers are 1×1 convolutions with a bias, as
/// in torchvision and timm.
#[derive(Debug)]
pub struct SqueezeExcitation<T: Element = f32> {
    names: (Box<str>, Box<str>),
    reduce: Conv2d<T>,
    expand: Conv2d<T>,
    activation: Activation,
}

impl<T: Element> SqueezeExcitation<T> {
    /// A unit of the part that `b` builds, in which the two layers are called `names`: `("fc1", "fc2")` in torchvision.
    pub fn new(b: &Builder<T>, names: (&str, &str), channels: usize, options: SqueezeOptions) -> Result<Self> {
        let SqueezeOptions { squeezed, activation, init, bias_init } = options;
        let layer = |name, inputs: usize, outputs| {
            let bias_init = bias_init.unwrap_or(Init::Uniform { bound: 1.0 / (inputs.max(1) as f64).sqrt() });
            let options = Conv2dOptions::new(1).bias(true).init(init).bias_init(bias_init);
            Conv2d::new(&b.enter(name), inputs, outputs, options)
        };
        Ok(SqueezeExcitation {
            names: (names.0.into(), names.1.into()),
            reduce: layer(names.0, channels, squeezed)?,
            expand: layer(names.1, squeezed, channels)?,
            activation,
        })
    }
}

impl<T: Element> Layer<T> for SqueezeExcitation<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        let means = x.adaptive_avg_pool2d([1, 1])?;
        let squeezed = scope(&self.names.0, || self.reduce.forward(&means, mode))?.activation(self.activation)?;
        let weights = scope(&self.names.1, || self.expand.forward(&squeezed, mode))?.sigmoid()?;
        Ok(x.mul(&weights)?)
    }
}

#[cfg(test)]
mod tests {
    use ocelli_autograd::Tensor;

    use super::*;

    #[test]
    fn channels_are_weighed_by_their_means() {
        let b = Builder::<f64>::zeroed();
        let layer = SqueezeExcitation::new(&b, ("fc1", "fc2"), 2, SqueezeOptions::new(1)).unwrap();
        let names = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"];
        assert_eq!(b.state().names().collect::<Vec<_>>(), names);
        for (name, values) in names.into_iter().zip([&[1.0, 2.0][..], &[0.5], &[1.0, -1.0], &[0.0, 3.0]]) {
            let state = b.state();
            let (_, parameter) = state.parameters().find(|(n, _)| *n == name).unwrap();
            parameter.set_value(Tensor::from_slice(*parameter.shape(), values).unwrap()).unwrap();
        }
        let x = Tensor::from_vec([1, 1, 2, 2], vec![1.0, 4.0, 3.0, -2.0]).unwrap();
        let y = layer.forward(&Var::constant(x), &Mode::Eval).unwrap();
        // The means are 2 and 1, so the squeezed value is 2 + 2 + 0.5.
        let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
        let weights = [sigmoid(4.5), sigmoid(3.0 - 4.5)];
        let expected = [weights[0], 4.0 * weights[1], 3.0 * weights[0], -2.0 * weights[1]];
        let error = y.value().data().iter().zip(expected).fold(0.0, |e: f64, (a, b)| e.max((a - b).abs()));
        assert!(error < 1e-12, "{:?} instead of {expected:?}", y.value().data());
    }

    #[test]
    fn biases_begin_as_asked() {
        let largest = |bias_init, name: &str| {
            let b = Builder::<f64>::new(1);
            SqueezeExcitation::new(&b, ("fc1", "fc2"), 256, SqueezeOptions { bias_init, ..SqueezeOptions::new(16) })
                .unwrap();
            let state = b.state();
            let (_, bias) = state.parameters().find(|(n, _)| *n == name).unwrap();
            bias.value().data().iter().fold(0.0, |max: f64, v| max.max(v.abs()))
        };
        assert_eq!(largest(Some(Init::ZEROS), "fc1.bias"), 0.0);
        // Of 16 and 256 values, the largest come near the bounds 1/√256 and 1/√16.
        for (name, bound) in [("fc1.bias", 1.0 / 16.0), ("fc2.bias", 0.25)] {
            let largest = largest(None, name);
            assert!(largest <= bound && largest > 0.7 * bound, "{name}: {largest}");
        }
    }
}
