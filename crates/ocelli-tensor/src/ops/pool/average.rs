//! Average pooling, with PyTorch's rules for what a window's sum is divided by.

use super::Geometry;
use super::weighted::{Axis, weighted_sums};
use crate::ops::window::Window;
use crate::{Element, Result, Shape, Tensor};

/// The average over every window: x `[N, H, W, C]` to `[N, OH, OW, C]`. With `ceil_mode`, output sizes are rounded up
/// ([`Window::output_size_ceil`]). The sum is divided by the taps inside of the input; with `count_include_pad`, also
/// counting those on padding, but never those beyond it, which only `ceil_mode` has.
///
/// Errors if x is not of rank 4, if the window does not fit, or if an edge is padded by more than half of the window.
pub fn avg_pool2d<T: Element>(
    x: &Tensor<T>,
    window: &Window,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Result<Tensor<T>> {
    Tensor::made(|y| avg_pool2d_into(x, window, ceil_mode, count_include_pad, y))
}

/// As [`avg_pool2d`], into `y`, which is [resized](Tensor::resize).
pub fn avg_pool2d_into<T: Element>(
    x: &Tensor<T>,
    window: &Window,
    ceil_mode: bool,
    count_include_pad: bool,
    y: &mut Tensor<T>,
) -> Result<()> {
    let geometry = Geometry::new("avg_pool2d", "input", x.shape(), window, ceil_mode)?;
    weighted_sums(x, geometry.output_shape(), &geometry.averages(count_include_pad), y);
    Ok(())
}

/// The gradient dx of [`avg_pool2d`], of shape `x_shape`.
///
/// Errors as [`avg_pool2d`] does, and if dy is not of its output's shape.
pub fn avg_pool2d_backward<T: Element>(
    dy: &Tensor<T>,
    x_shape: &Shape,
    window: &Window,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Result<Tensor<T>> {
    const OP: &str = "avg_pool2d_backward";
    let geometry = Geometry::new(OP, "input", x_shape, window, ceil_mode)?;
    geometry.check_gradient(OP, dy)?;
    let [vertical, horizontal] = geometry.averages(count_include_pad);
    Tensor::made(|dx| {
        weighted_sums(dy, *x_shape, &[vertical.transposed(), horizontal.transposed()], dx);
        Ok(())
    })
}

impl Geometry {
    /// The taps of both axes; what a sum is divided by is the product of the axes' counts.
    fn averages<T: Element>(&self, count_include_pad: bool) -> [Axis<T>; 2] {
        let window = &self.window;
        [0, 1].map(|axis| {
            let size = self.input[axis];
            let positions = |o| window.inside(axis, o, size).map(move |t| window.position(axis, o, t));
            let count = |o| match count_include_pad {
                true => window.padded(axis, o, size),
                false => window.inside(axis, o, size).len(),
            };
            Axis::averages((size, self.output[axis]), positions, count)
        })
    }
}
