//! The training loop.
//!
//! An epoch is a pass over the training pictures, then over the validation pictures, then a checkpoint. Whatever is
//! random depends on the seed, the epoch and the step alone, and a checkpoint holds all else, sums of a begun epoch
//! included: a run that is killed and resumed ends with the same bits as one that was not.

mod observer;
mod progress;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ocelli_zoo::nn::Mode;
use ocelli_zoo::nn::autograd::{Var, detect_anomalies};
use ocelli_zoo::nn::checkpoint::write_atomically;
use ocelli_zoo::nn::loss::{cross_entropy, top_k_correct};
use ocelli_zoo::nn::optim::{Ema, Optimizer};
use ocelli_zoo::nn::schedule::{Cosine, Schedule, WarmUp};
use ocelli_zoo::nn::tensor::{Tensor, threads};
use rand::RngExt;

pub use observer::{Observer, Outline, Step};
use progress::{Progress, save_weights};

use crate::loader::{LoaderOptions, Skipped};
use crate::report::{best_epoch, curves_png, metrics_csv};
use crate::rng::{Purpose, stream};
use crate::scores::Scores;
use crate::{Batch, Config, Data, EpochMetrics, Error, Loader, Network, Result, Run, network};

/// How a call of [`fit`] ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// All epochs are done; these are they.
    Finished(Vec<EpochMetrics>),
    /// The stop flag was set. A checkpoint has been written; resuming goes on from it.
    Interrupted {
        /// Epochs that have ended.
        epochs_done: usize,
        /// Steps done in the next.
        batches_done: usize,
    },
}

/// Trains `network` on `data` as the run's settings say, and keeps the run's folder up to date.
///
/// With `resume`, goes on from `last.safetensors` if there is one; the network's weights are then those of the
/// checkpoint. When `stop` is set (by a signal handler, say), the step in progress is finished, a checkpoint written,
/// and [`Outcome::Interrupted`] returned.
///
/// Fails if a file of the run cannot be read or written, if the data set has changed since, if no picture can be
/// read, or if the loss is no longer a number.
pub fn fit(
    run: &Run,
    network: &dyn Network,
    data: &Data,
    resume: bool,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    Trainer::new(run, network, data, resume, stop, observer)?.fit()
}

struct Trainer<'a> {
    run: &'a Run,
    config: &'a Config,
    network: &'a dyn Network,
    stop: &'a AtomicBool,
    observer: &'a mut dyn Observer,
    training: Loader,
    validation: Loader,
    optimizer: Optimizer<f32>,
    ema: Option<Ema<f32>>,
    /// Pictures whose gradients are waiting for the step.
    waiting: usize,
    progress: Progress,
    /// When the last checkpoint was written.
    saved: Instant,
    skipped: BTreeSet<Skipped>,
}

impl<'a> Trainer<'a> {
    fn new(
        run: &'a Run,
        network: &'a dyn Network,
        data: &Data,
        resume: bool,
        stop: &'a AtomicBool,
        observer: &'a mut dyn Observer,
    ) -> Result<Self> {
        let config = run.config();
        config.validate()?;
        if data.classes != config.classes {
            return Err(Error::setting("data", format!("{} has other classes than the run", data.source)));
        }
        let options = LoaderOptions {
            shuffle: true,
            augment: Some(config.augment.clone()),
            seed: config.seed,
            ..LoaderOptions::in_order(config.batch_size)
        };
        let training = Loader::new(data.train.clone(), config.preprocessing.clone(), options)?;
        let options = LoaderOptions::in_order(config.batch_size);
        let validation = Loader::new(data.validation.clone(), config.preprocessing.clone(), options)?;
        let mut optimizer = config.new_optimizer(network.state())?;
        let mut ema = config.ema.map(|decay| Ema::new(network.state(), decay)).transpose()?;
        let path = run.last_path();
        let progress = if resume && path.exists() {
            Progress::load(&path, network.state(), &mut optimizer, ema.as_mut())?
        } else {
            Progress::start(training.pictures())
        };
        if progress.pictures != training.pictures() {
            let (then, now) = (progress.pictures, training.pictures());
            let reason = format!("{then} training pictures when the run began, {now} now: it cannot be resumed");
            return Err(Error::setting("data", reason));
        }
        let (saved, skipped) = (Instant::now(), BTreeSet::new());
        Ok(Trainer {
            run,
            config,
            network,
            stop,
            observer,
            training,
            validation,
            optimizer,
            ema,
            waiting: 0,
            progress,
            saved,
            skipped,
        })
    }

