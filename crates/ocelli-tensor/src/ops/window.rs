//! Sliding windows: the geometry that convolution and pooling share.
//!
//! Along one axis, tap `t` of output `o` sits at input position `o · stride + t · dilation − padding`; positions
//! outside of the input are padding. The window covers `extent = dilation · (kernel_size − 1) + 1` positions, so there
//! are `⌊(input + padding_before + padding_after − extent) / stride⌋ + 1` outputs. Arrays are `[vertical, horizontal]`.

use std::ops::Range;

use crate::{Error, Result};

/// Padding of the four edges, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the left.
    pub left: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// No padding.
    pub const NONE: Padding = Padding::all(0);

    /// `n` pixels on every edge.
    pub const fn all(n: usize) -> Self {
        Padding { top: n, bottom: n, left: n, right: n }
    }

    /// The padding before the first and behind the last position: of axis 0 (top, bottom) or 1 (left, right).
    fn of_axis(&self, axis: usize) -> [usize; 2] {
        if axis == 0 { [self.top, self.bottom] } else { [self.left, self.right] }
    }
}

/// The attributes of a sliding window.
///
/// ```
/// use ocelli_tensor::ops::Window;
///
/// let stem = Window::square(7).stride(2).padding(3);
/// assert_eq!(stem.output_size("conv2d", [224, 224])?, [112, 112]);
/// # Ok::<(), ocelli_tensor::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Taps.
    pub kernel_size: [usize; 2],
    /// Input pixels between neighbouring outputs.
    pub stride: [usize; 2],
    /// Pixels around the input.
    pub padding: Padding,
    /// Input pixels between neighbouring taps.
    pub dilation: [usize; 2],
}

impl Window {
    /// Stride 1, no padding, dilation 1.
    pub fn new(kernel_size: [usize; 2]) -> Self {
        Window { kernel_size, stride: [1; 2], padding: Padding::NONE, dilation: [1; 2] }
    }

    /// [`new`](Self::new) of `[k, k]`.
    pub fn square(k: usize) -> Self {
        Window::new([k; 2])
    }

    /// With this stride on both axes.
    pub fn stride(self, stride: usize) -> Self {
        Window { stride: [stride; 2], ..self }
    }

    /// With this padding on all four edges.
    pub fn padding(self, padding: usize) -> Self {
        Window { padding: Padding::all(padding), ..self }
    }

    /// With this dilation on both axes.
    pub fn dilation(self, dilation: usize) -> Self {
        Window { dilation: [dilation; 2], ..self }
    }

    /// With TensorFlow's `SAME` padding for an input `[H, W]`: as little as makes `⌈input / stride⌉` outputs; an odd
    /// pixel goes below or to the right.
    pub fn same(self, input: [usize; 2]) -> Self {
        let [(top, bottom), (left, right)] = [0, 1].map(|axis| {
            let stride = self.stride[axis].max(1);
            let last = input[axis].div_ceil(stride).saturating_sub(1) * stride;
            let total = last.saturating_add(self.extent(axis)).saturating_sub(input[axis]);
            (total / 2, total - total / 2)
        });
        Window { padding: Padding { top, bottom, left, right }, ..self }
    }

    /// The number of taps.
    pub fn taps(&self) -> usize {
        self.kernel_size[0].saturating_mul(self.kernel_size[1])
    }

    /// The positions that the window spans along an axis.
    pub fn extent(&self, axis: usize) -> usize {
        self.dilation[axis].saturating_mul(self.kernel_size[axis].saturating_sub(1)).saturating_add(1)
    }

    /// The outputs `[H, W]` for an input `[H, W]`.
    ///
    /// Errors, in the name of `op`, if a kernel size, stride or dilation is 0 or if the padded input is smaller than
    /// the window.
    pub fn output_size(&self, op: &'static str, input: [usize; 2]) -> Result<[usize; 2]> {
        let spare = self.spare(op, input, [0, 0])?;
        Ok([0, 1].map(|axis| spare[axis] / self.stride[axis] + 1))
    }

    /// As [`output_size`](Self::output_size), rounded up: windows may reach up to `stride − 1` positions beyond the
    /// padded input, provided that they start inside of the input or the padding before it. This is PyTorch's
    /// `ceil_mode`.
    pub fn output_size_ceil(&self, op: &'static str, input: [usize; 2]) -> Result<[usize; 2]> {
        let spare = self.spare(op, input, self.stride.map(|stride| stride.saturating_sub(1)))?;
        Ok([0, 1].map(|axis| {
            let last = spare[axis] / self.stride[axis];
            let [before, _] = self.padding.of_axis(axis);
            let starts_inside = last * self.stride[axis] < input[axis] + before;
            if starts_inside { last + 1 } else { last }
        }))
    }

    /// Positions behind the first window, of the padded input and as many `beyond` it.
    fn spare(&self, op: &'static str, input: [usize; 2], beyond: [usize; 2]) -> Result<[usize; 2]> {
        let positive =
            [("kernel_size", self.kernel_size), ("stride", self.stride), ("dilation", self.dilation), ("input", input)];
        for (what, value) in positive {
            if value.contains(&0) {
                return Err(Error::argument(op, what, "of at least 1", format!("{value:?}")));
            }
        }
        let padded = [0, 1].map(|axis| {
            let [before, after] = self.padding.of_axis(axis);
            input[axis].saturating_add(before).saturating_add(after)
        });
        let least = [0, 1].map(|axis| self.extent(axis).saturating_sub(beyond[axis]));
        if padded[0] < least[0] || padded[1] < least[1] {
            let expected = format!("of at least {least:?}");
            return Err(Error::argument(op, "padded input", expected, format!("{padded:?}")));
        }
        Ok([0, 1].map(|axis| padded[axis].saturating_add(beyond[axis]) - self.extent(axis)))
    }

