//! y = x − ln Σ eˣ over the last dimension; dx = dy − eʸ Σ dy.

use ocelli_tensor::{Element, Tensor, ops};

use crate::{Gradients, Op, Result, Var};

/// The logarithm of the softmax over the last dimension.
#[derive(Debug, Clone, Copy)]
pub struct LogSoftmax;

impl<T: Element> Op<T> for LogSoftmax {
    /// The output.
    type Saved = Option<Tensor<T>>;

    fn name(&self) -> &'static str {
        "log_softmax"
    }

    fn forward(&self, inputs: &[&Tensor<T>], needs: &[bool]) -> Result<(Tensor<T>, Self::Saved)> {
        let y = ops::log_softmax(inputs[0]);
        let saved = needs[0].then(|| y.clone());
        Ok((y, saved))
    }

    fn backward(&self, y: Self::Saved, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        Ok(vec![y.map(|y| ops::log_softmax_backward(&y, &dy)).transpose()?])
    }
}

impl<T: Element> Var<T> {
    /// The logarithm of the softmax over the last dimension.
    pub fn log_softmax(&self) -> Result<Var<T>> {
        Var::apply(LogSoftmax, &[self])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;

    pub fn gradients(g: &Geometry) -> Checked {
        gradcheck(&[g.image(1)], |v| v[0].log_softmax())
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }
}
