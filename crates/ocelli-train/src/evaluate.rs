//! How good a network is on a data set.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ocelli_zoo::nn::autograd::QuantizedPlan;
use ocelli_zoo::nn::tensor::Tensor;
use serde::Serialize;

use crate::loader::{LoaderOptions, Skipped};
use crate::{Dataset, Error, Loader, Network, Preprocessing, Result, network};

/// The measures of a network on a data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The number of pictures measured.
    pub images: usize,
    /// The mean cross-entropy.
    pub loss: f64,
    /// The share of pictures whose class is the network's first choice, 0..1.
    pub top1: f64,
    /// The share of pictures whose class is among the network's first five choices, 0..1.
    pub top5: f64,
    /// The measures of each class.
    pub classes: Vec<ClassReport>,
    /// How often each class (row) was taken for each (column).
    pub confusion: Vec<Vec<u32>>,
    /// The pictures that could not be read and were left out.
    pub skipped: Vec<Skipped>,
}

/// The measures of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassReport {
    /// Its name.
    pub class: String,
    /// Its pictures.
    pub images: usize,
    /// The share of them that were recognised (recall), 0..1; nothing if there are none.
    pub accuracy: Option<f64>,
    /// The share of right ones among all that were taken for it, 0..1; nothing if none were.
    pub precision: Option<f64>,
}

/// Measures `network` on every picture of `dataset`, in batches of `batch_size`. `progress` is told how many
/// pictures of how many are done.
pub fn evaluate(
    network: &dyn Network,
    dataset: Arc<dyn Dataset>,
    classes: &[String],
    preprocessing: &Preprocessing,
    batch_size: usize,
    progress: impl FnMut(usize, usize),
) -> Result<Report> {
    measure(network::planned(network), dataset, classes, preprocessing, batch_size, progress)
}

/// As [`evaluate`], by the plan for one image in which memory-bound layers have their weights in 16 bits, whatever the batches.
pub fn evaluate_half(
    network: &dyn Network,
    dataset: Arc<dyn Dataset>,
    classes: &[String],
    preprocessing: &Preprocessing,
    batch_size: usize,
    progress: impl FnMut(usize, usize),
) -> Result<Report> {
    measure(network::halved(network), dataset, classes, preprocessing, batch_size, progress)
}

/// As [`evaluate`], of a network in eight bits: what [`quantize`](crate::quantize) made of it.
pub fn evaluate_quantized(
    plan: &QuantizedPlan,
    dataset: Arc<dyn Dataset>,
    classes: &[String],
    preprocessing: &Preprocessing,
    batch_size: usize,
    progress: impl FnMut(usize, usize),
) -> Result<Report> {
    measure(|images| Ok(plan.run(images)?), dataset, classes, preprocessing, batch_size, progress)
}

fn measure(
    logits: impl FnMut(&Tensor) -> Result<Tensor>,
    dataset: Arc<dyn Dataset>,
    classes: &[String],
    preprocessing: &Preprocessing,
    batch_size: usize,
    mut progress: impl FnMut(usize, usize),
) -> Result<Report> {
    let loader = Loader::new(dataset, preprocessing.clone(), LoaderOptions::in_order(batch_size))?;
    let (total, mut skipped) = (loader.pictures(), BTreeSet::new());
    let never = AtomicBool::new(false);
    let scores = network::score(logits, &loader, classes.len(), &never, |batch, scores| {
        skipped.extend(batch.skipped.iter().cloned());
        progress(scores.seen + skipped.len(), total);
    })?;
    let scores = scores.filter(|scores| scores.seen > 0);
    let scores = scores.ok_or_else(|| Error::setting("data", "not one picture could be read"))?;
    let count = classes.len();
    let confusion: Vec<Vec<u32>> = scores.confusion.chunks_exact(count).map(<[u32]>::to_vec).collect();
    let share = |part: u32, of: u32| (of > 0).then(|| part as f64 / of as f64);
    let class = |(i, name): (usize, &String)| {
        let images: u32 = confusion[i].iter().sum();
        let taken: u32 = confusion.iter().map(|row| row[i]).sum();
        let right = confusion[i][i];
        let (accuracy, precision) = (share(right, images), share(right, taken));
        ClassReport { class: name.clone(), images: images as usize, accuracy, precision }
    };
    Ok(Report {
        images: scores.seen,
        loss: scores.loss(),
        top1: scores.share(scores.top1),
        top5: scores.share(scores.top5),
        classes: classes.iter().enumerate().map(class).collect(),
        skipped: skipped.into_iter().collect(),
        confusion,
    })
}
