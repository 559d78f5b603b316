//! Layers: what has parameters, or a mode, and turns one value into another.
//!
//! A layer is made from a [`Builder`](crate::Builder) that has entered its name, so that its parameters are called as
//! in PyTorch. Whoever holds a layer knows its name and opens the [`scope`](ocelli_autograd::scope) under which traces
//! show its operations.

mod batch_norm;
mod branches;
mod conv2d;
mod conv_norm;
mod deform_conv2d;
mod dropout;
mod linear;
mod pooling;
mod sequential;
mod shape;
mod squeeze_excitation;
mod stochastic_depth;

use std::fmt::Debug;

use ocelli_autograd::Var;
use ocelli_autograd::ops::{Activation, LocalResponseNorm};
use ocelli_autograd::tensor::Element;

pub use batch_norm::{BatchNorm2d, BatchNormOptions};
pub use branches::Branches;
pub use conv_norm::ConvNorm;
pub use conv2d::{Conv2d, Conv2dOptions, ConvPadding};
pub use deform_conv2d::{DeformConv2d, DeformConv2dPack, DeformOptions};
pub use dropout::Dropout;
pub use linear::{Linear, LinearOptions};
pub use pooling::{AdaptiveAvgPool2d, AvgPool2d, GlobalAvgPool, MaxPool2d};
pub use sequential::Sequential;
pub use shape::Flatten;
pub use squeeze_excitation::{SqueezeExcitation, SqueezeOptions};
pub use stochastic_depth::StochasticDepth;

use crate::{Mode, Result};

/// A part of a network.
pub trait Layer<T: Element = f32>: Debug + Send + Sync {
    /// The layer's value at `x`.
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>>;

    /// The value with `activation` behind the layer, if it does both at once in this mode.
    fn forward_activated(&self, _x: &Var<T>, _activation: Activation, _mode: &Mode) -> Result<Option<Var<T>>> {
        Ok(None)
    }

    /// The nonlinearity that the layer is, if it is one, so that the layer before it may do it.
    fn as_activation(&self) -> Option<Activation> {
        None
    }
}

impl<T: Element, L: Layer<T> + ?Sized> Layer<T> for Box<L> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        (**self).forward(x, mode)
    }

    fn forward_activated(&self, x: &Var<T>, activation: Activation, mode: &Mode) -> Result<Option<Var<T>>> {
        (**self).forward_activated(x, activation, mode)
    }

    fn as_activation(&self) -> Option<Activation> {
        (**self).as_activation()
    }
}

impl<T: Element> Layer<T> for Activation {
    fn forward(&self, x: &Var<T>, _: &Mode) -> Result<Var<T>> {
        Ok(x.activation(*self)?)
    }

    fn as_activation(&self) -> Option<Activation> {
        Some(*self)
    }
}

impl<T: Element> Layer<T> for LocalResponseNorm {
    fn forward(&self, x: &Var<T>, _: &Mode) -> Result<Var<T>> {
        Ok(x.local_response_norm(self)?)
    }
}
