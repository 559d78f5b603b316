//! An input with its padding made explicit.

use super::Geometry;
use crate::{Element, Tensor, threads};

/// Makes `out` a copy of `x` `[N, H, W, C]` with height and width `size`, shifted by the window's padding, zero elsewhere.
/// What lies beyond `size` is left out.
pub(super) fn pad<T: Element>(g: &Geometry, x: &[T], size: [usize; 2], out: &mut Tensor<T>) {
    let ([height, width], channels) = (g.input, g.in_channels);
    let (top, left) = (g.window.padding.top, g.window.padding.left);
    let row = size[1] * channels;
    let out = out.resize([g.batch, size[0], size[1], channels]);
    threads::for_each_chunk(out, (row * size[0]).max(1), |n, image| {
        for (y, row) in image.chunks_exact_mut(row).enumerate() {
            let Some(y) = y.checked_sub(top).filter(|&y| y < height) else {
                row.fill(T::ZERO);
                continue;
            };
            let count = width.min(size[1].saturating_sub(left)) * channels;
            let (before, rest) = row.split_at_mut((left * channels).min(row.len()));
            let (inside, after) = rest.split_at_mut(count);
            before.fill(T::ZERO);
            inside.copy_from_slice(&x[(n * height + y) * width * channels..][..count]);
            after.fill(T::ZERO);
        }
    });
}
