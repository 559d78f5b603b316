//! The settings of a training run.

use ocelli_zoo::{Model, Options};
use serde::{Deserialize, Serialize};

use crate::{Algorithm, Augment, Error, Preprocessing, Result};

/// Everything that a training run depends on, so that the same settings give the same network, bit for bit, and a
/// folder with its `config.json` can be evaluated, used and resumed without being told anything again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The architecture, a name of the zoo's.
    pub model: String,
    /// The names of the classes, in the order of the network's outputs.
    pub classes: Vec<String>,
    /// The data set: `digits` or a folder.
    pub data: String,
    /// The weights that training started from; none if they were drawn by `seed`.
    #[serde(default)]
    pub pretrained: Option<String>,
    /// How pictures become the network's input.
    pub preprocessing: Preprocessing,
    /// How training pictures are varied.
    pub augment: Augment,
    /// What all random choices are drawn from.
    pub seed: u64,
    /// How often training goes through all pictures, the frozen epochs included.
    pub epochs: usize,
    /// The largest number of pictures in a step.
    pub batch_size: usize,
    /// The highest learning rate, which decays to zero by a half cosine over the epochs that are not frozen.
    pub lr: f64,
    /// Epochs, counted after the frozen ones, over which the learning rate rises from zero; a part of one will do.
    pub warmup_epochs: f64,
    /// What makes better weights of gradients.
    #[serde(default)]
    pub optimizer: Algorithm,
    /// The momentum of SGD and RMSprop.
    pub momentum: f64,
    /// Whether SGD's momentum is Nesterov's.
    pub nesterov: bool,
    /// How strongly weights are pulled to 0.
    pub weight_decay: f64,
    /// The largest norm of all gradients together; none for no limit.
    #[serde(default)]
    pub clip_norm: Option<f64>,
    /// Batches whose gradients make a step; batch norms see each batch by itself.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// The decay of an exponential moving average of the weights, which is then what is validated and kept as best.
    #[serde(default)]
    pub ema: Option<f64>,
    /// The share of the target's probability that is spread over all classes.
    pub label_smoothing: f64,
    /// Epochs at the start in which only the classifier learns: the rest, its batch norms included, stays as it was
    /// loaded.
    pub frozen_epochs: usize,
    /// The learning rate of those epochs.
    pub frozen_lr: f64,
    /// Whether networks compute cheap values again rather than keep them, and gradients are not kept for longer than needed;
    /// the result is the same.
    #[serde(default)]
    pub save_memory: bool,
    /// Whether the first operation that gives a NaN or an infinity ends the run with its name; the result is the same.
    #[serde(default)]
    pub detect_anomalies: bool,
    /// A checkpoint is written in mid-epoch when the last one is older than this.
    pub checkpoint_seconds: f64,
    /// A checkpoint is written in mid-epoch after every so many steps; 0 for none but those by time.
    pub checkpoint_steps: usize,
}

impl Config {
    /// For a small network trained from the start on the embedded digits.
    pub fn digits(model: impl Into<String>) -> Self {
        Config {
            model: model.into(),
            classes: (0..10).map(|digit| digit.to_string()).collect(),
            data: "digits".into(),
            pretrained: None,
            preprocessing: Preprocessing::digits(),
            augment: Augment::digits(),
            seed: 1,
            epochs: 24,
            batch_size: 32,
            lr: 0.1,
            warmup_epochs: 1.0,
            optimizer: Algorithm::Sgd,
            momentum: 0.9,
            nesterov: true,
            weight_decay: 5e-4,
            clip_norm: None,
            accumulate: 1,
            ema: None,
            label_smoothing: 0.1,
            frozen_epochs: 0,
            frozen_lr: 0.0,
            save_memory: false,
            detect_anomalies: false,
            checkpoint_seconds: 15.0,
            checkpoint_steps: 0,
        }
    }

    /// For pretrained weights and a folder of photographs: the classifier alone for two epochs, then everything with
    /// a low learning rate.
    pub fn fine_tuning(
        model: impl Into<String>,
        data: impl Into<String>,
        classes: Vec<String>,
        preprocessing: Preprocessing,
    ) -> Self {
        Config {
            data: data.into(),
            classes,
            preprocessing,
            augment: Augment::photos(),
            epochs: 8,
            batch_size: 16,
            lr: 0.01,
            warmup_epochs: 0.5,
            weight_decay: 1e-4,
            frozen_epochs: 2,
            frozen_lr: 0.02,
            checkpoint_seconds: 30.0,
            ..Config::digits(model)
        }
    }

