//! The gradient of the weights: per tap, the product over pixels of the samples, made anew, and dy.

use std::ops::Range;

use super::field::Field;
use super::{DeformConv2d, Deformed, Geometry};
use crate::ops::gemm::reduce::{PIXEL_BLOCK, Strips};
use crate::{Element, Result, Shape, Tensor, threads};

/// Tasks that the work is cut into if it is large enough, and the output pixels that make a part worth it.
const TASKS: usize = 32;
const PART_PIXELS: usize = 128;
/// Bytes that all parts' sums may take together.
const PARTS_BYTES: usize = 4 << 20;

/// The gradient of [`deform_conv2d`](super::deform_conv2d) with respect to its weights, of shape `w_shape`, from the
/// output's gradient `dy`.
pub fn deform_conv2d_backward_weight<T: Element>(
    dy: &Tensor<T>,
    x: &Tensor<T>,
    offset: &Tensor<T>,
    mask: Option<&Tensor<T>>,
    w_shape: &Shape,
    attributes: &DeformConv2d,
) -> Result<Tensor<T>> {
    let op = "deform_conv2d_backward_weight";
    let g = Deformed::new(op, [x, offset], mask, w_shape, attributes)?;
    g.conv.check_dy(op, dy)?;
    if w_shape.is_empty() || dy.is_empty() {
        return Ok(Tensor::zeros(*w_shape));
    }
    let field = Field::new(&g, x, offset, mask);
    let pixels = dy.shape().rows();
    let most = (pixels / PART_PIXELS).min(PARTS_BYTES / (w_shape.len() * size_of::<T>())).max(1);
    let parts = TASKS.div_ceil(g.taps()).min(most);
    // [parts, taps, groups, Cin / groups, Cout / groups]
    let mut sums = Tensor::<T>::scratch([parts, w_shape.len()]);
    let tap_len = w_shape.len() / g.taps();
    threads::for_each_chunk(sums.data_mut(), tap_len, |task, sums| {
        let (part, tap) = (task / g.taps(), task % g.taps());
        let pixels = pixels * part / parts..pixels * (part + 1) / parts;
        accumulate(&field, dy.data(), pixels, tap, sums);
    });

    let [cin, cout] = g.conv.group();
    let out_channels = g.conv.out_channels;
    let mut dw = Tensor::zeros(*w_shape);
    threads::for_each_chunk(dw.data_mut(), tap_len, |tap, dw| {
        for part in 0..parts {
            let sums = &sums.data()[(part * g.taps() + tap) * tap_len..][..tap_len];
            for (row, sums) in sums.chunks_exact(cout).enumerate() {
                let (group, ci) = (row / cin, row % cin);
                let dw = &mut dw[ci * out_channels + group * cout..][..cout];
                dw.iter_mut().zip(sums).for_each(|(total, &sum)| *total += sum);
            }
        }
    });
    Ok(dw)
}

/// Writes the sums of one tap over some pixels, `[groups, Cin / groups, Cout / groups]`.
fn accumulate<T: Element>(field: &Field<'_, T>, dy: &[T], pixels: Range<usize>, tap: usize, sums: &mut [T]) {
    let Geometry { in_channels, out_channels, .. } = field.geometry.conv;
    let [cin, cout] = field.geometry.conv.group();
    let rows = Deformed::block_rows::<T>(pixels.len(), in_channels).min(PIXEL_BLOCK);
    let mut sampled = Tensor::scratch([rows, in_channels]);
    for start in pixels.clone().step_by(rows) {
        let count = rows.min(pixels.end - start);
        let sampled = &mut sampled.data_mut()[..count * in_channels];
        field.gather(start..start + count, tap..tap + 1, sampled);
        let dy = &dy[start * out_channels..(start + count) * out_channels];
        for (group, sums) in sums.chunks_exact_mut(cin * cout).enumerate() {
            let a: Vec<*const T> = sampled.chunks_exact(in_channels).map(|row| row[group * cin..].as_ptr()).collect();
            let strips = Strips {
                a: &a,
                a_apart: in_channels,
                ahead: &a,
                count,
                b: dy[group * cout..].as_ptr(),
                b_stride: out_channels,
                m: cin,
                n: cout,
                c: sums.as_mut_ptr(),
                c_stride: cout,
                c_tap: cin * cout,
                first: start == pixels.start,
            };
            // SAFETY: the rows are a group's channels within `sampled` and `dy`, and `sums` is borrowed mutably.
            unsafe { strips.run() }
        }
    }
}
