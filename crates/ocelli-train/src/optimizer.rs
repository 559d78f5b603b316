//! The optimizers that a run can name, each with the settings that suit it.

use std::fmt;

use ocelli_zoo::nn::State;
use ocelli_zoo::nn::optim::{AdamOptions, Clip, LambOptions, Method, Optimizer, RmsPropOptions, SgdOptions};
use serde::{Deserialize, Serialize};

use crate::{Config, Result};

/// What makes better weights of gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Gradient descent with momentum.
    #[default]
    Sgd,
    /// TensorFlow's RMSprop with momentum, as for the EfficientNets.
    RmsProp,
    /// Adam.
    Adam,
    /// Adam with decoupled weight decay.
    AdamW,
    /// LAMB, for large batches.
    Lamb,
}

impl Algorithm {
    /// A learning rate as a share of what suits SGD with momentum 0.9.
    fn rate(self) -> f64 {
        match self {
            Algorithm::Sgd => 1.0,
            Algorithm::RmsProp | Algorithm::Adam | Algorithm::AdamW => 0.02,
            Algorithm::Lamb => 0.1,
        }
    }

    /// The weight decay that its authors recommend; SGD's depends on the task.
    fn weight_decay(self) -> Option<f64> {
        match self {
            Algorithm::Sgd => None,
            Algorithm::RmsProp => Some(1e-5),
            Algorithm::Adam => Some(0.0),
            Algorithm::AdamW => Some(0.05),
            Algorithm::Lamb => Some(0.02),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Algorithm::Sgd => "SGD",
            Algorithm::RmsProp => "RMSprop",
            Algorithm::Adam => "Adam",
            Algorithm::AdamW => "AdamW",
            Algorithm::Lamb => "LAMB",
        })
    }
}

impl Config {
    /// Settings made for SGD, with another optimizer and the learning rates and weight decay that suit it.
    pub fn with_optimizer(self, optimizer: Algorithm) -> Self {
        let rate = optimizer.rate() / self.optimizer.rate();
        Config {
            optimizer,
            lr: self.lr * rate,
            frozen_lr: self.frozen_lr * rate,
            weight_decay: optimizer.weight_decay().unwrap_or(self.weight_decay),
            ..self
        }
    }

    /// The optimizer of a network under these settings.
    pub(crate) fn new_optimizer(&self, state: &State<f32>) -> Result<Optimizer> {
        let Config { momentum, nesterov, weight_decay, .. } = *self;
        let method: Method = match self.optimizer {
            Algorithm::Sgd => SgdOptions { momentum, nesterov, weight_decay, ..SgdOptions::default() }.into(),
            Algorithm::RmsProp => RmsPropOptions { momentum, weight_decay, ..RmsPropOptions::default() }.into(),
            Algorithm::Adam => AdamOptions { weight_decay, ..AdamOptions::adam() }.into(),
            Algorithm::AdamW => AdamOptions { weight_decay, decay_vectors: false, ..AdamOptions::adamw() }.into(),
            Algorithm::Lamb => LambOptions { weight_decay, ..LambOptions::default() }.into(),
        };
        let optimizer = Optimizer::new(state, method)?;
        Ok(match self.clip_norm {
            Some(limit) => optimizer.with_clip(Clip::Norm(limit))?,
            None => optimizer,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_optimizer_has_other_rates() {
        let config = Config::digits("m").with_optimizer(Algorithm::AdamW);
        assert_eq!((config.lr, config.weight_decay, config.optimizer), (0.002, 0.05, Algorithm::AdamW));
        assert_eq!(serde_json::to_string(&config.optimizer).unwrap(), "\"adamw\"");
        config.validate().unwrap();
    }
}
