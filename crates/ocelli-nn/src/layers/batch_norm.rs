//! Batch normalisation (Ioffe and Szegedy 2015, <https://arxiv.org/abs/1502.03167>):
//! y = γ · (x − μ) / √(σ² + ε) + β for each channel.

use ocelli_autograd::ops::{Activation, BatchStats};
use ocelli_autograd::tensor::{Element, Tensor};
use ocelli_autograd::{Parameter, Var, is_recomputing};

use super::Layer;
use crate::{Buffer, Builder, Counter, Error, Init, Layout, Mode, Result};

/// The attributes of a batch norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormOptions {
    /// Added to the variance.
    pub eps: f64,
    /// The weight of a new batch in the running statistics.
    pub momentum: f64,
    /// Whether γ and β are learned, or 1 and 0.
    pub affine: bool,
    /// γ's first values. [`Init::ZEROS`] in the last norm of a residual block lets training begin with the shortcut.
    pub gamma: Init,
}

impl Default for BatchNormOptions {
    /// PyTorch's: ε = 10⁻⁵, momentum 0.1, learned from γ = 1.
    fn default() -> Self {
        BatchNormOptions { eps: 1e-5, momentum: 0.1, affine: true, gamma: Init::ONES }
    }
}

/// A batch norm over `[…, channels]`.
///
/// In training it normalises by the batch's own statistics, and moves the running ones towards them; otherwise, or
/// when its parameters are [frozen](crate::State::freeze), it normalises by the running ones and leaves them.
/// State: `weight` (γ), `bias` (β), `running_mean`, `running_var` (unbiased), `num_batches_tracked`.
#[derive(Debug)]
pub struct BatchNorm2d<T: Element = f32> {
    affine: Option<(Parameter<T>, Parameter<T>)>,
    running_mean: Buffer<T>,
    running_var: Buffer<T>,
    batches: Counter,
    options: BatchNormOptions,
}

impl<T: Element> BatchNorm2d<T> {
    /// A norm whose state is named in `b`.
    pub fn new(b: &Builder<T>, channels: usize, options: BatchNormOptions) -> Result<Self> {
        let vector = |name, init| b.parameter(name, [channels], init, Layout::Vector);
        let affine = match options.affine {
            true => Some((vector("weight", options.gamma)?, vector("bias", Init::ZEROS)?)),
            false => None,
        };
        Ok(BatchNorm2d {
            affine,
            running_mean: b.buffer("running_mean", Tensor::zeros([channels]))?,
            running_var: b.buffer("running_var", Tensor::full([channels], T::ONE))?,
            batches: b.counter("num_batches_tracked")?,
            options,
        })
    }

    fn is_frozen(&self) -> bool {
        self.affine.as_ref().is_some_and(|(gamma, beta)| !gamma.requires_grad() && !beta.requires_grad())
    }

    /// Whether the batch's own statistics count.
    pub(super) fn uses_batch(&self, mode: &Mode) -> bool {
        mode.is_training() && !self.is_frozen()
    }

    /// By the batch's statistics, with what follows the norm, in one pass.
    pub(super) fn forward_batch(
        &self,
        x: &Var<T>,
        residual: Option<&Var<T>>,
        activation: Option<Activation>,
        mode: &Mode,
    ) -> Result<Var<T>> {
        enough_values(x)?;
        let ((gamma, beta), eps) = (self.affine(), self.options.eps);
        let (y, stats) = match mode.saves_memory() {
            true => x.batch_norm_repeated([&gamma, &beta], eps, residual, activation)?,
            false => x.batch_norm_act([&gamma, &beta], eps, residual, activation)?,
        };
        self.track(&stats)?;
        Ok(y)
    }

    /// γ and β.
    fn affine(&self) -> (Var<T>, Var<T>) {
        match &self.affine {
            Some((gamma, beta)) => (gamma.var(), beta.var()),
            None => {
                let channels = *self.running_mean.value().shape();
                (Var::constant(Tensor::full(channels, T::ONE)), Var::constant(Tensor::zeros(channels)))
            }
        }
    }

    fn track(&self, stats: &BatchStats<T>) -> Result<()> {
        if is_recomputing() {
            return Ok(());
        }
        let momentum = self.options.momentum;
        let unbiased = stats.count as f64 / (stats.count as f64 - 1.0);
        let blend = |old: &Tensor<T>, new: &Tensor<T>, scale: f64| {
            let (keep, take) = (T::from_f64(1.0 - momentum), T::from_f64(momentum * scale));
            Tensor::from_fn(*old.shape(), |c| old.data()[c] * keep + new.data()[c] * take)
        };
        self.running_mean.set_value(blend(&self.running_mean.value(), &stats.mean, 1.0))?;
        self.running_var.set_value(blend(&self.running_var.value(), &stats.var, unbiased))?;
        self.batches.increment();
        Ok(())
    }
}

/// A single value has no variance.
fn enough_values<T: Element>(x: &Var<T>) -> Result<()> {
    if x.shape().rows() < 2 {
        return Err(Error::argument("BatchNorm2d input in training", "at least 2 values a channel", x.shape()));
    }
    Ok(())
}

impl<T: Element> Layer<T> for BatchNorm2d<T> {
    /// Errors in training if a channel has one value only, which has no variance.
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        if self.uses_batch(mode) {
            return self.forward_batch(x, None, None, mode);
        }
        let ((gamma, beta), (mean, var)) = (self.affine(), (self.running_mean.value(), self.running_var.value()));
        Ok(x.batch_norm_eval(&gamma, &beta, &mean, &var, self.options.eps)?)
    }

    fn forward_activated(&self, x: &Var<T>, activation: Activation, mode: &Mode) -> Result<Option<Var<T>>> {
        self.uses_batch(mode).then(|| self.forward_batch(x, None, Some(activation), mode)).transpose()
    }
}