    /// The taps of output `o` that lie inside of an input of `size` positions along an axis.
    pub(crate) fn inside(&self, axis: usize, o: usize, size: usize) -> Range<usize> {
        let [before, _] = self.padding.of_axis(axis);
        let (start, dilation) = (o * self.stride[axis], self.dilation[axis]);
        let first = before.saturating_sub(start).div_ceil(dilation).min(self.kernel_size[axis]);
        let last = (size + before).saturating_sub(start).div_ceil(dilation).min(self.kernel_size[axis]);
        first..last.max(first)
    }

    /// How many taps of output `o` lie inside of the padded input along an axis: all, but for windows that `ceil_mode`
    /// adds.
    pub(crate) fn padded(&self, axis: usize, o: usize, size: usize) -> usize {
        let [before, after] = self.padding.of_axis(axis);
        let room = (size + before + after).saturating_sub(o * self.stride[axis]);
        room.div_ceil(self.dilation[axis]).min(self.kernel_size[axis])
    }

    /// The input position of tap `t` of output `o` along an axis; the tap must be [`inside`](Self::inside).
    pub(crate) fn position(&self, axis: usize, o: usize, t: usize) -> usize {
        o * self.stride[axis] + t * self.dilation[axis] - self.padding.of_axis(axis)[0]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn taps_inside_are_those_whose_position_is(
            k in 1usize..5, stride in 1usize..4, dilation in 1usize..4, top in 0usize..4, bottom in 0usize..4, size in 1usize..9,
        ) {
            let mut window = Window::new([k, 1]).stride(stride).dilation(dilation);
            window.padding = Padding { top, bottom, left: 0, right: 0 };
            let Ok([outputs, _]) = window.output_size("test", [size, 1]) else { return Ok(()) };
            let position = |o: usize, t: usize| (o * stride + t * dilation) as isize - top as isize;
            let end = (size + bottom) as isize;
            prop_assert!(position(outputs - 1, k - 1) < end && position(outputs, k - 1) >= end);
            for o in 0..outputs {
                let range = window.inside(0, o, size);
                for t in 0..k {
                    let inside = (0..size as isize).contains(&position(o, t));
                    prop_assert_eq!(range.contains(&t), inside);
                    if inside {
                        prop_assert_eq!(window.position(0, o, t) as isize, position(o, t));
                    }
                }
            }
        }

        #[test]
        fn same_padding_makes_input_over_stride_outputs(
            k in 1usize..6, stride in 1usize..4, dilation in 1usize..3, size in 1usize..20,
        ) {
            let window = Window::square(k).stride(stride).dilation(dilation).same([size, size + 1]);
            let expected = [size.div_ceil(stride), (size + 1).div_ceil(stride)];
            prop_assert_eq!(window.output_size("test", [size, size + 1]).unwrap(), expected);
            prop_assert!(window.padding.bottom - window.padding.top <= 1);
        }
    }

    #[test]
    fn ceil_mode_drops_a_window_that_starts_in_the_padding_behind() {
        // torch.nn.MaxPool2d(3, 2, ceil_mode=True): 112 → 56; MaxPool2d(2, 2, 1, ceil_mode=True): 5 → 3, 6 → 4.
        let ceil = |window: Window, n| window.output_size_ceil("test", [n, n]).unwrap()[0];
        assert_eq!(ceil(Window::square(3).stride(2), 112), 56);
        assert_eq!(ceil(Window::square(3).stride(2), 111), 55);
        assert_eq!(ceil(Window::square(2).stride(2).padding(1), 5), 3);
        assert_eq!(ceil(Window::square(2).stride(2).padding(1), 6), 4);
        assert_eq!(ceil(Window::square(1).stride(3), 5), 2);
        // MaxPool2d(2, 2, ceil_mode=True): 1 → 1, as GoogLeNet has on small images.
        assert_eq!(ceil(Window::square(2).stride(2), 1), 1);
    }

    #[test]
    fn wrong_geometries_are_errors() {
        let text = |window: Window, input| window.output_size("conv2d", input).unwrap_err().to_string();
        let window = Window::square(3);
        assert_eq!(text(window.stride(0), [5, 5]), "conv2d: expected stride of at least 1, got [0, 0]");
        assert_eq!(text(window.dilation(0), [5, 5]), "conv2d: expected dilation of at least 1, got [0, 0]");
        assert_eq!(text(Window::new([0, 1]), [5, 5]), "conv2d: expected kernel_size of at least 1, got [0, 1]");
        assert_eq!(text(window, [0, 5]), "conv2d: expected input of at least 1, got [0, 5]");
        assert_eq!(text(window, [2, 5]), "conv2d: expected padded input of at least [3, 3], got [2, 5]");
        assert_eq!(
            text(Window::square(usize::MAX).dilation(usize::MAX), [2, 5]),
            format!("conv2d: expected padded input of at least [{0}, {0}], got [2, 5]", usize::MAX)
        );
    }
}
