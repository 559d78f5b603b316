//! Average pooling to a given output size, and to a single pixel.
//!
//! Output `o` of `m` averages the input positions ⌊o · size / m⌋ to ⌈(o + 1) · size / m⌉ − 1 (PyTorch's rule): regions of
//! almost equal size, which overlap where `m` does not divide the size.

use std::ops::Range;

use super::weighted::{Axis, weighted_sums};
use crate::ops::columns::{Values, map_grouped_sums};
use crate::ops::pointwise::{load, store};
use crate::simd::{self, Kernel, Simd};
use crate::{Element, Error, Result, Shape, Tensor, threads};

/// The average over each of `OH × OW` regions: x `[N, H, W, C]` to `[N, OH, OW, C]`.
///
/// Errors if x is not of rank 4 or without pixels, or if the output size contains a 0.
pub fn adaptive_avg_pool2d<T: Element>(x: &Tensor<T>, output: [usize; 2]) -> Result<Tensor<T>> {
    Tensor::made(|y| adaptive_avg_pool2d_into(x, output, y))
}

/// As [`adaptive_avg_pool2d`], into `y`, which is [resized](Tensor::resize).
pub fn adaptive_avg_pool2d_into<T: Element>(x: &Tensor<T>, output: [usize; 2], y: &mut Tensor<T>) -> Result<()> {
    let regions = Regions::new("adaptive_avg_pool2d", x.shape(), output)?;
    if output == [1, 1] {
        regions.global_average(x, y.resize(regions.output_shape()));
    } else {
        weighted_sums(x, regions.output_shape(), &regions.averages(), y);
    }
    Ok(())
}

/// The gradient dx of [`adaptive_avg_pool2d`], of shape `x_shape`.
///
/// Errors if dy is not `[N, OH, OW, C]` of `x_shape`'s batch and channels, or without pixels.
pub fn adaptive_avg_pool2d_backward<T: Element>(dy: &Tensor<T>, x_shape: &Shape) -> Result<Tensor<T>> {
    const OP: &str = "adaptive_avg_pool2d_backward";
    let [_, oh, ow, _] = dy.shape().nhwc(OP, "dy")?;
    let regions = Regions::new(OP, x_shape, [oh, ow])?;
    if *dy.shape() != regions.output_shape() {
        return Err(Error::shape(OP, "dy", regions.output_shape(), dy.shape()));
    }
    if [oh, ow] == [1, 1] {
        return global_avg_pool2d_backward(&dy.reshape([regions.batch, regions.channels])?, x_shape);
    }
    let [vertical, horizontal] = regions.averages();
    Tensor::made(|dx| {
        weighted_sums(dy, *x_shape, &[vertical.transposed(), horizontal.transposed()], dx);
        Ok(())
    })
}

/// The average over all pixels: x `[N, H, W, C]` to `[N, C]`.
///
/// Errors if x is not of rank 4 or without pixels.
pub fn global_avg_pool2d<T: Element>(x: &Tensor<T>) -> Result<Tensor<T>> {
    Tensor::made(|y| global_avg_pool2d_into(x, y))
}

/// As [`global_avg_pool2d`], into `y`, which is [resized](Tensor::resize).
pub fn global_avg_pool2d_into<T: Element>(x: &Tensor<T>, y: &mut Tensor<T>) -> Result<()> {
    let regions = Regions::new("global_avg_pool2d", x.shape(), [1, 1])?;
    regions.global_average(x, y.resize([regions.batch, regions.channels]));
    Ok(())
}

/// The gradient dx of [`global_avg_pool2d`], of shape `x_shape`.
///
/// Errors if dy is not `[N, C]` of `x_shape`, or if that is not of rank 4 or without pixels.
pub fn global_avg_pool2d_backward<T: Element>(dy: &Tensor<T>, x_shape: &Shape) -> Result<Tensor<T>> {
    const OP: &str = "global_avg_pool2d_backward";
    let Regions { batch, input: [h, w], channels, .. } = Regions::new(OP, x_shape, [1, 1])?;
    if **dy.shape() != [batch, channels] {
        return Err(Error::shape(OP, "dy", format!("[{batch}, {channels}]"), dy.shape()));
    }
    let mut dx = Tensor::scratch(x_shape);
    let (rows, pixels) = (threads::rows_per_chunk(channels), h * w);
    let share = T::from_f64(1.0 / pixels as f64);
    threads::for_each_chunk(dx.data_mut(), rows * channels, |i, dx| {
        simd::dispatch(Spread { dy: dy.data(), share, pixels, channels, first: i * rows, dx });
    });
    Ok(dx)
}

/// Pixels of dx, of which the first is pixel `first` of all images: each is its image's dy times `share`.
struct Spread<'a, T> {
    dy: &'a [T],
    share: T,
    pixels: usize,
    channels: usize,
    first: usize,
    dx: &'a mut [T],
}

impl<T: Element> Kernel<T> for Spread<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let share = simd.splat(self.share);
        for (r, dx) in self.dx.chunks_exact_mut(self.channels).enumerate() {
            let image = (self.first + r) / self.pixels;
            let dy = &self.dy[image * self.channels..][..self.channels];
            let mut c = 0;
            while c < dy.len() {
                let n = S::LANES.min(dy.len() - c);
                simd.ask_ahead(dx, c);
                store(simd, simd.mul(load(simd, dy, c, n), share), dx, c, n);
                c += n;
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Regions {
    batch: usize,
    input: [usize; 2],
    output: [usize; 2],
    channels: usize,
}

impl Regions {
    fn new(op: &'static str, x: &Shape, output: [usize; 2]) -> Result<Self> {
        let [batch, h, w, channels] = x.nhwc(op, "input")?;
        if h == 0 || w == 0 {
            return Err(Error::shape(op, "input", "[N, H, W, C] with at least one pixel", x));
        }
        if output.contains(&0) {
            return Err(Error::argument(op, "output size", "of at least 1", format!("{output:?}")));
        }
        Shape::new(&[batch, output[0], output[1], channels])?;
        Ok(Regions { batch, input: [h, w], output, channels })
    }

    /// The averages of all images' pixels.
    fn global_average<T: Element>(&self, x: &Tensor<T>, y: &mut [T]) {
        let pixels = self.input[0] * self.input[1];
        let share = 1.0 / pixels as f64;
        map_grouped_sums(Values(x.data()), pixels, self.channels, |sum| T::from_f64(sum * share), y);
    }

    fn output_shape(&self) -> Shape {
        Shape::from([self.batch, self.output[0], self.output[1], self.channels])
    }

    /// The input positions of output `o` along an axis.
    fn region(&self, axis: usize, o: usize) -> Range<usize> {
        let (size, outputs) = (self.input[axis], self.output[axis]);
        o * size / outputs..((o + 1) * size).div_ceil(outputs)
    }

    /// The regions of both axes.
    fn averages<T: Element>(&self) -> [Axis<T>; 2] {
        [0, 1].map(|axis| {
            let sizes = (self.input[axis], self.output[axis]);
            Axis::averages(sizes, |o| self.region(axis, o), |o| self.region(axis, o).len())
        })
    }
}
