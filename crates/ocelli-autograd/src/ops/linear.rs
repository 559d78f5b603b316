//! y = x · w + b for x `[N, in]`, w `[in, out]`, b `[out]`; dx = dy · wᵀ, dw = xᵀ · dy, db = Σ dy over the batch.

use ocelli_tensor::ops::{self, Window};
use ocelli_tensor::{Element, Shape, Tensor};

use crate::plan::{Convolution, Role};
use crate::{Cost, Gradients, Op, Result, Var};

/// The fully connected layer's function of input, weight and, optionally, bias.
#[derive(Debug, Clone, Copy)]
pub struct Linear;

impl<T: Element> Op<T> for Linear {
    /// x for dw and w for dx.
    type Saved = [Option<Tensor<T>>; 2];

    fn name(&self) -> &'static str {
        "linear"
    }

    fn forward(&self, inputs: &[&Tensor<T>], needs: &[bool]) -> Result<(Tensor<T>, Self::Saved)> {
        let [x, w] = [inputs[0], inputs[1]];
        let y = ops::matmul(x, w)?;
        let y = inputs.get(2).map(|b| ops::add(&y, b)).transpose()?.unwrap_or(y);
        Ok((y, [needs[1].then(|| x.clone()), needs[0].then(|| w.clone())]))
    }

    fn backward(&self, [x, w]: Self::Saved, dy: Tensor<T>, needs: &[bool]) -> Result<Gradients<T>> {
        let dx = w.map(|w| ops::matmul_nt(&dy, &w)).transpose()?;
        let dw = x.map(|x| ops::matmul_tn(&x, &dy)).transpose()?;
        let db = needs.get(2).map(|&needed| needed.then(|| ops::sum_rows(&dy)));
        Ok([dx, dw].into_iter().chain(db).collect())
    }

    fn cost(&self, inputs: &[Shape], output: &Shape) -> Cost {
        Cost::products::<T>(output.len() * inputs[0].columns(), inputs, output)
    }

    fn role(&self, constants: &[Option<&Tensor<T>>]) -> Result<Role<T>> {
        let (weight, bias) = match constants {
            [None, Some(weight)] => (*weight, None),
            [None, Some(weight), Some(bias)] => (*weight, Some(*bias)),
            _ => return Ok(Role::Opaque),
        };
        let (weight, bias) = (weight.clone(), bias.cloned());
        Ok(Role::Convolution(Convolution { weight, bias, window: Window::square(1), groups: 1, deformable: None }))
    }
}

impl<T: Element> Var<T> {
    /// This value `[N, in]` times `weight` `[in, out]`, plus `bias` `[out]`: `[N, out]`.
    pub fn linear(&self, weight: &Var<T>, bias: Option<&Var<T>>) -> Result<Var<T>> {
        match bias {
            Some(bias) => Var::apply(Linear, &[self, weight, bias]),
            None => Var::apply(Linear, &[self, weight]),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;

    pub fn gradients(g: &Geometry) -> Checked {
        let x = random([g.batch, g.channels], 1);
        let (w, b) = (random([g.channels, g.out_channels], 2), random([g.out_channels], 3));
        gradcheck(&[x.clone(), w.clone()], |v| v[0].linear(&v[1], None))?;
        gradcheck(&[x, w, b], |v| v[0].linear(&v[1], Some(&v[2])))
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }
}
