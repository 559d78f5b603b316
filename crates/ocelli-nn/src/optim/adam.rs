//! Adam and AdamW, as PyTorch defines them. In step t:
//!
//! m ← m + (1 − β₁)·(g − m);  v ← β₂·v + (1 − β₂)·g²;  w ← w − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
//!
//! with g = dw + λ·w (Adam: Kingma and Ba 2014, <https://arxiv.org/abs/1412.6980>, algorithm 1), or with g = dw and
//! w ← (1 − lr·λ)·w beforehand (AdamW: Loshchilov and Hutter 2017, <https://arxiv.org/abs/1711.05101>, algorithm 2).

use ocelli_autograd::tensor::Element;
use ocelli_autograd::tensor::simd::Simd;

use super::method::Constants;
use super::pass::Rule;

/// The constants of Adam.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamOptions {
    /// β₁ and β₂: how much is kept of the mean gradient and of the mean square.
    pub betas: [f64; 2],
    /// ε, beside the root.
    pub eps: f64,
    /// λ: how strongly weights are pulled to 0.
    pub weight_decay: f64,
    /// Whether the decay shrinks the weights beside the step (AdamW), or adds to the gradient (Adam).
    pub decoupled: bool,
    /// Whether λ also applies to vectors, the parameters of norms and biases.
    pub decay_vectors: bool,
}

impl AdamOptions {
    /// Adam: β = (0.9, 0.999), ε = 10⁻⁸, no decay.
    pub fn adam() -> Self {
        AdamOptions { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, decoupled: false, decay_vectors: true }
    }

    /// AdamW: the same with λ = 0.01, of its own.
    pub fn adamw() -> Self {
        AdamOptions { weight_decay: 0.01, decoupled: true, ..Self::adam() }
    }
}

/// What Adam and LAMB have in common: the two moments of the gradient, without the bias of their beginning at 0.
#[derive(Clone, Copy)]
pub(super) struct Moments<T> {
    take1: T,
    keep2: T,
    take2: T,
    /// 1 / (1 − β₁ᵗ)
    unbias1: T,
    /// 1 / √(1 − β₂ᵗ)
    unbias2: T,
    eps: T,
}

impl<T: Element> Moments<T> {
    /// For step `t`, from 1.
    pub fn new([beta1, beta2]: [f64; 2], eps: f64, t: u64) -> Self {
        let power = |beta: f64| beta.powf(t as f64);
        let (unbias1, unbias2) = (1.0 / (1.0 - power(beta1)), 1.0 / (1.0 - power(beta2)).sqrt());
        let [take1, keep2, take2] = [1.0 - beta1, beta2, 1.0 - beta2].map(T::from_f64);
        let [unbias1, unbias2, eps] = [unbias1, unbias2, eps].map(T::from_f64);
        Moments { take1, keep2, take2, unbias1, unbias2, eps }
    }

    /// Takes the gradient into the moments.
    #[inline(always)]
    pub fn take<S: Simd<T>>(&self, simd: S, g: S::V, [m, v]: &mut [S::V; 2]) {
        *m = simd.mul_add(simd.splat(self.take1), simd.sub(g, *m), *m);
        *v = simd.mul_add(simd.splat(self.take2), simd.mul(g, g), simd.mul(simd.splat(self.keep2), *v));
    }

    /// The direction that they give.
    #[inline(always)]
    pub fn direction<S: Simd<T>>(&self, simd: S, [m, v]: &[S::V; 2]) -> S::V {
        let root = simd.mul_add(simd.sqrt(*v), simd.splat(self.unbias2), simd.splat(self.eps));
        simd.div(simd.mul(*m, simd.splat(self.unbias1)), root)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Adam<T> {
    constants: Constants<T>,
    moments: Moments<T>,
    /// 1 − lr·λ if decoupled, else 1.
    shrink: T,
}

impl<T: Element> Adam<T> {
    pub fn new(options: &AdamOptions, mut constants: Constants<T>, t: u64) -> Self {
        let moments = Moments::new(options.betas, options.eps, t);
        let mut shrink = T::ONE;
        if options.decoupled {
            shrink = T::from_f64(1.0 - constants.lr.to_f64() * constants.decay.to_f64());
            constants.decay = T::ZERO;
        }
        Adam { constants, moments, shrink }
    }
}

impl<T: Element> Rule<T, 2> for Adam<T> {
    #[inline(always)]
    fn update<S: Simd<T>>(&self, simd: S, w: S::V, g: S::V, slots: &mut [S::V; 2]) -> S::V {
        let g = self.constants.decayed(simd, w, g);
        self.moments.take(simd, g, slots);
        let step = simd.mul(simd.splat(self.constants.lr), self.moments.direction(simd, slots));
        simd.sub(simd.mul(w, simd.splat(self.shrink)), step)
    }
}
