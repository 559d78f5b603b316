//! y = the average over all pixels of an image; dx = dy / (H·W) everywhere.

use ocelli_tensor::{Element, Shape, Tensor, ops};

use crate::plan::Role;
use crate::{Gradients, Op, Result, Var};

/// Global average pooling. Lin et al. 2013, <https://arxiv.org/abs/1312.4400>.
#[derive(Debug, Clone, Copy)]
pub struct GlobalAvgPool2d;

impl<T: Element> Op<T> for GlobalAvgPool2d {
    /// The input's shape.
    type Saved = Shape;

    fn name(&self) -> &'static str {
        "global_avg_pool2d"
    }

    fn role(&self, _: &[Option<&Tensor<T>>]) -> Result<Role<T>> {
        Ok(Role::Mean)
    }

    fn forward(&self, inputs: &[&Tensor<T>], _: &[bool]) -> Result<(Tensor<T>, Shape)> {
        Ok((ops::global_avg_pool2d(inputs[0])?, *inputs[0].shape()))
    }

    fn forward_into(&self, inputs: &[&Tensor<T>], y: &mut Tensor<T>) -> Result<()> {
        Ok(ops::global_avg_pool2d_into(inputs[0], y)?)
    }

    fn backward(&self, x_shape: Shape, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        Ok(vec![Some(ops::global_avg_pool2d_backward(&dy, &x_shape)?)])
    }
}

impl<T: Element> Var<T> {
    /// The average over the pixels of this value `[N, H, W, C]`: `[N, C]`.
    pub fn global_avg_pool2d(&self) -> Result<Var<T>> {
        Var::apply(GlobalAvgPool2d, &[self])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;

    pub fn gradients(g: &Geometry) -> Checked {
        gradcheck(&[g.image(1)], |v| v[0].global_avg_pool2d())
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }
}
