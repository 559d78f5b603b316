//! Average pooling, with PyTorch's rules for what a window's sum is divided by.

use super::{Geometry, Taps};
use crate::ops::pointwise::{load, store};
use crate::ops::window::Window;
use crate::simd::{self, Kernel, Simd};
use crate::{Element, Result, Shape, Tensor, threads};

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
    let geometry = Geometry::new("avg_pool2d", "input", x.shape(), window, ceil_mode)?;
    let mut y = Tensor::scratch(geometry.output_shape());
    let rows = threads::rows_per_chunk(geometry.input_row());
    threads::for_each_chunk(y.data_mut(), rows * geometry.output_row(), |i, y| {
        simd::dispatch(Forward { geometry, count_include_pad, x: x.data(), first: i * rows, y });
    });
    Ok(y)
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
    let mut dx = Tensor::scratch(x_shape);
    let rows = threads::rows_per_chunk(geometry.input_row());
    threads::for_each_chunk(dx.data_mut(), rows * geometry.input_row(), |i, dx| {
        simd::dispatch(Backward { geometry, count_include_pad, dy: dy.data(), first: i * rows, dx });
    });
    Ok(dx)
}

impl Geometry {
    /// The counted taps of output `o` along an axis; the product over both axes is what a sum is divided by.
    #[inline]
    fn counted(&self, axis: usize, o: usize, count_include_pad: bool) -> usize {
        let (window, size) = (&self.window, self.input[axis]);
        let count = if count_include_pad { window.padded(axis, o, size) } else { window.inside(axis, o, size).len() };
        // A dilated window may step over a small input; the average of nothing is 0.
        count.max(1)
    }
}

/// Whole rows of output pixels, of which the first is row `first` of all images.
struct Forward<'a, T> {
    geometry: Geometry,
    count_include_pad: bool,
    x: &'a [T],
    first: usize,
    y: &'a mut [T],
}

impl<T: Element> Kernel<T> for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Forward { geometry, count_include_pad, x, first, y } = self;
        let Geometry { output: [oh, _], channels, .. } = geometry;
        let mut taps = Taps::<T>::new(geometry);
        for (r, y) in y.chunks_exact_mut(geometry.output_row()).enumerate() {
            let (image, oy) = ((first + r) / oh, (first + r) % oh);
            let x = &x[image * geometry.image()..][..geometry.image()];
            let vertical = geometry.counted(0, oy, count_include_pad);
            for (ox, y) in y.chunks_exact_mut(channels).enumerate() {
                let count = vertical * geometry.counted(1, ox, count_include_pad);
                let share = simd.splat(T::from_f64(1.0 / count as f64));
                let (base, taps) = taps.of(oy, ox);
                for c in (0..channels).step_by(S::LANES) {
                    let n = S::LANES.min(channels - c);
                    let mut sum = simd.splat(T::ZERO);
                    for tap in taps {
                        sum = simd.add(sum, load(simd, x, base + tap.offset + c, n));
                    }
                    store(simd, simd.mul(sum, share), y, c, n);
                }
            }
        }
    }
}

/// Whole rows of dx, each gathered from the rows of dy whose windows reach it, so that threads share nothing.
struct Backward<'a, T> {
    geometry: Geometry,
    count_include_pad: bool,
    dy: &'a [T],
    first: usize,
    dx: &'a mut [T],
}

impl<T: Element> Kernel<T> for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Backward { geometry, count_include_pad, dy, first, dx } = self;
        let Geometry { window, input: [h, w], output: [oh, ow], channels, .. } = geometry;
        for (r, dx) in dx.chunks_exact_mut(geometry.input_row()).enumerate() {
            dx.fill(T::ZERO);
            let (image, iy) = ((first + r) / h, (first + r) % h);
            for (oy, _) in geometry.covering(0, iy) {
                let vertical = geometry.counted(0, oy, count_include_pad);
                let dy = &dy[(image * oh + oy) * geometry.output_row()..][..geometry.output_row()];
                for ox in 0..ow {
                    let dy = &dy[ox * channels..(ox + 1) * channels];
                    let count = vertical * geometry.counted(1, ox, count_include_pad);
                    let share = simd.splat(T::from_f64(1.0 / count as f64));
                    for kx in window.inside(1, ox, w) {
                        let ix = window.position(1, ox, kx);
                        let dx = &mut dx[ix * channels..(ix + 1) * channels];
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
}
