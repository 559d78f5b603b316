//! 2-D convolution, its gradients, and convolutions packed for inference.
//!
//! `y[n, oy, ox, co] = Σ_{ky, kx, ci} x[n, oy·s + ky·d − p, ox·s + kx·d − p, ci] · w[ky, kx, ci, co]`
//!
//! for `x` `[N, H, W, Cin]` and `w` `[Kh, Kw, Cin / groups, Cout]`; group `g` of `groups` maps its share of the input
//! channels to its share of the output channels. A 1×1 convolution is the matrix product of pixels and weights, and
//! any other is a gathered one ([`gemm`](super::gemm)), so there is no im2col buffer; [`im2col`] keeps that
//! textbook form as the baseline of tests and benchmarks. Convolutions of narrow groups, depthwise ones above all,
//! would waste most of a matrix product and have kernels of their own ([`grouped`]).

mod algorithm;
pub(crate) mod deform;
mod gated;
pub(crate) mod grouped;
pub mod im2col;
mod int8;
mod packed;
mod pad;
#[cfg(test)]
mod tests;
pub(crate) mod winograd;

use std::sync::Arc;

use algorithm::choose;
pub use algorithm::{Algorithm, Pass, planned, with_algorithm};
pub use deform::{
    DeformConv2d, InputGradients, PackedDeformConv, deform_conv2d, deform_conv2d_backward_input,
    deform_conv2d_backward_weight,
};
pub use gated::conv2d_backward_input_gated;
pub use int8::{FloatConv, QuantizedConv, Values};
pub use packed::{PackedConv, PackedPair, Storage};

use super::batch_norm::{ColumnStats, merge};
use super::gemm::counts::Counts;
use super::gemm::gather::{Epilogue, Rows, gather, gather_counted};
use super::gemm::grid::{Tap, joined_source, joined_taps};
use super::gemm::reduce::reduce;
use super::gemm::{Grid, Matrix, Packed};
use super::{Padding, Window, add_assign};
use crate::{Element, Error, Result, Shape, Tensor, threads};

/// The sizes of a convolution, checked against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Geometry {
    batch: usize,
    /// Input height and width.
    input: [usize; 2],
    /// Output height and width.
    output: [usize; 2],
    in_channels: usize,
    out_channels: usize,
    groups: usize,
    window: Window,
}

impl Geometry {
    /// Checks an input's and a weight's shape; `op` names the operation in errors.
    fn new(op: &'static str, x: &Shape, w: &Shape, window: &Window, groups: usize) -> Result<Self> {
        let [batch, height, width, in_channels] = x.nhwc(op, "input")?;
        let [kh, kw] = window.kernel_size;
        if groups == 0 || !in_channels.is_multiple_of(groups) {
            let expected = format!("that divide the {in_channels} input channels");
            return Err(Error::argument(op, "groups", expected, groups));
        }
        let expected = || format!("[{kh}, {kw}, {}, Cout]", in_channels / groups);
        let fits = |w: [usize; 4]| w[..3] == [kh, kw, in_channels / groups] && w[3].is_multiple_of(groups);
        let Some(w) = <[usize; 4]>::try_from(&**w).ok().filter(|&w| fits(w)) else {
            let expected =
                if groups == 1 { expected() } else { format!("{} with Cout divisible by {groups}", expected()) };
            return Err(Error::shape(op, "weight", expected, w));
        };
        let input = [height, width];
        let output = window.output_size(op, input)?;
        Ok(Geometry { batch, input, output, in_channels, out_channels: w[3], groups, window: *window })
    }

    fn x_shape(&self) -> [usize; 4] {
        [self.batch, self.input[0], self.input[1], self.in_channels]
    }

    fn y_shape(&self) -> [usize; 4] {
        [self.batch, self.output[0], self.output[1], self.out_channels]
    }

    /// That of the means over each row of the output's pixels.
    fn means_shape(&self) -> Result<Shape> {
        let [batch, height, _, channels] = self.y_shape();
        Shape::new(&[batch, height, 1, channels])
    }

