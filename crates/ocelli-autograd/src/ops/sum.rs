//! y = Σ x, a scalar; dx = dy everywhere.

use ocelli_tensor::{Element, Shape, Tensor, ops};

use crate::{Gradients, Op, Result, Var};

/// The sum of all elements, of shape `[]`.
#[derive(Debug, Clone, Copy)]
pub struct Sum;

impl<T: Element> Op<T> for Sum {
    type Saved = Shape;

    fn name(&self) -> &'static str {
        "sum"
    }

    fn forward(&self, inputs: &[&Tensor<T>], _: &[bool]) -> Result<(Tensor<T>, Shape)> {
        Ok((ops::sum_all(inputs[0]), *inputs[0].shape()))
    }

    fn backward(&self, shape: Shape, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        Ok(vec![Some(Tensor::full(shape, dy.item()?))])
    }
}

impl<T: Element> Var<T> {
    /// The sum of all elements, of shape `[]`.
    pub fn sum(&self) -> Result<Var<T>> {
        Var::apply(Sum, &[self])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;

    pub fn gradients(g: &Geometry) -> Checked {
        gradcheck(&[g.image(1)], |v| v[0].sum())
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }
}
