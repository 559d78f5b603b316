//! y = a · b for matrices a `[M, K]` and b `[K, N]`; da = dy · bᵀ, db = aᵀ · dy.

use ocelli_tensor::{Element, Shape, Tensor, ops};

use crate::{Cost, Gradients, Op, Result, Var};

/// The matrix product.
#[derive(Debug, Clone, Copy)]
pub struct Matmul;

impl<T: Element> Op<T> for Matmul {
    /// a for db and b for da.
    type Saved = [Option<Tensor<T>>; 2];

    fn name(&self) -> &'static str {
        "matmul"
    }

    fn forward(&self, inputs: &[&Tensor<T>], needs: &[bool]) -> Result<(Tensor<T>, Self::Saved)> {
        let [a, b] = [inputs[0], inputs[1]];
        Ok((ops::matmul(a, b)?, [needs[1].then(|| a.clone()), needs[0].then(|| b.clone())]))
    }

    fn backward(&self, [a, b]: Self::Saved, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        let da = b.map(|b| ops::matmul_nt(&dy, &b)).transpose()?;
        let db = a.map(|a| ops::matmul_tn(&a, &dy)).transpose()?;
        Ok(vec![da, db])
    }

    fn cost(&self, inputs: &[Shape], output: &Shape) -> Cost {
        Cost::products::<T>(output.len() * inputs[0].columns(), inputs, output)
    }
}

impl<T: Element> Var<T> {
    /// The matrix product of this value `[M, K]` and `other` `[K, N]`: `[M, N]`.
    pub fn matmul(&self, other: &Var<T>) -> Result<Var<T>> {
        Var::apply(Matmul, &[self, other])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;

    pub fn gradients(g: &Geometry) -> Checked {
        let [m, k, n] = [g.batch, g.channels, g.out_channels];
        gradcheck(&[random([m, k], 1), random([k, n], 2)], |v| v[0].matmul(&v[1]))
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }
}
