//! y = x · m, with each m independently 0 with probability p and 1 / (1 − p) otherwise; dx = dy · m. The mask is a
//! function of the seed, so the backward pass makes it again instead of keeping it.
//! Srivastava et al. 2014, <https://jmlr.org/papers/v15/srivastava14a.html>.

use ocelli_tensor::{Element, Tensor, ops};

use crate::plan::Role;
use crate::{Gradients, Op, Result, Var};

/// Dropout, in training. A plan leaves it out.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// The probability of an element to be dropped.
    pub p: f64,
    /// Of the mask.
    pub seed: u64,
}

impl<T: Element> Op<T> for Dropout {
    type Saved = ();

    fn name(&self) -> &'static str {
        "dropout"
    }

    fn forward(&self, inputs: &[&Tensor<T>], _: &[bool]) -> Result<(Tensor<T>, ())> {
        let mask = ops::dropout_mask(inputs[0].shape(), self.p, self.seed)?;
        Ok((ops::mul(inputs[0], &mask)?, ()))
    }

    fn backward(&self, (): (), dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        let mask = ops::dropout_mask(dy.shape(), self.p, self.seed)?;
        Ok(vec![Some(ops::mul(&dy, &mask)?)])
    }

    fn role(&self, _: &[Option<&Tensor<T>>]) -> Result<Role<T>> {
        Ok(Role::Identity)
    }
}

impl<T: Element> Var<T> {
    /// Zeroes each element with probability `p` and scales the others by 1 / (1 − p); the same elements for the same
    /// `seed` and shape. For training only: evaluation does not call it.
    pub fn dropout(&self, p: f64, seed: u64) -> Result<Var<T>> {
        Var::apply(Dropout { p, seed }, &[self])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;

    pub fn gradients(g: &Geometry) -> Checked {
        [0.0, 0.5, 0.9].into_iter().try_for_each(|p| gradcheck(&[g.image(1)], |v| v[0].dropout(p, g.seed)))
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }
}
