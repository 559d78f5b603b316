//! y = x / (k + α/size · Σ x²)^β, the sum over neighbouring channels. The backward pass computes the sums again.

use ocelli_tensor::ops::{self, LocalResponseNorm};
use ocelli_tensor::{Element, Tensor};

use crate::{Gradients, Op, Result, Var};

impl<T: Element> Op<T> for LocalResponseNorm {
    /// The input.
    type Saved = Option<Tensor<T>>;

    fn name(&self) -> &'static str {
        "local_response_norm"
    }

    fn forward(&self, inputs: &[&Tensor<T>], needs: &[bool]) -> Result<(Tensor<T>, Self::Saved)> {
        Ok((ops::local_response_norm(inputs[0], self)?, needs[0].then(|| inputs[0].clone())))
    }

    fn forward_into(&self, inputs: &[&Tensor<T>], y: &mut Tensor<T>) -> Result<()> {
        Ok(ops::local_response_norm_into(inputs[0], self, y)?)
    }

    fn backward(&self, x: Self::Saved, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        Ok(vec![x.map(|x| ops::local_response_norm_backward(&x, &dy, self)).transpose()?])
    }
}

impl<T: Element> Var<T> {
    /// This value `[…, C]` normalised over neighbouring channels: see [`LocalResponseNorm`].
    pub fn local_response_norm(&self, attributes: &LocalResponseNorm) -> Result<Var<T>> {
        Var::apply(*attributes, &[self])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;
    use super::*;

    pub fn gradients(g: &Geometry) -> Checked {
        let x = g.image(1);
        for (size, beta) in [(5, 0.75), (g.window.kernel_size[0], 0.75), (2, 0.3), (3, 1.0)] {
            let attributes = LocalResponseNorm { alpha: 0.8, beta, k: 2.0, ..LocalResponseNorm::new(size) };
            gradcheck(std::slice::from_ref(&x), |v| v[0].local_response_norm(&attributes))?;
        }
        Ok(())
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }
}