    fn fit(mut self) -> Result<Outcome> {
        self.observer.started(&Outline {
            epochs: self.config.epochs,
            batches: self.training.batches(),
            training: self.training.pictures(),
            validation: self.validation.pictures(),
            epochs_done: self.progress.epoch,
            batches_done: self.progress.batch,
        });
        if !self.progress.history.is_empty() {
            self.write_reports()?;
        }
        while self.progress.epoch < self.config.epochs {
            let ended = self.train()? && self.validate()?;
            if !ended {
                self.save()?;
                let (epochs_done, batches_done) = (self.progress.epoch, self.progress.batch);
                return Ok(Outcome::Interrupted { epochs_done, batches_done });
            }
        }
        Ok(Outcome::Finished(self.progress.history))
    }

    /// Takes the remaining steps of the epoch. Returns whether it got to the end.
    fn train(&mut self) -> Result<bool> {
        let frozen = self.progress.epoch < self.config.frozen_epochs;
        self.freeze(frozen);
        let mut clock = Instant::now();
        for batch in self.training.epoch(self.progress.epoch as u64, self.progress.batch) {
            self.report_skipped(&batch);
            let begun = self.progress.batch - self.progress.batch % self.config.accumulate;
            let lr = self.lr(self.progress.epoch, begun);
            if !batch.labels.is_empty() {
                self.learn(&batch, lr)?;
            }
            self.progress.batch += 1;
            let done = self.progress.batch;
            let steps = done.is_multiple_of(self.config.accumulate) || done == self.training.batches();
            if steps {
                self.step(lr);
            }
            let sums = &mut self.progress.sums;
            sums.seconds += clock.elapsed().as_secs_f64();
            clock = Instant::now();
            self.observer.step(&Step {
                epoch: self.progress.epoch + 1,
                batch: self.progress.batch,
                batches: self.training.batches(),
                seen: sums.seen,
                loss: sums.mean_loss(),
                accuracy: sums.accuracy(),
                lr,
                images_per_second: sums.images_per_second(),
                frozen,
            });
            // Between steps, where no gradient is waiting that a checkpoint would have to hold.
            if steps && self.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            if steps && self.checkpoint_is_due() {
                self.save()?;
            }
        }
        if self.progress.sums.seen == 0 {
            return Err(Error::setting("data", "not one training picture could be read"));
        }
        Ok(true)
    }

    /// Forward, loss, backward; and where memory is saved the optimizer's step, for each parameter as soon as that can be.
    fn learn(&mut self, batch: &Batch, lr: f64) -> Result<()> {
        let Config { seed, label_smoothing, accumulate, save_memory, detect_anomalies: detect, .. } = *self.config;
        let (epoch, number) = (self.progress.epoch, self.progress.batch);
        let mode = Mode::train(stream(seed, Purpose::Dropout, epoch as u64, number as u64).random());
        let mode = if save_memory { mode.saving_memory() } else { mode };
        let (network, pictures) = (self.network, batch.labels.len());
        let (early, optimizer) = (self.steps_early(), &mut self.optimizer);
        let (loss, correct) = threads::install(|| -> Result<(f64, usize)> {
            let forward = || -> Result<_> {
                let outputs = network.outputs(&Var::constant(batch.images.clone()), &mode)?;
                let loss = outputs.loss(|logits| cross_entropy(logits, &batch.labels, label_smoothing))?;
                Ok((outputs, loss))
            };
            let (outputs, loss) = if detect { detect_anomalies(forward)? } else { forward()? };
            let value = loss.value().item()? as f64;
            if value.is_finite() {
                let correct = top_k_correct(outputs.logits.value(), &batch.labels, 1)?;
                drop(outputs);
                if early {
                    optimizer.backward_step(&loss, lr)?;
                    return Ok((value, correct));
                }
                // Of accumulated batches every picture counts the same, so that they are as one larger batch.
                let weight = if accumulate > 1 { pictures as f32 } else { 1.0 };
                loss.backward_with(Tensor::full(loss.shape(), weight))?;
                return Ok((value, correct));
            }
            let what = format!("the loss of step {} of epoch {}", number + 1, epoch + 1);
            Err(Error::NotFinite { what })
        })?;
        self.waiting += pictures;
        self.progress.sums.loss += loss * pictures as f64;
        self.progress.sums.correct += correct;
        self.progress.sums.seen += pictures;
        Ok(())
    }

    /// Whether a parameter's gradient is not needed when the next one's is computed.
    fn steps_early(&self) -> bool {
        self.config.save_memory && self.config.accumulate == 1 && self.config.clip_norm.is_none()
    }

    /// Moves the weights by the gradients that are waiting, if any are.
    fn step(&mut self, lr: f64) {
        let pictures = std::mem::take(&mut self.waiting);
        if pictures == 0 {
            return;
        }
        let scale = if self.config.accumulate > 1 { 1.0 / pictures as f64 } else { 1.0 };
        let (optimizer, ema) = (&mut self.optimizer, &mut self.ema);
        threads::install(|| {
            optimizer.step_scaled(lr, scale);
            ema.iter_mut().for_each(Ema::update);
        });
    }

