//! Batch normalisation in evaluation: y = γ (x − μ) / √(σ² + eps) + β with constant (running) μ and σ², an affine map of
//! each channel. Also that of training with frozen statistics.

use ocelli_tensor::{Element, Tensor, ops};

use crate::plan::{Affine, Role};
use crate::{Gradients, Op, Result, Var};

/// Normalisation by constant statistics.
#[derive(Debug, Clone)]
pub struct BatchNormEval<T: Element = f32> {
    /// `[C]`
    pub mean: Tensor<T>,
    /// `[C]`
    pub var: Tensor<T>,
    /// Added to the variance.
    pub eps: f64,
}

/// x for dγ, γ for dx.
pub struct Saved<T: Element> {
    x: Option<Tensor<T>>,
    gamma: Tensor<T>,
}

impl<T: Element> BatchNormEval<T> {
    /// γ / √(σ² + eps)
    fn scale(&self, gamma: &Tensor<T>) -> Tensor<T> {
        let (gamma, var) = (gamma.data(), self.var.data());
        Tensor::from_fn([gamma.len()], |c| T::from_f64(gamma[c].to_f64() / (var[c].to_f64() + self.eps).sqrt()))
    }
}

impl<T: Element> Op<T> for BatchNormEval<T> {
    type Saved = Saved<T>;

    fn name(&self) -> &'static str {
        "batch_norm_eval"
    }

    fn forward(&self, inputs: &[&Tensor<T>], needs: &[bool]) -> Result<(Tensor<T>, Saved<T>)> {
        let [x, gamma, beta] = [inputs[0], inputs[1], inputs[2]];
        let y = ops::batch_norm(x, &self.mean, &self.var, gamma, beta, self.eps)?;
        Ok((y, Saved { x: needs[1].then(|| x.clone()), gamma: gamma.clone() }))
    }

    fn backward(&self, Saved { x, gamma }: Saved<T>, dy: Tensor<T>, needs: &[bool]) -> Result<Gradients<T>> {
        let Some(x) = x else {
            let dx = needs[0].then(|| ops::mul(&dy, &self.scale(&gamma))).transpose()?;
            return Ok(vec![dx, None, needs[2].then(|| ops::sum_rows(&dy))]);
        };
        let (dx, dgamma, dbeta) = ops::batch_norm_backward_frozen(&x, &self.mean, &self.var, &gamma, self.eps, &dy)?;
        Ok([dx, dgamma, dbeta].into_iter().zip(needs).map(|(gradient, &needed)| needed.then_some(gradient)).collect())
    }

    fn role(&self, constants: &[Option<&Tensor<T>>]) -> Result<Role<T>> {
        let [None, Some(gamma), Some(beta)] = constants else { return Ok(Role::Opaque) };
        let scale = self.scale(gamma);
        let shift = ops::add(beta, &ops::scale(&ops::mul(&self.mean, &scale)?, -T::ONE))?;
        Ok(Role::Affine(Affine { scale: Some(scale), shift: Some(shift) }))
    }
}

impl<T: Element> Var<T> {
    /// This value `[…, C]` normalised by the constant `mean` `[C]` and `var` `[C]`, scaled by `gamma` `[C]` and shifted
    /// by `beta` `[C]`.
    pub fn batch_norm_eval(
        &self,
        gamma: &Var<T>,
        beta: &Var<T>,
        mean: &Tensor<T>,
        var: &Tensor<T>,
        eps: f64,
    ) -> Result<Var<T>> {
        Var::apply(BatchNormEval { mean: mean.clone(), var: var.clone(), eps }, &[self, gamma, beta])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;

    pub fn gradients(g: &Geometry) -> Checked {
        let [gamma, beta, mean] = [2, 3, 4].map(|seed| random([g.channels], seed));
        let var = random([g.channels], 5).map(|x| 1.5 + x);
        gradcheck(&[g.image(1), gamma, beta], |v| v[0].batch_norm_eval(&v[1], &v[2], &mean, &var, 1e-3))
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }
}
