//! Batch normalisation in training of values side by side: y = act(γ (x − μ) / √(σ² + eps) + β), x being the values'
//! channels in a row, which are never put there. DenseNet's layers normalise all that was made before them, each by its
//! own γ and β, but all by the same μ and σ².

use ocelli_tensor::ops::{self, Activation, GradientSums};
use ocelli_tensor::{Element, Tensor};

use super::BatchStats;
use crate::{Gate, Gradients, Kept, Op, Result, Target, Var};

/// As [`BatchNorm`](super::BatchNorm) behind a [`Concat`](super::Concat). The inputs are γ, β, and the parts of x.
#[derive(Debug, Clone)]
pub struct BatchNormJoined<T: Element = f32> {
    /// The statistics of all channels.
    pub stats: BatchStats<T>,
    /// Added to the variance.
    pub eps: f64,
    /// What follows.
    pub activation: Option<Activation>,
}

/// What the gradients need.
pub struct Saved<T: Element> {
    gamma: Tensor<T>,
    beta: Tensor<T>,
    parts: Vec<Kept<T>>,
    /// Of dy, if that has gone through the gate.
    sums: Option<GradientSums>,
}

impl<T: Element> Op<T> for BatchNormJoined<T> {
    type Saved = Saved<T>;

    fn name(&self) -> &'static str {
        "batch_norm_joined"
    }

    fn forward(&self, inputs: &[&Tensor<T>], _: &[bool]) -> Result<(Tensor<T>, Saved<T>)> {
        let (gamma, beta, parts) = (inputs[0], inputs[1], &inputs[2..]);
        let y = ops::batch_norm_joined(parts, self.stats.normalization(gamma, beta, self.eps), self.activation)?;
        let parts = parts.iter().map(|&part| part.clone().into()).collect();
        Ok((y, Saved { gamma: gamma.clone(), beta: beta.clone(), parts, sums: None }))
    }

    fn backward(&self, saved: Saved<T>, dy: Tensor<T>, needs: &[bool]) -> Result<Gradients<T>> {
        let mut targets: Vec<Target<'_, T>> = needs.iter().map(|_| Target::default()).collect();
        self.backward_onto(saved, dy, needs, &mut targets)
    }

    fn backward_onto(
        &self,
        saved: Saved<T>,
        dy: Tensor<T>,
        needs: &[bool],
        targets: &mut [Target<'_, T>],
    ) -> Result<Gradients<T>> {
        let Saved { gamma, beta, parts, sums } = saved;
        let parts = parts.iter().map(Kept::value).collect::<Result<Vec<_>>>()?;
        let onto = targets[2..].iter_mut().map(|target| target.earlier.take()).collect();
        let parts: Vec<&Tensor<T>> = parts.iter().collect();
        let normalization = self.stats.normalization(&gamma, &beta, self.eps);
        let gradients = ops::batch_norm_joined_backward(&parts, normalization, self.activation, &dy, sums, onto)?;
        let all = [gradients.dgamma, gradients.dbeta].into_iter().chain(gradients.dx);
        Ok(all.zip(needs).map(|(gradient, &needed)| needed.then_some(gradient)).collect())
    }

    fn gate(&self, saved: &Saved<T>) -> Result<Option<Gate<T>>> {
        if self.activation != Some(Activation::Relu) {
            return Ok(None);
        }
        Ok(Some(Gate {
            parts: saved.parts.iter().map(Kept::value).collect::<Result<_>>()?,
            stats: self.stats.clone(),
            gamma: saved.gamma.clone(),
            beta: saved.beta.clone(),
            eps: self.eps,
            known: None,
        }))
    }

    fn passed(&self, saved: &mut Saved<T>, sums: GradientSums) {
        saved.sums = Some(sums);
    }

    /// The parts are kept in any case.
    fn repeats(&self, _: &[Kept<T>]) -> bool {
        true
    }

    fn keep(&self, saved: &mut Saved<T>, inputs: &[Kept<T>], _: &Kept<T>) {
        saved.parts = inputs[2..].to_vec();
    }
}

