//! y = the inputs' channels side by side; each dx is its columns of dy.

use ocelli_tensor::{Element, Tensor, ops};

use crate::plan::Role;
use crate::{Gradients, Kept, Op, Result, Var, trace};

/// Concatenation along the last dimension.
#[derive(Debug, Clone, Copy)]
pub struct Concat;

impl<T: Element> Op<T> for Concat {
    /// The inputs' numbers of columns.
    type Saved = Vec<usize>;

    fn name(&self) -> &'static str {
        "concat"
    }

    fn forward(&self, inputs: &[&Tensor<T>], _: &[bool]) -> Result<(Tensor<T>, Self::Saved)> {
        Ok((ops::concat_columns(inputs)?, inputs.iter().map(|x| x.shape().columns()).collect()))
    }

    /// The inputs are as large together, and may be part of more than one concatenation.
    fn repeats(&self, _: &[Kept<T>]) -> bool {
        true
    }

    fn forward_into(&self, inputs: &[&Tensor<T>], y: &mut Tensor<T>) -> Result<()> {
        Ok(ops::concat_columns_into(inputs, y)?)
    }

    fn backward(&self, columns: Self::Saved, dy: Tensor<T>, needs: &[bool]) -> Result<Gradients<T>> {
        let gradients = ops::split_columns(&dy, &columns)?.into_iter().zip(needs);
        Ok(gradients.map(|(dx, &needed)| needed.then_some(dx)).collect())
    }

    fn role(&self, _: &[Option<&Tensor<T>>]) -> Result<Role<T>> {
        Ok(Role::Concat)
    }
}

impl<T: Element> Var<T> {
    /// Values `[…, C₁]`, `[…, C₂]`, … of otherwise equal shapes as one `[…, C₁ + C₂ + …]`. They are joined when
    /// [`value`](Self::value) is first asked for, which batch normalisation in training does not do.
    pub fn concat(values: &[&Var<T>]) -> Result<Var<T>> {
        if trace::is_tracing() { Var::apply(Concat, values) } else { Var::joined(values) }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::slice::from_ref;

    use super::super::testing::*;
    use crate::Var;

    pub fn gradients(g: &Geometry) -> Checked {
        let (a, b) = (g.image(1), g.image_of(g.out_channels, 2));
        gradcheck(from_ref(&a), |v| Var::concat(&[&v[0]]))?;
        gradcheck(&[a, b], |v| Var::concat(&[&v[0], &v[1], &v[0]]))
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }
}
