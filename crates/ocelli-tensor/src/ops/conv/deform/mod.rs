//! Deformable convolution, and its gradients.
//!
//! `y[p, co] = Σ_{t, ci} m_t(p) · x(p · s + t · d − padding + Δ_t(p), ci) · w[t, ci, co]`
//!
//! A tap t reads the input not at a fixed pixel but at a position displaced by an offset Δ, which another layer has
//! computed for every output pixel, and which falls between pixels: x(·) is bilinear interpolation, in which pixels
//! outside of the image are zeros. That is version 1, Dai et al. 2017, <https://arxiv.org/abs/1703.06211>; version 2,
//! Zhu et al. 2018, <https://arxiv.org/abs/1811.11168>, weighs each sample with a mask m. Input channels form
//! `offset_groups` groups with offsets (and masks) of their own. Semantics and order are those of
//! `torchvision.ops.deform_conv2d`.
//!
//! A block of output pixels samples its rows of channels ([`field`]) into a buffer that stays in the second-level
//! cache, and multiplies it there by the packed weights; of a small map with many channels, all are sampled first, so that
//! threads need not all read all weights. Backward the product comes first, and [`input`] takes its rows
//! to the gradients of input, offsets and masks in one pass; [`weight`] samples again.

pub(crate) mod field;
pub(crate) mod input;
mod packed;
#[cfg(test)]
mod tests;
mod weight;

pub use input::{InputGradients, deform_conv2d_backward_input};
pub use packed::PackedDeformConv;
pub use weight::deform_conv2d_backward_weight;

use self::field::Field;
use super::{Geometry, pack};
use crate::memory::Scratch;
use crate::ops::Window;
use crate::ops::gemm::gather::{Epilogue, Panels, Rows, gather};
use crate::ops::gemm::{Grid, Packed, pointers};
use crate::{Element, Error, Result, Shape, Tensor, threads};

/// Bytes of sampled rows that a task holds at a time, meant to stay in the second-level cache, and the number of rows
/// that make up for reading all weights.
const COLUMNS_BYTES: usize = 256 * 1024;
const BLOCK_ROWS: std::ops::RangeInclusive<usize> = 28..=256;
/// All rows are sampled before they are multiplied if these are not more bytes than the last-level cache holds, and the
/// weights so many that no second-level cache does, which every block would read from further away.
const ALL_BYTES: usize = 4 << 20;
const WEIGHT_BYTES: usize = 1 << 20;
/// Into how many tasks the sampling of all rows is cut.
const SAMPLING_TASKS: usize = 16;

/// The attributes of a deformable convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeformConv2d {
    /// Kernel size, stride, padding and dilation of the undisplaced taps.
    pub window: Window,
    /// Groups of the weights, as in a plain convolution.
    pub groups: usize,
    /// Groups of input channels that are displaced alike.
    pub offset_groups: usize,
}

/// The sizes, checked against each other.
#[derive(Debug, Clone, Copy)]
struct Deformed {
    conv: Geometry,
    offset_groups: usize,
}

impl Deformed {
    fn new<T: Element>(
        op: &'static str,
        [x, offset]: [&Tensor<T>; 2],
        mask: Option<&Tensor<T>>,
        w: &Shape,
        attributes: &DeformConv2d,
    ) -> Result<Self> {
        let DeformConv2d { window, groups, offset_groups } = attributes;
        let conv = Geometry::new(op, x.shape(), w, window, *groups)?;
        if *offset_groups == 0 || !conv.in_channels.is_multiple_of(*offset_groups) {
            let expected = format!("that divide the {} input channels", conv.in_channels);
            return Err(Error::argument(op, "offset_groups", expected, offset_groups));
        }
        let samples = offset_groups * window.taps();
        for (what, tensor, columns) in [("offset", Some(offset), 2 * samples), ("mask", mask, samples)] {
            let [height, width] = conv.output;
            let expected = Shape::new(&[conv.batch, height, width, columns])?;
            if let Some(tensor) = tensor.filter(|tensor| *tensor.shape() != expected) {
                return Err(Error::shape(op, what, expected, tensor.shape()));
            }
        }
        Ok(Deformed { conv, offset_groups: *offset_groups })
    }

    fn taps(&self) -> usize {
        self.conv.window.taps()
    }

    /// Output pixels of an image.
    fn pixels(&self) -> usize {
        self.conv.output[0] * self.conv.output[1]
    }

    /// The elements of all sampled rows, if they are sampled before they are multiplied, else 0.
    fn all_samples<T: Element>(conv: &Geometry, weights: &Packed<T>) -> usize {
        let samples = conv.batch * conv.output[0] * conv.output[1] * conv.window.taps() * conv.in_channels;
        let pays = weights.len() * size_of::<T>() >= WEIGHT_BYTES && samples * size_of::<T>() <= ALL_BYTES;
        if pays && conv.groups == 1 { samples } else { 0 }
    }

    /// Into how many rows of `columns` elements a block is cut, of a total of `rows`.
    fn block_rows<T>(rows: usize, columns: usize) -> usize {
        let most = COLUMNS_BYTES / (columns * size_of::<T>()).max(1);
        let blocks = rows.div_ceil(most.clamp(*BLOCK_ROWS.start(), *BLOCK_ROWS.end()));
        rows.div_ceil(blocks.max(1)).max(1)
    }
}