impl<T: Element> Var<T> {
    /// [`batch_norm_act`](Self::batch_norm_act) of these values side by side, which are not put there; each remembers its
    /// own statistics.
    pub(super) fn batch_norm_joined(
        parts: &[&Var<T>],
        [gamma, beta]: [&Var<T>; 2],
        eps: f64,
        activation: Option<Activation>,
    ) -> Result<(Var<T>, BatchStats<T>)> {
        let stats = parts.iter().map(|part| part.batch_stats()).collect::<Result<Vec<_>>>()?;
        let joined = |vector: fn(&BatchStats<T>) -> &Tensor<T>| {
            ops::concat_columns(&stats.iter().map(vector).collect::<Vec<_>>())
        };
        let (mean, var) = (joined(|stats| &stats.mean)?, joined(|stats| &stats.var)?);
        let stats = BatchStats { mean, var, count: stats[0].count };
        let op = BatchNormJoined { stats: stats.clone(), eps, activation };
        let inputs: Vec<&Var<T>> = [gamma, beta].into_iter().chain(parts.iter().copied()).collect();
        Ok((Var::apply(op, &inputs)?, stats))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Concat;
    use super::super::testing::*;
    use super::*;
    use crate::Parameter;

    fn unit(v: &[Var<f64>], activation: Option<Activation>) -> Result<Var<f64>> {
        let parts: Vec<&Var<f64>> = v[2..].iter().collect();
        Var::batch_norm_joined(&parts, [&v[0], &v[1]], 1e-5, activation).map(|(y, _)| y)
    }

    pub fn gradients(g: &Geometry) -> Checked {
        let [h, w] = g.input;
        // (As for one value.)
        let image = |channels, stream| random([g.batch + 1, h + 1, w, channels], g.seed ^ stream);
        let widths = [g.channels, g.out_channels, 2 * g.groups];
        let vector = |seed| random([widths.iter().sum::<usize>()], seed);
        let parts = (0..3).map(|i| image(widths[i], i as u64));
        let operands: Vec<Tensor<f64>> = [vector(2), vector(3)].into_iter().chain(parts).collect();
        for activation in [None, Some(Activation::Relu), Some(Activation::Silu)] {
            gradcheck(&operands, |v| unit(v, activation))?;
            // Whose gradient is added to what another operation says of a part, which is there twice.
            gradcheck(&operands[2..3], |v| {
                let vector = |seed| Var::constant(random([2 * widths[0]], seed));
                let y = unit(&[vector(2), vector(3), v[0].clone(), v[0].clone()], activation)?;
                v[0].mul(&v[0])?.sum()?.add(&y.mul(&y)?.sum()?)
            })?;
        }
        Ok(())
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }

    #[test]
    fn is_as_good_as_a_concatenation() {
        let parts = [(5, 1), (17, 2), (3, 3)].map(|(channels, seed)| random([3, 9, 8, channels], seed));
        let ([gamma, beta], dy) = ([4, 5].map(|seed| random([25], seed)), random([3, 9, 8, 25], 6));
        for activation in [None, Some(Activation::Relu), Some(Activation::Silu)] {
            let run = |joined: bool| {
                let parameters: Vec<_> =
                    [&gamma, &beta].into_iter().chain(&parts).cloned().map(Parameter::new).collect();
                let v: Vec<Var<f64>> = parameters.iter().map(Parameter::var).collect();
                let (y, stats) = if joined {
                    Var::batch_norm_joined(&[&v[2], &v[3], &v[4]], [&v[0], &v[1]], 1e-5, activation).unwrap()
                } else {
                    let x = Var::apply(Concat, &[&v[2], &v[3], &v[4]]).unwrap();
                    x.batch_norm_act([&v[0], &v[1]], 1e-5, None, activation).unwrap()
                };
                y.backward_with(dy.clone()).unwrap();
                let gradients = parameters.iter().map(|p| p.grad().unwrap());
                [y.into_value(), stats.mean, stats.var].into_iter().chain(gradients).collect::<Vec<_>>()
            };
            for (got, expected) in run(true).iter().zip(&run(false)) {
                assert!(got.relative_error(expected) < 1e-13, "{activation:?}");
            }
        }
    }
}
