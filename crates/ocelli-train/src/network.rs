//! What training, evaluation and prediction need of a network.

use std::sync::atomic::{AtomicBool, Ordering};

use ocelli_zoo::nn::autograd::{Plan, QuantizedPlan, Trace, Var, no_grad, trace};
use ocelli_zoo::nn::tensor::ops::Storage;
use ocelli_zoo::nn::tensor::{Shape, Tensor, threads};
use ocelli_zoo::nn::{Mode, State};
use ocelli_zoo::{Model, Outputs};

use crate::scores::Scores;
use crate::{Batch, Loader, Result};

/// A network under training or in use: the zoo's models, or one of your own.
pub trait Network: Send + Sync {
    /// Logits `[N, classes]` of pictures `[N, H, W, C]`.
    fn forward(&self, images: &Var<f32>, mode: &Mode) -> Result<Var<f32>>;

    /// What training takes the loss of: the logits, and those of auxiliary classifiers if there are any.
    fn outputs(&self, images: &Var<f32>, mode: &Mode) -> Result<Outputs> {
        Ok(Outputs { logits: self.forward(images, mode)?, auxiliary: Vec::new() })
    }

    /// All parameters and buffers, by the names of a checkpoint.
    fn state(&self) -> &State<f32>;

    /// How the names of the classifier's parameters begin, such as `fc.`: what learns in the frozen phase of
    /// fine-tuning.
    fn classifier_prefix(&self) -> String;
}

impl Network for Model {
    fn forward(&self, images: &Var<f32>, mode: &Mode) -> Result<Var<f32>> {
        Ok(self.forward(images, mode)?)
    }

    fn outputs(&self, images: &Var<f32>, mode: &Mode) -> Result<Outputs> {
        Ok(self.outputs(images, mode)?)
    }

    fn state(&self) -> &State<f32> {
        self.state()
    }

    fn classifier_prefix(&self) -> String {
        self.classifier_prefix()
    }
}

/// Logits `[N, classes]` of pictures `[N, H, W, C]`, without gradients.
pub(crate) fn logits(network: &dyn Network, images: Tensor) -> Result<Tensor> {
    threads::install(|| no_grad(|| Ok(network.forward(&Var::constant(images), &Mode::Eval)?.into_value())))
}

/// The network with the weights of this moment, compiled for pictures of `images`' size in any number.
pub(crate) fn compile(network: &dyn Network, images: &Shape) -> Result<Plan> {
    compile_with(Storage::Exact, network, images)
}

/// As [`compile`], with weights kept in a certain way.
pub(crate) fn compile_with(storage: Storage, network: &dyn Network, images: &Shape) -> Result<Plan> {
    let (x, y, trace) = recorded(network, images)?;
    Ok(Plan::compile_with(storage, &trace, &x, &y)?)
}

/// The network's logits, without gradients, by plans: compiled with the weights of this moment, at the first pictures, for
/// any number of that size.
pub(crate) fn planned(network: &dyn Network) -> impl FnMut(&Tensor) -> Result<Tensor> + '_ {
    by_plan(|images| compile(network, images.shape()))
}

/// As [`planned`], with the plan for one image whose memory-bound layers have their weights in 16 bits.
pub(crate) fn halved(network: &dyn Network) -> impl FnMut(&Tensor) -> Result<Tensor> + '_ {
    by_plan(|images| {
        let mut image = images.shape().to_vec();
        image[0] = 1;
        compile_with(Storage::Half, network, &Shape::new(&image)?)
    })
}

fn by_plan(compile: impl Fn(&Tensor) -> Result<Plan>) -> impl FnMut(&Tensor) -> Result<Tensor> {
    let mut plan = None;
    move |images| {
        let plan = match &mut plan {
            Some(plan) => plan,
            none => none.insert(compile(images)?),
        };
        Ok(plan.run(images)?)
    }
}

/// The network with the weights of this moment, compiled in eight bits for pictures of a shape, in any number.
pub(crate) fn quantized(network: &dyn Network, images: &Shape, calibration: &[Tensor]) -> Result<QuantizedPlan> {
    let (x, y, trace) = recorded(network, images)?;
    Ok(QuantizedPlan::compile(&trace, &x, &y, calibration)?)
}

fn recorded(network: &dyn Network, images: &Shape) -> Result<(Var<f32>, Var<f32>, Trace<f32>)> {
    let x = Var::constant(Tensor::zeros(images));
    let (y, trace) = threads::install(|| no_grad(|| trace(|| network.forward(&x, &Mode::Eval))));
    Ok((x, y?, trace))
}

/// The scores of all pictures of a loader, in order, from what `logits` makes of them. `each` is told of every batch;
/// nothing is returned if `stop` is set before the end.
pub(crate) fn score(
    mut logits: impl FnMut(&Tensor) -> Result<Tensor>,
    loader: &Loader,
    classes: usize,
    stop: &AtomicBool,
    mut each: impl FnMut(&Batch, &Scores),
) -> Result<Option<Scores>> {
    let mut scores = Scores::new(classes);
    for batch in loader.epoch(0, 0) {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if !batch.labels.is_empty() {
            scores.add(&logits(&batch.images)?, &batch.labels)?;
        }
        each(&batch, &scores);
    }
    Ok(Some(scores))
}
