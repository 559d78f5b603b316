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
    let rows = threads::rows_per_chunk(row);
    threads::for_each_chunk(out, (rows * row).max(1), |chunk, out| {
        for (r, out) in (chunk * rows..).zip(out.chunks_exact_mut(row)) {
            let (n, y) = (r / size[0], r % size[0]);
            let Some(y) = y.checked_sub(top).filter(|&y| y < height) else {
                out.fill(T::ZERO);
                continue;
            };
            let count = width.min(size[1].saturating_sub(left)) * channels;
            let (before, rest) = out.split_at_mut((left * channels).min(row));
            let (inside, after) = rest.split_at_mut(count);
            before.fill(T::ZERO);
            inside.copy_from_slice(&x[(n * height + y) * width * channels..][..count]);
            after.fill(T::ZERO);
        }
    });
}
