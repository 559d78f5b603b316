//! A network of the zoo with its parameters, ready to be loaded, trained, or compiled.

use std::borrow::Cow;

use crate::nn::autograd::{Plan, QuantizedPlan, Trace, Var, no_grad, trace};
use crate::nn::checkpoint::Checkpoint;
use crate::nn::tensor::ops::Storage;
use crate::nn::tensor::{Shape, Tensor};
use crate::nn::{self, Builder, Mode, State};
use crate::{Architecture, Chain, Error, Options, Outputs, Result, Variant, variant};

/// A variant built for some classes.
///
/// ```
/// use ocelli_zoo::{Model, Options, nn::{Mode, autograd::Var, tensor::Tensor}};
///
/// let model = Model::new("resnet8", Options { classes: 10, in_channels: 1 }, 42)?;
/// let logits = model.forward(&Var::constant(Tensor::zeros([2, 28, 28, 1])), &Mode::Eval)?;
/// assert_eq!(**logits.shape(), [2, 10]);
/// # Ok::<(), ocelli_zoo::Error>(())
/// ```
#[derive(Debug)]
pub struct Model {
    variant: &'static Variant,
    options: Options,
    state: State<f32>,
    network: Box<dyn Architecture<f32>>,
}

impl Model {
    /// The variant of that name, with weights initialised as its paper says, from a seed.
    pub fn new(name: &str, options: Options, seed: u64) -> Result<Self> {
        Self::build(name, options, Builder::new(seed))
    }

    /// The variant of that name with all weights zero, to be loaded.
    pub fn zeroed(name: &str, options: Options) -> Result<Self> {
        Self::build(name, options, Builder::zeroed())
    }

    fn build(name: &str, options: Options, builder: Builder<f32>) -> Result<Self> {
        let variant = variant(name)?;
        let network = (variant.build)(&builder, options)?;
        let model = Model { variant, options, state: builder.state(), network };
        Ok(match options.classes {
            0 => Model { state: model.state.without(|name| model.is_classifier(name)), ..model },
            _ => model,
        })
    }

