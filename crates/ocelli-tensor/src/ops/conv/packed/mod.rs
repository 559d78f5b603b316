//! Convolutions for inference: weights packed once; bias, residual addition and activation in the same pass.

mod pair;
mod storage;

use std::borrow::Cow;

pub use pair::PackedPair;
pub use storage::Storage;

use super::algorithm::{Algorithm, Pass, choose};
use super::{Geometry, grouped, pack, source, winograd};
use crate::ops::gemm::compact::{self, Compact};
use crate::ops::gemm::gather::{ColumnSlice, Epilogue, Rows, gather};
use crate::ops::gemm::{Grid, Packed};
use crate::ops::{self, Activation, Window};
use crate::{Element, Error, Result, Shape, Tensor};

/// A convolution with fixed weights: `activation(conv2d(x, w) + bias + residual)`.
#[derive(Clone)]
pub struct PackedConv<T: Element = f32> {
    weights: Weights<T>,
    w_shape: Shape,
    /// For inputs of the shape that it was made for.
    planned: (Geometry, Grid),
    bias: Option<Tensor<T>>,
    activation: Option<Activation>,
    window: Window,
    groups: usize,
    /// Whether a factor for each image and channel comes with the input.
    scaled: bool,
}

#[derive(Clone)]
enum Weights<T: Element> {
    Panels(Packed<T>),
    /// Of a product of few rows.
    Compact(Compact),
    Winograd(Packed<T>, winograd::Form),
    Grouped(grouped::Filters<T>),
}

impl<T: Element> PackedConv<T> {
    /// Packs `w` `[Kh, Kw, Cin / groups, Cout]` for the algorithm that suits inputs of the shape `x`; other inputs will
    /// do, but may be slower than they could be. `bias` is `[Cout]`.
    pub fn new(
        w: &Tensor<T>,
        bias: Option<&Tensor<T>>,
        activation: Option<Activation>,
        window: Window,
        groups: usize,
        x: &Shape,
    ) -> Result<Self> {
        Self::with_storage(Storage::Exact, w, bias, activation, window, groups, x)
    }

    /// As [`new`](Self::new), with weights kept in a certain way.
    pub fn with_storage(
        storage: Storage,
        w: &Tensor<T>,
        bias: Option<&Tensor<T>>,
        activation: Option<Activation>,
        window: Window,
        groups: usize,
        x: &Shape,
    ) -> Result<Self> {
        let op = "packed_conv";
        let g = Geometry::new(op, x, w.shape(), &window, groups)?;
        if w.is_empty() {
            let expected =
                format!("[{}, {}, Cin / groups, Cout] above 0", window.kernel_size[0], window.kernel_size[1]);
            return Err(Error::shape(op, "weight", expected, w.shape()));
        }
        let cout = g.out_channels;
        if let Some(bias) = bias.filter(|bias| **bias.shape() != [cout]) {
            return Err(Error::shape(op, "bias", format!("[{cout}]"), bias.shape()));
        }
        let weights = match (grouped::pack(&g, w.data()), choose(&g, Pass::Inference)) {
            (Some(filters), _) => Weights::Grouped(filters),
            (None, Algorithm::Winograd) => {
                let form = winograd::Form::new(&g, Pass::Inference);
                Weights::Winograd(winograd::pack(w, form), form)
            }
            (None, Algorithm::Direct | Algorithm::Im2col) => {
                let is_product = window == Window::square(1) && groups == 1;
                let rows = g.batch * g.output[0] * g.output[1];
                if let Some(halves) = storage.halved(&g, w) {
                    Weights::Panels(halves)
                } else if let Some(compact) = is_product.then(|| Compact::new(w.data(), cout, rows)).flatten() {
                    Weights::Compact(compact)
                } else {
                    Weights::Panels(pack(&g, w))
                }
            }
        };
        Ok(PackedConv {
            weights,
            w_shape: *w.shape(),
            planned: (g, g.forward_grid(g.taps())),
            bias: bias.cloned(),
            activation,
            window,
            groups,
            scaled: false,
        })
    }

    /// One that takes a factor for each image and input channel, which the weights are multiplied with: it pays where there
    /// are more pixels than output channels.
    ///
    /// Errors unless it is a product: 1×1, not strided, not padded, not grouped.
    pub fn scaled(self) -> Result<Self> {
        if self.window != Window::square(1) || self.groups != 1 {
            let got = format!("{:?}, {} groups", self.window, self.groups);
            return Err(Error::argument("packed_conv", "pointwise convolution", "to scale", got));
        }
        Ok(PackedConv { scaled: true, ..self })
    }

