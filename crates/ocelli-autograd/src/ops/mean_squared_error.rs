//! y = Σ (a − b)² / n, a scalar; da = 2 (a − b) dy / n, db = −da.

use ocelli_tensor::{Element, Error, Tensor, ops};

use crate::{Gradients, Op, Result, Var};

/// The mean squared difference of two values of one shape.
#[derive(Debug, Clone, Copy)]
pub struct MeanSquaredError;

impl<T: Element> Op<T> for MeanSquaredError {
    /// a − b
    type Saved = Option<Tensor<T>>;

    fn name(&self) -> &'static str {
        "mean_squared_error"
    }

    fn forward(&self, inputs: &[&Tensor<T>], needs: &[bool]) -> Result<(Tensor<T>, Self::Saved)> {
        let [a, b] = [inputs[0], inputs[1]];
        if a.shape() != b.shape() {
            return Err(Error::shape("mean_squared_error", "b", a.shape(), b.shape()).into());
        }
        let mut difference = ops::scale(b, -T::ONE);
        ops::add_assign(&mut difference, a)?;
        let sum: f64 = difference.data().iter().map(|d| d.to_f64() * d.to_f64()).sum();
        let mean = Tensor::scalar(T::from_f64(sum / a.len() as f64));
        Ok((mean, needs.contains(&true).then_some(difference)))
    }

    fn backward(&self, difference: Self::Saved, dy: Tensor<T>, needs: &[bool]) -> Result<Gradients<T>> {
        let Some(difference) = difference else { return Ok(vec![None, None]) };
        let factor = 2.0 * dy.item()?.to_f64() / difference.len() as f64;
        let gradient = |sign: f64| ops::scale(&difference, T::from_f64(sign * factor));
        Ok(vec![needs[0].then(|| gradient(1.0)), needs[1].then(|| gradient(-1.0))])
    }
}

impl<T: Element> Var<T> {
    /// The mean of (this − other)² over all elements: a scalar, `[]`. That of no elements is NaN.
    pub fn mean_squared_error(&self, other: &Var<T>) -> Result<Var<T>> {
        Var::apply(MeanSquaredError, &[self, other])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;

    pub fn gradients(g: &Geometry) -> Checked {
        gradcheck(&[g.image(1), g.image(2)], |v| v[0].mean_squared_error(&v[1]))
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }
}
