//! Models with weights from files.

use std::path::Path;

use ocelli_train::zoo::nn::checkpoint::Checkpoint;
use ocelli_train::zoo::{Model, Options, variant};

use crate::error::{Error, Result};

/// The model of that name with the weights of a checkpoint read from `path`, built for as many classes and input
/// channels as the checkpoint has.
pub fn load(name: &str, checkpoint: &Checkpoint, path: &Path) -> Result<Model> {
    let model = shaped(name, checkpoint)?;
    model.load(checkpoint).map_err(|error| Error::file(path, error))?;
    Ok(model)
}

/// The model of that name without weights, built for as many classes and input channels as the checkpoint has.
pub fn shaped(name: &str, checkpoint: &Checkpoint) -> Result<Model> {
    let variant = variant(name)?;
    let usual = variant.options();
    let model = Model::zeroed(name, usual)?;
    let dimension = |name: &str, rank: usize, dimension: usize| {
        let shape = checkpoint.get(name)?.tensor.shape();
        (shape.rank() == rank && shape[dimension] > 0).then(|| shape[dimension])
    };
    // Every model begins with a convolution [out, in, height, width], and ends with a classifier [classes, in].
    let first = model.state().names().next().unwrap_or_default();
    let options = Options {
        classes: dimension(&format!("{}.weight", variant.classifier), 2, 0).unwrap_or(usual.classes),
        in_channels: dimension(first, 4, 1).unwrap_or(usual.in_channels),
    };
    if options == usual { Ok(model) } else { Ok(Model::zeroed(name, options)?) }
}
