//! Networks in eight bits, with the ranges that their values have for some pictures of a data set.

use std::sync::Arc;

use ocelli_zoo::nn::autograd::QuantizedPlan;

use crate::loader::LoaderOptions;
use crate::{Dataset, Error, Loader, Network, Picture, Preprocessing, Result, network};

/// Pictures at once: what a batch's values take in memory is of no use to anybody.
const BATCH: usize = 8;

/// Compiles `network` in eight bits. The ranges of its values are those of at most `pictures` pictures of `dataset`, taken
/// at even distances, so that all classes are among them where they stand in order.
pub fn quantize(
    network: &dyn Network,
    dataset: Arc<dyn Dataset>,
    pictures: usize,
    preprocessing: &Preprocessing,
) -> Result<QuantizedPlan> {
    let some = Evenly { count: pictures.min(dataset.len()), inner: dataset };
    let loader = Loader::new(Arc::new(some), preprocessing.clone(), LoaderOptions::in_order(BATCH))?;
    let batches: Vec<_> = loader.epoch(0, 0).map(|batch| batch.images).filter(|images| !images.is_empty()).collect();
    match batches.first() {
        Some(first) => network::quantized(network, first.shape(), &batches),
        None => Err(Error::setting("data", "not one picture could be read to calibrate with")),
    }
}

/// Pictures at even distances.
struct Evenly {
    inner: Arc<dyn Dataset>,
    count: usize,
}

impl Evenly {
    fn at(&self, index: usize) -> usize {
        index * self.inner.len() / self.count
    }
}

impl Dataset for Evenly {
    fn len(&self) -> usize {
        self.count
    }

    fn label(&self, index: usize) -> usize {
        self.inner.label(self.at(index))
    }

    fn picture(&self, index: usize) -> Result<Picture> {
        self.inner.picture(self.at(index))
    }

    fn name(&self, index: usize) -> String {
        self.inner.name(self.at(index))
    }
}
