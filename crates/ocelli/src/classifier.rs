//! A network that is ready for use: with its weights, how pictures are prepared for it, and the names of its classes.

use std::path::Path;

use ocelli_train::zoo::nn::checkpoint::Checkpoint;
use ocelli_train::zoo::{Model, Options};
use ocelli_train::{Preprocessing, Run, pretrained};

use crate::arguments::NetworkChoice;
use crate::error::{Error, Result};
use crate::weights::{self, Weights};

/// A network with what belongs to it.
#[derive(Debug)]
pub struct Classifier {
    /// The network.
    pub model: Model,
    /// From pictures to its input.
    pub preprocessing: Preprocessing,
    /// The names of its outputs.
    pub classes: Vec<String>,
}

impl Classifier {
    /// What the command line chose; nothing if it chose nothing.
    pub fn chosen(choice: &NetworkChoice) -> Result<Option<Self>> {
        match choice {
            NetworkChoice { run: Some(folder), .. } => Self::of_run(&Run::open(folder)?).map(Some),
            NetworkChoice { model, weights: Some(given), .. } => {
                Self::of_weights(model.as_deref(), &Weights::choose(given)?).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The best epoch of a training run.
    pub fn of_run(run: &Run) -> Result<Self> {
        let (model, config) = (run.best_model()?, run.config());
        Ok(Classifier { model, preprocessing: config.preprocessing.clone(), classes: config.classes.clone() })
    }

    /// A model of the zoo with weights of a file. Files that a training run wrote say themselves what the classes are
    /// called and how pictures are prepared; for others it is what the model's published weights need.
    pub fn of_weights(model: Option<&str>, weights: &Weights) -> Result<Self> {
        let (name, path) = (weights.model(model)?, &weights.path);
        let checkpoint = Checkpoint::read(path)?;
        let model = weights::load(name, &checkpoint, path)?;
        let (preprocessing, classes) = match (pretrained::About::of(&checkpoint), weights.published) {
            (Some(about), _) => (about.preprocessing, about.classes),
            (None, Some(published)) => (published.preprocessing.clone(), described(&model).1),
            (None, None) => described(&model),
        };
        if classes.len() != model.options().classes {
            let (named, outputs) = (classes.len(), model.options().classes);
            return Err(Error::file(path, format!("names {named} classes but has weights for {outputs}")));
        }
        Ok(Classifier { model, preprocessing, classes })
    }

    /// EfficientNet-Lite0 with its ImageNet weights, built in.
    #[cfg(feature = "pretrained")]
    pub fn embedded() -> Result<Self> {
        let model = weights::load(pretrained::MODEL, &pretrained::checkpoint()?, Path::new("embedded weights"))?;
        let (preprocessing, classes) = described(&model);
        Ok(Classifier { model, preprocessing, classes })
    }

    /// This program was built without weights.
    #[cfg(not(feature = "pretrained"))]
    pub fn embedded() -> Result<Self> {
        Err(Error::message("built without pretrained weights: choose a network with --run, or --model and --weights"))
    }
}

/// What is known of weights that come without a description.
fn described(model: &Model) -> (Preprocessing, Vec<String>) {
    let Options { classes, in_channels } = model.options();
    let names = match pretrained::imagenet_classes() {
        imagenet if imagenet.len() == classes => imagenet,
        _ => (0..classes).map(|class| class.to_string()).collect(),
    };
    (pretrained::preprocessing(model.variant(), in_channels), names)
}
