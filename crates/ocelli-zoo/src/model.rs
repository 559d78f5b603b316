//! A network of the zoo with its parameters, ready to be loaded, trained, or compiled.

use crate::nn::autograd::{Plan, Trace, Var, no_grad, trace};
use crate::nn::checkpoint::Checkpoint;
use crate::nn::tensor::{Shape, Tensor};
use crate::nn::{self, Builder, Mode, State};
use crate::{Architecture, Chain, Error, Options, Outputs, Result, Variant, densenet, variant};

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

    /// Takes all weights from a checkpoint, whose names and shapes must be exactly the model's. It may have been saved
    /// without the auxiliary classifiers, which then stay as they are. A model without a classifier leaves those of the
    /// checkpoint out.
    pub fn load(&self, checkpoint: &Checkpoint) -> Result<()> {
        if self.options.classes == 0 {
            let mut backbone = checkpoint.clone();
            backbone.retain(|name| !self.is_classifier(name));
            return self.load_but(&backbone, &[]);
        }
        let auxiliary = self.network.auxiliary_classifiers().iter().map(|path| format!("{path}."));
        let absent = auxiliary.filter(|prefix| !checkpoint.iter().any(|(name, _)| name.starts_with(prefix)));
        self.load_but(checkpoint, &absent.collect::<Vec<_>>())
    }

    /// As [`load`](Self::load) for fine-tuning: where the checkpoint's classifiers tell other classes apart, the
    /// model's own stay as initialised.
    pub fn load_pretrained(&self, checkpoint: &Checkpoint) -> Result<()> {
        if self.options.classes == 0 {
            return self.load(checkpoint);
        }
        let own = self.state.to_checkpoint()?;
        let shape = |c: &Checkpoint, name: &str| c.get(name).map(|entry| *entry.tensor.shape());
        let differs = |prefix: &String| {
            let mut names = own.iter().map(|(name, _)| name).filter(|name| name.starts_with(prefix));
            names.any(|name| shape(&own, name) != shape(checkpoint, name))
        };
        let auxiliary = self.network.auxiliary_classifiers().iter().map(|path| format!("{path}."));
        let others = auxiliary.chain([self.classifier_prefix()]).filter(differs);
        self.load_but(checkpoint, &others.collect::<Vec<_>>())
    }

    /// Loads a checkpoint, but for what is under these prefixes.
    fn load_but(&self, checkpoint: &Checkpoint, kept: &[String]) -> Result<()> {
        let renamed;
        let checkpoint = match self.variant.family {
            "DenseNet" => {
                renamed = densenet::with_current_names(checkpoint)?;
                &renamed
            }
            _ => checkpoint,
        };
        if kept.is_empty() {
            return Ok(self.state.load(checkpoint, true)?);
        }
        let is_kept = |name: &str| kept.iter().any(|prefix| name.starts_with(prefix));
        let mut merged = checkpoint.clone();
        merged.retain(|name| !is_kept(name));
        let own = self.state.to_checkpoint()?;
        for (name, entry) in own.iter().filter(|(name, _)| is_kept(name)) {
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

    fn record(&self, shape: impl Into<Shape>) -> Result<(Var<f32>, Var<f32>, Trace<f32>)> {
        let x = Var::constant(Tensor::zeros(shape));
        let (y, trace) = no_grad(|| trace(|| self.forward(&x, &Mode::Eval)));
        Ok((x, y?, trace))
    }
}
