//! y = the elements of x under another shape; dx = dy under x's shape. Nothing is copied.

use ocelli_tensor::{Element, Shape, Tensor};

use crate::{Gradients, Op, Result, Var};

/// Another shape.
#[derive(Debug, Clone, Copy)]
pub enum Reshape {
    /// This one.
    To(Shape),
    /// `[N, the rest]`, for any batch size N.
    Flatten,
}

impl Reshape {
    /// The shape that x takes.
    fn shape(&self, x: &Shape) -> Shape {
        match self {
            Reshape::To(shape) => *shape,
            Reshape::Flatten => Shape::from([x.first().copied().unwrap_or(1), x.iter().skip(1).product()]),
        }
    }
}

impl<T: Element> Op<T> for Reshape {
    /// The input's shape.
    type Saved = Shape;

    fn name(&self) -> &'static str {
        "reshape"
    }

    fn forward(&self, inputs: &[&Tensor<T>], _: &[bool]) -> Result<(Tensor<T>, Shape)> {
        let x = inputs[0];
        Ok((x.reshape(self.shape(x.shape()))?, *x.shape()))
    }

    fn forward_into(&self, inputs: &[&Tensor<T>], y: &mut Tensor<T>) -> Result<()> {
        let shape = self.shape(inputs[0].shape());
        let x = inputs[0].reshape(shape)?;
        // A view would keep its input's memory from being used again.
        y.resize(shape).copy_from_slice(x.data());
        Ok(())
    }

    fn backward(&self, x_shape: Shape, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        Ok(vec![Some(dy.reshape(x_shape)?)])
    }
}

impl<T: Element> Var<T> {
    /// The same elements under another shape of the same length.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Var<T>> {
        Var::apply(Reshape::To(shape.into()), &[self])
    }

    /// `[N, H, W, C]` (or any `[N, …]`) as `[N, H·W·C]`.
    pub fn flatten(&self) -> Result<Var<T>> {
        Var::apply(Reshape::Flatten, &[self])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::slice::from_ref;

    use super::super::testing::*;

    pub fn gradients(g: &Geometry) -> Checked {
        let x = g.image(1);
        gradcheck(from_ref(&x), |v| v[0].reshape([x.len(), 1]))?;
        gradcheck(&[x], |v| v[0].flatten())
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }
}
