//! The fully connected layer: y = x·W + b, `[N, in]` to `[N, out]`.

use ocelli_autograd::tensor::Element;
use ocelli_autograd::{Parameter, Var};

use super::Layer;
use crate::{Builder, Error, Init, Layout, Mode, Result};

/// The attributes of a linear layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearOptions {
    /// Whether a learned number is added to each output.
    pub bias: bool,
    /// The weight's first values; `None` is PyTorch's default, uniform within ±1/√in.
    pub init: Option<Init>,
    /// The bias's first values; `None` is PyTorch's default, uniform within ±1/√in.
    pub bias_init: Option<Init>,
    /// [`Layout::LinearAfterFlatten`] if the input is a flattened image; otherwise [`Layout::Linear`].
    pub layout: Layout,
}

impl Default for LinearOptions {
    /// With a bias, PyTorch's initialisation, not behind a flattened image.
    fn default() -> Self {
        LinearOptions { bias: true, init: None, bias_init: None, layout: Layout::Linear }
    }
}

/// A fully connected layer. Parameters: `weight`, and `bias` if asked for.
#[derive(Debug)]
pub struct Linear<T: Element = f32> {
    weight: Parameter<T>,
    bias: Option<Parameter<T>>,
}

impl<T: Element> Linear<T> {
    /// A layer whose parameters are named in `b`. Errors if a flattened image's size is not `in_features`.
    pub fn new(b: &Builder<T>, in_features: usize, out_features: usize, options: LinearOptions) -> Result<Self> {
        if let Layout::LinearAfterFlatten { height, width, channels } = options.layout
            && height * width * channels != in_features
        {
            let got = format!("{height}·{width}·{channels}");
            return Err(Error::argument("Linear flattened size", in_features, got));
        }
        let default = Init::Uniform { bound: 1.0 / (in_features.max(1) as f64).sqrt() };
        let init = options.init.unwrap_or(default);
        let weight = b.parameter("weight", [in_features, out_features], init, options.layout)?;
        let bias = match options.bias {
            true => Some(b.parameter("bias", [out_features], options.bias_init.unwrap_or(default), Layout::Vector)?),
            false => None,
        };
        Ok(Linear { weight, bias })
    }

    /// The learned weight, `[in, out]`.
    pub fn weight(&self) -> &Parameter<T> {
        &self.weight
    }
}

impl<T: Element> Layer<T> for Linear<T> {
    fn forward(&self, x: &Var<T>, _: &Mode) -> Result<Var<T>> {
        let bias = self.bias.as_ref().map(Parameter::var);
        Ok(x.linear(&self.weight.var(), bias.as_ref())?)
    }
}
