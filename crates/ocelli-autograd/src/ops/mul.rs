//! y = a · b; da = b · dy, db = a · dy.

use ocelli_tensor::{Element, Tensor};

use crate::{Gradients, Op, Result, Var};

/// The elementwise product.
#[derive(Debug)]
pub struct Mul;

impl<T: Element> Op<T> for Mul {
    type Saved = [Option<Tensor<T>>; 2];

    fn name(&self) -> &'static str {
        "mul"
    }

    fn forward(&self, inputs: &[&Tensor<T>], needs: &[bool]) -> Result<(Tensor<T>, Self::Saved)> {
        let [a, b] = [inputs[0], inputs[1]];
        let y = Tensor::from_fn(a.shape(), |i| a.data()[i] * b.data()[i]);
        Ok((y, [needs[1].then(|| a.clone()), needs[0].then(|| b.clone())]))
    }

    fn backward(&self, [a, b]: Self::Saved, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        let product = |x: Tensor<T>| Tensor::from_fn(x.shape(), |i| x.data()[i] * dy.data()[i]);
        Ok(vec![b.map(product), a.map(product)])
    }
}

impl<T: Element> Var<T> {
    /// The elementwise product.
    pub fn mul(&self, other: &Var<T>) -> Result<Var<T>> {
        Var::apply(Mul, &[self, other])
    }
}
