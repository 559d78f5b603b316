//! Which network is trained how, by what the command line says and what the pictures are.

use ocelli_train::zoo::nn::checkpoint::Checkpoint;
use ocelli_train::zoo::{Model, Variant, variant};
use ocelli_train::{Augment, Config, Data, Interpolation, Preprocessing, pretrained};

use super::Train;
use crate::error::{Error, Result};
use crate::weights::{Weights, shaped};

/// The seed of a run if the command line gives none.
pub const SEED: u64 = 1;
/// How a run's settings call the weights that are built in.
pub const BUILT_IN: &str = "built-in";
/// For the embedded digits.
const DIGITS_MODEL: &str = "resnet8";
/// For small pictures.
const SMALL_MODEL: &str = "resnet20";
/// For large ones, from the start.
const LARGE_MODEL: &str = "resnet18";
/// Pictures whose shorter side is at most this long are small: a network for photographs would see nothing in them.
const SMALL: usize = 64;
/// Pictures that are looked at to tell their size.
const SAMPLES: usize = 9;

/// The settings for a new run, before those of the command line.
pub fn choose(train: &Train, data: &Data) -> Result<Config> {
    let model = train.model.as_deref();
    if let Some(given) = &train.weights {
        let weights = Weights::choose(given)?;
        let name = weights.model(model)?;
        let checkpoint = Checkpoint::read(&weights.path)?;
        let preprocessing = match (pretrained::About::of(&checkpoint), weights.published) {
            (Some(about), _) => about.preprocessing,
            (None, Some(published)) => published.preprocessing.clone(),
            (None, None) => {
                let model = shaped(name, &checkpoint)?;
                pretrained::preprocessing(model.variant(), model.options().in_channels)
            }
        };
        let config = Config::fine_tuning(name, &data.source, data.classes.clone(), preprocessing);
        return Ok(Config { pretrained: Some(given.display().to_string()), ..config });
    }
    if data.source == "digits" {
        let mut config = Config::digits(model.unwrap_or(DIGITS_MODEL));
        let variant = variant(&config.model)?;
        enlarge(&mut config.preprocessing, variant.least_size);
        return Ok(calmer(config, variant));
    }
    let seen = Seen::of(data)?;
    if seen.side <= SMALL {
        let variant = variant(model.unwrap_or(SMALL_MODEL))?;
        return Ok(calmer(small(variant.name, data, &seen), variant));
    }
    if !train.from_scratch
        && let Some(config) = fine_tuned(model, data)?
    {
        return Ok(config);
    }
    let variant = variant(model.unwrap_or(LARGE_MODEL))?;
    let preprocessing = pretrained::preprocessing(variant, 3);
    Ok(calmer(Config::from_scratch(variant.name, &data.source, data.classes.clone(), preprocessing), variant))
}

/// Less of a learning rate for networks that the settings are too much for: those made for photographs learn by batches of
/// 256 at the rates of their papers; those without batch norms take less, and so do those whose offsets move what all later
/// layers see.
fn calmer(config: Config, variant: &Variant) -> Config {
    let share = match variant.family {
        "AlexNet" => 0.1,
        "VGG" if !variant.name.ends_with("_bn") => 0.1,
        "deformable ResNet" => 0.05,
        _ if variant.input_size > SMALL => 0.2,
        _ => 1.0,
    };
    Config { lr: config.lr * share, ..config }
}

/// Scales pictures up to the least size that a network takes.
fn enlarge(preprocessing: &mut Preprocessing, least: usize) {
    preprocessing.crop = preprocessing.crop.max(least);
    preprocessing.resize = preprocessing.resize.max(least);
}

/// Fine-tuning of the weights that are built in, unless another model is asked for.
#[cfg(feature = "pretrained")]
fn fine_tuned(model: Option<&str>, data: &Data) -> Result<Option<Config>> {
    if model.is_some_and(|name| name != pretrained::MODEL) {
        return Ok(None);
    }
    let preprocessing = pretrained::preprocessing(variant(pretrained::MODEL)?, 3);
    let config = Config::fine_tuning(pretrained::MODEL, &data.source, data.classes.clone(), preprocessing);
    Ok(Some(Config { pretrained: Some(BUILT_IN.into()), ..config }))
}

#[cfg(not(feature = "pretrained"))]
fn fine_tuned(_: Option<&str>, _: &Data) -> Result<Option<Config>> {
    Ok(None)
}

/// A small network from the start, on pictures of their own size.
fn small(model: &str, data: &Data, seen: &Seen) -> Config {
    let (side, channels) = (seen.side.max(8), if seen.grey { 1 } else { 3 });
    let (mean, std) = (vec![0.5; channels], vec![0.25; channels]);
    let preprocessing = Preprocessing { resize: side, crop: side, interpolation: Interpolation::Bilinear, mean, std };
    Config {
        batch_size: 64,
        lr: 0.1,
        label_smoothing: 0.0,
        // Grey ones may be characters, which a mirror would change.
        augment: Augment { flip: !seen.grey, shift: side / 8, ..Augment::default() },
        ..Config::from_scratch(model, &data.source, data.classes.clone(), preprocessing)
    }
}

/// The network of a run before its first step.
pub fn initial(config: &Config) -> Result<Model> {
    let model = config.new_model()?;
    match config.pretrained.as_deref() {
        None => {}
        Some(BUILT_IN) => model.load_pretrained(&built_in()?)?,
        Some(path) => {
            let path = Weights::choose(path.as_ref())?.path;
            let checkpoint = Checkpoint::read(&path)?;
            model.load_pretrained(&checkpoint).map_err(|error| Error::file(&path, error))?;
        }
    }
    Ok(model)
}

#[cfg(feature = "pretrained")]
fn built_in() -> Result<Checkpoint> {
    Ok(pretrained::checkpoint()?)
}

#[cfg(not(feature = "pretrained"))]
fn built_in() -> Result<Checkpoint> {
    Err(Error::message("the run began with built-in weights, but this program was built without them"))
}

/// What the pictures of a data set are like.
struct Seen {
    /// The median of the shorter sides, in pixels.
    side: usize,
    /// Whether none has colour.
    grey: bool,
}

impl Seen {
    /// Looks at some training pictures. Fails if none of them can be read.
    fn of(data: &Data) -> Result<Seen> {
        let (total, mut sides, mut grey) = (data.train.len(), Vec::new(), true);
        let samples = SAMPLES.min(total);
        let mut failure = None;
        for i in 0..samples {
            match data.train.picture(i * total / samples) {
                Ok(picture) => {
                    sides.push(picture.width().min(picture.height()));
                    grey &= picture.channels() == 1;
                }
                Err(error) => failure = Some(error),
            }
        }
        sides.sort_unstable();
        match (sides.get(sides.len() / 2), failure) {
            (Some(&side), _) => Ok(Seen { side, grey }),
            (None, Some(error)) => Err(error.into()),
            (None, None) => Err(Error::message(format!("{}: no training images", data.source))),
        }
    }
}
