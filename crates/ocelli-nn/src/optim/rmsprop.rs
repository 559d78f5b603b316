//! RMSprop as TensorFlow defines it, with which the EfficientNets were trained:
//!
//! g ← dw + λ·w;  s ← s + (1 − ρ)·(g² − s);  v ← μ·v + lr · g / √(s + ε);  w ← w − v
//!
//! It differs from PyTorch's in three ways: ε stands inside the root, the mean square begins at 1 rather than 0, and the
//! learning rate scales what enters the momentum rather than what leaves it.
//! Tieleman and Hinton 2012, <https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf>;
//! its use: Tan and Le 2019, <https://arxiv.org/abs/1905.11946>, section 5.2.

use ocelli_autograd::tensor::Element;
use ocelli_autograd::tensor::simd::Simd;

use super::method::Constants;
use super::pass::Rule;

/// The constants of RMSprop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsPropOptions {
    /// ρ: how much of the mean square is kept.
    pub decay: f64,
    /// μ: how much of the last step is kept.
    pub momentum: f64,
    /// ε, inside the root.
    pub eps: f64,
    /// λ: how strongly weights are pulled to 0.
    pub weight_decay: f64,
    /// Whether λ also applies to vectors, the parameters of norms and biases.
    pub decay_vectors: bool,
}

impl Default for RmsPropOptions {
    /// The EfficientNets': ρ = 0.9, μ = 0.9, ε = 0.001, λ = 10⁻⁵, without that of vectors.
    fn default() -> Self {
        RmsPropOptions { decay: 0.9, momentum: 0.9, eps: 1e-3, weight_decay: 1e-5, decay_vectors: false }
    }
}

#[derive(Clone, Copy)]
pub(super) struct RmsProp<T> {
    constants: Constants<T>,
    take: T,
    momentum: T,
    eps: T,
}

impl<T: Element> RmsProp<T> {
    pub fn new(options: &RmsPropOptions, constants: Constants<T>) -> Self {
        let [take, momentum, eps] = [1.0 - options.decay, options.momentum, options.eps].map(T::from_f64);
        RmsProp { constants, take, momentum, eps }
    }
}

impl<T: Element> Rule<T, 2> for RmsProp<T> {
    #[inline(always)]
    fn update<S: Simd<T>>(&self, simd: S, w: S::V, g: S::V, [s, v]: &mut [S::V; 2]) -> S::V {
        let g = self.constants.decayed(simd, w, g);
        *s = simd.mul_add(simd.splat(self.take), simd.sub(simd.mul(g, g), *s), *s);
        let scaled = simd.div(g, simd.sqrt(simd.add(*s, simd.splat(self.eps))));
        *v = simd.mul_add(simd.splat(self.momentum), *v, simd.mul(simd.splat(self.constants.lr), scaled));
        simd.sub(w, *v)
    }
}
