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
}

impl<T: Element, L: Layer<T> + ?Sized> Layer<T> for Box<L> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        (**self).forward(x, mode)
    }
}

impl<T: Element> Layer<T> for Activation {
    fn forward(&self, x: &Var<T>, _: &Mode) -> Result<Var<T>> {
        Ok(x.activation(*self)?)
    }
}

impl<T: Element> Layer<T> for LocalResponseNorm {
    fn forward(&self, x: &Var<T>, _: &Mode) -> Result<Var<T>> {
        Ok(x.local_response_norm(self)?)
    }
}
