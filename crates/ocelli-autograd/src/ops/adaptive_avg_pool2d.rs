//! y = the averages over `OH × OW` regions that cover the image; dx spreads dy evenly over each.

use ocelli_tensor::{Element, Shape, Tensor, ops};

use crate::plan::Role;
use crate::{Gradients, Op, Result, Var};

/// Average pooling to an output size.
#[derive(Debug, Clone, Copy)]
pub struct AdaptiveAvgPool2d {
    /// Height and width.
    pub output: [usize; 2],
}

impl<T: Element> Op<T> for AdaptiveAvgPool2d {
    /// The input's shape.
    type Saved = Shape;

    fn name(&self) -> &'static str {
        "adaptive_avg_pool2d"
    }

    fn role(&self, _: &[Option<&Tensor<T>>]) -> Result<Role<T>> {
        Ok(if self.output == [1, 1] { Role::Mean } else { Role::Opaque })
    }

    fn forward(&self, inputs: &[&Tensor<T>], _: &[bool]) -> Result<(Tensor<T>, Shape)> {
        Ok((ops::adaptive_avg_pool2d(inputs[0], self.output)?, *inputs[0].shape()))
    }

    fn forward_into(&self, inputs: &[&Tensor<T>], y: &mut Tensor<T>) -> Result<()> {
        Ok(ops::adaptive_avg_pool2d_into(inputs[0], self.output, y)?)
    }

    fn backward(&self, x_shape: Shape, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        Ok(vec![Some(ops::adaptive_avg_pool2d_backward(&dy, &x_shape)?)])
    }
}

impl<T: Element> Var<T> {
    /// This value `[N, H, W, C]` averaged to `[N, OH, OW, C]`, whatever H and W are; regions overlap where OH or OW does
    /// not divide them.
    pub fn adaptive_avg_pool2d(&self, output: [usize; 2]) -> Result<Var<T>> {
        Var::apply(AdaptiveAvgPool2d { output }, &[self])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;

    pub fn gradients(g: &Geometry) -> Checked {
        let outputs = [[1, 1], g.window.kernel_size, [g.input[0], 1], [2, g.input[1]]];
        outputs.into_iter().try_for_each(|output| gradcheck(&[g.image(1)], |v| v[0].adaptive_avg_pool2d(output)))
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }
}
