//! The unit that most networks since 2015 are made of: convolution, batch norm, perhaps a sum, perhaps an activation.

use ocelli_autograd::ops::Activation;
use ocelli_autograd::tensor::Element;
use ocelli_autograd::{Var, scope};

use super::{BatchNorm2d, BatchNormOptions, Conv2d, Conv2dOptions, Layer};
use crate::{Builder, Mode, Result};

/// A convolution with its batch norm and, if there is one, the activation behind it.
#[derive(Debug)]
pub struct ConvNorm<T: Element = f32> {
    names: (Box<str>, Box<str>),
    conv: Box<dyn Layer<T>>,
    norm: BatchNorm2d<T>,
    activation: Option<Activation>,
}

impl<T: Element> ConvNorm<T> {
    /// A unit of the part that `b` builds, in which the convolution and the norm are called `names`: `("conv1", "bn1")`
    /// in torchvision's residual networks, `("0", "1")` in its `Conv2dNormActivation`.
    pub fn new(
        b: &Builder<T>,
        names: (&str, &str),
        [in_channels, out_channels]: [usize; 2],
        conv: Conv2dOptions,
        norm: BatchNormOptions,
        activation: Option<Activation>,
    ) -> Result<Self> {
        let conv = Conv2d::new(&b.enter(names.0), in_channels, out_channels, conv)?;
        let norm = BatchNorm2d::new(&b.enter(names.1), out_channels, norm)?;
        Ok(ConvNorm::of(names, conv, norm, activation))
    }

    /// A unit of a convolution of another kind, such as [`DeformConv2dPack`](super::DeformConv2dPack), and a norm, which
    /// have been built as parts called `names`.
    pub fn of(
        names: (&str, &str),
        conv: impl Layer<T> + 'static,
        norm: BatchNorm2d<T>,
        activation: Option<Activation>,
    ) -> Self {
        ConvNorm { names: (names.0.into(), names.1.into()), conv: Box::new(conv), norm, activation }
    }

    /// What the convolution and the norm are called.
    pub fn names(&self) -> [&str; 2] {
        [&self.names.0, &self.names.1]
    }

    /// As [`forward`](Layer::forward), with `shortcut` added before the activation.
    pub fn forward_residual(&self, x: &Var<T>, shortcut: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        self.run(x, Some(shortcut), mode)
    }

    /// In training, all that follows the convolution is one operation of the norm's.
    fn run(&self, x: &Var<T>, shortcut: Option<&Var<T>>, mode: &Mode) -> Result<Var<T>> {
        let y = scope(&self.names.0, || self.conv.forward(x, mode))?;
        if self.norm.uses_batch(mode) {
            return scope(&self.names.1, || self.norm.forward_batch(&y, shortcut, self.activation, mode));
        }
        let mut y = scope(&self.names.1, || self.norm.forward(&y, mode))?;
        if let Some(shortcut) = shortcut {
            y = y.add(shortcut)?;
        }
        Ok(match self.activation {
            Some(activation) => y.activation(activation)?,
            None => y,
        })
    }
}

impl<T: Element> Layer<T> for ConvNorm<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        self.run(x, None, mode)
    }
}
