//! y = a · b, with b broadcast to a's shape, such as the channel weights of squeeze-and-excitation.
//! da = b · dy, db = a · dy summed over the dimensions along which b was repeated.

use ocelli_tensor::{Element, Shape, Tensor, ops};

use crate::plan::{Affine, Role};
use crate::{Gradients, Op, Result, Var};

/// The elementwise product.
#[derive(Debug, Clone, Copy)]
pub struct Mul;

/// What the product's gradients need.
pub struct Saved<T: Element> {
    a: Option<Tensor<T>>,
    b: Option<Tensor<T>>,
    b_shape: Shape,
}

impl<T: Element> Op<T> for Mul {
    type Saved = Saved<T>;

    fn name(&self) -> &'static str {
        "mul"
    }

    fn forward(&self, inputs: &[&Tensor<T>], needs: &[bool]) -> Result<(Tensor<T>, Saved<T>)> {
        let [a, b] = [inputs[0], inputs[1]];
        let y = ops::mul(a, b)?;
        Ok((y, Saved { a: needs[1].then(|| a.clone()), b: needs[0].then(|| b.clone()), b_shape: *b.shape() }))
    }

    fn backward(&self, saved: Saved<T>, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        let Saved { a, b, b_shape } = saved;
        let da = b.map(|b| ops::mul(&dy, &b)).transpose()?;
        let db = a.map(|a| ops::sum_product_to_shape(&dy, &a, &b_shape)).transpose()?;
        Ok(vec![da, db])
    }

    fn role(&self, constants: &[Option<&Tensor<T>>]) -> Result<Role<T>> {
        Ok(match constants {
            [None, Some(b)] if b.shape().rank() == 1 => Role::Affine(Affine { scale: Some((*b).clone()), shift: None }),
            _ => Role::Opaque,
        })
    }
}

impl<T: Element> Var<T> {
    /// The elementwise product, in which `other` is broadcast to this value's shape as by [`ops::mul`]: `[C]` per
    /// channel, `[N, 1, 1, C]` per image and channel, `[N, H, W, 1]` per pixel.
    pub fn mul(&self, other: &Var<T>) -> Result<Var<T>> {
        Var::apply(Mul, &[self, other])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;

    pub fn gradients(g: &Geometry) -> Checked {
        g.broadcasts().into_iter().try_for_each(|b| gradcheck(&[g.image(1), random(b, 2)], |v| v[0].mul(&v[1])))?;
        gradcheck(&[g.image(1)], |v| v[0].mul(&v[0]))
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }
}
