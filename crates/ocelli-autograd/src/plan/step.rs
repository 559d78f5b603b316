//! The steps of a plan.

use std::sync::Arc;

use ocelli_tensor::ops::{self, Activation, Affine, DeformConv2d, PackedConv, PackedDeformConv, PackedPair, Storage};
use ocelli_tensor::{Element, Shape, Tensor};

use super::role::{Convolution, Deformable};
use crate::Result;
use crate::op::AnyOp;

/// Something that a plan runs.
pub(super) trait Step<T: Element>: Send + Sync {
    /// Makes `y` the value. Both `y` and the workspace are resized.
    fn run(&self, inputs: &[&Tensor<T>], workspace: &mut Tensor<T>, y: &mut Tensor<T>) -> Result<()>;

    /// The elements of the workspace for inputs of the traced shapes.
    fn workspace(&self) -> usize {
        0
    }

    /// How it does so, if there is a choice.
    fn algorithm(&self) -> &'static str {
        ""
    }

    /// The convolution that it is, if it is no more than that and what follows.
    fn convolution(&self) -> Option<&PackedConv<T>> {
        None
    }

    /// Whether it can [run with means](Self::run_with_means).
    fn averages_rows(&self) -> bool {
        false
    }

    /// As [`run`](Self::run), and makes a second value, the means over each row of the first one's pixels.
    fn run_with_means(&self, _x: &Tensor<T>, _workspace: &mut Tensor<T>, _made: [&mut Tensor<T>; 2]) -> Result<()> {
        unreachable!("only steps that average rows are asked to")
    }

    /// Whether the first input may have more columns than are meant, which come first.
    fn reads_columns(&self) -> bool {
        false
    }
}

/// An operation as it was recorded.
pub(super) struct Forward<T: Element>(pub Arc<dyn AnyOp<T>>);

impl<T: Element> Step<T> for Forward<T> {
    fn run(&self, inputs: &[&Tensor<T>], _: &mut Tensor<T>, y: &mut Tensor<T>) -> Result<()> {
        self.0.run_into(inputs, y)
    }
}

/// A convolution and what was fused into it, for inputs of about the shape `x`, which are `scaled` by channels or not.
pub(super) fn fused<T: Element>(
    storage: Storage,
    convolution: &Convolution<T>,
    scaled: bool,
    activation: Option<Activation>,
    x: &Shape,
) -> Result<Box<dyn Step<T>>> {
    let &Convolution { window, groups, deformable, .. } = convolution;
    let bias = convolution.bias.as_ref();
    let (weight, x) = (image_weight(&convolution.weight)?, image_shape(x));
    Ok(match deformable {
        None => {
            let conv = PackedConv::with_storage(storage, &weight, bias, activation, window, groups, &x)?;
            Box::new(Fused { conv: if scaled { conv.scaled()? } else { conv }, scaled })
        }
        Some(Deformable { offset_groups, modulated }) => {
            let attributes = DeformConv2d { window, groups, offset_groups };
            let conv = PackedDeformConv::with_storage(storage, &weight, bias, activation, attributes, &x)?;
            Box::new(FusedDeform { conv, modulated })
        }
    })
}

/// Its inputs are x, its scale if it is scaled, and, if there is one, the residual.
struct Fused<T: Element> {
    conv: PackedConv<T>,
    scaled: bool,
}

impl<T: Element> Step<T> for Fused<T> {
    fn run(&self, inputs: &[&Tensor<T>], workspace: &mut Tensor<T>, y: &mut Tensor<T>) -> Result<()> {
        let x = as_image(inputs[0])?;
        let (scale, rest) = inputs[1..].split_at(usize::from(self.scaled));
        let residual = rest.first().map(|r| as_image(r)).transpose()?;
        self.conv.run_into(&x, scale.first().copied(), residual.as_ref(), workspace, y)?;
        if let [n, _] = **inputs[0].shape() {
            *y = y.reshape([n, y.shape().columns()])?;
        }
        Ok(())
    }

    fn workspace(&self) -> usize {
        self.conv.workspace()
    }

