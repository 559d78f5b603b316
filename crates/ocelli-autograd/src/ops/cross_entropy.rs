//! The loss of a classifier: the mean over the batch of −Σ_c q_c ln p_c, with p = softmax(x) and q the target's one-hot
//! vector, smoothed: q_c = (1 − ε) [c = target] + ε / C. dx = (p − q) dy / N.
//! Label smoothing: Szegedy et al. 2015, <https://arxiv.org/abs/1512.00567>.

use ocelli_tensor::{Element, Tensor, ops};

use crate::{Gradients, Op, Result, Var};

/// Cross-entropy of logits with target classes.
#[derive(Debug, Clone)]
pub struct CrossEntropy {
    /// The class of each row.
    pub targets: Vec<u32>,
    /// ε, from 0 to 1.
    pub label_smoothing: f64,
}

impl<T: Element> Op<T> for CrossEntropy {
    /// p
    type Saved = Option<Tensor<T>>;

    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn forward(&self, inputs: &[&Tensor<T>], needs: &[bool]) -> Result<(Tensor<T>, Self::Saved)> {
        let (loss, p) = ops::softmax_cross_entropy(inputs[0], &self.targets, self.label_smoothing)?;
        Ok((loss, needs[0].then_some(p)))
    }

    fn backward(&self, p: Self::Saved, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        let dy = dy.item()?;
        let dx = |p| ops::softmax_cross_entropy_backward(&p, &self.targets, self.label_smoothing, dy);
        Ok(vec![p.map(dx).transpose()?])
    }
}

impl<T: Element> Var<T> {
    /// The mean cross-entropy of this value, logits `[N, classes]`, with the rows' classes `targets`: a scalar, `[]`.
    /// `label_smoothing` ε gives the share ε of the target's weight to all classes evenly; 0 for none.
    ///
    /// # Errors
    /// If there is not one target for each row, if a target is no class, or if ε is not from 0 to 1.
    pub fn cross_entropy(&self, targets: &[usize], label_smoothing: f64) -> Result<Var<T>> {
        // A number beyond 32 bits is no class either way.
        let targets = targets.iter().map(|&target| u32::try_from(target).unwrap_or(u32::MAX)).collect();
        Var::apply(CrossEntropy { targets, label_smoothing }, &[self])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::slice::from_ref;

    use super::super::testing::*;
    use super::*;

    pub fn gradients(g: &Geometry) -> Checked {
        let targets: Vec<usize> = (0..g.batch).map(|i| (g.seed as usize / (i + 1)) % g.channels).collect();
        let x = ops::scale(&random([g.batch, g.channels], g.seed), 4.0);
        [0.0, 0.1, 1.0].into_iter().try_for_each(|e| gradcheck(from_ref(&x), |v| v[0].cross_entropy(&targets, e)))
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }

    #[test]
    fn values_are_those_of_the_formula() {
        // ln Σ eˣ − x[target], averaged; smoothing takes the mean of x for x[target].
        let x = Var::constant(Tensor::from_slice([2, 3], &[1.0f64, 2.0, 3.0, 0.0, -1.0, 4.0]).unwrap());
        let lse = [1.0f64, 2.0, 3.0].map(f64::exp).iter().sum::<f64>().ln();
        let lse2 = [0.0f64, -1.0, 4.0].map(f64::exp).iter().sum::<f64>().ln();
        let loss = |e: f64| x.cross_entropy(&[0, 2], e).unwrap().value().item().unwrap();
        assert!((loss(0.0) - ((lse - 1.0) + (lse2 - 4.0)) / 2.0).abs() < 1e-12);
        let smooth = 0.7 * loss(0.0) + 0.3 * ((lse - 2.0) + (lse2 - 1.0)) / 2.0;
        assert!((loss(0.3) - smooth).abs() < 1e-12);
    }

    #[test]
    fn wrong_targets_are_errors() {
        let x = Var::constant(Tensor::<f32>::zeros([2, 3]));
        let text = |targets: &[usize], e| x.cross_entropy(targets, e).unwrap_err().to_string();
        assert_eq!(text(&[0, 3], 0.0), "softmax_cross_entropy: expected target below 3, got 3");
        assert_eq!(text(&[0, usize::MAX], 0.0), "softmax_cross_entropy: expected target below 3, got 4294967295");
        assert_eq!(text(&[0], 0.0), "softmax_cross_entropy: expected target count 2, got 1");
        assert_eq!(text(&[0, 1], 1.5), "softmax_cross_entropy: expected label smoothing in [0, 1], got 1.5");
    }
}
