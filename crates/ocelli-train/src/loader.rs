//! Batches, read, decoded and augmented on threads of their own while the network computes.
//!
//! What a batch holds depends on the seed, the epoch and its number alone: an epoch is a permutation of the data
//! set, cut into batches whose sizes differ by at most one (so that no batch norm meets a remainder of one picture),
//! and every picture's augmentation has its own stream of random numbers. So any number of workers gives the same
//! batches, and an interrupted epoch can be taken up at any batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use ocelli_zoo::nn::tensor::Tensor;
use rand::seq::SliceRandom;
use serde::Serialize;

use crate::rng::{Purpose, stream};
use crate::{Augment, Dataset, Preprocessing, Result, Transform};

/// Batches that each worker has ready ahead of the network, beside the one that it works on.
const READY: usize = 2;

/// Pictures that the network computes on at once.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[N, crop, crop, channels]`; N is 0 if all pictures of the batch were damaged.
    pub images: Tensor,
    /// The class of each picture.
    pub labels: Vec<usize>,
    /// The pictures that could not be read and are left out.
    pub skipped: Vec<Skipped>,
}

/// A picture that was left out of a batch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Skipped {
    /// Its name in the data set, such as its path.
    pub name: String,
    /// Why, in one line that starts with the name.
    pub reason: String,
}

/// How a loader goes through its data set.
#[derive(Debug, Clone)]
pub struct LoaderOptions {
    /// The largest number of pictures in a batch.
    pub batch_size: usize,
    /// Whether every epoch has an order of its own; otherwise it is that of the data set.
    pub shuffle: bool,
    /// The augmentation, if any.
    pub augment: Option<Augment>,
    /// What order and augmentation are drawn from.
    pub seed: u64,
    /// The number of threads that read and decode; 0 means one for every processor, at most eight. No batch depends
    /// on it.
    pub workers: usize,
}

impl LoaderOptions {
    /// In the order of the data set and without augmentation, as for evaluation.
    pub fn in_order(batch_size: usize) -> Self {
        LoaderOptions { batch_size, shuffle: false, augment: None, seed: 0, workers: 0 }
    }

    fn workers(&self) -> usize {
        match self.workers {
            0 => thread::available_parallelism().map_or(2, usize::from).min(8),
            workers => workers,
        }
    }
}

/// Cuts the epochs of a data set into batches.
pub struct Loader {
    dataset: Arc<dyn Dataset>,
    preprocessing: Preprocessing,
    options: LoaderOptions,
}

impl Loader {
    /// A loader. Fails if the preprocessing or augmentation is out of its domain.
    pub fn new(dataset: Arc<dyn Dataset>, preprocessing: Preprocessing, options: LoaderOptions) -> Result<Self> {
        // Built by each worker again; built here so that a wrong setting is an error now.
        Transform::new(&preprocessing, options.augment.as_ref())?;
        Ok(Loader { dataset, preprocessing, options })
    }

    /// The number of batches in an epoch.
    pub fn batches(&self) -> usize {
        self.dataset.len().div_ceil(self.options.batch_size.max(1))
    }

    /// The number of pictures in an epoch.
    pub fn pictures(&self) -> usize {
        self.dataset.len()
    }

    /// The batches of `epoch`, from number `first` on (0 for all of them). Threads start at once; dropping the
    /// iterator stops them.
    pub fn epoch(&self, epoch: u64, first: usize) -> Batches {
        let mut order: Vec<usize> = (0..self.dataset.len()).collect();
        if self.options.shuffle {
            order.shuffle(&mut stream(self.options.seed, Purpose::Shuffle, epoch, 0));
        }
        let (order, count) = (Arc::new(order), self.batches());
        let workers = self.options.workers().min(count.saturating_sub(first)).max(1);
        let stop = Arc::new(AtomicBool::new(false));
        let (receivers, threads) = (0..workers)
            .map(|worker| {
                let (sender, receiver) = sync_channel(READY - 1);
                let task = Worker {
                    dataset: self.dataset.clone(),
                    preprocessing: self.preprocessing.clone(),
                    options: self.options.clone(),
                    order: order.clone(),
                    epoch,
                    stop: stop.clone(),
                };
                let numbers = (first + worker..count).step_by(workers);
                let thread = thread::Builder::new().name(format!("ocelli-loader-{worker}"));
                let thread = thread.spawn(move || task.run(numbers, count, &sender));
                (receiver, thread.expect("the system grants threads"))
            })
            .unzip();
        Batches { receivers, threads, stop, first, next: first, count }
    }
}

/// The batches of an epoch, in order. See [`Loader::epoch`].
pub struct Batches {
    /// Batch `first + i` comes from worker `i % workers`, so order needs no buffer beside the channels.
    receivers: Vec<Receiver<Batch>>,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    first: usize,
    next: usize,
    count: usize,
}

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        if self.next >= self.count {
            return None;
        }
        let worker = (self.next - self.first) % self.receivers.len();
        match self.receivers[worker].recv() {
            Ok(batch) => {
                self.next += 1;
                Some(batch)
            }
            // Only a worker that panicked hangs up early: that is a bug, and it is said where it can be seen.
            Err(_) => match self.threads.swap_remove(worker).join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("a worker sends all of its batches"),
            },
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.count.saturating_sub(self.next);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Batches {}

impl Drop for Batches {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A worker that waits for room in its channel wakes when nobody can receive from it any more.
        self.receivers.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

struct Worker {
    dataset: Arc<dyn Dataset>,
    preprocessing: Preprocessing,
    options: LoaderOptions,
    order: Arc<Vec<usize>>,
    epoch: u64,
    stop: Arc<AtomicBool>,
}

impl Worker {
    fn run(&self, numbers: impl Iterator<Item = usize>, count: usize, sender: &SyncSender<Batch>) {
        let transform = Transform::new(&self.preprocessing, self.options.augment.as_ref());
        let mut transform = transform.expect("settings that the loader has validated");
        let pictures = self.order.len();
        for number in numbers {
            let members = &self.order[number * pictures / count..(number + 1) * pictures / count];
            let Some(batch) = self.batch(members, &mut transform) else { return };
            if sender.send(batch).is_err() {
                return;
            }
        }
    }

    /// The batch of the given pictures, or nothing if the iterator has been dropped.
    fn batch(&self, members: &[usize], transform: &mut Transform) -> Option<Batch> {
        let side = self.preprocessing.crop;
        let shape = |n| [n, side, side, self.preprocessing.channels()];
        let row_len = self.preprocessing.row_len();
        let mut images = Tensor::zeros(shape(members.len()));
        let (mut labels, mut skipped) = (Vec::with_capacity(members.len()), Vec::new());
        let rows = images.data_mut();
        for &index in members {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let row = &mut rows[labels.len() * row_len..][..row_len];
            let mut rng = stream(self.options.seed, Purpose::Augment, self.epoch, index as u64);
            let read = self.dataset.picture(index).and_then(|picture| transform.apply(&picture, &mut rng, row));
            match read {
                Ok(()) => labels.push(self.dataset.label(index)),
                Err(error) => skipped.push(Skipped { name: self.dataset.name(index), reason: error.to_string() }),
            }
        }
        if !skipped.is_empty() {
            let kept = &images.data()[..labels.len() * row_len];
            images = Tensor::from_slice(shape(labels.len()), kept).expect("rows of the same shape");
        }
        Some(Batch { images, labels, skipped })
    }
}

#[cfg(test)]
mod tests;
