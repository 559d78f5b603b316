//! The steps of a plan in eight bits, and the values between them.

use ocelli_tensor::ops::{FloatConv, Quantization, QuantizedConv, QuantizedTensor, Values, Window, max_pool2d_bytes};
use ocelli_tensor::{Shape, Tensor};

use super::super::fuse::{Action, Node, Origin};
use super::super::step::{Step, image_shape, image_weight};
use crate::Result;

/// What a plan runs.
pub(super) enum QuantizedStep {
    /// Of bytes of this quantization.
    Convolution(Box<QuantizedConv>, Quantization),
    /// The maximum of bytes of this quantization.
    MaxPool(Window, bool, Quantization),
    /// Of numbers.
    Floats(Box<dyn Step<f32>>),
}

/// Whether a node is a convolution that multiplies bytes. Deformable and grouped ones have no such kernels, and what is
/// done to single pixels between maps, such as squeeze-and-excitation, is little work but needs its digits.
pub(super) fn multiplies_bytes(node: &Node<f32>) -> bool {
    let Some(Origin::Convolution(convolution, _, x)) = &node.origin else { return false };
    let single = x.rank() == 4 && x[1] * x[2] == 1;
    convolution.groups == 1 && convolution.deformable.is_none() && !convolution.weight.is_empty() && !single
}

/// The windows of a node that is a maximum.
pub(super) fn max_pool(node: &Node<f32>) -> Option<(Window, bool)> {
    match node.origin {
        Some(Origin::MaxPool { window, ceil_mode }) => Some((window, ceil_mode)),
        _ => None,
    }
}

/// A node's step on numbers.
pub(super) fn on_numbers(node: &Node<f32>) -> &dyn Step<f32> {
    match &node.action {
        Action::Run(step) | Action::Concat(step) => &**step,
        Action::Widen(_) | Action::Append(_) | Action::Slice(..) => {
            unreachable!("nothing is put together in eight bits")
        }
    }
}

/// What is known of a value that is read as bytes: what these stand for, and its channels' means.
pub(super) struct Calibrated {
    pub quantization: Quantization,
    pub mean: Tensor,
}

impl QuantizedStep {
    /// The step of a node whose first input is `input`, if that is read as bytes, and whose value has the quantization
    /// `output`, if that is.
    pub fn new(node: Node<f32>, input: Option<&Calibrated>, output: Option<Quantization>) -> Result<Self> {
        let multiplies_bytes = multiplies_bytes(&node);
        match (node.origin, node.action, input) {
            (Some(Origin::Convolution(convolution, activation, _)), _, Some(input)) if multiplies_bytes => {
                let weight = image_weight(&convolution.weight)?;
                let (bias, window, input_mean) = (convolution.bias, convolution.window, Some(input.mean.clone()));
                let conv = FloatConv { weight, bias, input_mean, activation, window };
                let input = input.quantization;
                Ok(QuantizedStep::Convolution(Box::new(QuantizedConv::new(&conv, input, output)?), input))
            }
            (Some(Origin::MaxPool { window, ceil_mode }), _, Some(input)) if output.is_some() => {
                Ok(QuantizedStep::MaxPool(window, ceil_mode, input.quantization))
            }
            (_, Action::Run(step) | Action::Concat(step), _) => Ok(QuantizedStep::Floats(step)),
            _ => unreachable!("nothing grows in eight bits"),
        }
    }

    pub fn is_quantized(&self) -> bool {
        !matches!(self, QuantizedStep::Floats(_))
    }

    pub fn run(&self, inputs: &[Source], slots: &mut [Slot]) -> Result<Slot> {
        Ok(match self {
            QuantizedStep::Convolution(conv, quantization) => {
                let x = if conv.reads_numbers() {
                    inputs[0].values(slots)
                } else {
                    Values::Bytes(inputs[0].bytes(slots, *quantization))
                };
                let residual = inputs.get(1).map(|source| as_image(source.values(slots))).transpose()?;
                let vectors = x.shape().rank() == 2;
                let y = conv.run(&as_image(x)?, residual.as_ref())?;
                let shape = *y.shape();
                let shape = if vectors { Shape::from([shape[0], shape[3]]) } else { shape };
                match y {
                    Values::Floats(y) => Slot::of(y.reshape(shape)?),
                    Values::Bytes(y) => Slot::of_bytes(y.reshape(shape)?),
                }
            }
            QuantizedStep::MaxPool(window, ceil_mode, quantization) => {
                let x = inputs[0].bytes(slots, *quantization);
                Slot::of_bytes(max_pool2d_bytes(&x, window, *ceil_mode)?)
            }
            QuantizedStep::Floats(step) => {
                let inputs: Vec<Tensor> = inputs.iter().map(|source| source.floats(slots)).collect();
                let mut y = Tensor::default();
                step.run(&inputs.iter().collect::<Vec<_>>(), &mut Tensor::default(), &mut y)?;
                Slot::of(y)
            }
        })
    }
}

/// A batch of vectors `[N, C]` as images of one pixel.
fn as_image(x: Values) -> Result<Values> {
    let shape = image_shape(x.shape());
    Ok(match x {
        Values::Floats(x) => Values::Floats(x.reshape(shape)?),
        Values::Bytes(x) => Values::Bytes(x.reshape(shape)?),
    })
}

/// A value, as numbers, as bytes, or as both if it has been read as what it was not written as.
#[derive(Default)]
pub(super) struct Slot {
    floats: Option<Tensor>,
    bytes: Option<QuantizedTensor>,
}

impl Slot {
    pub fn of(x: Tensor) -> Self {
        Slot { floats: Some(x), bytes: None }
    }

    pub fn of_bytes(x: QuantizedTensor) -> Self {
        Slot { floats: None, bytes: Some(x) }
    }

    fn floats(&mut self) -> Tensor {
        let bytes = &self.bytes;
        let converted = || bytes.as_ref().expect("a value lives until its last use").dequantize();
        self.floats.get_or_insert_with(converted).clone()
    }

    fn bytes(&mut self, quantization: Quantization) -> QuantizedTensor {
        let floats = &self.floats;
        let converted = || {
            let x = floats.as_ref().expect("a value lives until its last use");
            QuantizedTensor::quantize(x, quantization)
        };
        self.bytes.get_or_insert_with(converted).clone()
    }
}

/// Where a step's operand comes from.
pub(super) enum Source {
    Value(usize),
    Constant(Tensor),
}

impl Source {
    pub fn floats(&self, slots: &mut [Slot]) -> Tensor {
        match self {
            Source::Value(value) => slots[*value].floats(),
            Source::Constant(x) => x.clone(),
        }
    }

    fn bytes(&self, slots: &mut [Slot], quantization: Quantization) -> QuantizedTensor {
        match self {
            Source::Value(value) => slots[*value].bytes(quantization),
            Source::Constant(x) => QuantizedTensor::quantize(x, quantization),
        }
    }

    /// As it was written.
    fn values(&self, slots: &[Slot]) -> Values {
        match self {
            Source::Value(value) => match &slots[*value] {
                Slot { bytes: Some(x), .. } => Values::Bytes(x.clone()),
                Slot { floats, .. } => Values::Floats(floats.clone().expect("a value lives until its last use")),
            },
            Source::Constant(x) => Values::Floats(x.clone()),
        }
    }

    /// The value while the plan is run in `f32`.
    pub fn recorded<'a>(&'a self, slots: &'a [Option<Tensor>]) -> &'a Tensor {
        match self {
            Source::Value(value) => slots[*value].as_ref().expect("a value lives until its last use"),
            Source::Constant(x) => x,
        }
    }
}