    fn convolution(&self) -> Option<&PackedConv<T>> {
        Some(&self.conv)
    }

    fn averages_rows(&self) -> bool {
        self.conv.averages_rows()
    }

    fn run_with_means(&self, x: &Tensor<T>, workspace: &mut Tensor<T>, [y, means]: [&mut Tensor<T>; 2]) -> Result<()> {
        Ok(self.conv.run_averaged_into(x, workspace, y, means)?)
    }

    fn algorithm(&self) -> &'static str {
        self.conv.algorithm()
    }
}

/// Its input is x.
impl<T: Element> Step<T> for PackedPair<T> {
    fn run(&self, inputs: &[&Tensor<T>], _: &mut Tensor<T>, y: &mut Tensor<T>) -> Result<()> {
        Ok(self.run_into(inputs[0], y, None)?)
    }

    fn averages_rows(&self) -> bool {
        true
    }

    fn run_with_means(&self, x: &Tensor<T>, _: &mut Tensor<T>, [y, means]: [&mut Tensor<T>; 2]) -> Result<()> {
        Ok(self.run_into(x, y, Some(means))?)
    }

    fn algorithm(&self) -> &'static str {
        PackedPair::algorithm(self)
    }
}

/// Its inputs are x, the offsets, the masks if it is modulated, and, if there is one, the residual.
struct FusedDeform<T: Element> {
    conv: PackedDeformConv<T>,
    modulated: bool,
}

impl<T: Element> Step<T> for FusedDeform<T> {
    fn run(&self, inputs: &[&Tensor<T>], workspace: &mut Tensor<T>, y: &mut Tensor<T>) -> Result<()> {
        let (operands, residual) = inputs.split_at(if self.modulated { 3 } else { 2 });
        let mask = operands.get(2).copied();
        Ok(self.conv.run_into([operands[0], operands[1]], mask, residual.first().copied(), workspace, y)?)
    }

    fn workspace(&self) -> usize {
        self.conv.workspace()
    }

    fn algorithm(&self) -> &'static str {
        self.conv.algorithm()
    }
}

/// act(x · scale + shift + residual). Its inputs are x, the scale if it is one, and the residual if there is one.
pub(super) struct Pointwise<T: Element> {
    pub columns: usize,
    pub scale: Scale<T>,
    pub shift: Option<Tensor<T>>,
    pub has_residual: bool,
    pub activation: Option<Activation>,
}

pub(super) enum Scale<T: Element> {
    One,
    /// `[C]`
    Constant(Tensor<T>),
    /// `[N, 1, …, 1, C]`
    Input,
}

impl<T: Element> Step<T> for Pointwise<T> {
    fn run(&self, inputs: &[&Tensor<T>], _: &mut Tensor<T>, y: &mut Tensor<T>) -> Result<()> {
        let scale = match &self.scale {
            Scale::One => None,
            Scale::Constant(scale) => Some(scale),
            Scale::Input => Some(inputs[1]),
        };
        let residual = self.has_residual.then(|| inputs[inputs.len() - 1]);
        let terms = Affine { scale, shift: self.shift.as_ref(), residual, activation: self.activation };
        Ok(ops::affine_into(inputs[0], self.columns, terms, y)?)
    }

    fn reads_columns(&self) -> bool {
        true
    }
}

/// A batch of vectors `[N, C]` as images of one pixel.
fn as_image<T: Element>(x: &Tensor<T>) -> Result<Tensor<T>> {
    Ok(x.reshape(image_shape(x.shape()))?)
}

/// A matrix `[in, out]` as the weight of a 1×1 convolution.
pub(super) fn image_weight<T: Element>(weight: &Tensor<T>) -> Result<Tensor<T>> {
    Ok(match **weight.shape() {
        [inputs, outputs] => weight.reshape([1, 1, inputs, outputs])?,
        _ => weight.clone(),
    })
}

/// The shape of a batch of vectors `[N, C]` as images of one pixel.
pub(super) fn image_shape(shape: &Shape) -> Shape {
    match **shape {
        [n, channels] => Shape::from([n, 1, 1, channels]),
        _ => *shape,
    }
}
