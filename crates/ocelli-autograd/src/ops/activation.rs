//! y = f(x) for the nonlinearities of [`Activation`], which says of each whether the gradient reads x or y.

use ocelli_tensor::ops::{self, Activation};
use ocelli_tensor::{Element, Tensor};

use crate::plan::Role;
use crate::{Gradients, Kept, Op, Result, Var};

impl<T: Element> Op<T> for Activation {
    /// The input or the output.
    type Saved = Option<Kept<T>>;

    fn name(&self) -> &'static str {
        match self {
            Activation::Relu => "relu",
            Activation::Relu6 => "relu6",
            Activation::Sigmoid => "sigmoid",
            Activation::Silu => "silu",
        }
    }

    fn forward(&self, inputs: &[&Tensor<T>], needs: &[bool]) -> Result<(Tensor<T>, Self::Saved)> {
        let y = ops::activation(inputs[0], *self);
        let saved = needs[0].then(|| Kept::from(if self.saves_output() { y.clone() } else { inputs[0].clone() }));
        Ok((y, saved))
    }

    fn forward_into(&self, inputs: &[&Tensor<T>], y: &mut Tensor<T>) -> Result<()> {
        ops::activation_into(inputs[0], *self, y);
        Ok(())
    }

    fn backward(&self, saved: Self::Saved, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        let saved = saved.map(|saved| saved.value()).transpose()?;
        Ok(vec![saved.map(|saved| ops::activation_backward(&saved, &dy, *self)).transpose()?])
    }

    /// Where the input is kept for the gradient.
    fn repeats(&self, _: &[Kept<T>]) -> bool {
        !self.saves_output()
    }

    fn keep(&self, saved: &mut Self::Saved, inputs: &[Kept<T>], value: &Kept<T>) {
        let kept = if self.saves_output() { value } else { &inputs[0] };
        saved.iter_mut().for_each(|saved| *saved = kept.clone());
    }

    fn role(&self, _: &[Option<&Tensor<T>>]) -> Result<Role<T>> {
        Ok(Role::Activation(*self))
    }
}

impl<T: Element> Var<T> {
    /// A pointwise nonlinearity.
    pub fn activation(&self, activation: Activation) -> Result<Var<T>> {
        Var::apply(activation, &[self])
    }

    /// max(x, 0)
    pub fn relu(&self) -> Result<Var<T>> {
        self.activation(Activation::Relu)
    }

    /// min(max(x, 0), 6)
    pub fn relu6(&self) -> Result<Var<T>> {
        self.activation(Activation::Relu6)
    }

    /// 1 / (1 + e⁻ˣ)
    pub fn sigmoid(&self) -> Result<Var<T>> {
        self.activation(Activation::Sigmoid)
    }

    /// x / (1 + e⁻ˣ)
    pub fn silu(&self) -> Result<Var<T>> {
        self.activation(Activation::Silu)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;
    use super::*;

    fn check(g: &Geometry, activation: Activation) -> Checked {
        // Up to 8, so that ReLU6's upper kink is passed.
        let x = ops::scale(&g.image(1), 8.0);
        gradcheck(&[x], |v| v[0].activation(activation))
    }

    pub fn relu(g: &Geometry) -> Checked {
        check(g, Activation::Relu)
    }

    pub fn relu6(g: &Geometry) -> Checked {
        check(g, Activation::Relu6)
    }

    pub fn sigmoid(g: &Geometry) -> Checked {
        check(g, Activation::Sigmoid)
    }

    pub fn silu(g: &Geometry) -> Checked {
        check(g, Activation::Silu)
    }

    #[test]
    fn gradients_are_right() {
        [relu, relu6, sigmoid, silu].into_iter().for_each(for_all_geometries);
    }
}
