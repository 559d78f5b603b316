//! y = Σ x, a scalar; dx = dy everywhere.

use ocelli_tensor::{Element, Shape, Tensor};

use crate::{Gradients, Op, Result, Var};

/// The sum of all elements, as a scalar.
#[derive(Debug)]
pub struct Sum;

impl<T: Element> Op<T> for Sum {
    type Saved = Shape;

    fn name(&self) -> &'static str {
        "sum"
    }

    fn forward(&self, inputs: &[&Tensor<T>], _: &[bool]) -> Result<(Tensor<T>, Shape)> {
        let x = inputs[0];
        Ok((Tensor::scalar(x.data().iter().copied().sum()), *x.shape()))
    }

    fn backward(&self, shape: Shape, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        Ok(vec![Some(Tensor::full(shape, dy.item()?))])
    }
}

impl<T: Element> Var<T> {
    /// The sum of all elements, a scalar.
    pub fn sum(&self) -> Result<Var<T>> {
        Var::apply(Sum, &[self])
    }
}
