//! LAMB, for large batches: Adam's direction with a decay of its own, whose length in each parameter is that of the
//! parameter itself. In step t:
//!
//! m ← m + (1 − β₁)·(dw − m);  v ← β₂·v + (1 − β₂)·dw²;  u = m / (1 − β₁ᵗ) / (√v / √(1 − β₂ᵗ) + ε) + λ·w
//! w ← w − lr · ‖w‖ / ‖u‖ · u, where a ratio with a zero counts as 1
//!
//! You et al. 2019, <https://arxiv.org/abs/1904.00962>, algorithm 2 with φ(z) = z. As in the authors' code and timm's,
//! what is spared from decay is not scaled either.
//!
//! The norms must be known before the first weight moves, so there are two passes; the second computes u again from the
//! moments rather than read it.

use ocelli_autograd::tensor::Element;
use ocelli_autograd::tensor::simd::{self, Kernel, Simd};

use super::adam::Moments;
use super::method::Constants;
use super::pass::{BLOCK, Piece, Rule, load, store};

/// The constants of LAMB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LambOptions {
    /// β₁ and β₂: how much is kept of the mean gradient and of the mean square.
    pub betas: [f64; 2],
    /// ε, beside the root.
    pub eps: f64,
    /// λ: how strongly weights are pulled to 0.
    pub weight_decay: f64,
    /// Whether λ, and the scaling, also apply to vectors, the parameters of norms and biases.
    pub decay_vectors: bool,
}

impl Default for LambOptions {
    /// β = (0.9, 0.999), ε = 10⁻⁶, λ = 0.01, without that of vectors.
    fn default() -> Self {
        LambOptions { betas: [0.9, 0.999], eps: 1e-6, weight_decay: 0.01, decay_vectors: false }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Lamb<T> {
    constants: Constants<T>,
    moments: Moments<T>,
}

impl<T: Element> Lamb<T> {
    pub fn new(options: &LambOptions, constants: Constants<T>, t: u64) -> Self {
        Lamb { constants, moments: Moments::new(options.betas, options.eps, t) }
    }

    /// This step with the learning rate times ‖w‖ / ‖u‖, from the sums of their squares over the parameter.
    pub fn scaled(mut self, [w, u]: [f64; 2]) -> Self {
        if w > 0.0 && u > 0.0 {
            self.constants.lr = T::from_f64(self.constants.lr.to_f64() * (w / u).sqrt());
        }
        self
    }

    /// The first pass: takes the gradient into the moments, and returns Σ w² and Σ u².
    pub fn measure(self, piece: &mut Piece<'_, T>) -> [f64; 2] {
        let [m, v] = &mut piece.slots;
        simd::dispatch(Measure { rule: self, w: piece.w, g: piece.g, slots: [m, v] })
    }

    #[inline(always)]
    fn direction<S: Simd<T>>(&self, simd: S, w: S::V, slots: &[S::V; 2]) -> S::V {
        simd.mul_add(simd.splat(self.constants.decay), w, self.moments.direction(simd, slots))
    }
}

/// The second pass.
impl<T: Element> Rule<T, 2> for Lamb<T> {
    const MOVES_SLOTS: bool = false;

    #[inline(always)]
    fn update<S: Simd<T>>(&self, simd: S, w: S::V, _: S::V, slots: &mut [S::V; 2]) -> S::V {
        simd.sub(w, simd.mul(simd.splat(self.constants.lr), self.direction(simd, w, slots)))
    }
}

struct Measure<'p, T> {
    rule: Lamb<T>,
    w: &'p [T],
    g: &'p [T],
    slots: [&'p mut [T]; 2],
}

impl<T: Element> Kernel<T> for Measure<'_, T> {
    type Output = [f64; 2];

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> [f64; 2] {
        let Measure { rule, w, g, slots: [m, v] } = self;
        let mut sums = [0.0; 2];
        for block in (0..w.len()).step_by(BLOCK) {
            let (mut ww, mut uu) = (simd.splat(T::ZERO), simd.splat(T::ZERO));
            let end = w.len().min(block + BLOCK);
            for i in (block..end).step_by(S::LANES) {
                let n = S::LANES.min(end - i);
                let (w, g) = (load(simd, w, i, n), rule.constants.clipped(simd, load(simd, g, i, n)));
                let mut slots = [load(simd, m, i, n), load(simd, v, i, n)];
                rule.moments.take(simd, g, &mut slots);
                store(simd, slots[0], m, i, n);
                store(simd, slots[1], v, i, n);
                let u = rule.direction(simd, w, &slots);
                ww = simd.mul_add(w, w, ww);
                uu = simd.mul_add(u, u, uu);
            }
            sums[0] += simd.reduce_add(ww).to_f64();
            sums[1] += simd.reduce_add(uu).to_f64();
        }
        sums
    }
}
