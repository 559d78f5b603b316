//! Where a run stands, and the checkpoint that holds it.

use std::path::Path;

use ocelli_zoo::nn::State;
use ocelli_zoo::nn::checkpoint::Checkpoint;
use ocelli_zoo::nn::optim::{Ema, Optimizer};
use serde::{Deserialize, Serialize};

use crate::pretrained::About;
use crate::{Config, EpochMetrics, Error, Result};

/// How the optimizer's tensors are named in a checkpoint, before their own names.
const OPTIMIZER: &str = "optimizer/";
/// How averages of weights are named, before their own names.
const AVERAGE: &str = "average/";
/// The text that holds the progress.
const PROGRESS: &str = "ocelli.progress";

/// Where a run stands, between two steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Training pictures: with another number of them, the batches would be others.
    pub pictures: usize,
    /// The epoch in progress, from 0; the number of epochs if training has ended.
    pub epoch: usize,
    /// Steps of it that have been taken.
    pub batch: usize,
    /// The sums over them.
    pub sums: Sums,
    /// The epochs that have ended.
    pub history: Vec<EpochMetrics>,
}

/// Sums over the steps of an epoch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Sums {
    /// Losses, each weighted by its pictures.
    pub loss: f64,
    /// Pictures classified right.
    pub correct: usize,
    /// Pictures seen.
    pub seen: usize,
    /// Time taken.
    pub seconds: f64,
}

impl Sums {
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.seen.max(1) as f64
    }

    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.seen.max(1) as f64
    }

    pub fn images_per_second(&self) -> f64 {
        self.seen as f64 / self.seconds.max(1e-9)
    }
}

impl Progress {
    pub fn start(pictures: usize) -> Self {
        Progress { pictures, epoch: 0, batch: 0, sums: Sums::default(), history: Vec::new() }
    }

    /// Replaces `path` by a checkpoint with everything that resuming needs.
    pub fn save(
        &self,
        path: &Path,
        state: &State<f32>,
        optimizer: &Optimizer<f32>,
        ema: Option<&Ema<f32>>,
    ) -> Result<()> {
        let mut checkpoint = state.to_checkpoint()?;
        let mut join = |prefix: &str, part: Checkpoint| {
            for (name, entry) in part.iter() {
                checkpoint.insert_as(format!("{prefix}{name}"), entry.dtype, entry.tensor.clone());
            }
        };
        join(OPTIMIZER, optimizer.to_checkpoint()?);
        if let Some(ema) = ema {
            join(AVERAGE, ema.to_checkpoint()?);
        }
        let json = serde_json::to_string(self).map_err(|e| Error::data(path, e.to_string()))?;
        checkpoint.metadata.insert(PROGRESS.into(), json);
        Ok(checkpoint.write(path)?)
    }

    /// Reads such a checkpoint into `state`, `optimizer` and `ema`.
    pub fn load(
        path: &Path,
        state: &State<f32>,
        optimizer: &mut Optimizer<f32>,
        ema: Option<&mut Ema<f32>>,
    ) -> Result<Self> {
        let mut weights = Checkpoint::read(path)?;
        let json = weights.metadata.get(PROGRESS).cloned();
        let json = json.ok_or_else(|| Error::data(path, "holds weights, but not the progress of a training run"))?;
        let progress = serde_json::from_str(&json).map_err(|e| Error::data(path, e.to_string()))?;
        let [momenta, averages] = [OPTIMIZER, AVERAGE].map(|prefix| part(&weights, prefix));
        weights.retain(|name| !name.starts_with(OPTIMIZER) && !name.starts_with(AVERAGE));
        state.load(&weights, true).map_err(|e| Error::data(path, e.to_string()))?;
        optimizer.load(&momenta).map_err(|e| Error::data(path, e.to_string()))?;
        if let Some(ema) = ema {
            ema.load(&averages).map_err(|e| Error::data(path, e.to_string()))?;
        }
        Ok(progress)
    }
}

/// The tensors whose names begin with `prefix`, without it.
fn part(checkpoint: &Checkpoint, prefix: &str) -> Checkpoint {
    let mut part = Checkpoint::new();
    for (name, entry) in checkpoint.iter() {
        if let Some(name) = name.strip_prefix(prefix) {
            part.insert_as(name, entry.dtype, entry.tensor.clone());
        }
    }
    part
}

/// Replaces `path` by the weights alone, with the names of the model and its classes. Nothing in it depends on time,
/// so the same run writes the same bytes.
pub(super) fn save_weights(path: &Path, state: &State<f32>, config: &Config) -> Result<()> {
    let mut checkpoint = state.to_checkpoint()?;
    let Config { model, classes, preprocessing, .. } = config.clone();
    let about = serde_json::to_string(&About { model, classes, preprocessing });
    checkpoint.metadata.insert(About::KEY.into(), about.map_err(|e| Error::data(path, e.to_string()))?);
    Ok(checkpoint.write(path)?)
}
