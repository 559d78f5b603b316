//! Batch normalisation over the columns of `[…, C]`: y = act(γ · x̂ + β + residual) with x̂ = (x − mean) / √(var + eps),
//! where the activation and the residual are optional.
//!
//! In training, mean and (biased) variance are those of the batch, [`batch_norm_stats`], and the gradient flows through
//! them, [`batch_norm_backward`]; in evaluation, or when the statistics are frozen, they are constants,
//! [`batch_norm_backward_frozen`]. Ioffe & Szegedy 2015, <https://arxiv.org/abs/1502.03167>.

mod backward;
mod gate;
pub(crate) mod gradient;
mod joined;
mod stats;
#[cfg(test)]
mod tests;

pub use backward::{
    BatchNormGradients, Recompute, batch_norm_act_backward, batch_norm_backward, batch_norm_backward_frozen,
    batch_norm_gated_backward,
};
pub use gate::{Gate, GradientSums};
pub use joined::{BatchNormJoinedGradients, batch_norm_joined, batch_norm_joined_backward};
pub use stats::{ColumnStats, batch_norm_stats};
pub(crate) use stats::{Part, merge};

use super::activation::Activation;
use super::pointwise::{load, store, stream};
use crate::memory::Buffer;
use crate::simd::{Kernel, Simd};
use crate::{Element, Error, Result, Shape, Tensor, threads};

/// What x is normalised with: four vectors `[C]`, and eps.
#[derive(Debug, Clone, Copy)]
pub struct Normalization<'a, T: Element> {
    /// Of every column, in training the batch's.
    pub mean: &'a Tensor<T>,
    /// Biased, of every column, in training the batch's.
    pub var: &'a Tensor<T>,
    /// The factor γ.
    pub gamma: &'a Tensor<T>,
    /// The offset β.
    pub beta: &'a Tensor<T>,
    /// Added to the variance.
    pub eps: f64,
}

/// y = γ (x − mean) / √(var + eps) + β, with mean, var, γ and β `[C]`.
///
/// Errors if one of them is not `[C]`.
pub fn batch_norm<T: Element>(
    x: &Tensor<T>,
    mean: &Tensor<T>,
    var: &Tensor<T>,
    gamma: &Tensor<T>,
    beta: &Tensor<T>,
    eps: f64,
) -> Result<Tensor<T>> {
    normalize("batch_norm", x, Normalization { mean, var, gamma, beta, eps }, None, None)
}

/// y = act(γ (x − mean) / √(var + eps) + β + residual), in one pass; `None` leaves the activation or the residual out.
///
/// Errors if mean, var, γ or β is not `[C]` or if the residual is not of x's shape.
pub fn batch_norm_act<T: Element>(
    x: &Tensor<T>,
    normalization: Normalization<'_, T>,
    residual: Option<&Tensor<T>>,
    activation: Option<Activation>,
) -> Result<Tensor<T>> {
    normalize("batch_norm_act", x, normalization, residual, activation)
}

fn normalize<T: Element>(
    op: &'static str,
    x: &Tensor<T>,
    normalization: Normalization<'_, T>,
    residual: Option<&Tensor<T>>,
    activation: Option<Activation>,
) -> Result<Tensor<T>> {
    let columns = Columns::new(op, x.shape(), normalization)?;
    if let Some(residual) = residual {
        check_shape(op, "residual", x, residual)?;
    }
    let mut y = Tensor::scratch(x.shape());
    let chunk = threads::rows_per_chunk(columns.len()) * columns.len();
    threads::for_each_chunk(y.data_mut(), chunk, |i, y| {
        let part = i * chunk..i * chunk + y.len();
        let residual = residual.map(|residual| &residual.data()[part.clone()]);
        T::batch_norm_normalize(Normalize { columns: columns.lanes(), x: &x.data()[part], residual, activation, y });
    });
    Ok(y)
}

