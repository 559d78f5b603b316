//! The parameter-free shortcut (option A) of the residual networks for CIFAR: every `stride`-th pixel in both directions,
//! with channels of zeros added evenly on both sides. He et al. 2015, section 3.3, <https://arxiv.org/abs/1512.03385>.
//!
//! y[n, i, j, before + c] = x[n, stride·i, stride·j, c], and 0 in the other channels, of which there are ⌊(C' − C) / 2⌋
//! before the input's; dx takes dy back to where it came from.

use ocelli_tensor::{Element, Error, Shape, Tensor, threads};

use crate::{Gradients, Op, Result, Var};

/// Subsampled pixels and padded channels.
#[derive(Debug, Clone, Copy)]
pub struct SubsamplePad {
    /// Of which pixels are taken.
    pub stride: usize,
    /// Of the output, no fewer than the input's.
    pub channels: usize,
}

impl<T: Element> Op<T> for SubsamplePad {
    /// The input's shape.
    type Saved = Shape;

    fn name(&self) -> &'static str {
        "subsample_pad"
    }

    fn forward(&self, inputs: &[&Tensor<T>], _: &[bool]) -> Result<(Tensor<T>, Shape)> {
        let mut y = Tensor::default();
        self.forward_into(inputs, &mut y)?;
        Ok((y, *inputs[0].shape()))
    }

    fn forward_into(&self, inputs: &[&Tensor<T>], y: &mut Tensor<T>) -> Result<()> {
        const OP: &str = "subsample_pad";
        let (x, SubsamplePad { stride, channels: columns }) = (inputs[0], *self);
        let [n, h, w, channels] = x.shape().nhwc(OP, "input")?;
        if stride == 0 {
            return Err(Error::argument(OP, "stride", "of at least 1", stride).into());
        }
        if columns < channels {
            return Err(Error::argument(OP, "channels", format!("of at least {channels}"), columns).into());
        }
        let before = (columns - channels) / 2;
        let (oh, ow) = (h.div_ceil(stride), w.div_ceil(stride));
        let y = y.resize(Shape::new(&[n, oh, ow, columns])?);
        // One chunk is one row of pixels.
        threads::for_each_chunk(y, ow * columns, |row, y| {
            y.fill(T::ZERO);
            let x = &x.data()[(row / oh * h + row % oh * stride) * w * channels..];
            for (j, y) in y.chunks_exact_mut(columns).enumerate() {
                y[before..before + channels].copy_from_slice(&x[j * stride * channels..][..channels]);
            }
        });
        Ok(())
    }

    fn backward(&self, x_shape: Shape, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        let SubsamplePad { stride, channels: columns } = *self;
        let [_, h, w, channels] = x_shape.nhwc("subsample_pad", "input")?;
        let (oh, ow, before) = (h.div_ceil(stride), w.div_ceil(stride), (columns - channels) / 2);
        let mut dx = Tensor::zeros(x_shape);
        threads::for_each_chunk(dx.data_mut(), w * channels, |row, dx| {
            let (image, i) = (row / h, row % h);
            if i % stride != 0 {
                return;
            }
            let dy = &dy.data()[(image * oh + i / stride) * ow * columns..];
            for (j, dy) in dy.chunks_exact(columns).take(ow).enumerate() {
                dx[j * stride * channels..][..channels].copy_from_slice(&dy[before..before + channels]);
            }
        });
        Ok(vec![Some(dx)])
    }
}

impl<T: Element> Var<T> {
    /// Every `stride`-th pixel of this value `[N, H, W, C]` in both directions, with zeros for channels added evenly on both
    /// sides (an odd one behind): `[N, ⌈H / stride⌉, ⌈W / stride⌉, channels]`.
    pub fn subsample_pad(&self, stride: usize, channels: usize) -> Result<Var<T>> {
        Var::apply(SubsamplePad { stride, channels }, &[self])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;
    use super::*;

    pub fn gradients(g: &Geometry) -> Checked {
        gradcheck(&[g.image(1)], |v| v[0].subsample_pad(g.window.stride[0], g.channels + g.groups - 1))
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }

    #[test]
    fn pixels_and_channels_land_where_they_should() {
        let x = Var::constant(Tensor::from_fn([1, 3, 2, 1], |i| i as f32 + 1.0));
        let y = x.subsample_pad(2, 4).unwrap();
        assert_eq!(**y.shape(), [1, 2, 1, 4]);
        assert_eq!(y.value().data(), [0.0, 1.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0]);
        assert!(
            x.subsample_pad(0, 1).is_err() && x.subsample_pad(1, 0).is_err() && x.subsample_pad(1, usize::MAX).is_err()
        );
    }
}
