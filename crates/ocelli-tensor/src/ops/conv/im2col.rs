//! The textbook form: copy every window into a row of a matrix, then multiply. It is the readable baseline that tests
//! and benchmarks hold the gathered products against.

use super::Geometry;
use crate::ops::{Window, matmul};
use crate::{Element, Result, Shape, Tensor};

/// The windows of `x` `[N, H, W, C]` as rows: `[N·Ho·Wo, Kh·Kw·C]`.
pub fn im2col<T: Element>(x: &Tensor<T>, window: &Window) -> Result<Tensor<T>> {
    let [batch, height, width, channels] = x.shape().nhwc("im2col", "input")?;
    let [out_height, out_width] = window.output_size("im2col", [height, width])?;
    let [kh, kw] = window.kernel_size;
    let mut columns = Tensor::zeros(Shape::new(&[batch * out_height * out_width, kh * kw * channels])?);
    let (pad, stride, dilation) = ([window.padding.top, window.padding.left], window.stride, window.dilation);
    let rows = columns.data_mut().chunks_exact_mut((kh * kw * channels).max(1));
    for (pixel, row) in rows.enumerate() {
        let (n, oy, ox) = (pixel / (out_height * out_width), pixel / out_width % out_height, pixel % out_width);
        for (tap, to) in row.chunks_exact_mut(channels).enumerate() {
            let y = (oy * stride[0] + tap / kw * dilation[0]).checked_sub(pad[0]).filter(|&y| y < height);
            let x_at = (ox * stride[1] + tap % kw * dilation[1]).checked_sub(pad[1]).filter(|&x| x < width);
            if let (Some(y), Some(x_at)) = (y, x_at) {
                to.copy_from_slice(&x.data()[((n * height + y) * width + x_at) * channels..][..channels]);
            }
        }
    }
    Ok(columns)
}

/// [`conv2d`](super::conv2d) by [`im2col`], for one group.
pub fn conv2d_im2col<T: Element>(x: &Tensor<T>, w: &Tensor<T>, window: &Window) -> Result<Tensor<T>> {
    let geometry = Geometry::new("conv2d_im2col", x.shape(), w.shape(), window, 1)?;
    let weights = w.reshape([window.taps() * geometry.in_channels, geometry.out_channels])?;
    matmul(&im2col(x, window)?, &weights)?.reshape(Shape::new(&geometry.y_shape())?)
}
