//! The loss of independent yes-or-no questions: the mean of −t ln σ(x) − (1 − t) ln (1 − σ(x)), computed as
//! max(x, 0) − x·t + ln(1 + e^−|x|), in which nothing overflows; dx = (σ(x) − t) dy / n.

use ocelli_tensor::{Element, Error, Tensor};

use crate::{Gradients, Op, Result, Var};

/// Binary cross-entropy of logits.
#[derive(Debug, Clone)]
pub struct BinaryCrossEntropy<T: Element> {
    /// t: the probability of yes, for each logit.
    pub targets: Tensor<T>,
}

impl<T: Element> Op<T> for BinaryCrossEntropy<T> {
    /// x
    type Saved = Option<Tensor<T>>;

    fn name(&self) -> &'static str {
        "binary_cross_entropy"
    }

    fn forward(&self, inputs: &[&Tensor<T>], needs: &[bool]) -> Result<(Tensor<T>, Self::Saved)> {
        let (x, t) = (inputs[0], &self.targets);
        if t.shape() != x.shape() {
            return Err(Error::shape("binary_cross_entropy", "targets", x.shape(), t.shape()).into());
        }
        let term = |(x, t): (&T, &T)| {
            let (x, t) = (x.to_f64(), t.to_f64());
            // Not `x.max(0.0)`, which would hide a NaN.
            (if x < 0.0 { 0.0 } else { x }) - x * t + (-x.abs()).exp().ln_1p()
        };
        let sum: f64 = x.data().iter().zip(t.data()).map(term).sum();
        Ok((Tensor::scalar(T::from_f64(sum / x.len() as f64)), needs[0].then(|| x.clone())))
    }

    fn backward(&self, x: Self::Saved, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        let share = dy.item()?.to_f64() / self.targets.len() as f64;
        let slope = |x: T, t: T| T::from_f64(share * (1.0 / (1.0 + (-x.to_f64()).exp()) - t.to_f64()));
        let dx = x.map(|x| Tensor::from_fn(x.shape(), |i| slope(x.data()[i], self.targets.data()[i])));
        Ok(vec![dx])
    }
}

impl<T: Element> Var<T> {
    /// The mean binary cross-entropy of this value, logits of any shape, with the probabilities `targets` of the same
    /// shape: a scalar, `[]`. That of no logits is NaN.
    pub fn binary_cross_entropy(&self, targets: &Tensor<T>) -> Result<Var<T>> {
        Var::apply(BinaryCrossEntropy { targets: targets.clone() }, &[self])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;
    use super::*;

    pub fn gradients(g: &Geometry) -> Checked {
        let x = ocelli_tensor::ops::scale(&g.image(1), 5.0);
        let targets = g.image(2).map(|t| (t + 1.0) / 2.0);
        gradcheck(&[x], |v| v[0].binary_cross_entropy(&targets))
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }

    #[test]
    fn nothing_overflows_and_nan_shows() {
        let loss = |x: f32, t| {
            let x = Var::constant(Tensor::scalar(x));
            x.binary_cross_entropy(&Tensor::scalar(t)).unwrap().value().item().unwrap()
        };
        assert_eq!([loss(1e30, 1.0), loss(-1e30, 0.0), loss(-200.0, 1.0)], [0.0, 0.0, 200.0]);
        assert!(loss(f32::NAN, 1.0).is_nan() && (loss(0.0, 0.3) - std::f32::consts::LN_2).abs() < 1e-7);
    }
}
