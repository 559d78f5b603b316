//! The convolution with learned weights.

use ocelli_autograd::ops::{Padding, Window};
use ocelli_autograd::tensor::Element;
use ocelli_autograd::{Parameter, Var};

use super::Layer;
use crate::{Builder, Error, Init, Layout, Mode, Result};

/// How the edges of an image are padded with zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvPadding {
    /// By so many pixels.
    Explicit(Padding),
    /// As TensorFlow's `SAME`: by as many as make ⌈input / stride⌉ outputs, which depends on the input's size and may
    /// be one more below and to the right.
    Same,
}

/// The attributes of a convolution, in the notation of a paper's table:
/// `Conv2dOptions::new(3).stride(2).padding(1)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conv2dOptions {
    /// `[height, width]`
    pub kernel_size: [usize; 2],
    /// Input pixels between neighbouring outputs.
    pub stride: [usize; 2],
    /// Zeros around the input.
    pub padding: ConvPadding,
    /// Input pixels between neighbouring taps.
    pub dilation: [usize; 2],
    /// Into how many independent groups the channels are divided.
    pub groups: usize,
    /// Whether a learned number is added to each output channel; unneeded before a batch norm.
    pub bias: bool,
    /// The weight's first values.
    pub init: Init,
    /// The bias's first values.
    pub bias_init: Init,
}

impl Conv2dOptions {
    /// A square kernel at stride 1, without padding, dilation, groups or bias, initialised for a ReLU (a bias at 0).
    pub fn new(kernel_size: usize) -> Self {
        Conv2dOptions {
            kernel_size: [kernel_size; 2],
            stride: [1; 2],
            padding: ConvPadding::Explicit(Padding::NONE),
            dilation: [1; 2],
            groups: 1,
            bias: false,
            init: Init::RELU,
            bias_init: Init::ZEROS,
        }
    }

    /// With this stride on both axes.
    pub fn stride(self, stride: usize) -> Self {
        Conv2dOptions { stride: [stride; 2], ..self }
    }

    /// With this padding on all edges.
    pub fn padding(self, padding: usize) -> Self {
        Conv2dOptions { padding: ConvPadding::Explicit(Padding::all(padding)), ..self }
    }

    /// With TensorFlow's `SAME` padding.
    pub fn same(self) -> Self {
        Conv2dOptions { padding: ConvPadding::Same, ..self }
    }

    /// With this dilation on both axes.
    pub fn dilation(self, dilation: usize) -> Self {
        Conv2dOptions { dilation: [dilation; 2], ..self }
    }

    /// With so many groups.
    pub fn groups(self, groups: usize) -> Self {
        Conv2dOptions { groups, ..self }
    }

    /// With or without a bias.
    pub fn bias(self, bias: bool) -> Self {
        Conv2dOptions { bias, ..self }
    }

    /// With other first values of the weight.
    pub fn init(self, init: Init) -> Self {
        Conv2dOptions { init, ..self }
    }

    /// With other first values of the bias.
    pub fn bias_init(self, bias_init: Init) -> Self {
        Conv2dOptions { bias_init, ..self }
    }

    /// The window over an input `[H, W]`.
    pub(super) fn window(self, input: [usize; 2]) -> Window {
        let Conv2dOptions { kernel_size, stride, padding, dilation, .. } = self;
        match padding {
            ConvPadding::Explicit(padding) => Window { kernel_size, stride, padding, dilation },
            ConvPadding::Same => Window { kernel_size, stride, padding: Padding::NONE, dilation }.same(input),
        }
    }
}

/// A convolution: `[N, H, W, in]` to `[N, H', W', out]`. Parameters: `weight`, and `bias` if asked for.
#[derive(Debug)]
pub struct Conv2d<T: Element = f32> {
    pub(super) weight: Parameter<T>,
    pub(super) bias: Option<Parameter<T>>,
    pub(super) options: Conv2dOptions,
}

impl<T: Element> Conv2d<T> {
    /// A convolution whose parameters are named in `b`. Errors if the channels can't be divided into the groups.
    pub fn new(b: &Builder<T>, in_channels: usize, out_channels: usize, options: Conv2dOptions) -> Result<Self> {
        let Conv2dOptions { kernel_size: [kh, kw], groups, .. } = options;
        if groups == 0 || !in_channels.is_multiple_of(groups) || !out_channels.is_multiple_of(groups) {
            let expected = format!("to divide {in_channels} input and {out_channels} output channels");
            return Err(Error::argument("Conv2d groups", expected, groups));
        }
        let shape = [kh, kw, in_channels / groups, out_channels];
        let weight = b.parameter("weight", shape, options.init, Layout::Conv)?;
        let bias = || b.parameter("bias", [out_channels], options.bias_init, Layout::Vector);
        let bias = options.bias.then(bias).transpose()?;
        Ok(Conv2d { weight, bias, options })
    }

    /// The learned weight, `[Kh, Kw, in / groups, out]`.
    pub fn weight(&self) -> &Parameter<T> {
        &self.weight
    }
}

impl<T: Element> Layer<T> for Conv2d<T> {
    /// In training, a convolution without a bias is taken to stand before a batch norm. Of pictures, whose few channels are
    /// less to keep than the value, the value may be computed again to save memory.
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        let [_, h, w, _] = x.shape().nhwc("conv2d", "input")?;
        let (weight, window, groups) = (self.weight.var(), self.options.window([h, w]), self.options.groups);
        let repeated = mode.saves_memory() && !x.requires_grad();
        let y = match &self.bias {
            None if mode.is_training() => x.conv2d_before_norm(&weight, &window, groups, repeated)?,
            _ if repeated => x.conv2d_repeated(&weight, &window, groups)?,
            _ => x.conv2d(&weight, &window, groups)?,
        };
        Ok(match &self.bias {
            Some(bias) => y.add(&bias.var())?,
            None => y,
        })
    }
}
