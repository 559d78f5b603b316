//! Batch normalisation in training: y = γ (x − μ) / √(σ² + eps) + β, μ and σ² being each channel's mean and biased
//! variance over all pixels of the batch, through which the gradient flows.
//! Ioffe & Szegedy 2015, <https://arxiv.org/abs/1502.03167>.

use ocelli_tensor::{Element, Tensor, ops};

use crate::{Gradients, Op, Result, Var};

/// Normalisation by the statistics of the batch. A plan of a pass in training keeps those of the traced batch.
#[derive(Debug, Clone)]
pub struct BatchNorm<T: Element = f32> {
    /// The statistics of the very input that the operation is applied to.
    pub stats: BatchStats<T>,
    /// Added to the variance.
    pub eps: f64,
}

/// The statistics of a batch, of which running statistics are made.
#[derive(Debug, Clone)]
pub struct BatchStats<T: Element = f32> {
    /// `[C]`
    pub mean: Tensor<T>,
    /// Biased (divided by [`count`](Self::count)), `[C]`.
    pub var: Tensor<T>,
    /// The number of values of each channel, N·H·W.
    pub count: usize,
}

/// What the gradients need; only x if they are more than that of β.
pub struct Saved<T: Element> {
    x: Option<Tensor<T>>,
    gamma: Tensor<T>,
}

impl<T: Element> Op<T> for BatchNorm<T> {
    type Saved = Saved<T>;

    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn forward(&self, inputs: &[&Tensor<T>], needs: &[bool]) -> Result<(Tensor<T>, Saved<T>)> {
        let [x, gamma, beta] = [inputs[0], inputs[1], inputs[2]];
        let y = ops::batch_norm(x, &self.stats.mean, &self.stats.var, gamma, beta, self.eps)?;
        Ok((y, Saved { x: (needs[0] || needs[1]).then(|| x.clone()), gamma: gamma.clone() }))
    }

    fn backward(&self, Saved { x, gamma }: Saved<T>, dy: Tensor<T>, needs: &[bool]) -> Result<Gradients<T>> {
        let Some(x) = x else { return Ok(vec![None, None, needs[2].then(|| ops::sum_rows(&dy))]) };
        let BatchStats { mean, var, .. } = &self.stats;
        let (dx, dgamma, dbeta) = ops::batch_norm_backward(&x, mean, var, &gamma, self.eps, &dy)?;
        Ok([dx, dgamma, dbeta].into_iter().zip(needs).map(|(gradient, &needed)| needed.then_some(gradient)).collect())
    }
}

impl<T: Element> Var<T> {
    /// This value `[…, C]` normalised by its own statistics, scaled by `gamma` `[C]` and shifted by `beta` `[C]`, and
    /// the statistics.
    pub fn batch_norm(&self, gamma: &Var<T>, beta: &Var<T>, eps: f64) -> Result<(Var<T>, BatchStats<T>)> {
        let (mean, var) = ops::batch_norm_stats(self.value())?;
        let stats = BatchStats { mean, var, count: self.shape().rows() };
        let y = Var::apply(BatchNorm { stats: stats.clone(), eps }, &[self, gamma, beta])?;
        Ok((y, stats))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;
    use super::*;

    pub fn gradients(g: &Geometry) -> Checked {
        let [h, w] = g.input;
        // Two values are ±1 whatever they were, and the gradient is all cancellation: take more.
        let x = random([g.batch + 1, h + 1, w, g.channels], g.seed);
        let (gamma, beta) = (random([g.channels], 2), random([g.channels], 3));
        gradcheck(&[x, gamma, beta], |v| v[0].batch_norm(&v[1], &v[2], 1e-5).map(|(y, _)| y))
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }

    #[test]
    fn statistics_come_back() {
        let x = Var::constant(Tensor::from_slice([3, 1], &[1.0f64, 3.0, 5.0]).unwrap());
        let one = Var::constant(Tensor::full([1], 1.0));
        let (_, stats) = x.batch_norm(&one, &one, 0.0).unwrap();
        assert_eq!((stats.mean.data()[0], stats.var.data()[0], stats.count), (3.0, 8.0 / 3.0, 3));
    }
}
