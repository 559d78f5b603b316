//! Batch normalisation in training: y = act(γ (x − μ) / √(σ² + eps) + β + residual), μ and σ² being each channel's mean
//! and biased variance over all pixels of the batch, through which the gradient flows; the residual and the activation
//! are optional. Ioffe & Szegedy 2015, <https://arxiv.org/abs/1502.03167>.

use ocelli_tensor::ops::{self, Activation, GradientSums, Normalization, Recompute};
use ocelli_tensor::{Element, Tensor};

use crate::{Gate, Gradients, Kept, Known, Op, Pass, Result, Target, Var, profile};

/// Normalisation by the statistics of the batch, with what follows it, in one pass. The inputs are x, γ, β, and the
/// residual if there is one. A plan of a pass in training keeps the statistics of the traced batch.
#[derive(Debug, Clone)]
pub struct BatchNorm<T: Element = f32> {
    /// The statistics of the very input that the operation is applied to.
    pub stats: BatchStats<T>,
    /// Added to the variance.
    pub eps: f64,
    /// What follows, behind the residual.
    pub activation: Option<Activation>,
    /// Whether a backward pass computes the value again where it is needed, even if that takes long.
    pub repeated: bool,
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

/// What the gradients need. The activation's input is recomputed from x and the residual.
pub struct Saved<T: Element> {
    x: Option<Kept<T>>,
    gamma: Tensor<T>,
    beta: Tensor<T>,
    behind: Behind<T>,
    /// Of dy, if that has gone through the gate.
    sums: Option<GradientSums>,
}

/// What the activation's input is known from besides x.
enum Behind<T: Element> {
    Nothing,
    Residual(Kept<T>),
    /// As good as the residual, and used if it need not be computed: what follows mostly needed it.
    Output {
        y: Kept<T>,
        residual: Kept<T>,
    },
}

impl<T: Element> Behind<T> {
    fn value(&self) -> Result<Option<Known<T>>> {
        Ok(match self {
            Behind::Nothing => None,
            Behind::Residual(residual) => Some(Known::Residual(residual.value()?)),
            Behind::Output { y, residual } => Some(match y.at_hand() {
                Some(y) => Known::Output(y),
                None => Known::Residual(residual.value()?),
            }),
        })
    }
}

impl<T: Element> BatchStats<T> {
    /// The normalisation by these statistics.
    pub(crate) fn normalization<'a>(
        &'a self,
        gamma: &'a Tensor<T>,
        beta: &'a Tensor<T>,
        eps: f64,
    ) -> Normalization<'a, T> {
        Normalization { mean: &self.mean, var: &self.var, gamma, beta, eps }
    }
}

impl<T: Element> Op<T> for BatchNorm<T> {
    type Saved = Saved<T>;

    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn forward(&self, inputs: &[&Tensor<T>], needs: &[bool]) -> Result<(Tensor<T>, Saved<T>)> {
        let ([x, gamma, beta], residual) = ([inputs[0], inputs[1], inputs[2]], inputs.get(3).copied());
        let y = ops::batch_norm_act(x, self.stats.normalization(gamma, beta, self.eps), residual, self.activation)?;
        // Without an activation, the gradients of β and the residual are those of sums.
        let needs_x = needs[0] || needs[1] || self.activation.is_some() && needs.contains(&true);
        let behind = match (residual, self.activation) {
            (Some(residual), Some(activation)) if activation.saves_output() && needs_x => {
                Behind::Output { y: y.clone().into(), residual: residual.clone().into() }
            }
            (Some(residual), Some(_)) if needs_x => Behind::Residual(residual.clone().into()),
            _ => Behind::Nothing,
        };
        let x = needs_x.then(|| x.clone().into());
        Ok((y, Saved { x, gamma: gamma.clone(), beta: beta.clone(), behind, sums: None }))
    }

    fn backward(&self, saved: Saved<T>, dy: Tensor<T>, needs: &[bool]) -> Result<Gradients<T>> {
        self.backward_onto(saved, dy, needs, &mut [(); 4].map(|()| Target::default()))
    }

