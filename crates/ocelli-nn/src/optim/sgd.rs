//! Stochastic gradient descent with momentum, as PyTorch defines it:
//!
//! g ← dw + λ·w;  v ← μ·v + g;  w ← w − lr · (g + μ·v if Nesterov, else v)
//!
//! Here lr scales the whole step, so a change of lr acts at once also on the momentum.
//! Polyak 1964, <https://doi.org/10.1016/0041-5553(64)90137-5>; Nesterov's in the form of Sutskever et al. 2013,
//! <https://proceedings.mlr.press/v28/sutskever13.html>.

use ocelli_autograd::tensor::Element;
use ocelli_autograd::tensor::simd::Simd;

use super::method::Constants;
use super::pass::Rule;

/// The constants of gradient descent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdOptions {
    /// μ: how much of the last direction is kept.
    pub momentum: f64,
    /// Whether to look one step ahead along the momentum (Nesterov 1983; needs momentum).
    pub nesterov: bool,
    /// λ: how strongly weights are pulled to 0.
    pub weight_decay: f64,
    /// Whether λ also applies to vectors, the parameters of norms and biases, as PyTorch's own does. Large-batch
    /// recipes spare them (He et al. 2018, <https://arxiv.org/abs/1812.01187>, section 3.1).
    pub decay_vectors: bool,
}

impl Default for SgdOptions {
    /// Plain gradient descent.
    fn default() -> Self {
        SgdOptions { momentum: 0.0, nesterov: false, weight_decay: 0.0, decay_vectors: true }
    }
}

/// Without momentum.
#[derive(Clone, Copy)]
pub(super) struct Descend<T> {
    constants: Constants<T>,
}

impl<T: Element> Descend<T> {
    pub fn new(constants: Constants<T>) -> Self {
        Descend { constants }
    }
}

impl<T: Element> Rule<T, 0> for Descend<T> {
    #[inline(always)]
    fn update<S: Simd<T>>(&self, simd: S, w: S::V, g: S::V, _: &mut [S::V; 0]) -> S::V {
        let g = self.constants.decayed(simd, w, g);
        simd.sub(w, simd.mul(simd.splat(self.constants.lr), g))
    }
}

/// With momentum, in the slot v.
#[derive(Clone, Copy)]
pub(super) struct Momentum<T> {
    constants: Constants<T>,
    momentum: T,
    nesterov: bool,
}

impl<T: Element> Momentum<T> {
    pub fn new(options: &SgdOptions, constants: Constants<T>) -> Self {
        Momentum { constants, momentum: T::from_f64(options.momentum), nesterov: options.nesterov }
    }
}

impl<T: Element> Rule<T, 1> for Momentum<T> {
    #[inline(always)]
    fn update<S: Simd<T>>(&self, simd: S, w: S::V, g: S::V, [v]: &mut [S::V; 1]) -> S::V {
        let momentum = simd.splat(self.momentum);
        let g = self.constants.decayed(simd, w, g);
        *v = simd.mul_add(momentum, *v, g);
        let direction = if self.nesterov { simd.mul_add(momentum, *v, g) } else { *v };
        simd.sub(w, simd.mul(simd.splat(self.constants.lr), direction))
    }
}
