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

use super::pointwise::{self, Binary, Unary};
use crate::simd::{Simd, math};
use crate::{Element, Error, Result, Tensor};

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

/// Calls `$call` with a [curve](Activation::is_curve) that is known when it is compiled, so that loops in it need not ask for each
/// register.
macro_rules! with_curve {
    ($activation:expr, |$curve:ident| $call:expr) => {
        with_curve!(@one $activation, $curve, $call, Sigmoid Silu)
    };
    (@one $activation:expr, $curve:ident, $call:expr, $($name:ident)*) => {
        match $activation {
            $($crate::ops::Activation::$name => {
                let $curve = $crate::ops::Activation::$name;
                $call
            })*
            other => unreachable!("{other:?} is a clamp"),
        }
    };
}
pub(crate) use with_curve;

impl Activation {
    /// Whether [`activation_backward`] reads the activation's output (`true`) or its input (`false`). A network keeps
    /// only the one that is needed.
    pub fn saves_output(self) -> bool {
        match self {
            Activation::Relu | Activation::Relu6 | Activation::Sigmoid => true,
            Activation::Silu => false,
        }
    }

    /// Whether it is made of exponentials, which take as long as fetching an element or two from memory.
    pub fn is_curve(self) -> bool {
        match self {
            Activation::Relu | Activation::Relu6 => false,
            Activation::Sigmoid | Activation::Silu => true,
        }
    }

    /// One register of y from one of x. Rectifiers keep NaN.
    #[inline(always)]
    pub(crate) fn activate<T: Element, S: Simd<T>>(self, simd: S, x: S::V) -> S::V {
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

/// The activation of every element, in a tensor of the same shape.
pub fn activation<T: Element>(x: &Tensor<T>, activation: Activation) -> Tensor<T> {
    pointwise::map(x, activation)
}

/// As [`activation`], into `y`, which is [resized](Tensor::resize).
pub fn activation_into<T: Element>(x: &Tensor<T>, activation: Activation, y: &mut Tensor<T>) {
    pointwise::map_into(x, activation, y);
}

/// The gradient dx of [`activation`], from dy and from the output y or the input x, whichever
/// [`Activation::saves_output`] says.
///
/// Errors if the shapes differ.
pub fn activation_backward<T: Element>(saved: &Tensor<T>, dy: &Tensor<T>, activation: Activation) -> Result<Tensor<T>> {
    if saved.shape() != dy.shape() {
        return Err(Error::shape("activation_backward", "dy", saved.shape(), dy.shape()));
    }
    Ok(pointwise::zip(saved, dy, activation))
}

impl<T: Element> Unary<T> for Activation {
    #[inline(always)]
    fn apply<S: Simd<T>>(self, simd: S, x: S::V) -> S::V {
        self.activate(simd, x)
    }
}

impl<T: Element> Binary<T> for Activation {
    #[inline(always)]
    fn apply<S: Simd<T>>(self, simd: S, saved: S::V, dy: S::V) -> S::V {
        self.differentiate(simd, saved, dy)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Rng, central_difference, on_every_isa, same_bits};
    use super::*;

    const ALL: [Activation; 4] = [Activation::Relu, Activation::Relu6, Activation::Sigmoid, Activation::Silu];

    fn reference(x: f64, activation: Activation) -> f64 {
        let sigmoid = 1.0 / (1.0 + (-x).exp());
        match activation {
            Activation::Relu => x.max(0.0),
            Activation::Relu6 => x.clamp(0.0, 6.0),
            Activation::Sigmoid => sigmoid,
            Activation::Silu => x * sigmoid,
        }
    }

    #[test]
    fn forward_matches_reference() {
        for n in [0, 1, 3, 17, 40_000] {
            let x = Rng::new(n as u64).tensor::<f64>([n]).map(|x| 12.0 * x);
            for kind in ALL {
                let expected = x.map(|x| reference(x, kind));
                on_every_isa(|| {
                    assert!(activation(&x, kind).relative_error(&expected) < 1e-14, "{kind:?} f64");
                    assert!(activation(&x.cast::<f32>(), kind).relative_error(&expected.cast()) < 1e-6, "{kind:?} f32");
                });
            }
        }
    }

    #[test]
    fn backward_matches_central_differences() {
        let x = Rng::new(5).tensor::<f64>([3, 17]).map(|x| 9.0 * x);
        let dy = Rng::new(6).tensor::<f64>([3, 17]);
        for kind in ALL {
            let saved = if kind.saves_output() { activation(&x, kind) } else { x.clone() };
            let expected = central_difference(&x, &dy, |x| activation(x, kind));
            on_every_isa(|| {
                let dx = activation_backward(&saved, &dy, kind).unwrap();
                assert!(dx.relative_error(&expected) < 1e-8, "{kind:?} f64");
                let dx = activation_backward(&saved.cast::<f32>(), &dy.cast(), kind).unwrap();
                assert!(dx.relative_error(&expected.cast()) < 2e-6, "{kind:?} f32");
            });
        }
    }

    #[test]
    fn rectifiers_keep_nan() {
        let x = Tensor::from_slice([2], &[f32::NAN, -1.0]).unwrap();
        for kind in [Activation::Relu, Activation::Relu6] {
            on_every_isa(|| {
                let y = activation(&x, kind);
                assert!(y.data()[0].is_nan() && y.data()[1] == 0.0);
            });
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let x = Rng::new(7).tensor::<f32>([50_001]);
        same_bits(|| vec![activation(&x, Activation::Silu)]);
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let (x, dy) = (Tensor::<f32>::zeros([2, 3]), Tensor::zeros([3, 2]));
        let error = activation_backward(&x, &dy, Activation::Relu).unwrap_err();
        assert_eq!(error.to_string(), "activation_backward: expected dy of shape [2, 3], got [3, 2]");
    }
}