    /// Channels of a group, in and out.
    fn group(&self) -> [usize; 2] {
        [self.in_channels / self.groups, self.out_channels / self.groups]
    }

    /// Whether the forward product joins the taps of a kernel row into one run over a padded copy of the input: with few
    /// channels a tap of three numbers would be all overhead.
    fn joins(&self) -> bool {
        const FEW_CHANNELS: usize = 8;
        let few = self.groups == 1 && (1..=FEW_CHANNELS).contains(&self.in_channels);
        few && self.window.kernel_size[1] > 1 && self.window.dilation == [1, 1]
    }

    /// What the forward product gathers for every output.
    fn taps(&self) -> Arc<[Tap]> {
        if self.joins() { joined_taps(&self.window) } else { Grid::forward_taps(&self.window) }
    }

    /// The forward product's grid, with its [taps](Self::taps).
    fn forward_grid(&self, taps: Arc<[Tap]>) -> Grid {
        let source = if self.joins() { joined_source(self.output, &self.window) } else { self.input };
        Grid::forward(self.batch, source, self.output, self.window.stride, taps)
    }

    /// Where a weight lies as the forward product's `B[g, tap, ci, co]`.
    fn weight(&self) -> Matrix {
        let [cin, cout] = self.group();
        Matrix { group: cout, tap: cin * self.out_channels, row: self.out_channels, column: 1 }
    }

    fn check_dy<T: Element>(&self, op: &'static str, dy: &Tensor<T>) -> Result<()> {
        let expected = Shape::new(&self.y_shape())?;
        if *dy.shape() == expected { Ok(()) } else { Err(Error::shape(op, "gradient", expected, dy.shape())) }
    }
}

/// The convolution of `x` `[N, H, W, Cin]` with `w` `[Kh, Kw, Cin / groups, Cout]`: `[N, Ho, Wo, Cout]`, the output
/// size being [`Window::output_size`].
///
/// ```
/// use ocelli_tensor::{Tensor, ops::{Window, conv2d}};
///
/// let x = Tensor::full([1, 3, 3, 1], 1.0f32);
/// let w = Tensor::full([3, 3, 1, 1], 1.0);
/// let y = conv2d(&x, &w, &Window::square(3).padding(1), 1)?;
/// assert_eq!(y.data(), [4.0, 6.0, 4.0, 6.0, 9.0, 6.0, 4.0, 6.0, 4.0]);
/// # Ok::<(), ocelli_tensor::Error>(())
/// ```
pub fn conv2d<T: Element>(x: &Tensor<T>, w: &Tensor<T>, window: &Window, groups: usize) -> Result<Tensor<T>> {
    convolve(x, w, window, groups, false).map(|(y, _)| y)
}

/// As [`conv2d`], with the mean and the biased variance of every output channel as
/// [`batch_norm_stats`](super::batch_norm_stats) gives them, if the algorithm can take them along without another pass over
/// the output.
pub fn conv2d_with_stats<T: Element>(
    x: &Tensor<T>,
    w: &Tensor<T>,
    window: &Window,
    groups: usize,
) -> Result<(Tensor<T>, Option<ColumnStats<T>>)> {
    let (y, counts) = convolve(x, w, window, groups, true)?;
    let stats = counts.map(|counts| {
        let (mean, var) = merge(counts.parts(), y.shape().columns());
        ColumnStats { mean, var }
    });
    Ok((y, stats))
}

