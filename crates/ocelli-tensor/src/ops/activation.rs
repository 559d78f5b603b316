//! Pointwise nonlinearities and their gradients.
//!
//! | activation | y | dy/dx | backward reads |
//! | --- | --- | --- | --- |
//! | ReLU | max(x, 0) | 1 where y > 0 | y |
//! | ReLU6 | min(max(x, 0), 6) | 1 where 0 < y < 6 | y |
//! | sigmoid | σ(x) = 1 / (1 + e⁻ˣ) | y (1 − y) | y |
//! | SiLU | x σ(x) | σ(x) (1 + x (1 − σ(x))) | x |
//!
//! ReLU6: Krizhevsky 2010; SiLU (Swish): Elfwing et al. 2017, <https://arxiv.org/abs/1702.03118>.

use crate::simd::{self, Kernel, Simd, math};
use crate::{Element, Error, Result, Tensor, threads};

/// A pointwise nonlinearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// max(x, 0)
    Relu,
    /// min(max(x, 0), 6)
    Relu6,
    /// 1 / (1 + e⁻ˣ)
    Sigmoid,
    /// x / (1 + e⁻ˣ)
    Silu,
}

impl Activation {
    /// Whether [`activation_backward`] reads the activation's output (`true`) or its input (`false`). A network keeps
    /// only the one that is needed.
    pub fn saves_output(self) -> bool {
        match self {
            Activation::Relu | Activation::Relu6 | Activation::Sigmoid => true,
            Activation::Silu => false,
        }
    }

    /// One register of y from one of x. Rectifiers keep NaN.
    #[inline(always)]
    pub(crate) fn apply<T: Element, S: Simd<T>>(self, simd: S, x: S::V) -> S::V {
        let zero = simd.splat(T::ZERO);
        match self {
            // `max` and `min` return their second operand where either is NaN.
            Activation::Relu => simd.max(zero, x),
            Activation::Relu6 => simd.min(simd.splat(T::from_f64(6.0)), simd.max(zero, x)),
            Activation::Sigmoid => math::sigmoid(simd, x),
            Activation::Silu => simd.mul(x, math::sigmoid(simd, x)),
        }
    }

    /// One register of dx from one of dy and one of what [`saves_output`](Self::saves_output) names.
    #[inline(always)]
    pub(crate) fn differentiate<T: Element, S: Simd<T>>(self, simd: S, saved: S::V, dy: S::V) -> S::V {
        let (zero, one) = (simd.splat(T::ZERO), simd.splat(T::ONE));
        match self {
            Activation::Relu => simd.select_gt(saved, zero, dy, zero),
            Activation::Relu6 => {
                let six = simd.splat(T::from_f64(6.0));
                simd.select_gt(saved, zero, simd.select_gt(six, saved, dy, zero), zero)
            }
            Activation::Sigmoid => simd.mul(dy, simd.mul(saved, simd.sub(one, saved))),
            Activation::Silu => {
                let s = math::sigmoid(simd, saved);
                simd.mul(dy, simd.mul(s, simd.mul_add(saved, simd.sub(one, s), one)))
            }
        }
    }
}
