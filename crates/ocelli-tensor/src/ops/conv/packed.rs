//! Convolutions for inference: weights packed once; bias, residual addition and activation in the same pass.

use super::{Geometry, depthwise, forward};
use crate::ops::gemm::Packed;
use crate::ops::gemm::gather::Epilogue;
use crate::ops::{Activation, Window, activation};
use crate::{Element, Error, Result, Shape, Tensor};

/// A convolution with fixed weights: `activation(conv2d(x, w) + bias + residual)`.
#[derive(Clone)]
pub struct PackedConv<T: Element = f32> {
    weights: Weights<T>,
    w_shape: Shape,
    bias: Option<Tensor<T>>,
    activation: Option<Activation>,
    window: Window,
    groups: usize,
}

#[derive(Clone)]
enum Weights<T: Element> {
    Panels(Packed<T>),
    Depthwise(Tensor<T>),
}

impl<T: Element> PackedConv<T> {
    /// Packs `w` `[Kh, Kw, Cin / groups, Cout]` for an input of any size; `bias` is `[Cout]`.
    pub fn new(
        w: &Tensor<T>,
        bias: Option<&Tensor<T>>,
        activation: Option<Activation>,
        window: Window,
        groups: usize,
    ) -> Result<Self> {
        let op = "packed_conv";
        let [kh, kw, cin, cout] = <[usize; 4]>::try_from(&**w.shape())
            .map_err(|_| Error::shape(op, "weight", "[Kh, Kw, Cin / groups, Cout]", w.shape()))?;
        if [kh, kw] != window.kernel_size || w.is_empty() {
            let expected = format!("[{}, {}, Cin / groups, Cout]", window.kernel_size[0], window.kernel_size[1]);
            return Err(Error::shape(op, "weight", expected, w.shape()));
        }
        if groups == 0 || !cout.is_multiple_of(groups) {
            return Err(Error::argument(op, "groups", format!("that divide the {cout} output channels"), groups));
        }
        if let Some(bias) = bias.filter(|bias| **bias.shape() != [cout]) {
            return Err(Error::shape(op, "bias", format!("[{cout}]"), bias.shape()));
        }
        let weights = if groups > 1 && cin == 1 && cout == groups {
            Weights::Depthwise(w.clone())
        } else {
            let at = super::Matrix { group: cout / groups, tap: cin * cout, row: cout, column: 1 };
            let taps: Vec<usize> = (0..kh * kw).collect();
            Weights::Panels(Packed::new(w.data(), at, groups, &taps, cin, cout / groups))
        };
        Ok(PackedConv { weights, w_shape: *w.shape(), bias: bias.cloned(), activation, window, groups })
    }

    /// The output for `x` `[N, H, W, Cin]`; `residual`, of the output's shape, is added before the activation.
    pub fn run(&self, x: &Tensor<T>, residual: Option<&Tensor<T>>) -> Result<Tensor<T>> {
        let g = Geometry::new("conv2d", x.shape(), &self.w_shape, &self.window, self.groups)?;
        let shape = Shape::new(&g.y_shape())?;
        if let Some(residual) = residual.filter(|residual| *residual.shape() != shape) {
            return Err(Error::shape("conv2d", "residual", shape, residual.shape()));
        }
        let mut y = Tensor::scratch(shape);
        let clamp = match self.activation {
            Some(Activation::Relu) => Some([T::ZERO, -T::NEG_INFINITY]),
            Some(Activation::Relu6) => Some([T::ZERO, T::from_f64(6.0)]),
            _ => None,
        };
        let bias = self.bias.as_ref().map(Tensor::data);
        let epilogue = Epilogue { bias, residual: residual.map(Tensor::data), clamp };
        match &self.weights {
            Weights::Panels(packed) => forward(&g, x, packed, &mut y, epilogue),
            Weights::Depthwise(w) => depthwise::gather(&g.forward_grid(), x.data(), w.data(), &mut y, epilogue),
        }
        Ok(match self.activation {
            Some(curve @ (Activation::Sigmoid | Activation::Silu)) => activation(&y, curve),
            _ => y,
        })
    }
}