fn check_shape<T: Element>(op: &'static str, what: &'static str, x: &Tensor<T>, other: &Tensor<T>) -> Result<()> {
    if other.shape() == x.shape() { Ok(()) } else { Err(Error::shape(op, what, x.shape(), other.shape())) }
}

/// A normalisation's coefficients.
struct Columns<'a, T: Element> {
    mean: &'a [T],
    gamma: &'a [T],
    beta: &'a [T],
    /// 1 / √(var + eps)
    inverse: Buffer<f64>,
    /// γ / √(var + eps)
    scale: Buffer<T>,
}

impl<'a, T: Element> Columns<'a, T> {
    /// Errors if a vector is not `[C]`.
    fn new(op: &'static str, x: &Shape, normalization: Normalization<'a, T>) -> Result<Self> {
        let Normalization { mean, var, gamma, beta, eps } = normalization;
        let columns = [x.columns()];
        for (what, vector) in [("mean", mean), ("var", var), ("gamma", gamma), ("beta", beta)] {
            if **vector.shape() != columns {
                return Err(Error::shape(op, what, format!("{columns:?}"), vector.shape()));
            }
        }
        let inverse = Buffer::from_fn(var.len(), |c| 1.0 / (var.data()[c].to_f64() + eps).sqrt());
        let scale = Buffer::from_fn(var.len(), |c| T::from_f64(gamma.data()[c].to_f64() * inverse[c]));
        Ok(Columns { mean: mean.data(), gamma: gamma.data(), beta: beta.data(), inverse, scale })
    }

    fn len(&self) -> usize {
        self.mean.len()
    }

    fn lanes(&self) -> Lanes<'_, T> {
        Lanes { mean: self.mean, scale: &self.scale, beta: self.beta }
    }
}

/// What kernels read of a normalisation's coefficients: as slices, which their loops need not ask for.
#[derive(Clone, Copy)]
pub(crate) struct Lanes<'a, T> {
    pub mean: &'a [T],
    pub scale: &'a [T],
    pub beta: &'a [T],
}

impl<T: Element> Lanes<'_, T> {
    pub fn len(&self) -> usize {
        self.mean.len()
    }

    /// x − mean for `n` elements of column `c` and the following.
    #[inline(always)]
    fn centre<S: Simd<T>>(&self, simd: S, x: S::V, c: usize, n: usize) -> S::V {
        simd.sub(x, load(simd, self.mean, c, n))
    }

    /// γ x̂ + β from x − mean. (One multiplication and addition with a precomputed shift would round mean · scale,
    /// which may be much larger than the result.)
    #[inline(always)]
    fn transform<S: Simd<T>>(&self, simd: S, centred: S::V, c: usize, n: usize) -> S::V {
        simd.mul_add(centred, load(simd, self.scale, c, n), load(simd, self.beta, c, n))
    }
}

/// Whole rows of y.
pub struct Normalize<'a, T: Element> {
    columns: Lanes<'a, T>,
    x: &'a [T],
    residual: Option<&'a [T]>,
    activation: Option<Activation>,
    y: &'a mut [T],
}

impl<T: Element> Kernel<T> for Normalize<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Normalize { columns, x, residual, activation, y } = self;
        let len = columns.len();
        for start in (0..y.len()).step_by(len) {
            let (x, y) = (&x[start..start + len], &mut y[start..start + len]);
            let residual = residual.map(|residual| &residual[start..start + len]);
            for c in (0..len).step_by(S::LANES) {
                let n = S::LANES.min(len - c);
                simd.ask_ahead(y, c);
                let centred = columns.centre(simd, stream(simd, x, c, n), c, n);
                let mut v = columns.transform(simd, centred, c, n);
                if let Some(residual) = residual {
                    v = simd.add(v, stream(simd, residual, c, n));
                }
                if let Some(activation) = activation {
                    v = activation.activate(simd, v);
                }
                store(simd, v, y, c, n);
            }
        }
    }
}