    /// For a network trained from the start on a folder of photographs.
    pub fn from_scratch(
        model: impl Into<String>,
        data: impl Into<String>,
        classes: Vec<String>,
        preprocessing: Preprocessing,
    ) -> Self {
        Config {
            epochs: 30,
            lr: 0.05,
            warmup_epochs: 2.0,
            weight_decay: 5e-4,
            frozen_epochs: 0,
            frozen_lr: 0.0,
            ..Config::fine_tuning(model, data, classes, preprocessing)
        }
    }

    /// What the network is built for.
    pub fn model_options(&self) -> Options {
        Options { classes: self.classes.len(), in_channels: self.preprocessing.channels() }
    }

    /// The network as it is before training, drawn by `seed`. Pretrained weights are for the caller to load.
    pub fn new_model(&self) -> Result<Model> {
        Ok(Model::new(&self.model, self.model_options(), self.seed)?)
    }

    /// Fails, naming the setting, if one is out of its domain.
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, what: &'static str, reason: String| {
            if ok { Ok(()) } else { Err(Error::setting(what, reason)) }
        };
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let share = |x: f64| (0.0..1.0).contains(&x);
        check(self.classes.len() >= 2, "classes", format!("{}, at least two are needed", self.classes.len()))?;
        check(self.epochs > 0, "epochs", "at least one is needed".into())?;
        check(self.batch_size > 0, "batch size", "at least one picture is needed".into())?;
        check(positive(self.lr), "learning rate", format!("{} is not positive", self.lr))?;
        check(share(self.momentum), "momentum", format!("{} is not in 0..1", self.momentum))?;
        check(!self.nesterov || self.momentum > 0.0, "nesterov", "momentum is needed".into())?;
        check(share(self.weight_decay), "weight decay", format!("{} is not in 0..1", self.weight_decay))?;
        let limit = self.clip_norm.unwrap_or(f64::INFINITY);
        check(limit > 0.0, "gradient norm", format!("{limit} is not positive"))?;
        check(self.accumulate > 0, "accumulated batches", "at least one is needed".into())?;
        let ema = self.ema.unwrap_or(0.0);
        check(share(ema), "average of weights", format!("{ema} is not in 0..1"))?;
        check(share(self.label_smoothing), "label smoothing", format!("{} is not in 0..1", self.label_smoothing))?;
        let frozen = self.frozen_epochs;
        check(frozen <= self.epochs, "frozen epochs", format!("{frozen} of {} epochs", self.epochs))?;
        check(frozen == 0 || positive(self.frozen_lr), "frozen learning rate", format!("{}", self.frozen_lr))?;
        let warm = self.warmup_epochs;
        check((0.0..=1e6).contains(&warm), "warm-up epochs", format!("{warm}"))?;
        check(self.checkpoint_seconds >= 0.0, "checkpoint seconds", format!("{}", self.checkpoint_seconds))?;
        self.preprocessing.validate()?;
        self.augment.validate()
    }
}

/// For settings that were written before there was a choice.
fn one() -> usize {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_json() {
        let config = Config::fine_tuning("m", "photos", vec!["a".into(), "b".into()], Preprocessing::imagenet());
        config.validate().unwrap();
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
    }

    #[test]
    fn wrong_settings_are_named() {
        let digits = || Config::digits("m");
        digits().validate().unwrap();
        for (config, message) in [
            (Config { epochs: 0, ..digits() }, "epochs: at least one is needed"),
            (Config { lr: -0.1, ..digits() }, "learning rate: -0.1 is not positive"),
            (Config { ema: Some(2.0), ..digits() }, "average of weights: 2 is not in 0..1"),
            (Config { clip_norm: Some(-1.0), ..digits() }, "gradient norm: -1 is not positive"),
            (Config { lr: f64::NAN, ..digits() }, "learning rate: NaN is not positive"),
            (Config { momentum: 1.0, ..digits() }, "momentum: 1 is not in 0..1"),
            (Config { frozen_epochs: 25, ..digits() }, "frozen epochs: 25 of 24 epochs"),
        ] {
            assert_eq!(config.validate().unwrap_err().to_string(), message);
        }
    }
}