/// The deformable convolution of `x` `[N, H, W, Cin]` with `w` `[Kh, Kw, Cin / groups, Cout]`: `[N, Ho, Wo, Cout]`.
///
/// `offset` is `[N, Ho, Wo, 2 · offset_groups · Kh · Kw]`, in pixels: for every group, for every tap, down and to the
/// right. `mask`, if there is one, is `[N, Ho, Wo, offset_groups · Kh · Kw]`.
///
/// ```
/// use ocelli_tensor::{Tensor, ops::{DeformConv2d, Window, deform_conv2d}};
///
/// let x = Tensor::from_slice([1, 1, 4, 1], &[1.0f32, 2.0, 4.0, 8.0])?;
/// let w = Tensor::full([1, 1, 1, 1], 1.0);
/// let half_a_pixel_to_the_right = Tensor::from_fn([1, 1, 4, 2], |i| if i % 2 == 1 { 0.5 } else { 0.0 });
/// let attributes = DeformConv2d { window: Window::square(1), groups: 1, offset_groups: 1 };
/// let y = deform_conv2d(&x, &half_a_pixel_to_the_right, None, &w, &attributes)?;
/// assert_eq!(y.data(), [1.5, 3.0, 6.0, 4.0]);
/// # Ok::<(), ocelli_tensor::Error>(())
/// ```
pub fn deform_conv2d<T: Element>(
    x: &Tensor<T>,
    offset: &Tensor<T>,
    mask: Option<&Tensor<T>>,
    w: &Tensor<T>,
    attributes: &DeformConv2d,
) -> Result<Tensor<T>> {
    let g = Deformed::new("deform_conv2d", [x, offset], mask, w.shape(), attributes)?;
    let shape = Shape::new(&g.conv.y_shape())?;
    if w.is_empty() {
        return Ok(Tensor::zeros(shape));
    }
    let (mut y, all) = (Tensor::scratch(shape), (Grid::rows(shape.rows()), &mut Tensor::default()));
    forward(&g, &Field::new(&g, x, offset, mask), &pack(&g.conv, w), all, &mut y, Epilogue::NONE);
    Ok(y)
}

/// The product of samples and packed weights. Where all rows are sampled first, they lie in the workspace, and `all_rows` is
/// the grid of their product.
fn forward<T: Element>(
    g: &Deformed,
    field: &Field<'_, T>,
    weights: &Packed<T>,
    (all_rows, workspace): (Grid, &mut Tensor<T>),
    y: &mut Tensor<T>,
    epilogue: Epilogue<'_, T>,
) {
    let columns = g.taps() * g.conv.in_channels;
    let samples = Deformed::all_samples(&g.conv, weights);
    if samples > 0 {
        let rows = y.shape().rows().div_ceil(SAMPLING_TASKS);
        let sampled = workspace.resize([samples / columns, columns]);
        threads::for_each_chunk(sampled, rows * columns, |i, sampled| {
            let first = i * rows;
            field.gather(first..first + sampled.len() / columns, 0..g.taps(), sampled);
        });
        return gather(&all_rows, Rows { data: sampled, columns, k: columns }, weights, y.data_mut(), epilogue);
    }
    let rows = Deformed::block_rows::<T>(y.shape().rows(), columns);
    let chunk = rows * g.conv.out_channels;
    threads::for_each_chunk(y.data_mut(), chunk, |i, y| {
        let count = y.len() / g.conv.out_channels;
        let mut sampled = Scratch::new(count * columns);
        field.gather(i * rows..i * rows + count, 0..g.taps(), &mut sampled);
        let epilogue = epilogue.part(i * chunk, y.len());
        multiply(g, &sampled, weights, y, epilogue);
    });
}

/// Multiplies sampled rows `[rows, taps, Cin]` with the weights. The epilogue's residual is that of these rows.
fn multiply<T: Element>(g: &Deformed, sampled: &[T], weights: &Packed<T>, y: &mut [T], epilogue: Epilogue<'_, T>) {
    let Geometry { in_channels, out_channels, groups, .. } = g.conv;
    let [cin, cout] = g.conv.group();
    let taps = g.taps();
    let rows = y.len() / out_channels;
    assert_eq!(sampled.len(), rows * taps * in_channels);
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == out_channels));
    assert!(epilogue.residual.is_none_or(|residual| residual.len() == y.len()));
    let (mut sources, mut targets) = (Scratch::new(taps * rows), Scratch::new(rows));
    let sources = pointers(&mut sources);
    targets.iter_mut().enumerate().for_each(|(row, target)| *target = row * out_channels);
    for group in 0..groups {
        for (i, source) in sources.iter_mut().enumerate() {
            let (tap, row) = (i / rows, i % rows);
            *source = sampled[(row * taps + tap) * in_channels + group * cin..].as_ptr();
        }
        let panels = Panels {
            sources,
            targets: &targets,
            taps,
            k: cin,
            apart: taps * in_channels,
            b: weights,
            group,
            panels: 0..weights.panels(),
            next: 0,
            out: y.as_mut_ptr(),
            column: group * cout,
            onto: false,
            finish: Some(epilogue.finish()),
            gate: None,
        };
        // SAFETY: each source is a tap's `cin` channels of a group within `sampled`, each target a row of `y`, which is
        // borrowed mutably; bias and residual have the lengths asserted above.
        unsafe { panels.run() }
    }
}
