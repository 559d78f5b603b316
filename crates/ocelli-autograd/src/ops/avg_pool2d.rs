//! y = the average over each window, by channels; dx spreads dy evenly over the window.

use ocelli_tensor::ops::{self, Window};
use ocelli_tensor::{Element, Shape, Tensor};

use crate::{Gradients, Op, Result, Var};

/// Average pooling.
#[derive(Debug, Clone, Copy)]
pub struct AvgPool2d {
    /// Kernel size, stride, padding, dilation.
    pub window: Window,
    /// Whether output sizes are rounded up.
    pub ceil_mode: bool,
    /// Whether padding counts in the denominator.
    pub count_include_pad: bool,
}

impl<T: Element> Op<T> for AvgPool2d {
    /// The input's shape.
    type Saved = Shape;

    fn name(&self) -> &'static str {
        "avg_pool2d"
    }

    fn window(&self) -> Option<Window> {
        Some(self.window)
    }

    fn forward(&self, inputs: &[&Tensor<T>], _: &[bool]) -> Result<(Tensor<T>, Shape)> {
        let AvgPool2d { window, ceil_mode, count_include_pad } = self;
        Ok((ops::avg_pool2d(inputs[0], window, *ceil_mode, *count_include_pad)?, *inputs[0].shape()))
    }

    fn forward_into(&self, inputs: &[&Tensor<T>], y: &mut Tensor<T>) -> Result<()> {
        let AvgPool2d { window, ceil_mode, count_include_pad } = self;
        Ok(ops::avg_pool2d_into(inputs[0], window, *ceil_mode, *count_include_pad, y)?)
    }

    fn backward(&self, x_shape: Shape, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        let AvgPool2d { window, ceil_mode, count_include_pad } = self;
        Ok(vec![Some(ops::avg_pool2d_backward(&dy, &x_shape, window, *ceil_mode, *count_include_pad)?)])
    }
}

impl<T: Element> Var<T> {
    /// The average over each window of this value `[N, H, W, C]`: `[N, Ho, Wo, C]`, with or without the padding in the
    /// denominator. With `ceil_mode` output sizes are rounded up, as [`Window::output_size_ceil`] says.
    pub fn avg_pool2d(&self, window: &Window, ceil_mode: bool, count_include_pad: bool) -> Result<Var<T>> {
        Var::apply(AvgPool2d { window: *window, ceil_mode, count_include_pad }, &[self])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;

    pub fn gradients(g: &Geometry) -> Checked {
        let modes = [(false, false), (false, true), (true, false), (true, true)];
        let check = |(ceil, pad)| gradcheck(&[g.image(1)], |v| v[0].avg_pool2d(&g.window, ceil, pad));
        modes.into_iter().try_for_each(check)
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }
}
