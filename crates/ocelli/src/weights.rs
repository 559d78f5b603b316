//! Models with weights: from files, or published ones.

use std::path::{Path, PathBuf};

use ocelli_train::published::{self, Published};
use ocelli_train::zoo::nn::checkpoint::Checkpoint;
use ocelli_train::zoo::{Model, Options, variant};

use crate::error::{Error, Result};

/// What `--weights` means.
pub struct Weights {
    /// The file.
    pub path: PathBuf,
    /// What is known of it if it is published.
    pub published: Option<&'static Published>,
}

impl Weights {
    /// A file, or else published weights of that name, which are fetched unless they have been.
    pub fn choose(given: &Path) -> Result<Self> {
        let name = given.to_str().filter(|name| !name.contains(['/', '\\']) && !given.exists());
        let Some(name) = name else {
            return Ok(Weights { path: given.into(), published: None });
        };
        let published = published::find(name)?;
        Ok(Weights { path: fetch(published)?, published: Some(published) })
    }

    /// Whose weights they are, given which model is asked for.
    pub fn model<'a>(&self, asked: Option<&'a str>) -> Result<&'a str> {
        match (asked, self.published) {
            (None, Some(published)) => Ok(published.model),
            (Some(asked), Some(Published { name, model, .. })) if asked != *model => {
                Err(Error::message(format!("{name} are weights of {model}, not of {asked}")))
            }
            (Some(asked), _) => Ok(asked),
            (None, None) => Err(Error::file(&self.path, "weights of which model? say it with --model")),
        }
    }
}

#[cfg(feature = "hub")]
fn fetch(published: &Published) -> Result<PathBuf> {
    use ocelli_train::hub::Hub;

    use crate::progress::Bar;

    const MEGABYTE: u64 = 1_000_000;
    let mut bar = Bar::none();
    let path = Hub::from_env()?.fetch(published, |done, total| {
        if bar.is_none() {
            bar = Bar::new(total.div_ceil(MEGABYTE) as usize, published.name);
        }
        bar.set((done / MEGABYTE) as usize, "MB");
    });
    bar.clear();
    Ok(path?)
}

#[cfg(not(feature = "hub"))]
fn fetch(published: &Published) -> Result<PathBuf> {
    let address = published.address();
    Err(Error::message(format!(
        "{}: this program was built without the feature `hub`, which fetches published weights; these are at {address}",
        published.name
    )))
}

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
    let checkpoint = model.translated(checkpoint)?;
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
