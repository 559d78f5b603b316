//! An input with its padding made explicit.

use crate::ops::Window;
use crate::{Element, Tensor, threads};

/// A copy of `x` `[N, H, W, C]` in a tensor of the shape `padded`, shifted by the window's padding, zero elsewhere.
/// What lies beyond `padded` is left out.
pub(super) fn padded<T: Element>(x: &Tensor<T>, padded: [usize; 4], window: &Window) -> Tensor<T> {
    let [_, height, width, channels] = [x.shape()[0], x.shape()[1], x.shape()[2], x.shape()[3]];
    let (top, left) = (window.padding.top, window.padding.left);
    let mut out = Tensor::scratch(padded);
    let row = padded[2] * channels;
    threads::for_each_chunk(out.data_mut(), (row * padded[1]).max(1), |n, image| {
        for (y, row) in image.chunks_exact_mut(row).enumerate() {
            let Some(y) = y.checked_sub(top).filter(|&y| y < height) else {
                row.fill(T::ZERO);
                continue;
            };
            let count = width.min(padded[2].saturating_sub(left)) * channels;
            let (before, rest) = row.split_at_mut((left * channels).min(row.len()));
            let (inside, after) = rest.split_at_mut(count);
            before.fill(T::ZERO);
            inside.copy_from_slice(&x.data()[(n * height + y) * width * channels..][..count]);
            after.fill(T::ZERO);
        }
    });
    out
}