/// The convolution, and sums over its output if they are `counted`.
fn convolve<T: Element>(
    x: &Tensor<T>,
    w: &Tensor<T>,
    window: &Window,
    groups: usize,
    counted: bool,
) -> Result<(Tensor<T>, Option<Counts<'static, T>>)> {
    let geometry = Geometry::new("conv2d", x.shape(), w.shape(), window, groups)?;
    let mut y = Tensor::scratch(Shape::new(&geometry.y_shape())?);
    if w.is_empty() {
        return Ok((Tensor::zeros(*y.shape()), None));
    }
    if let Some(filters) = grouped::pack(&geometry, w.data()) {
        let grid = geometry.forward_grid(geometry.taps());
        grouped::forward(&grid, x.data(), &filters, (y.data_mut(), None), Epilogue::NONE);
        return Ok((y, None));
    }
    let mut workspace = Tensor::default();
    match choose(&geometry, Pass::Training) {
        Algorithm::Im2col => Ok((im2col::conv2d_im2col(x, w, window)?, None)),
        Algorithm::Winograd => {
            let form = winograd::Form::new(&geometry, Pass::Training);
            winograd::forward_once(&geometry, x.data(), w, form, y.data_mut(), Epilogue::NONE);
            Ok((y, None))
        }
        Algorithm::Direct => {
            let grid = geometry.forward_grid(geometry.taps());
            let input = source(&geometry, &grid, x.data(), &mut workspace);
            let packed = pack(&geometry, w);
            if counted && !y.is_empty() {
                let counts = gather_counted(&grid, input, &packed, y.data_mut(), Epilogue::NONE, None);
                return Ok((y, Some(counts)));
            }
            gather(&grid, input, &packed, y.data_mut(), Epilogue::NONE);
            Ok((y, None))
        }
    }
}

/// The weights packed for the forward product.
fn pack<T: Element>(g: &Geometry, w: &Tensor<T>) -> Packed<T> {
    let [cin, cout] = g.group();
    let taps: Vec<usize> = (0..g.window.taps()).collect();
    Packed::new(w.data(), g.weight(), g.groups, &taps, cin, cout)
}

/// The input as the forward product reads it: itself or, if taps are joined, a copy with its padding in the workspace.
fn source<'a, T: Element>(g: &Geometry, grid: &Grid, x: &'a [T], workspace: &'a mut Tensor<T>) -> Rows<'a, T> {
    if !g.joins() {
        return Rows { data: x, columns: g.in_channels, k: g.group()[0] };
    }
    pad::pad(g, x, grid.source, workspace);
    Rows { data: workspace.data(), columns: g.in_channels, k: g.window.kernel_size[1] * g.in_channels }
}

/// The gradient of [`conv2d`] with respect to its input, of shape `x_shape`, from the output's gradient `dy`.
pub fn conv2d_backward_input<T: Element>(
    dy: &Tensor<T>,
    w: &Tensor<T>,
    x_shape: &Shape,
    window: &Window,
    groups: usize,
) -> Result<Tensor<T>> {
    let g = backward_geometry(dy, w, x_shape, window, groups)?;
    let mut dx = Tensor::scratch(*x_shape);
    backward_input(&g, dy, w, &mut dx, Epilogue::NONE);
    Ok(dx)
}

/// Adds the gradient of [`conv2d`] with respect to its input to `dx`, which holds another part of it.
pub fn conv2d_backward_input_onto<T: Element>(
    dx: &mut Tensor<T>,
    dy: &Tensor<T>,
    w: &Tensor<T>,
    window: &Window,
    groups: usize,
) -> Result<()> {
    let g = backward_geometry(dy, w, dx.shape(), window, groups)?;
    if groups > 1 {
        // The kernels of narrow groups write some pixels twice.
        return add_assign(dx, &conv2d_backward_input(dy, w, dx.shape(), window, groups)?);
    }
    backward_input(&g, dy, w, dx, Epilogue::ONTO);
    Ok(())
}

fn backward_geometry<T: Element>(
    dy: &Tensor<T>,
    w: &Tensor<T>,
    x_shape: &Shape,
    window: &Window,
    groups: usize,
) -> Result<Geometry> {
    let op = "conv2d_backward_input";
    let g = Geometry::new(op, x_shape, w.shape(), window, groups)?;
    g.check_dy(op, dy)?;
    Ok(g)
}

