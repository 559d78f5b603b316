//! The steps of a plan.

use std::sync::Arc;

use ocelli_tensor::ops::{Activation, PackedConv};
use ocelli_tensor::{Element, Shape, Tensor};

use super::role::Convolution;
use crate::Result;
use crate::op::AnyOp;

/// Something that a plan runs.
pub(super) trait Step<T: Element>: Send + Sync {
    fn run(&self, inputs: &[&Tensor<T>]) -> Result<Tensor<T>>;
}

/// An operation as it was recorded.
pub(super) struct Forward<T: Element>(pub Arc<dyn AnyOp<T>>);

impl<T: Element> Step<T> for Forward<T> {
    fn run(&self, inputs: &[&Tensor<T>]) -> Result<Tensor<T>> {
        self.0.run(inputs)
    }
}

/// A convolution and what was fused into it. Its inputs are x and, if there is one, the residual.
pub(super) struct Fused<T: Element>(PackedConv<T>);

impl<T: Element> Fused<T> {
    /// For inputs of about the shape `x`.
    pub fn new(convolution: &Convolution<T>, activation: Option<Activation>, x: &Shape) -> Result<Self> {
        let Convolution { weight, bias, window, groups } = convolution;
        let weight = match **weight.shape() {
            [inputs, outputs] => weight.reshape([1, 1, inputs, outputs])?,
            _ => weight.clone(),
        };
        let x = image_shape(x);
        Ok(Fused(PackedConv::new(&weight, bias.as_ref(), activation, *window, *groups, &x)?))
    }
}

impl<T: Element> Step<T> for Fused<T> {
    fn run(&self, inputs: &[&Tensor<T>]) -> Result<Tensor<T>> {
        let x = as_image(inputs[0])?;
        let residual = inputs.get(1).map(|r| as_image(r)).transpose()?;
        let y = self.0.run(&x, residual.as_ref())?;
        match **inputs[0].shape() {
            [n, _] => Ok(y.reshape([n, y.shape().columns()])?),
            _ => Ok(y),
        }
    }
}

/// A batch of vectors `[N, C]` as images of one pixel.
fn as_image<T: Element>(x: &Tensor<T>) -> Result<Tensor<T>> {
    Ok(x.reshape(image_shape(x.shape()))?)
}

fn image_shape(shape: &Shape) -> Shape {
    match **shape {
        [n, channels] => Shape::from([n, 1, 1, channels]),
        _ => *shape,
    }
}
