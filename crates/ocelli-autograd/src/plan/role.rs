//! What an operation tells a plan about itself, so that the plan need not know the operations.

use ocelli_tensor::ops::{self, Activation, Window};
use ocelli_tensor::{Element, Tensor};

use crate::Result;

/// How an inference plan may treat an operation. The operation's inputs beside those named here are constants.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Role<T: Element = f32> {
    /// Only by running its forward.
    Opaque,
    /// y = x₀: nothing to do.
    Identity,
    /// A convolution of x₀, which the operations behind it may be fused into.
    Convolution(Convolution<T>),
    /// y = x₀ · scale + shift by channels, which a convolution in front of it can absorb.
    Affine(Affine<T>),
    /// A nonlinearity of x₀.
    Activation(Activation),
    /// y = x₀ + x₁, if both are of one shape.
    Sum,
    /// y = x₀ · x₁, where x₁ may be repeated to x₀'s shape.
    Product,
    /// The inputs' columns side by side.
    Concat,
    /// The mean over the pixels of each image of x₀ `[N, H, W, C]`. The plan may run the operation's forward on the means over
    /// rows of pixels, `[N, H, 1, C]`, in place of x₀.
    Mean,
    /// The maximum over windows of x₀.
    MaxPool {
        /// The windows.
        window: Window,
        /// Whether output sizes are rounded up.
        ceil_mode: bool,
    },
}

/// A convolution with constant weights, as the plan packs it.
#[derive(Debug, Clone)]
pub struct Convolution<T: Element = f32> {
    /// `[Kh, Kw, Cin / groups, Cout]`; a matrix `[in, out]` of an input `[N, in]` is a 1×1 convolution.
    pub weight: Tensor<T>,
    /// `[Cout]`
    pub bias: Option<Tensor<T>>,
    /// The geometry.
    pub window: Window,
    /// The number of groups.
    pub groups: usize,
    /// What else a deformable one is.
    pub deformable: Option<Deformable>,
}

/// What tells a deformable convolution from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deformable {
    /// Groups of channels that are displaced alike. The offsets are x₁, the weight x₂.
    pub offset_groups: usize,
    /// Whether samples are weighed by masks, x₃.
    pub modulated: bool,
}

impl<T: Element> Convolution<T> {
    /// Which of the operation's inputs are no weight.
    pub(super) fn operands(&self) -> &'static [usize] {
        match self.deformable {
            None => &[0],
            Some(Deformable { modulated: false, .. }) => &[0, 1],
            Some(Deformable { modulated: true, .. }) => &[0, 1, 3],
        }
    }
}

/// y = x · scale + shift, by channels: both `[C]`.
#[derive(Debug, Clone)]
pub struct Affine<T: Element = f32> {
    /// 1 if absent.
    pub scale: Option<Tensor<T>>,
    /// 0 if absent.
    pub shift: Option<Tensor<T>>,
}

impl<T: Element> Convolution<T> {
    /// The convolution followed by `affine`, as one convolution.
    pub fn then(self, affine: &Affine<T>) -> Result<Self> {
        let Convolution { mut weight, mut bias, .. } = self;
        if let Some(scale) = &affine.scale {
            weight = ops::mul(&weight, scale)?;
            bias = bias.map(|bias| ops::mul(&bias, scale)).transpose()?;
        }
        let bias = match (bias, affine.shift.clone()) {
            (Some(bias), Some(shift)) => Some(ops::add(&bias, &shift)?),
            (bias, shift) => bias.or(shift),
        };
        Ok(Convolution { weight, bias, ..self })
    }
}
