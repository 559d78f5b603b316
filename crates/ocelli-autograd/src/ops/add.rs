//! y = a + b, with b broadcast to a's shape: a bias `[C]`, a residual, and whatever else the kernel broadcasts.
//! da = dy, db = dy summed over the dimensions along which b was repeated.

use ocelli_tensor::{Element, Shape, Tensor, ops};

use crate::plan::{Affine, Role};
use crate::{Gradients, Kept, Op, Result, Var};

/// The elementwise sum.
#[derive(Debug, Clone, Copy)]
pub struct Add;

impl<T: Element> Op<T> for Add {
    /// b's shape.
    type Saved = Shape;

    fn name(&self) -> &'static str {
        "add"
    }

    fn forward(&self, inputs: &[&Tensor<T>], _: &[bool]) -> Result<(Tensor<T>, Shape)> {
        Ok((ops::add(inputs[0], inputs[1])?, *inputs[1].shape()))
    }

    fn forward_into(&self, inputs: &[&Tensor<T>], y: &mut Tensor<T>) -> Result<()> {
        Ok(ops::add_into(inputs[0], inputs[1], y)?)
    }

    fn backward(&self, b: Shape, dy: Tensor<T>, needs: &[bool]) -> Result<Gradients<T>> {
        let db = needs[1].then(|| ops::sum_to_shape(&dy, &b)).transpose()?;
        Ok(vec![needs[0].then_some(dy), db])
    }

    /// Of what is computed again: a chain of sums of other values would keep each of them instead.
    fn repeats(&self, inputs: &[Kept<T>]) -> bool {
        inputs.iter().all(Kept::is_recipe)
    }

    fn role(&self, constants: &[Option<&Tensor<T>>]) -> Result<Role<T>> {
        Ok(match constants {
            [None, None] => Role::Sum,
            [None, Some(b)] if b.shape().rank() == 1 => Role::Affine(Affine { scale: None, shift: Some((*b).clone()) }),
            _ => Role::Opaque,
        })
    }
}

impl<T: Element> Var<T> {
    /// The elementwise sum, in which `other` is broadcast to this value's shape as by [`ops::add`]: `[C]` per channel
    /// (a bias), `[N, 1, 1, C]` per image and channel, `[N, H, W, 1]` per pixel.
    pub fn add(&self, other: &Var<T>) -> Result<Var<T>> {
        Var::apply(Add, &[self, other])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;
    use super::*;

    pub fn gradients(g: &Geometry) -> Checked {
        g.broadcasts().into_iter().try_for_each(|b| gradcheck(&[g.image(1), random(b, 2)], |v| v[0].add(&v[1])))?;
        gradcheck(&[g.image(1)], |v| v[0].add(&v[0]))
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }

    #[test]
    fn nothing_is_copied_for_a_residual() {
        let dy = random([2, 3], 1);
        let saved = *dy.shape();
        let gradients = Op::<f64>::backward(&Add, saved, dy.clone(), &[true, true]).unwrap();
        assert!(gradients.iter().flatten().all(|dx| dx.data().as_ptr() == dy.data().as_ptr()));
    }
}
