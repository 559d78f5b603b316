//! y = Σ x / n, a scalar; dx = dy / n everywhere.

use ocelli_tensor::{Element, Shape, Tensor, ops};

use crate::{Gradients, Op, Result, Var};

/// The mean of all elements, of shape `[]`.
#[derive(Debug, Clone, Copy)]
pub struct Mean;

impl<T: Element> Op<T> for Mean {
    type Saved = Shape;

    fn name(&self) -> &'static str {
        "mean"
    }

    fn forward(&self, inputs: &[&Tensor<T>], _: &[bool]) -> Result<(Tensor<T>, Shape)> {
        Ok((ops::mean_all(inputs[0]), *inputs[0].shape()))
    }

    fn backward(&self, shape: Shape, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        let share = dy.item()? / T::from_f64(shape.len() as f64);
        Ok(vec![Some(Tensor::full(shape, share))])
    }
}

impl<T: Element> Var<T> {
    /// The mean of all elements, of shape `[]`.
    pub fn mean(&self) -> Result<Var<T>> {
        Var::apply(Mean, &[self])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;

    pub fn gradients(g: &Geometry) -> Checked {
        gradcheck(&[g.image(1)], |v| v[0].mean())
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }
}