    /// Which variant this is.
    pub fn variant(&self) -> &'static Variant {
        self.variant
    }

    /// What it was built for.
    pub fn options(&self) -> Options {
        self.options
    }

    /// Its parameters and buffers.
    pub fn state(&self) -> &State<f32> {
        &self.state
    }

    /// What the names of the last layer's parameters begin with, such as `fc.`.
    pub fn classifier_prefix(&self) -> String {
        format!("{}.", self.variant.classifier)
    }

    /// Whether a name belongs to a classifier, an auxiliary one included.
    pub(crate) fn is_classifier(&self, name: &str) -> bool {
        let auxiliary = self.network.auxiliary_classifiers().iter().map(|path| format!("{path}."));
        auxiliary.chain([self.classifier_prefix()]).any(|prefix| name.starts_with(&prefix))
    }

    /// Its layers.
    pub(crate) fn chain(&self) -> Chain<'_> {
        self.network.chain()
    }

    /// Logits `[N, classes]` of images `[N, H, W, C]`; the embedding if there is no classifier.
    pub fn forward(&self, x: &Var<f32>, mode: &Mode) -> Result<Var<f32>> {
        if self.options.classes == 0 {
            return self.embedding(x, mode);
        }
        self.check(x.shape())?;
        Ok(self.network.forward(x, mode)?)
    }

    /// As [`forward`](Self::forward), and in training also the logits of the auxiliary classifiers, if there are any.
    pub fn outputs(&self, x: &Var<f32>, mode: &Mode) -> Result<Outputs<f32>> {
        if self.options.classes == 0 {
            return Ok(Outputs { logits: self.embedding(x, mode)?, auxiliary: Vec::new() });
        }
        self.check(x.shape())?;
        Ok(self.network.outputs(x, mode)?)
    }

    pub(crate) fn check(&self, shape: &Shape) -> Result<()> {
        let (least, channels) = (self.variant.least_size, self.options.in_channels);
        match shape[..] {
            [_, height, width, c] if height >= least && width >= least && c == channels => Ok(()),
            _ => Err(Error::Input { model: self.variant.name, least, channels, got: *shape }),
        }
    }

    /// The checkpoint by the names and shapes of [`state`](Self::state), if it has those of another library for the same
    /// network (such as timm's VGG) or of an older version of it (torchvision's published DenseNets).
    pub fn translated<'a>(&self, checkpoint: &'a Checkpoint) -> Result<Cow<'a, Checkpoint>> {
        Ok(self.network.translated(checkpoint)?.map_or(Cow::Borrowed(checkpoint), Cow::Owned))
    }

    /// Takes all weights from a checkpoint, whose names and shapes must be exactly the model's, or those of another
    /// library for the same network. It may have been saved without the auxiliary classifiers, which then stay as they
    /// are. A model without a classifier leaves those of the checkpoint out.
    ///
    /// # Errors
    /// With the full list of what does not fit, nothing having changed.
    pub fn load(&self, checkpoint: &Checkpoint) -> Result<()> {
        let checkpoint = self.needed(checkpoint)?;
        let absent = |path: &&str| !checkpoint.iter().any(|(name, _)| is_within(name, path));
        let auxiliary: Vec<_> = self.network.auxiliary_classifiers().iter().copied().filter(absent).collect();
        self.load_but(&checkpoint, |name| auxiliary.iter().any(|path| is_within(name, path)))
    }

    /// As [`load`](Self::load) for fine-tuning. Where the checkpoint's classifiers tell other classes apart, the
    /// model's own stay as initialised; a first convolution for other channels is [adapted](adapted_to_channels); and
    /// weights of a plain ResNet initialise a deformable one, whose offsets begin at zero.
    ///
    /// # Errors
    /// With the full list of what does not fit beyond that, nothing having changed.
    pub fn load_pretrained(&self, checkpoint: &Checkpoint) -> Result<()> {
        let mut checkpoint = self.needed(checkpoint)?.into_owned();
        let classifiers = self.network.auxiliary_classifiers().iter().copied().chain([self.variant.classifier]);
        let others: Vec<_> = classifiers.filter(|path| self.has_other_classes(&checkpoint, path)).collect();
        let is_plain = !checkpoint.iter().any(|(name, _)| self.network.is_addition(name));
        // Every network begins with a convolution.
        if let Some(first) = self.state.names().next()
            && let Some(entry) = checkpoint.get(first)
            && let Some(adapted) = adapted_to_channels(&entry.tensor, self.options.in_channels)
        {
            checkpoint.insert_as(first, entry.dtype, adapted);
        }
        let is_other = |name: &str| others.iter().any(|path| is_within(name, path));
        self.load_but(&checkpoint, |name| is_other(name) || is_plain && self.network.is_addition(name))
    }

    /// The checkpoint by this network's names, without classifiers if the model has none.
    fn needed<'a>(&self, checkpoint: &'a Checkpoint) -> Result<Cow<'a, Checkpoint>> {
        let mut checkpoint = self.translated(checkpoint)?;
        if self.options.classes == 0 {
            checkpoint.to_mut().retain(|name| !self.is_classifier(name));
        }
        Ok(checkpoint)
    }

    /// Whether a checkpoint lacks the classifier at `path`, or has it for another number of classes.
    fn has_other_classes(&self, checkpoint: &Checkpoint, path: &str) -> bool {
        let mismatch = self.state.compare(checkpoint);
        let is_part = |name: &str| is_within(name, path);
        let lacks_all = !checkpoint.iter().any(|(name, _)| is_part(name));
        let lacks_some = mismatch.missing.iter().any(|name| is_part(name));
        let mut misshaped = mismatch.misshaped.iter().filter(|m| is_part(&m.name)).peekable();
        let some_differ = misshaped.peek().is_some();
        let but_for_classes = misshaped.all(|m| m.got.len() == m.expected.len() && m.got[1..] == m.expected[1..]);
        lacks_all || !lacks_some && some_differ && but_for_classes
    }

    /// Loads a checkpoint, but for the tensors that stay as they are.
    fn load_but(&self, checkpoint: &Checkpoint, stays: impl Fn(&str) -> bool) -> Result<()> {
        if !self.state.names().any(&stays) {
            return Ok(self.state.load(checkpoint, true)?);
        }
        let mut merged = checkpoint.clone();
        merged.retain(|name| !stays(name));
        let own = self.state.to_checkpoint()?;
        for (name, entry) in own.iter().filter(|(name, _)| stays(name)) {
            merged.insert_as(name, entry.dtype, entry.tensor.clone());
        }
        Ok(self.state.load(&merged, true)?)
    }

    /// What a forward pass in evaluation mode over an input of that shape does, step by step.
    pub fn trace(&self, shape: impl Into<Shape>) -> Result<Trace<f32>> {
        Ok(self.record(shape)?.2)
    }

    /// The forward pass compiled for inputs `[.., H, W, C]` of that shape, with the weights of this moment.
    pub fn plan(&self, shape: impl Into<Shape>) -> Result<Plan<f32>> {
        let (x, y, trace) = self.record(shape)?;
        Ok(Plan::compile(&trace, &x, &y).map_err(nn::Error::from)?)
    }

    /// As [`plan`](Self::plan), with those weights in 16 bits that have to come from memory: [`Storage::Half`].
    pub fn half_plan(&self, shape: impl Into<Shape>) -> Result<Plan<f32>> {
        let (x, y, trace) = self.record(shape)?;
        Ok(Plan::compile_with(Storage::Half, &trace, &x, &y).map_err(nn::Error::from)?)
    }

    /// The forward pass compiled in eight bits for inputs `[.., H, W, C]` of that shape, with the weights of this moment
    /// and the ranges that values have for the batches of `calibration`, such inputs themselves.
    pub fn quantized_plan(&self, shape: impl Into<Shape>, calibration: &[Tensor]) -> Result<QuantizedPlan> {
        let (x, y, trace) = self.record(shape)?;
        Ok(QuantizedPlan::compile(&trace, &x, &y, calibration).map_err(nn::Error::from)?)
    }

    fn record(&self, shape: impl Into<Shape>) -> Result<(Var<f32>, Var<f32>, Trace<f32>)> {
        let x = Var::constant(Tensor::zeros(shape));
        let (y, trace) = no_grad(|| trace(|| self.forward(&x, &Mode::Eval)));
        Ok((x, y?, trace))
    }
}

/// Whether a tensor belongs to the part at `path`.
fn is_within(name: &str, path: &str) -> bool {
    name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'))
}

/// A convolution's weight `[out, in, height, width]`, whose pictures have other channels, for pictures with `channels`:
/// for one, the sum, which sees a grey picture as the old weight saw it in colour; for more, the old channels in turn,
/// scaled to keep the sum's size, as timm does. `None` if there is nothing to adapt.
pub fn adapted_to_channels(weight: &Tensor<f32>, channels: usize) -> Option<Tensor<f32>> {
    let [out, inputs, height, width] = **weight.shape() else { return None };
    if inputs == channels || inputs == 0 {
        return None;
    }
    let pixels = height * width;
    let old = |o: usize, c: usize, pixel: usize| weight.data()[(o * inputs + c) * pixels + pixel];
    Some(Tensor::from_fn([out, channels, height, width], |i| {
        let (o, c, pixel) = (i / (channels * pixels), i / pixels % channels, i % pixels);
        match channels {
            1 => (0..inputs).map(|c| old(o, c, pixel)).sum(),
            _ => old(o, c % inputs, pixel) * (inputs as f32 / channels as f32),
        }
    }))
}