/// Writes the gradient to `dx`, or adds it where the epilogue says so.
fn backward_input<T: Element>(
    g: &Geometry,
    dy: &Tensor<T>,
    w: &Tensor<T>,
    dx: &mut Tensor<T>,
    epilogue: Epilogue<'_, T>,
) {
    let window = &g.window;
    if !w.is_empty() && choose(g, Pass::Training) == Algorithm::Winograd && backward_pads(window) {
        // The same convolution of dy with the weights turned around, and the rest of the kernel as padding.
        let Padding { top, bottom, left, right } = window.padding;
        let [height, width] = window.kernel_size.map(|size| size - 1);
        let padding = Padding { top: height - top, bottom: height - bottom, left: width - left, right: width - right };
        let turned = Geometry {
            input: g.output,
            output: g.input,
            in_channels: g.out_channels,
            out_channels: g.in_channels,
            window: Window { padding, ..*window },
            ..*g
        };
        let form = winograd::Form::new(&turned, Pass::Training);
        return winograd::forward_once(&turned, dy.data(), &winograd::flipped(w), form, dx.data_mut(), epilogue);
    }
    if grouped::backward_input(g, dy.data(), w.data(), dx.data_mut()) {
        return;
    }
    let grids = Grid::backward(g.batch, g.input, g.output, window);
    let covered = grids.iter().all(|grid| !grid.taps.is_empty()) && !w.is_empty();
    if !covered && !epilogue.onto {
        threads::for_each_chunk(dx.data_mut(), threads::rows_per_chunk(1), |_, dx| dx.fill(T::ZERO));
    }
    for grid in grids.iter().filter(|grid| !grid.taps.is_empty() && !w.is_empty()) {
        let dy = Rows { data: dy.data(), columns: g.out_channels, k: g.group()[1] };
        gather(grid, dy, &transposed(g, w, grid), dx.data_mut(), epilogue);
    }
}

/// The weights transposed, B[g, tap, co, ci], for the taps of a backward grid.
fn transposed<T: Element>(g: &Geometry, w: &Tensor<T>, grid: &Grid) -> Packed<T> {
    let [cin, cout] = g.group();
    let at = Matrix { group: cout, tap: cin * g.out_channels, row: 1, column: g.out_channels };
    let taps: Vec<usize> = grid.taps.iter().map(|tap| tap.index).collect();
    Packed::new(w.data(), at, g.groups, &taps, cout, cin)
}

/// Whether the padding of the turned convolution, the kernel's size less one less padding, exists.
fn backward_pads(window: &Window) -> bool {
    let (Padding { top, bottom, left, right }, [height, width]) = (window.padding, window.kernel_size);
    top.max(bottom) < height && left.max(right) < width
}

/// The gradient of [`conv2d`] with respect to its weights, of shape `w_shape`, from the output's gradient `dy`.
pub fn conv2d_backward_weight<T: Element>(
    x: &Tensor<T>,
    dy: &Tensor<T>,
    w_shape: &Shape,
    window: &Window,
    groups: usize,
) -> Result<Tensor<T>> {
    let op = "conv2d_backward_weight";
    let g = Geometry::new(op, x.shape(), w_shape, window, groups)?;
    g.check_dy(op, dy)?;
    let mut dw = Tensor::scratch(*w_shape);
    if grouped::backward_weight(&g, x.data(), dy.data(), dw.data_mut()) {
        return Ok(dw);
    }
    if !w_shape.is_empty() && choose(&g, Pass::Weight) == Algorithm::Winograd {
        winograd::backward_weight(&g, x.data(), dy.data(), dw.data_mut());
        return Ok(dw);
    }
    let grid = g.forward_grid(g.taps());
    let dy = Rows { data: dy.data(), columns: g.out_channels, k: g.group()[1] };
    let mut workspace = Tensor::default();
    reduce(&grid, source(&g, &grid, x.data(), &mut workspace), dy, groups, dw.data_mut());
    Ok(dw)
}