    /// Measures the network after the epoch and ends it. Returns whether it got to the end.
    fn validate(&mut self) -> Result<bool> {
        let start = Instant::now();
        let (total, observer) = (self.validation.pictures(), &mut *self.observer);
        let (mut done, mut skipped) = (0, Vec::new());
        let classes = self.config.classes.len();
        let (network, loader, stop) = (self.network, &self.validation, self.stop);
        let each = |batch: &Batch, _: &Scores| {
            done += batch.labels.len() + batch.skipped.len();
            skipped.extend(batch.skipped.iter().cloned());
            observer.validated(done, total);
        };
        let scores =
            averaged(&mut self.ema, || network::score(network::planned(network), loader, classes, stop, each))?;
        skipped.into_iter().for_each(|picture| self.skip(picture));
        match scores {
            Some(scores) => self.end_epoch(&scores, start.elapsed()).map(|()| true),
            None => Ok(false),
        }
    }

    fn end_epoch(&mut self, scores: &Scores, validation_time: Duration) -> Result<()> {
        if scores.seen == 0 {
            return Err(Error::setting("data", "not one validation picture could be read"));
        }
        let (epoch, sums) = (self.progress.epoch, std::mem::take(&mut self.progress.sums));
        let metrics = EpochMetrics {
            epoch: epoch + 1,
            lr: self.lr(epoch, self.training.batches() - 1),
            train_loss: sums.mean_loss(),
            train_accuracy: sums.accuracy(),
            val_loss: scores.loss(),
            val_accuracy: scores.share(scores.top1),
            images_per_second: sums.images_per_second(),
            seconds: sums.seconds + validation_time.as_secs_f64(),
        };
        self.progress.epoch += 1;
        self.progress.batch = 0;
        self.progress.history.push(metrics.clone());
        let best = best_epoch(&self.progress.history).is_some_and(|best| best.epoch == metrics.epoch);
        // The best weights first: killed between the two, the run repeats the end of this epoch and writes both.
        if best {
            let (path, state, config) = (self.run.best_path(), self.network.state(), self.config);
            averaged(&mut self.ema, || save_weights(&path, state, config))?;
        }
        self.save()?;
        self.write_reports()?;
        self.observer.epoch(&metrics, best);
        Ok(())
    }

    /// Lets everything learn, or the classifier alone.
    fn freeze(&self, frozen: bool) {
        let state = self.network.state();
        if frozen {
            state.freeze("");
            state.unfreeze(&self.network.classifier_prefix());
        } else {
            state.unfreeze("");
        }
    }

    fn lr(&self, epoch: usize, batch: usize) -> f64 {
        learning_rate(self.config, self.training.batches(), epoch, batch)
    }

    fn checkpoint_is_due(&self) -> bool {
        let Config { checkpoint_steps: every, checkpoint_seconds: seconds, .. } = *self.config;
        let by_step = every > 0 && self.progress.batch.is_multiple_of(every);
        by_step || self.saved.elapsed().as_secs_f64() >= seconds
    }

    fn save(&mut self) -> Result<()> {
        let ema = self.ema.as_ref();
        self.progress.save(&self.run.last_path(), self.network.state(), &self.optimizer, ema)?;
        self.saved = Instant::now();
        Ok(())
    }

    fn write_reports(&self) -> Result<()> {
        let history = &self.progress.history;
        write_atomically(self.run.metrics_path(), metrics_csv(history).as_bytes())?;
        let title = format!("{} on {}", self.config.model, self.config.data);
        let path = self.run.curves_path();
        let png = curves_png(&title, history).map_err(Error::io(&path, "draw"))?;
        Ok(write_atomically(path, &png)?)
    }

    fn report_skipped(&mut self, batch: &Batch) {
        batch.skipped.iter().for_each(|picture| self.skip(picture.clone()));
    }

    fn skip(&mut self, picture: Skipped) {
        if !self.skipped.contains(&picture) {
            self.observer.skipped(&picture);
            self.skipped.insert(picture);
        }
    }
}

/// Runs `f` while the network has its averaged weights, if it has any.
fn averaged<R>(ema: &mut Option<Ema>, f: impl FnOnce() -> R) -> R {
    match ema {
        Some(ema) => ema.with_averages(f),
        None => f(),
    }
}

/// Constant while frozen, then up from zero, then down to zero by a half cosine.
fn learning_rate(config: &Config, batches: usize, epoch: usize, batch: usize) -> f64 {
    if epoch < config.frozen_epochs {
        return config.frozen_lr;
    }
    let steps = (config.epochs - config.frozen_epochs) * batches;
    let warmup = ((config.warmup_epochs * batches as f64).round() as usize).min(steps - 1);
    let fall = Cosine { initial: config.lr, last: 0.0, steps: steps - warmup };
    let schedule = WarmUp { steps: warmup, start: 1.0 / (warmup + 1) as f64, then: fall };
    schedule.at((epoch - config.frozen_epochs) * batches + batch)
}

#[cfg(test)]
mod tests;
