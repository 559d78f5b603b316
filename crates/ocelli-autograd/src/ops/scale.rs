//! y = s · x for a constant number s; dx = s · dy.

use ocelli_tensor::{Element, Tensor, ops};

use crate::{Gradients, Op, Result, Var};

/// Every element times a constant number.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// s
    pub factor: f64,
}

impl<T: Element> Op<T> for Scale {
    type Saved = ();

    fn name(&self) -> &'static str {
        "scale"
    }

    fn forward(&self, inputs: &[&Tensor<T>], _: &[bool]) -> Result<(Tensor<T>, ())> {
        Ok((ops::scale(inputs[0], T::from_f64(self.factor)), ()))
    }

    fn backward(&self, (): (), dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        Ok(vec![Some(ops::scale(&dy, T::from_f64(self.factor)))])
    }
}

impl<T: Element> Var<T> {
    /// Every element times `factor`.
    pub fn scale(&self, factor: f64) -> Result<Var<T>> {
        Var::apply(Scale { factor }, &[self])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;

    pub fn gradients(g: &Geometry) -> Checked {
        gradcheck(&[g.image(1)], |v| v[0].scale(-1.75))
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }
}