    /// How it computes.
    pub fn algorithm(&self) -> &'static str {
        match (&self.weights, self.window.kernel_size) {
            (Weights::Winograd(..), _) => "Winograd",
            (Weights::Grouped(_), _) => "grouped",
            (Weights::Compact(_), _) => "compact",
            (Weights::Panels(packed), [1, 1]) => {
                if packed.is_halved() {
                    "product f16"
                } else {
                    "product"
                }
            }
            (Weights::Panels(packed), _) => {
                if packed.is_halved() {
                    "gathered f16"
                } else {
                    "gathered"
                }
            }
        }
    }

    /// The output for `x` `[N, H, W, Cin]`; `residual`, of the output's shape, is added before the activation.
    pub fn run(&self, x: &Tensor<T>, residual: Option<&Tensor<T>>) -> Result<Tensor<T>> {
        Tensor::made(|y| self.run_into(x, None, residual, &mut Tensor::default(), y))
    }

    /// The elements of the workspace that it needs for an input of the shape that it was made for.
    pub fn workspace(&self) -> usize {
        let (g, grid) = &self.planned;
        match &self.weights {
            Weights::Panels(packed) if self.scaled && !packed.is_halved() => packed.len(),
            _ if self.scaled => g.batch * g.input[0] * g.input[1] * g.in_channels,
            Weights::Panels(_) if g.joins() => g.batch * grid.source[0] * grid.source[1] * g.in_channels,
            Weights::Winograd(_, form) => winograd::workspace::<T>(g, *form),
            Weights::Panels(_) | Weights::Compact(_) | Weights::Grouped(_) => 0,
        }
    }

    /// As [`run`](Self::run), into `y`, which is [resized](Tensor::resize), as is the workspace. `scale`, `[N, 1, 1, Cin]`,
    /// is there if it is [`scaled`](Self::scaled), and x is multiplied with it.
    pub fn run_into(
        &self,
        x: &Tensor<T>,
        scale: Option<&Tensor<T>>,
        residual: Option<&Tensor<T>>,
        workspace: &mut Tensor<T>,
        y: &mut Tensor<T>,
    ) -> Result<()> {
        let g = self.geometry(x)?;
        let shape = Shape::new(&g.y_shape())?;
        if let Some(residual) = residual.filter(|residual| *residual.shape() != shape) {
            return Err(Error::shape("conv2d", "residual", shape, residual.shape()));
        }
        self.check_scale(&g, scale)?;
        self.compute(&g, (x, scale), (residual, None), workspace, (y.resize(shape), None));
        Ok(())
    }

    /// Whether it can [write columns](Self::run_columns_into).
    pub fn writes_columns(&self) -> bool {
        !self.scaled && matches!(self.weights, Weights::Panels(_) | Weights::Winograd(..))
    }

    /// As [`run_into`](Self::run_into), to the columns of `y` from `first` on, of which there are to be so many. The others
    /// keep what they hold if `y` has the right shape, else it is resized.
    ///
    /// Errors if they are too few, or unless it [writes columns](Self::writes_columns).
    pub fn run_columns_into(
        &self,
        x: &Tensor<T>,
        workspace: &mut Tensor<T>,
        y: &mut Tensor<T>,
        [columns, first]: [usize; 2],
    ) -> Result<()> {
        let g = self.geometry(x)?;
        if !self.writes_columns() || first.checked_add(g.out_channels).is_none_or(|end| end > columns) {
            let got = format!("{first}..{first}+{} of {columns}, {}", g.out_channels, self.algorithm());
            return Err(Error::argument(
                "conv2d",
                "columns",
                "that the output has, not grouped, scaled or compact",
                got,
            ));
        }
        let shape = Shape::new(&g.y_shape())?.with_columns(columns);
        let y = if *y.shape() == shape { y.data_mut() } else { y.resize(shape) };
        self.compute(&g, (x, None), (None, Some(ColumnSlice { columns, first })), workspace, (y, None));
        Ok(())
    }

    /// Whether it can [average rows](Self::run_averaged_into).
    pub fn averages_rows(&self) -> bool {
        matches!(&self.weights, Weights::Grouped(filters) if filters.channels.are_apart())
    }

    /// As [`run_into`](Self::run_into), and the means over each row of the output's pixels, `[N, Ho, 1, Cout]`: their mean is
    /// that of an image.
    ///
    /// Errors unless it [averages rows](Self::averages_rows).
    pub fn run_averaged_into(
        &self,
        x: &Tensor<T>,
        workspace: &mut Tensor<T>,
        y: &mut Tensor<T>,
        means: &mut Tensor<T>,
    ) -> Result<()> {
        let g = self.geometry(x)?;
        if !self.averages_rows() {
            return Err(Error::argument(
                "conv2d",
                "convolution",
                "of narrow groups that fill registers, to average rows",
                self.algorithm(),
            ));
        }
        let (y, means) = (y.resize(Shape::new(&g.y_shape())?), means.resize(g.means_shape()?));
        self.compute(&g, (x, None), (None, None), workspace, (y, Some(means)));
        Ok(())
    }

    fn geometry(&self, x: &Tensor<T>) -> Result<Geometry> {
        Geometry::new("conv2d", x.shape(), &self.w_shape, &self.window, self.groups)
    }

    /// With operands that have been checked.
    fn compute(
        &self,
        g: &Geometry,
        (x, scale): (&Tensor<T>, Option<&Tensor<T>>),
        (residual, slice): (Option<&Tensor<T>>, Option<ColumnSlice>),
        workspace: &mut Tensor<T>,
        (y, means): (&mut [T], Option<&mut [T]>),
    ) {
        let (clamp, curve) = clamp_or_curve(self.activation);
        let bias = self.bias.as_ref().map(Tensor::data);
        let epilogue = Epilogue { bias, residual: residual.map(Tensor::data), clamp, curve, onto: false, slice };
        let (planned, grid) = &self.planned;
        let grid = if g == planned { Cow::Borrowed(grid) } else { Cow::Owned(g.forward_grid(grid.taps.clone())) };
        match &self.weights {
            Weights::Panels(packed) if let Some(scale) = scale.filter(|_| !packed.is_halved()) => {
                let grid = if g.batch == 1 { grid } else { Cow::Owned(Grid::rows(g.input[0] * g.input[1])) };
                // (A batch of none has no images of any size.)
                let size = |data: &[T]| (data.len() / g.batch.max(1)).max(1);
                let [x, scale] = [x, scale].map(|tensor| tensor.data().chunks_exact(size(tensor.data())));
                let size = size(y);
                for (i, ((x, scale), y)) in x.zip(scale).zip(y.chunks_exact_mut(size)).enumerate() {
                    let weights = packed.scaled(scale, workspace);
                    let rows = Rows { data: x, columns: g.in_channels, k: g.in_channels };
                    gather(&grid, rows, &weights, y, epilogue.part(i * y.len(), y.len()));
                }
            }
            Weights::Compact(compact) => compact::product(scaled(x, scale, workspace).data(), compact, y, epilogue),
            Weights::Panels(packed) if scale.is_some() => {
                let rows = Rows { data: scaled(x, scale, workspace).data(), columns: g.in_channels, k: g.in_channels };
                gather(&grid, rows, packed, y, epilogue);
            }
            Weights::Panels(packed) => gather(&grid, source(g, &grid, x.data(), workspace), packed, y, epilogue),
            Weights::Winograd(packed, form) => {
                winograd::forward(g, x.data(), (packed, *form), workspace, y, epilogue);
            }
            Weights::Grouped(filters) => grouped::forward(&grid, x.data(), filters, (y, means), epilogue),
        }
    }

    fn check_scale(&self, g: &Geometry, scale: Option<&Tensor<T>>) -> Result<()> {
        let expected = Shape::from([g.batch, 1, 1, g.in_channels]);
        match scale {
            None if !self.scaled => Ok(()),
            None => Err(Error::argument("conv2d", "scale", format!("of shape {expected}"), "none")),
            Some(scale) if !self.scaled => Err(Error::argument("conv2d", "input", "without scale", scale.shape())),
            Some(scale) if *scale.shape() != expected => Err(Error::shape("conv2d", "scale", expected, scale.shape())),
            Some(_) => Ok(()),
        }
    }
}

/// The input times its factors, if it has any, in the workspace.
fn scaled<'a, T: Element>(x: &'a Tensor<T>, scale: Option<&Tensor<T>>, workspace: &'a mut Tensor<T>) -> &'a Tensor<T> {
    scale.map_or(x, |scale| {
        ops::mul_into(x, scale, workspace).expect("a factor for each image and channel");
        workspace
    })
}

/// An activation as bounds, or as a curve.
pub(super) fn clamp_or_curve<T: Element>(activation: Option<Activation>) -> (Option<[T; 2]>, Option<Activation>) {
    match activation {
        Some(Activation::Relu) => (Some([T::ZERO, -T::NEG_INFINITY]), None),
        Some(Activation::Relu6) => (Some([T::ZERO, T::from_f64(6.0)]), None),
        curve => (None, curve),
    }
}

#[cfg(test)]
mod tests;
