//! Who watches a training run: progress bars, logs, tests.

use crate::EpochMetrics;
use crate::loader::Skipped;

/// Told of everything that happens in a training run, on the thread that called [`fit`](crate::fit). Every method
/// does nothing unless written otherwise.
pub trait Observer {
    /// Training begins, or goes on from where a checkpoint left it.
    fn started(&mut self, _outline: &Outline) {}

    /// A step has been taken.
    fn step(&mut self, _step: &Step) {}

    /// `done` of `total` validation pictures have been measured.
    fn validated(&mut self, _done: usize, _total: usize) {}

    /// A picture cannot be read and is left out; told once for each.
    fn skipped(&mut self, _picture: &Skipped) {}

    /// An epoch has ended; `best` if it is the best so far. Its files have been written.
    fn epoch(&mut self, _metrics: &EpochMetrics, _best: bool) {}
}

/// Watches nothing.
impl Observer for () {}

/// What lies ahead.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    /// Epochs in all.
    pub epochs: usize,
    /// Steps in each.
    pub batches: usize,
    /// Training pictures.
    pub training: usize,
    /// Validation pictures.
    pub validation: usize,
    /// Epochs that have ended, when a run is resumed.
    pub epochs_done: usize,
    /// Steps done in the epoch in progress, when a run is resumed.
    pub batches_done: usize,
}

/// The state after a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The epoch in progress, from 1.
    pub epoch: usize,
    /// The step of the epoch, from 1.
    pub batch: usize,
    /// Steps in the epoch.
    pub batches: usize,
    /// Training pictures of the epoch seen so far.
    pub seen: usize,
    /// The mean loss of the epoch so far.
    pub loss: f64,
    /// The share of the epoch's pictures that were classified right so far, 0..1.
    pub accuracy: f64,
    /// The learning rate of the step.
    pub lr: f64,
    /// Pictures per second in the epoch so far.
    pub images_per_second: f64,
    /// Whether only the classifier learns.
    pub frozen: bool,
}
