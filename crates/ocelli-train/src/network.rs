//! What training, evaluation and prediction need of a network.

use std::sync::atomic::{AtomicBool, Ordering};

use ocelli_zoo::nn::autograd::{Plan, Var, no_grad, trace};
use ocelli_zoo::nn::tensor::{Tensor, threads};
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
pub(crate) fn compile(network: &dyn Network, images: &Tensor) -> Result<Plan> {
    let x = Var::constant(Tensor::zeros(images.shape()));
    let (y, trace) = threads::install(|| no_grad(|| trace(|| network.forward(&x, &Mode::Eval))));
    Ok(Plan::compile(&trace, &x, &y?)?)
}

/// The scores of all pictures of a loader, in order. `each` is told of every batch; nothing is returned if `stop`
/// is set before the end.
pub(crate) fn score(
    network: &dyn Network,
    loader: &Loader,
    classes: usize,
    stop: &AtomicBool,
    mut each: impl FnMut(&Batch, &Scores),
) -> Result<Option<Scores>> {
    let (mut scores, mut plan) = (Scores::new(classes), None);
    for batch in loader.epoch(0, 0) {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if !batch.labels.is_empty() {
            let plan = match &mut plan {
                Some(plan) => plan,
                none => none.insert(compile(network, &batch.images)?),
            };
            scores.add(&plan.run(&batch.images)?, &batch.labels)?;
        }
        each(&batch, &scores);
    }
    Ok(Some(scores))
}