    fn backward_onto(
        &self,
        saved: Saved<T>,
        dy: Tensor<T>,
        needs: &[bool],
        targets: &mut [Target<'_, T>],
    ) -> Result<Gradients<T>> {
        let Saved { x, gamma, beta, behind, sums } = saved;
        let needs_residual = needs.get(3) == Some(&true);
        let Some(x) = x else {
            let dbeta = needs[2].then(|| ops::sum_rows(&dy));
            return Ok([None, None, dbeta, needs_residual.then_some(dy)].into_iter().take(needs.len()).collect());
        };
        let (x, onto) = (x.value()?, targets[0].earlier.take());
        let normalization = self.stats.normalization(&gamma, &beta, self.eps);
        // Behind a residual, what has come back through the activation is the residual's gradient.
        let is_through = self.activation.is_none() || sums.is_some();
        let shared = (needs_residual && is_through).then(|| dy.clone());
        let gradients = match sums {
            Some(sums) => ops::batch_norm_gated_backward(&x, normalization, dy, sums, onto),
            None => {
                let known = behind.value()?;
                let recompute = known.as_ref().map_or(Recompute::Normalized, Known::recompute);
                ops::batch_norm_act_backward(&x, normalization, self.activation, recompute, dy, onto)
            }
        }?;
        let dresidual = gradients.dresidual.or(shared);
        let all = [Some(gradients.dx), Some(gradients.dgamma), Some(gradients.dbeta), dresidual];
        Ok(all.into_iter().zip(needs).map(|(gradient, &needed)| gradient.filter(|_| needed)).collect())
    }

    fn gate(&self, saved: &Saved<T>) -> Result<Option<Gate<T>>> {
        let (Some(x), Some(Activation::Relu)) = (&saved.x, self.activation) else { return Ok(None) };
        let Saved { gamma, beta, behind, .. } = saved;
        Ok(Some(Gate {
            parts: vec![x.value()?],
            stats: self.stats.clone(),
            gamma: gamma.clone(),
            beta: beta.clone(),
            eps: self.eps,
            known: behind.value()?,
        }))
    }

    fn passed(&self, saved: &mut Saved<T>, sums: GradientSums) {
        saved.sums = Some(sums);
    }

    /// x is kept in any case. The residual mostly is the value of the block before, which would have to be computed again
    /// first, and so on to a stage's first block; and exponentials take longer than reading what they gave.
    fn repeats(&self, inputs: &[Kept<T>]) -> bool {
        let is_cheap = inputs.len() < 4 && !self.activation.is_some_and(Activation::is_curve);
        self.repeated || is_cheap
    }

    fn keep(&self, saved: &mut Saved<T>, inputs: &[Kept<T>], value: &Kept<T>) {
        saved.x.iter_mut().for_each(|x| *x = inputs[0].clone());
        match &mut saved.behind {
            Behind::Nothing => {}
            Behind::Residual(residual) => *residual = inputs[3].clone(),
            Behind::Output { y, residual } => (*y, *residual) = (value.clone(), inputs[3].clone()),
        }
    }
}

impl<T: Element> Var<T> {
    /// This value's statistics, which are computed once, however many normalisations they are for.
    pub(crate) fn batch_stats(&self) -> Result<BatchStats<T>> {
        if let Some(stats) = self.stats.get() {
            return Ok(stats.clone());
        }
        let (mean, var) = profile::aside("batch_norm_stats", Pass::Forward, || ops::batch_norm_stats(self.value()))?;
        let stats = BatchStats { mean, var, count: self.shape().rows() };
        Ok(self.stats.get_or_init(|| stats).clone())
    }

    /// This value `[…, C]` normalised by its own statistics, scaled by `gamma` `[C]` and shifted by `beta` `[C]`, and
    /// the statistics.
    pub fn batch_norm(&self, gamma: &Var<T>, beta: &Var<T>, eps: f64) -> Result<(Var<T>, BatchStats<T>)> {
        self.batch_norm_act([gamma, beta], eps, None, None)
    }

    /// As [`batch_norm`](Self::batch_norm), plus a `residual` of this value's shape, and then the activation: less work
    /// than the three one after another, and less to keep. Without a residual, the [parts](Self::parts) of a concatenation
    /// are normalised where they are.
    pub fn batch_norm_act(
        &self,
        parameters: [&Var<T>; 2],
        eps: f64,
        residual: Option<&Var<T>>,
        activation: Option<Activation>,
    ) -> Result<(Var<T>, BatchStats<T>)> {
        self.normalized(parameters, eps, residual, activation, false)
    }

    /// As [`batch_norm_act`](Self::batch_norm_act), but the graph does not keep a value behind a residual or exponentials
    /// either, which a backward pass that needs it computes again.
    pub fn batch_norm_repeated(
        &self,
        parameters: [&Var<T>; 2],
        eps: f64,
        residual: Option<&Var<T>>,
        activation: Option<Activation>,
    ) -> Result<(Var<T>, BatchStats<T>)> {
        self.normalized(parameters, eps, residual, activation, true)
    }

