//! y = a · b, with b broadcast to a's shape, such as the channel weights of squeeze-and-excitation.
//! da = b · dy, db = a · dy summed over the dimensions along which b was repeated.

use ocelli_tensor::{Element, Shape, Tensor, ops};

use crate::plan::{Affine, Role};
use crate::{Error, Gradients, Kept, Op, Result, Var};

/// The elementwise product.
#[derive(Debug, Clone, Copy)]
pub struct Mul;

/// What the product's gradients need.
pub struct Saved<T: Element> {
    a: Option<Kept<T>>,
    b: Option<Kept<T>>,
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
        let kept = |x: &Tensor<T>| Kept::from(x.clone());
        Ok((y, Saved { a: needs[1].then(|| kept(a)), b: needs[0].then(|| kept(b)), b_shape: *b.shape() }))
    }

    fn forward_into(&self, inputs: &[&Tensor<T>], y: &mut Tensor<T>) -> Result<()> {
        Ok(ops::mul_into(inputs[0], inputs[1], y)?)
    }

    fn backward(&self, saved: Saved<T>, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        let Saved { a, b, b_shape } = saved;
        let da = b.map(|b| Ok::<_, Error>(ops::mul(&dy, &b.value()?)?)).transpose()?;
        let db = a.map(|a| Ok::<_, Error>(ops::sum_product_to_shape(&dy, &a.value()?, &b_shape)?)).transpose()?;
        Ok(vec![da, db])
    }

    /// Of what is computed again; b is kept in any case.
    fn repeats(&self, inputs: &[Kept<T>]) -> bool {
        inputs[0].is_recipe()
    }

    fn keep(&self, saved: &mut Saved<T>, inputs: &[Kept<T>], _: &Kept<T>) {
        saved.a.iter_mut().for_each(|a| *a = inputs[0].clone());
        saved.b.iter_mut().for_each(|b| *b = inputs[1].clone());
    }

    fn role(&self, constants: &[Option<&Tensor<T>>]) -> Result<Role<T>> {
        Ok(match constants {
            [None, Some(b)] if b.shape().rank() == 1 => Role::Affine(Affine { scale: Some((*b).clone()), shift: None }),
            [None, None] => Role::Product,
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
