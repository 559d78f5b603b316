//! Pooling over windows of `[N, H, W, C]`, vectorised over channels: maximum, average, adaptive and global average.

mod adaptive;
mod average;
mod bytes;
mod max;
#[cfg(test)]
mod tests;
pub(crate) mod weighted;

pub use adaptive::{
    adaptive_avg_pool2d, adaptive_avg_pool2d_backward, adaptive_avg_pool2d_into, global_avg_pool2d,
    global_avg_pool2d_backward, global_avg_pool2d_into,
};
pub use average::{avg_pool2d, avg_pool2d_backward, avg_pool2d_into};
pub use bytes::max_pool2d_bytes;
pub use max::{Argmax, max_pool2d, max_pool2d_backward, max_pool2d_values, max_pool2d_values_into};

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::window::Window;
use crate::memory::Scratch;
use crate::{Element, Error, Result, Shape, Tensor};

/// The sizes of one pooling operation, checked.
#[derive(Debug, Clone, Copy)]
struct Geometry {
    window: Window,
    batch: usize,
    input: [usize; 2],
    output: [usize; 2],
    channels: usize,
}

impl Geometry {
    /// Errors if x is not `[N, H, W, C]`, if the window does not fit, or if an edge is padded by more than half of the
    /// window's extent, so that windows of nothing but padding do not come about.
    fn new(op: &'static str, what: &'static str, x: &Shape, window: &Window, ceil_mode: bool) -> Result<Self> {
        let [batch, h, w, channels] = x.nhwc(op, what)?;
        let input = [h, w];
        let output = if ceil_mode { window.output_size_ceil(op, input)? } else { window.output_size(op, input)? };
        let (half, p) = ([window.extent(0) / 2, window.extent(1) / 2], window.padding);
        if p.top.max(p.bottom) > half[0] || p.left.max(p.right) > half[1] {
            let expected = format!("of at most half of the window, {half:?}");
            return Err(Error::argument(op, "padding", expected, format!("{p:?}")));
        }
        Ok(Geometry { window: *window, batch, input, output, channels })
    }

    fn output_shape(&self) -> Shape {
        Shape::from([self.batch, self.output[0], self.output[1], self.channels])
    }

    /// Errors if dy is not of the output's shape.
    fn check_gradient<T: Element>(&self, op: &'static str, dy: &Tensor<T>) -> Result<()> {
        let expected = self.output_shape();
        if *dy.shape() == expected { Ok(()) } else { Err(Error::shape(op, "dy", expected, dy.shape())) }
    }

    /// Elements of one input image.
    fn image(&self) -> usize {
        self.input[0] * self.input[1] * self.channels
    }

    /// Elements of one row of input pixels.
    fn input_row(&self) -> usize {
        self.input[1] * self.channels
    }

    /// Elements of one row of output pixels.
    fn output_row(&self) -> usize {
        self.output[1] * self.channels
    }

    /// The outputs along an axis one of whose taps is the input position `i`, each with that tap.
    fn covering(&self, axis: usize, i: usize) -> impl Iterator<Item = (usize, usize)> {
        let Window { kernel_size, stride, dilation, padding } = self.window;
        let before = if axis == 0 { padding.top } else { padding.left };
        let outputs = self.output[axis];
        (0..kernel_size[axis]).rev().filter_map(move |t| {
            let start = (i + before).checked_sub(t * dilation[axis])?;
            let o = start / stride[axis];
            (start % stride[axis] == 0 && o < outputs).then_some((o, t))
        })
    }
}

/// A tap of an output pixel that lies inside of the input.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Tap {
    /// Where its channels start, counted from the output pixel's base.
    offset: usize,
    /// Row by row in the window.
    number: usize,
}

/// A small integer in a form that lanes can hold and whose bits give it back without a conversion: 2²³ or, in `f64`,
/// 2⁵² more, so that it stands at the end of the mantissa.
#[inline(always)]
fn index<T: Element>(tap: usize) -> T {
    if size_of::<T>() == 4 {
        bytemuck::cast(0x4B00_0000 + tap as u32)
    } else {
        bytemuck::cast(0x4330_0000_0000_0000 + tap as u64)
    }
}

/// Enumerates the taps of output pixels, row by row.
struct Taps {
    geometry: Geometry,
    /// The output columns whose windows lie inside of the input's width.
    inner: Range<usize>,
    /// The row of output pixels, and whether their windows lie inside of the input's height.
    oy: usize,
    is_inner_row: bool,
    /// The taps of a pixel whose window lies inside of the input, counted from its first tap.
    all: Scratch<Tap>,
    /// Room for those of a pixel at the border, counted from the image's first element.
    some: Scratch<Tap>,
}

impl Taps {
    fn new(geometry: Geometry) -> Self {
        let Geometry { window: Window { kernel_size: [kh, kw], dilation, .. }, channels, .. } = geometry;
        let mut all = Scratch::<Tap>::new(kh * kw);
        for (number, tap) in all.iter_mut().enumerate() {
            let (ky, kx) = (number / kw, number % kw);
            *tap = Tap { offset: ky * dilation[0] * geometry.input_row() + kx * dilation[1] * channels, number };
        }
        let Geometry { window, input: [_, w], output: [_, ow], .. } = geometry;
        let (stride, before) = (window.stride[1], window.padding.left);
        let room = (w + before).checked_sub(window.extent(1));
        let inner = before.div_ceil(stride)..room.map_or(0, |room| ow.min(room / stride + 1));
        Taps { geometry, inner, oy: 0, is_inner_row: false, all, some: Scratch::new(kh * kw) }
    }

    /// Goes to a row of output pixels.
    fn start_row(&mut self, oy: usize) {
        let Geometry { window, input: [h, _], .. } = self.geometry;
        (self.oy, self.is_inner_row) = (oy, window.inside(0, oy, h).len() == window.kernel_size[0]);
    }

    /// The base, an element of the image, and the taps of the row's output pixel `ox`: all that lie inside of the input, in
    /// the window's order.
    #[inline(always)]
    fn of(&mut self, ox: usize) -> (usize, &[Tap]) {
        if self.is_inner_row && self.inner.contains(&ox) {
            (self.start(ox, [0, 0]), &self.all)
        } else {
            self.of_border(ox)
        }
    }

    fn of_border(&mut self, ox: usize) -> (usize, &[Tap]) {
        let Geometry { window, input: [h, w], .. } = self.geometry;
        let (ys, xs) = (window.inside(0, self.oy, h), window.inside(1, ox, w));
        let count = ys.len() * xs.len();
        let taps = ys.flat_map(|ky| xs.clone().map(move |kx| [ky, kx]));
        for (i, [ky, kx]) in taps.enumerate() {
            self.some[i] = Tap { offset: self.start(ox, [ky, kx]), number: ky * window.kernel_size[1] + kx };
        }
        (0, &self.some[..count])
    }

    /// Where a tap of the row's output pixel `ox` has its channels in the image.
    #[inline(always)]
    fn start(&self, ox: usize, [ky, kx]: [usize; 2]) -> usize {
        let Geometry { window, input: [_, w], channels, .. } = self.geometry;
        (window.position(0, self.oy, ky) * w + window.position(1, ox, kx)) * channels
    }
}
