//! Deformable convolutions for inference: weights packed once; bias, residual addition and activation in the same pass.

use super::super::packed::clamp_or_curve;
use super::{DeformConv2d, Deformed, Field, forward};
use crate::ops::conv::{Geometry, pack};
use crate::ops::gemm::gather::Epilogue;
use crate::ops::gemm::{Grid, Packed};
use crate::ops::{Activation, Storage};
use crate::{Element, Error, Result, Shape, Tensor};

/// A deformable convolution with fixed weights: `activation(deform_conv2d(x, offset, mask, w) + bias + residual)`.
pub struct PackedDeformConv<T: Element = f32> {
    weights: Packed<T>,
    w_shape: Shape,
    workspace: usize,
    /// That of a product of rows.
    grid: Grid,
    bias: Option<Tensor<T>>,
    activation: Option<Activation>,
    attributes: DeformConv2d,
}

impl<T: Element> PackedDeformConv<T> {
    /// Packs `w` `[Kh, Kw, Cin / groups, Cout]` for inputs with the channels of the shape `x`. `bias` is `[Cout]`.
    pub fn new(
        w: &Tensor<T>,
        bias: Option<&Tensor<T>>,
        activation: Option<Activation>,
        attributes: DeformConv2d,
        x: &Shape,
    ) -> Result<Self> {
        Self::with_storage(Storage::Exact, w, bias, activation, attributes, x)
    }

    /// As [`new`](Self::new), with weights kept in a certain way.
    pub fn with_storage(
        storage: Storage,
        w: &Tensor<T>,
        bias: Option<&Tensor<T>>,
        activation: Option<Activation>,
        attributes: DeformConv2d,
        x: &Shape,
    ) -> Result<Self> {
        let op = "packed_deform_conv";
        let g = Geometry::new(op, x, w.shape(), &attributes.window, attributes.groups)?;
        if w.is_empty() {
            return Err(Error::shape(op, "weight", "[Kh, Kw, Cin / groups, Cout] above 0", w.shape()));
        }
        let cout = g.out_channels;
        if let Some(bias) = bias.filter(|bias| **bias.shape() != [cout]) {
            return Err(Error::shape(op, "bias", format!("[{cout}]"), bias.shape()));
        }
        let weights = storage.halved(&g, w).unwrap_or_else(|| pack(&g, w));
        let (w_shape, bias) = (*w.shape(), bias.cloned());
        let workspace = Deformed::all_samples(&g, &weights);
        Ok(PackedDeformConv { weights, w_shape, workspace, grid: Grid::rows(0), bias, activation, attributes })
    }

    /// How it computes.
    pub fn algorithm(&self) -> &'static str {
        if self.weights.is_halved() { "gathered f16" } else { "gathered" }
    }

    /// The output for `x`, `offset` and `mask` as [`deform_conv2d`](super::deform_conv2d) takes them; `residual`, of the
    /// output's shape, is added before the activation.
    pub fn run(
        &self,
        x: &Tensor<T>,
        offset: &Tensor<T>,
        mask: Option<&Tensor<T>>,
        residual: Option<&Tensor<T>>,
    ) -> Result<Tensor<T>> {
        Tensor::made(|y| self.run_into([x, offset], mask, residual, &mut Tensor::default(), y))
    }

    /// The elements of the workspace that it needs for an input of the shape that it was made for.
    pub fn workspace(&self) -> usize {
        self.workspace
    }

    /// As [`run`](Self::run), into `y`, which is [resized](Tensor::resize), as is the workspace.
    pub fn run_into(
        &self,
        [x, offset]: [&Tensor<T>; 2],
        mask: Option<&Tensor<T>>,
        residual: Option<&Tensor<T>>,
        workspace: &mut Tensor<T>,
        y: &mut Tensor<T>,
    ) -> Result<()> {
        let op = "deform_conv2d";
        let g = Deformed::new(op, [x, offset], mask, &self.w_shape, &self.attributes)?;
        let shape = Shape::new(&g.conv.y_shape())?;
        if let Some(residual) = residual.filter(|residual| *residual.shape() != shape) {
            return Err(Error::shape(op, "residual", shape, residual.shape()));
        }
        let (clamp, curve) = clamp_or_curve(self.activation);
        let bias = self.bias.as_ref().map(Tensor::data);
        let epilogue = Epilogue { bias, residual: residual.map(Tensor::data), clamp, curve, ..Epilogue::NONE };
        y.resize(shape);
        let all = (self.grid.with_rows(shape.rows()), workspace);
        forward(&g, &Field::new(&g, x, offset, mask), &self.weights, all, y, epilogue);
        Ok(())
    }
}