    fn normalized(
        &self,
        [gamma, beta]: [&Var<T>; 2],
        eps: f64,
        residual: Option<&Var<T>>,
        activation: Option<Activation>,
        repeated: bool,
    ) -> Result<(Var<T>, BatchStats<T>)> {
        let parts = self.parts();
        if residual.is_none() && parts.len() > 1 {
            return Var::batch_norm_joined(&parts.iter().collect::<Vec<_>>(), [gamma, beta], eps, activation);
        }
        let stats = self.batch_stats()?;
        let op = BatchNorm { stats: stats.clone(), eps, activation, repeated };
        let y = match residual {
            Some(residual) => Var::apply(op, &[self, gamma, beta, residual]),
            None => Var::apply(op, &[self, gamma, beta]),
        }?;
        Ok((y, stats))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::Parameter;

    const ACTIVATIONS: [Option<Activation>; 4] =
        [None, Some(Activation::Relu), Some(Activation::Relu6), Some(Activation::Silu)];

    fn unit(v: &[Var<f64>], residual: Option<&Var<f64>>, activation: Option<Activation>) -> Result<Var<f64>> {
        v[0].batch_norm_act([&v[1], &v[2]], 1e-5, residual, activation).map(|(y, _)| y)
    }

    pub fn gradients(g: &Geometry) -> Checked {
        let [h, w] = g.input;
        // Two values are ±1 whatever they were, and the gradient is all cancellation: take more.
        let image = |stream| random([g.batch + 1, h + 1, w, g.channels], g.seed ^ stream);
        let (gamma, beta) = (random([g.channels], 2), random([g.channels], 3));
        for activation in ACTIVATIONS {
            let operands = [image(0), gamma.clone(), beta.clone(), image(1)];
            gradcheck(&operands[..3], |v| unit(v, None, activation))?;
            gradcheck(&operands, |v| unit(v, Some(&v[3]), activation))?;
            // Whose gradient is added to what another operation says of the same input.
            gradcheck(&operands[..3], |v| {
                let y = unit(v, None, activation)?.mul(&v[0])?.sum()?;
                v[0].mul(&v[0])?.sum()?.add(&y)
            })?;
        }
        Ok(())
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }

    #[derive(Clone, Copy)]
    enum Way {
        Fused,
        Repeated,
        Separate,
    }

    #[test]
    fn one_pass_is_as_good_as_three() {
        let [x, residual, dy] = [1, 2, 3].map(|seed| random([3, 4, 5, 6], seed));
        let [gamma, beta] = [4, 5].map(|seed| random([6], seed));
        // All gradients, or only some, of which fewer need x.
        for learned in [[true; 4], [false, false, true, true], [false, true, false, false]] {
            for activation in ACTIVATIONS {
                let run = |way: Way| {
                    let parameters = [&x, &gamma, &beta, &residual].map(|value| Parameter::new(value.clone()));
                    parameters.iter().zip(learned).for_each(|(p, learned)| p.set_requires_grad(learned));
                    let [x, gamma, beta, residual] = parameters.each_ref().map(Parameter::var);
                    let fused = [&gamma, &beta];
                    let y = match way {
                        Way::Fused => x.batch_norm_act(fused, 1e-5, Some(&residual), activation).unwrap().0,
                        Way::Repeated => x.batch_norm_repeated(fused, 1e-5, Some(&residual), activation).unwrap().0,
                        Way::Separate => {
                            let sum = x.batch_norm(&gamma, &beta, 1e-5).unwrap().0.add(&residual).unwrap();
                            activation.map_or(Ok(sum.clone()), |activation| sum.activation(activation)).unwrap()
                        }
                    };
                    y.backward_with(dy.clone()).unwrap();
                    (y.into_value(), parameters.map(|p| p.grad()))
                };
                let ((y, fused), (expected, separate)) = (run(Way::Fused), run(Way::Separate));
                assert_eq!((&y, &fused), (&run(Way::Repeated).0, &run(Way::Repeated).1));
                assert!(y.relative_error(&expected) < 1e-14, "{activation:?}");
                for (got, expected) in fused.iter().zip(&separate) {
                    assert_eq!(got.is_some(), expected.is_some());
                    let error = got.as_ref().zip(expected.as_ref()).map_or(0.0, |(a, b)| a.relative_error(b));
                    assert!(error < 1e-12, "{activation:?} {learned:?}: {error}");
                }
            }
        }
    }

    #[test]
    fn statistics_come_back() {
        let x = Var::constant(Tensor::from_slice([3, 1], &[1.0f64, 3.0, 5.0]).unwrap());
        let one = Var::constant(Tensor::full([1], 1.0));
        let (_, stats) = x.batch_norm(&one, &one, 0.0).unwrap();
        assert_eq!((stats.mean.data()[0], stats.var.data()[0], stats.count), (3.0, 8.0 / 3.0, 3));
    }
}
