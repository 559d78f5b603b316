//! The cross-entropy of weighted targets: y = −Σₙ Σ_c q_nc ln p_nc with p = softmax(x); dx = (p_nc Σₖ q_nk − q_nc) dy.
//!
//! Soft labels, class weights, ignored rows and the divisor of a mean are all in q.

use ocelli_tensor::{Element, Error, Tensor, ops};

use crate::{Gradients, Op, Result, Var};

/// Cross-entropy of logits with the weights q of a tensor of the same shape.
#[derive(Debug, Clone)]
pub struct SoftCrossEntropy<T: Element> {
    /// q
    pub weights: Tensor<T>,
}

impl<T: Element> Op<T> for SoftCrossEntropy<T> {
    /// ln p
    type Saved = Option<Tensor<T>>;

    fn name(&self) -> &'static str {
        "soft_cross_entropy"
    }

    fn forward(&self, inputs: &[&Tensor<T>], needs: &[bool]) -> Result<(Tensor<T>, Self::Saved)> {
        let q = &self.weights;
        if q.shape() != inputs[0].shape() {
            return Err(Error::shape("soft_cross_entropy", "weights", inputs[0].shape(), q.shape()).into());
        }
        let log = ops::log_softmax(inputs[0]);
        // A class of no weight counts nothing, however improbable.
        let terms = q.data().iter().zip(log.data()).filter(|(q, _)| **q != T::ZERO);
        let loss: f64 = terms.map(|(q, log)| -q.to_f64() * log.to_f64()).sum();
        Ok((Tensor::scalar(T::from_f64(loss)), needs[0].then_some(log)))
    }

    fn backward(&self, log: Self::Saved, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        let dlog = ops::scale(&self.weights, -dy.item()?);
        let dx = |log| ops::log_softmax_backward(&log, &dlog);
        Ok(vec![log.map(dx).transpose()?])
    }
}

impl<T: Element> Var<T> {
    /// −Σ q ln softmax(x) over all elements of this value, logits `[N, classes]`, with weights q of the same shape: a
    /// scalar, `[]`. With the rows of q summing to 1/N it is the mean cross-entropy of soft labels.
    pub fn soft_cross_entropy(&self, weights: &Tensor<T>) -> Result<Var<T>> {
        Var::apply(SoftCrossEntropy { weights: weights.clone() }, &[self])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::slice::from_ref;

    use super::super::testing::*;
    use super::*;

    pub fn gradients(g: &Geometry) -> Checked {
        let shape = [g.batch, g.channels];
        let (x, mut q) = (ops::scale(&random(shape, g.seed), 4.0), random(shape, g.seed ^ 1).map(f64::abs));
        // An ignored row, and a class of no weight.
        q.data_mut()[0] = 0.0;
        q.data_mut()[(g.batch - 1) * g.channels..].fill(0.0);
        gradcheck(from_ref(&x), |v| v[0].soft_cross_entropy(&q))
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }

    #[test]
    fn one_hot_weights_are_the_cross_entropy_of_classes() {
        let x = Var::constant(random([4, 5], 3));
        let q = Tensor::from_fn([4, 5], |i| if i % 5 == i / 5 { 0.25 } else { 0.0 });
        let (soft, hard) = (x.soft_cross_entropy(&q).unwrap(), x.cross_entropy(&[0, 1, 2, 3], 0.0).unwrap());
        assert!((soft.value().item().unwrap() - hard.value().item().unwrap()).abs() < 1e-14);
        let far = Var::constant(Tensor::from_slice([1, 2], &[0.0, f64::NEG_INFINITY]).unwrap());
        let first = Tensor::from_slice([1, 2], &[1.0, 0.0]).unwrap();
        assert_eq!(far.soft_cross_entropy(&first).unwrap().value().item().unwrap(), 0.0);
        let error = x.soft_cross_entropy(&first).unwrap_err().to_string();
        assert_eq!(error, "soft_cross_entropy: expected weights of shape [4, 5], got [1, 2]");
    }
}
