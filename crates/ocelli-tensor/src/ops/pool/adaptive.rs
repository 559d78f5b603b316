//! Average pooling to a given output size, and to a single pixel.
//!
//! Output `o` of `m` averages the input positions ⌊o · size / m⌋ to ⌈(o + 1) · size / m⌉ − 1 (PyTorch's rule): regions of
//! almost equal size, which overlap where `m` does not divide the size.

use std::ops::Range;

use crate::ops::columns::{Values, grouped_sums, rounded};
use crate::ops::elementwise::scale;
use crate::ops::pointwise::{load, store};
use crate::simd::{self, Kernel, Simd};
use crate::{Element, Error, Result, Shape, Tensor, threads};

/// The average over each of `OH × OW` regions: x `[N, H, W, C]` to `[N, OH, OW, C]`.
///
/// Errors if x is not of rank 4 or without pixels, or if the output size contains a 0.
pub fn adaptive_avg_pool2d<T: Element>(x: &Tensor<T>, output: [usize; 2]) -> Result<Tensor<T>> {
    let regions = Regions::new("adaptive_avg_pool2d", x.shape(), output)?;
    if output == [1, 1] {
        return global_avg_pool2d(x)?.reshape(regions.output_shape());
    }
    let mut y = Tensor::scratch(regions.output_shape());
    let rows = threads::rows_per_chunk(x.len() / (regions.batch * output[0]).max(1));
    threads::for_each_chunk(y.data_mut(), rows * output[1] * regions.channels, |i, y| {
        simd::dispatch(Forward { regions, x: x.data(), first: i * rows, y });
    });
    Ok(y)
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
    let mut dx = Tensor::zeros(x_shape);
    let image = x_shape[1..].iter().product();
    threads::for_each_chunk(dx.data_mut(), image, |i, dx| {
        simd::dispatch(Backward { regions, dy: dy.data(), image: i, dx });
    });
    Ok(dx)
}

/// The average over all pixels: x `[N, H, W, C]` to `[N, C]`.
///
/// Errors if x is not of rank 4 or without pixels.
pub fn global_avg_pool2d<T: Element>(x: &Tensor<T>) -> Result<Tensor<T>> {
    let Regions { batch, input: [h, w], channels, .. } = Regions::new("global_avg_pool2d", x.shape(), [1, 1])?;
    let sums = grouped_sums(Values(x.data()), batch, h * w, channels);
    Ok(rounded([batch, channels], &sums, 1.0 / (h * w) as f64))
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
    let share = scale(dy, T::from_f64(1.0 / (h * w) as f64));
    let mut dx = Tensor::scratch(x_shape);
    let rows = threads::rows_per_chunk(channels);
    threads::for_each_chunk(dx.data_mut(), rows * channels, |i, dx| {
        for (r, dx) in dx.chunks_exact_mut(channels).enumerate() {
            let image = (i * rows + r) / (h * w);
            dx.copy_from_slice(&share.data()[image * channels..(image + 1) * channels]);
        }
    });
    Ok(dx)
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

    fn output_shape(&self) -> Shape {
        Shape::from([self.batch, self.output[0], self.output[1], self.channels])
    }

    /// The input positions of output `o` along an axis.
    fn region(&self, axis: usize, o: usize) -> Range<usize> {
        let (size, outputs) = (self.input[axis], self.output[axis]);
        o * size / outputs..((o + 1) * size).div_ceil(outputs)
    }
}

/// Whole rows of output pixels, of which the first is row `first` of all images.
struct Forward<'a, T> {
    regions: Regions,
    x: &'a [T],
    first: usize,
    y: &'a mut [T],
}

impl<T: Element> Kernel<T> for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Forward { regions, x, first, y } = self;
        let Regions { input: [h, w], output: [oh, ow], channels, .. } = regions;
        for (p, y) in y.chunks_exact_mut(channels).enumerate() {
            let (row, ox) = (first + p / ow, p % ow);
            let (image, oy) = (row / oh, row % oh);
            let (ys, xs) = (regions.region(0, oy), regions.region(1, ox));
            let share = simd.splat(T::from_f64(1.0 / (ys.len() * xs.len()) as f64));
            for c in (0..channels).step_by(S::LANES) {
                let n = S::LANES.min(channels - c);
                let mut sum = simd.splat(T::ZERO);
                for iy in ys.clone() {
                    for ix in xs.clone() {
                        sum = simd.add(sum, load(simd, x, ((image * h + iy) * w + ix) * channels + c, n));
                    }
                }
                store(simd, simd.mul(sum, share), y, c, n);
            }
        }
    }
}

/// One image of dx, which starts as zeros.
struct Backward<'a, T> {
    regions: Regions,
    dy: &'a [T],
    image: usize,
    dx: &'a mut [T],
}

impl<T: Element> Kernel<T> for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Backward { regions, dy, image, dx } = self;
        let Regions { input: [_, w], output: [oh, ow], channels, .. } = regions;
        let dy = &dy[image * oh * ow * channels..][..oh * ow * channels];
        for (p, dy) in dy.chunks_exact(channels).enumerate() {
            let (ys, xs) = (regions.region(0, p / ow), regions.region(1, p % ow));
            let share = simd.splat(T::from_f64(1.0 / (ys.len() * xs.len()) as f64));
            for iy in ys {
                for ix in xs.clone() {
                    let dx = &mut dx[(iy * w + ix) * channels..][..channels];
                    for c in (0..channels).step_by(S::LANES) {
                        let n = S::LANES.min(channels - c);
                        let v = simd.mul_add(load(simd, dy, c, n), share, load(simd, dx, c, n));
                        store(simd, v, dx, c, n);
                    }
                }
            }
        }
    }
}
