//! A batch norm with a rectifier behind it, as the operation sees it that computes the gradient of what the two make.

use super::gradient::Saved;
use super::{Columns, Normalization, Recompute};
use crate::memory::Buffer;
use crate::ops::concat::joined_shape;
use crate::ops::gemm;
use crate::{Element, Error, Result, Shape, Tensor};

/// relu(γ x̂ + β + residual), of whose gradient the norm's backward pass wants only what the ReLU let through, and that with
/// its [sums](GradientSums).
#[derive(Debug, Clone, Copy)]
pub struct Gate<'a, T: Element> {
    /// x: the columns of these side by side, or one.
    pub parts: &'a [Tensor<T>],
    /// By x's own mean and variance.
    pub normalization: Normalization<'a, T>,
    /// What else the ReLU's input is known from; nothing, if there are several parts.
    pub recompute: Recompute<'a, T>,
}

/// Σ g and Σ g (x − mean) over all rows, g being the gradient by a norm's output: what its parameters' gradients are made of.
#[derive(Debug, Clone, PartialEq)]
pub struct GradientSums(Buffer<f64>);

impl GradientSums {
    pub(crate) fn new(sums: Buffer<f64>) -> Self {
        GradientSums(sums)
    }

    /// Errors if they are not those of so many columns.
    pub(super) fn of(self, op: &'static str, columns: usize) -> Result<Buffer<f64>> {
        let GradientSums(sums) = self;
        if sums.len() == 2 * columns {
            return Ok(sums);
        }
        Err(Error::argument(op, "sums", format!("two of each of {columns} columns"), format!("{} sums", sums.len())))
    }
}

/// A [`Gate`] whose shapes have been checked.
pub(crate) struct Checked<'a, T: Element> {
    columns: Columns<'a, T>,
    parts: &'a [Tensor<T>],
    saved: Saved<'a, T>,
}

impl<'a, T: Element> Gate<'a, T> {
    /// Errors if it is not that of a tensor of this shape.
    pub(crate) fn check(&self, op: &'static str, shape: &Shape) -> Result<Checked<'a, T>> {
        let Gate { parts, normalization, recompute } = *self;
        let joined = joined_shape(op, parts.iter().map(Tensor::shape))?;
        if joined != *shape {
            return Err(Error::shape(op, "normalised input", shape, &joined));
        }
        if let Some((what, tensor)) = recompute.tensor() {
            if parts.len() > 1 {
                return Err(Error::argument(op, what, "none behind several parts", tensor.shape()));
            }
            if tensor.shape() != shape {
                return Err(Error::shape(op, what, shape, tensor.shape()));
            }
        }
        Ok(Checked { columns: Columns::new(op, shape, normalization)?, parts, saved: Saved::new(recompute) })
    }
}

impl<T: Element> Checked<'_, T> {
    /// As products take it.
    pub fn gate(&self) -> gemm::gate::Gate<'_, T> {
        gemm::gate::Gate { columns: self.columns.lanes(), parts: self.parts, saved: self.saved }
    }
}
