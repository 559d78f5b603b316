//! `ocelli train`: from pictures to a network.

mod folder;
mod interrupt;
mod recipe;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use ocelli_train::report::best_epoch;
use ocelli_train::zoo::Model;
use ocelli_train::{Algorithm, Augment, Config, Data, EpochMetrics, Outcome, Run, fit};

use crate::arguments::{Threads, at_least_one};
use crate::error::{Error, Result};
use crate::output::{Style, count, percent, print_line};
use crate::progress::TrainingProgress;

/// Train a network, or fine-tune a pretrained one
#[derive(Debug, Args)]
#[command(after_help = "\
SOURCE is `digits` (5,000 handwritten digits, built in) or a folder of PNG, JPEG, WebP, BMP or GIF files:
  SOURCE/train/CLASS/* and SOURCE/val/CLASS/*, or SOURCE/CLASS/*, of which a fifth is held out by --seed.

On pictures of more than 64 pixels the built-in EfficientNet-Lite0 is fine-tuned, its classifier alone at first; small \
ones train a small residual network from the start. --model, --weights and --from-scratch choose otherwise.

DIR gets config.json, best.safetensors (the weights of the best epoch, by the names of torchvision or timm), \
last.safetensors (all that --resume needs), metrics.csv and curves.png. Ctrl-C finishes the step, saves and leaves. \
The same settings give the same network, bit for bit, with any number of threads, and whether resumed or not.

Examples:
  ocelli train
  ocelli train --data photos --epochs 5 --out runs/photos
  ocelli train --out runs/photos --resume
  ocelli train --data photos --model resnet50 --weights resnet50.pth
  ocelli train --data photos --model resnet18 --from-scratch --epochs 60
  ocelli train --optimizer adamw --clip-norm 1 --ema 0.999 --accumulate 2")]
pub struct Train {
    /// The data set [default: digits]
    #[arg(long, value_name = "SOURCE")]
    data: Option<String>,
    /// A model of `ocelli models` [default: by the pictures' size]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Fine-tune these weights: safetensors, a PyTorch checkpoint, or a name of `ocelli models --weights`
    #[arg(long, value_name = "FILE", conflicts_with = "from_scratch")]
    weights: Option<PathBuf>,
    /// Begin with random weights
    #[arg(long)]
    from_scratch: bool,
    /// How often to go through all pictures
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    epochs: Option<usize>,
    /// Epochs at the start in which only the classifier learns
    #[arg(long, value_name = "N")]
    frozen_epochs: Option<usize>,
    /// Pictures in a step
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    batch_size: Option<usize>,
    /// The highest learning rate, after which it decays by a half cosine [default: by the optimizer and the task]
    #[arg(long, value_name = "X")]
    lr: Option<f64>,
    /// What makes better weights of gradients [default: sgd]
    #[arg(long, value_enum)]
    optimizer: Option<Optimizer>,
    /// How strongly weights are pulled to 0 [default: by the optimizer]
    #[arg(long, value_name = "X")]
    weight_decay: Option<f64>,
    /// The largest norm of all gradients together; longer ones are scaled down to it
    #[arg(long, value_name = "X")]
    clip_norm: Option<f64>,
    /// Batches whose gradients make one step
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    accumulate: Option<usize>,
    /// Validate and keep a moving average of the weights, of this decay, such as 0.999
    #[arg(long, value_name = "X")]
    ema: Option<f64>,
    /// The share of a target's probability that is spread over all classes
    #[arg(long, value_name = "X")]
    label_smoothing: Option<f64>,
    /// Height and width of the network's input
    #[arg(long, value_name = "S", value_parser = at_least_one())]
    image_size: Option<usize>,
    /// How pictures are varied: not at all, turned and shifted like digits, or cut and mirrored like photos
    #[arg(long, value_enum)]
    augment: Option<Variation>,
    /// What everything random is drawn from [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Use less memory and more time, with the same result: the backward pass computes the first
    /// convolution again, DenseNets' layers, ResNets' sums and EfficientNets' activations, and each
    /// parameter moves as soon as its gradient is complete, unless --clip-norm or --accumulate need
    /// all
    #[arg(long)]
    save_memory: bool,
    /// Name the first operation and layer that gives a NaN or an infinity; slower
    #[arg(long)]
    detect_anomalies: bool,
    #[command(flatten)]
    threads: Threads,
    /// The folder of the run [default: runs/ and the data set's name]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on from where the run was interrupted
    #[arg(long)]
    resume: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Optimizer {
    /// Gradient descent with momentum
    Sgd,
    /// TensorFlow's, with momentum, as for the EfficientNets
    Rmsprop,
    Adam,
    /// With decoupled weight decay
    Adamw,
    /// For large batches
    Lamb,
}

impl From<Optimizer> for Algorithm {
    fn from(optimizer: Optimizer) -> Self {
        match optimizer {
            Optimizer::Sgd => Algorithm::Sgd,
            Optimizer::Rmsprop => Algorithm::RmsProp,
            Optimizer::Adam => Algorithm::Adam,
            Optimizer::Adamw => Algorithm::AdamW,
            Optimizer::Lamb => Algorithm::Lamb,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Variation {
    None,
    Digits,
    Photos,
}

impl From<Variation> for Augment {
    fn from(variation: Variation) -> Self {
        match variation {
            Variation::None => Augment::default(),
            Variation::Digits => Augment::digits(),
            Variation::Photos => Augment::photos(),
        }
    }
}

impl Train {
    pub fn run(&self) -> Result<()> {
        let threads = self.threads.apply();
        let (run, data, model) = if self.resume { self.reopened()? } else { self.begun()? };
        print_outline(&run, &data, &model, threads)?;
        let stop = interrupt::flag(run.folder())?;
        let mut progress = TrainingProgress::new();
        let outcome = fit(&run, &model, &data, self.resume, stop, &mut progress);
        progress.clear();
        match outcome? {
            Outcome::Finished(history) => print_result(&run, &data, &history, progress.skipped()),
            Outcome::Interrupted { epochs_done, batches_done } => {
                let (folder, epochs) = (shown(run.folder()), run.config().epochs);
                Err(Error::message(format!(
                    "interrupted after {epochs_done} of {epochs} epochs and {batches_done} steps; \
                     `ocelli train --out {folder} --resume` goes on from there"
                )))
            }
        }
    }

    /// A new run.
    fn begun(&self) -> Result<(Run, Data, Model)> {
        let source = self.data.as_deref().unwrap_or("digits");
        // Asked before anything slow: a folder in use or a model with a typo.
        let out = match &self.out {
            Some(out) if out.join("config.json").exists() => {
                let reason = "holds a training run already: add --resume to go on with it, or choose another --out";
                return Err(Error::file(out, reason));
            }
            Some(out) => out.clone(),
            None => folder::unused(source),
        };
        if let Some(name) = &self.model {
            ocelli_train::zoo::variant(name)?;
        }
        let data = Data::open(source, self.seed.unwrap_or(recipe::SEED))?;
        let mut config = recipe::choose(self, &data)?;
        self.apply(&mut config);
        config.validate()?;
        // Weights that don't fit must leave no run behind.
        let model = recipe::initial(&config)?;
        Ok((Run::create(&out, config)?, data, model))
    }

    /// A run that was interrupted.
    fn reopened(&self) -> Result<(Run, Data, Model)> {
        let source = self.data.as_deref().unwrap_or("digits");
        let mut run = match &self.out {
            Some(out) => Run::open(out)?,
            None => Run::open(&folder::latest(source)?)?,
        };
        // The two settings that may differ from session to session.
        run.config_mut().save_memory |= self.save_memory;
        run.config_mut().detect_anomalies |= self.detect_anomalies;
        let config = run.config();
        let mut wanted = config.clone();
        self.apply(&mut wanted);
        let weights = self.weights.as_ref().map(|path| path.display().to_string());
        if wanted != *config
            || self.model.as_ref().is_some_and(|name| *name != config.model)
            || (weights.is_some() && weights != config.pretrained)
            || (self.from_scratch && config.pretrained.is_some())
        {
            let reason = "the run began with other settings (see its config.json): leave them out to resume it";
            return Err(Error::file(run.folder(), reason));
        }
        let data = Data::open(self.data.as_deref().unwrap_or(&config.data), config.seed)?;
        let model = recipe::initial(config)?;
        Ok((run, data, model))
    }

    /// Changes the settings that the command line gives.
    fn apply(&self, config: &mut Config) {
        if let Some(epochs) = self.epochs {
            config.epochs = epochs;
            config.frozen_epochs = config.frozen_epochs.min(epochs / 2);
        }
        set(&mut config.frozen_epochs, self.frozen_epochs);
        set(&mut config.batch_size, self.batch_size);
        // Before the rates that the command line gives; a run that is resumed has it already.
        if let Some(optimizer) = self.optimizer.map(Algorithm::from).filter(|&it| it != config.optimizer) {
            *config = config.clone().with_optimizer(optimizer);
        }
        set(&mut config.lr, self.lr);
        set(&mut config.weight_decay, self.weight_decay);
        config.save_memory |= self.save_memory;
        config.detect_anomalies |= self.detect_anomalies;
        set(&mut config.accumulate, self.accumulate);
        config.clip_norm = self.clip_norm.or(config.clip_norm);
        config.ema = self.ema.or(config.ema);
        set(&mut config.label_smoothing, self.label_smoothing);
        set(&mut config.augment, self.augment.map(Augment::from));
        set(&mut config.seed, self.seed);
        if let Some(side) = self.image_size {
            let preprocessing = &mut config.preprocessing;
            preprocessing.resize = side * preprocessing.resize / preprocessing.crop;
            preprocessing.crop = side;
        }
    }
}

fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *setting = value;
    }
}

fn print_outline(run: &Run, data: &Data, model: &Model, threads: usize) -> Result<()> {
    let (config, style) = (run.config(), Style::stdout());
    let line = |name: &str, text: String| print_line(&format!("{} {text}", style.faint(&format!("{name:<9}"))));
    let (training, validation) = (count(data.train.len()), count(data.validation.len()));
    let classes = data.classes.len();
    line(
        "data",
        format!("{}: {training} training and {validation} validation images, {classes} classes", data.source),
    )?;
    let parameters = count(model.state().parameter_count());
    let from = match config.pretrained.as_deref() {
        None => "from random weights".into(),
        Some(recipe::BUILT_IN) => "pretrained on ImageNet (built in)".into(),
        Some(file) => format!("pretrained, {file}"),
    };
    line("network", format!("{}, {parameters} parameters, {from}", config.model))?;
    let frozen = match config.frozen_epochs {
        0 => String::new(),
        n => format!(" ({n} of the classifier only)"),
    };
    let (epochs, batch, lr, side) = (config.epochs, config.batch_size, config.lr, config.preprocessing.crop);
    let batches = if config.accumulate > 1 { format!("{} × {batch}", config.accumulate) } else { batch.to_string() };
    let optimizer = match config.optimizer {
        Algorithm::Sgd => String::new(),
        other => format!("{other}, "),
    };
    let threads = if threads == 1 { "1 thread".into() } else { format!("{threads} threads") };
    line(
        "training",
        format!(
            "{epochs} epochs{frozen}, {side} × {side} pixels, batches of {batches}, {optimizer}learning rate {lr}, {threads}"
        ),
    )?;
    line("run", format!("{}\n", run.folder().display()))
}

fn print_result(run: &Run, data: &Data, history: &[EpochMetrics], skipped: usize) -> Result<()> {
    let folder = run.folder().display();
    if let Some(best) = best_epoch(history) {
        let accuracy = Style::stdout().strong(&percent(best.val_accuracy, 2));
        let images = count(data.validation.len());
        print_line(&format!("\nEpoch {} is the best: {accuracy} of {images} validation images right.", best.epoch))?;
    }
    if skipped > 0 {
        print_line(&format!("Left out: {} that could not be read.", images(skipped)))?;
    }
    print_line(&format!("{folder}: best.safetensors, last.safetensors, metrics.csv, curves.png"))?;
    print_line(&format!("Use it: ocelli predict --run {} IMAGE", shown(run.folder())))
}

fn images(n: usize) -> String {
    if n == 1 { "1 image".into() } else { format!("{} images", count(n)) }
}

/// A path as a shell takes it.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-~+:@%\\".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
