//! How a weight is laid out in a checkpoint (PyTorch's way) and in a network (pixels are rows, channels columns).

use ocelli_autograd::tensor::{Element, Result, Shape, Tensor};

/// The kind of a weight, which decides how checkpoints lay it out.
///
/// ```
/// use ocelli_nn::Layout;
/// use ocelli_nn::tensor::Tensor;
///
/// let ours = Tensor::from_fn([3, 3, 16, 32], |i| i as f32);
/// let stored = Layout::Conv.to_checkpoint(&ours)?;
/// assert_eq!(stored.shape()[..], [32, 16, 3, 3]);
/// assert_eq!(Layout::Conv.from_checkpoint(&stored)?, ours);
/// # Ok::<(), ocelli_nn::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A convolution's weight: `[Kh, Kw, Cin/groups, Cout]` here, `[Cout, Cin/groups, Kh, Kw]` in checkpoints.
    Conv,
    /// A linear layer's weight: `[in, out]` here, `[out, in]` in checkpoints.
    Linear,
    /// The weight of a linear layer behind a flattened image, whose inputs run over height, width, channel here and
    /// over channel, height, width in checkpoints.
    LinearAfterFlatten {
        /// The image's height.
        height: usize,
        /// Its width.
        width: usize,
        /// Its channels.
        channels: usize,
    },
    /// The same in both: a bias, a normalisation's parameters and statistics.
    Vector,
}

impl Layout {
    /// The checkpoint's shape of a weight of this shape.
    pub fn checkpoint_shape(self, shape: &Shape) -> Shape {
        match (self, &shape[..]) {
            (Layout::Conv, &[h, w, i, o]) => Shape::from([o, i, h, w]),
            (Layout::Linear | Layout::LinearAfterFlatten { .. }, &[i, o]) => Shape::from([o, i]),
            _ => *shape,
        }
    }

    /// Whether a weight of this shape can be laid out so.
    pub(crate) fn fits(self, shape: &Shape) -> bool {
        match (self, &shape[..]) {
            (Layout::Conv, shape) => shape.len() == 4,
            (Layout::Linear, shape) => shape.len() == 2,
            (Layout::LinearAfterFlatten { height, width, channels }, &[i, _]) => i == height * width * channels,
            (Layout::LinearAfterFlatten { .. }, _) => false,
            (Layout::Vector, _) => true,
        }
    }

    /// The weight as a checkpoint lays it out.
    pub fn to_checkpoint<T: Element>(self, weight: &Tensor<T>) -> Result<Tensor<T>> {
        match self {
            Layout::Conv => weight.permute(&[3, 2, 0, 1]),
            Layout::Linear => weight.permute(&[1, 0]),
            Layout::LinearAfterFlatten { height, width, channels } => {
                let image = weight.reshape([height, width, channels, weight.shape().columns()])?;
                image.permute(&[3, 2, 0, 1])?.reshape(self.checkpoint_shape(weight.shape()))
            }
            Layout::Vector => Ok(weight.clone()),
        }
    }

    /// The weight as a network uses it, of a checkpoint's.
    #[allow(clippy::wrong_self_convention, reason = "the counterpart of `to_checkpoint`")]
    pub fn from_checkpoint<T: Element>(self, stored: &Tensor<T>) -> Result<Tensor<T>> {
        match self {
            Layout::Conv => stored.permute(&[2, 3, 1, 0]),
            Layout::Linear => stored.permute(&[1, 0]),
            Layout::LinearAfterFlatten { height, width, channels } => {
                let out = stored.shape().first().copied().unwrap_or(1);
                let image = stored.reshape([out, channels, height, width])?;
                image.permute(&[2, 3, 1, 0])?.reshape([height * width * channels, out])
            }
            Layout::Vector => Ok(stored.clone()),
        }
    }

    /// The inputs that one output sums over, and the outputs that one input goes to, as initialisers count them (the
    /// latter without regard to groups, as in PyTorch).
    pub(crate) fn fans(self, shape: &Shape) -> (usize, usize) {
        match (self, &shape[..]) {
            (Layout::Conv, &[h, w, i, o]) => (h * w * i, h * w * o),
            (Layout::Linear | Layout::LinearAfterFlatten { .. }, &[i, o]) => (i, o),
            _ => (shape.len(), shape.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_is_reversible() {
        let cases = [
            (Layout::Conv, Shape::from([3, 5, 2, 4]), Shape::from([4, 2, 3, 5])),
            (Layout::Linear, Shape::from([3, 5]), Shape::from([5, 3])),
            (
                Layout::LinearAfterFlatten { height: 2, width: 3, channels: 4 },
                Shape::from([24, 5]),
                Shape::from([5, 24]),
            ),
            (Layout::Vector, Shape::from([7]), Shape::from([7])),
        ];
        for (layout, shape, stored_shape) in cases {
            let ours = Tensor::from_fn(shape, |i| i as f32);
            let stored = layout.to_checkpoint(&ours).unwrap();
            assert_eq!((layout.checkpoint_shape(&shape), *stored.shape()), (stored_shape, stored_shape));
            assert_eq!(layout.from_checkpoint(&stored).unwrap(), ours, "{layout:?}");
        }
    }

    /// Flattening `[C, H, W]` and multiplying by the stored weight is the same as doing both here.
    #[test]
    fn a_flattened_image_meets_its_own_weights() {
        let (height, width, channels) = (2, 3, 4);
        let layout = Layout::LinearAfterFlatten { height, width, channels };
        let stored = Tensor::from_fn([1, height * width * channels], |i| i as f32);
        let ours = layout.from_checkpoint(&stored).unwrap();
        for (y, x, c) in [(0, 0, 0), (0, 2, 1), (1, 0, 3), (1, 2, 2)] {
            let theirs = stored.data()[(c * height + y) * width + x];
            assert_eq!(ours.data()[(y * width + x) * channels + c], theirs);
        }
    }
}
