//! y = the maximum over each window, by channels; dy goes to where the maximum was. Only those places are kept, about a
//! byte for each output.

use ocelli_tensor::ops::{self, Argmax, Window};
use ocelli_tensor::{Element, Shape, Tensor};

use crate::plan::Role;
use crate::{Gradients, Op, Result, Var};

/// Maximum pooling.
#[derive(Debug, Clone, Copy)]
pub struct MaxPool2d {
    /// Kernel size, stride, padding, dilation.
    pub window: Window,
    /// Whether output sizes are rounded up.
    pub ceil_mode: bool,
}

impl<T: Element> Op<T> for MaxPool2d {
    type Saved = Option<(Argmax, Shape)>;

    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn window(&self) -> Option<Window> {
        Some(self.window)
    }

    fn forward(&self, inputs: &[&Tensor<T>], needs: &[bool]) -> Result<(Tensor<T>, Self::Saved)> {
        let x = inputs[0];
        if !needs[0] {
            return Ok((ops::max_pool2d_values(x, &self.window, self.ceil_mode)?, None));
        }
        let (y, argmax) = ops::max_pool2d(x, &self.window, self.ceil_mode)?;
        Ok((y, Some((argmax, *x.shape()))))
    }

    fn forward_into(&self, inputs: &[&Tensor<T>], y: &mut Tensor<T>) -> Result<()> {
        Ok(ops::max_pool2d_values_into(inputs[0], &self.window, self.ceil_mode, y)?)
    }

    fn backward(&self, saved: Self::Saved, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        let dx = |(argmax, x_shape)| ops::max_pool2d_backward(&dy, &argmax, &x_shape, &self.window);
        Ok(vec![saved.map(dx).transpose()?])
    }

    fn role(&self, _: &[Option<&Tensor<T>>]) -> Result<Role<T>> {
        Ok(Role::MaxPool { window: self.window, ceil_mode: self.ceil_mode })
    }
}

impl<T: Element> Var<T> {
    /// The maximum over each window of this value `[N, H, W, C]`: `[N, Ho, Wo, C]`. Padding never wins. With `ceil_mode`
    /// output sizes are rounded up, as [`Window::output_size_ceil`] says.
    pub fn max_pool2d(&self, window: &Window, ceil_mode: bool) -> Result<Var<T>> {
        Var::apply(MaxPool2d { window: *window, ceil_mode }, &[self])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;
    use super::*;

    pub fn gradients(g: &Geometry) -> Checked {
        [false, true].into_iter().try_for_each(|ceil| {
            let x = g.image(1);
            // All taps of a dilated window can lie on padding; the maximum is then −∞, which has no differences.
            let finite = |y: Tensor<f64>| y.data().iter().all(|y| y.is_finite());
            if !ops::max_pool2d_values(&x, &g.window, ceil).is_ok_and(finite) {
                return Ok(());
            }
            gradcheck(&[x], |v| v[0].max_pool2d(&g.window, ceil))
        })
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }
}
