//! y = eˣ / Σ eˣ over the last dimension; dx = y (dy − ⟨y, dy⟩).

use ocelli_tensor::{Element, Tensor, ops};

use crate::{Gradients, Op, Result, Var};

/// The softmax over the last dimension.
#[derive(Debug, Clone, Copy)]
pub struct Softmax;

impl<T: Element> Op<T> for Softmax {
    /// The output.
    type Saved = Option<Tensor<T>>;

    fn name(&self) -> &'static str {
        "softmax"
    }

    fn forward(&self, inputs: &[&Tensor<T>], needs: &[bool]) -> Result<(Tensor<T>, Self::Saved)> {
        let y = ops::softmax(inputs[0]);
        let saved = needs[0].then(|| y.clone());
        Ok((y, saved))
    }

    fn backward(&self, y: Self::Saved, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        Ok(vec![y.map(|y| ops::softmax_backward(&y, &dy)).transpose()?])
    }
}

impl<T: Element> Var<T> {
    /// The softmax over the last dimension.
    pub fn softmax(&self) -> Result<Var<T>> {
        Var::apply(Softmax, &[self])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;

    pub fn gradients(g: &Geometry) -> Checked {
        gradcheck(&[g.image(1)], |v| v[0].softmax())
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }
}
