//! The named state of a network: what is learned, and what is only kept.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use ocelli_autograd::Parameter;
use ocelli_autograd::tensor::{self, Element, Shape, Tensor};

use crate::checkpoint::{Checkpoint, Dtype};
use crate::{Layout, Mismatch, Misshaped, Result};

/// A tensor that belongs to a network's state without being learned, such as a running mean. Clones are the same
/// buffer.
#[derive(Debug, Clone)]
pub struct Buffer<T: Element = f32>(Arc<RwLock<Tensor<T>>>);

impl<T: Element> Buffer<T> {
    pub(crate) fn new(value: Tensor<T>) -> Self {
        Buffer(Arc::new(RwLock::new(value)))
    }

    /// The current value; no copy.
    pub fn value(&self) -> Tensor<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the value by one of the same shape.
    pub fn set_value(&self, value: Tensor<T>) -> Result<()> {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if value.shape() != current.shape() {
            return Err(tensor::Error::shape("buffer", "value", current.shape(), value.shape()).into());
        }
        *current = value;
        Ok(())
    }
}

/// A number that counts up, such as `num_batches_tracked`. Clones are the same counter.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// The current value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Replaces the value.
    pub fn set_value(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Counts one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A named part of a state.
#[derive(Debug, Clone)]
pub(crate) struct Item<T: Element> {
    pub(crate) name: String,
    pub(crate) layout: Layout,
    pub(crate) slot: Slot<T>,
}

#[derive(Debug, Clone)]
pub(crate) enum Slot<T: Element> {
    Parameter(Parameter<T>),
    Buffer(Buffer<T>),
    Counter(Counter),
}

impl<T: Element> Item<T> {
    pub(crate) fn parameter(&self) -> Option<&Parameter<T>> {
        match &self.slot {
            Slot::Parameter(parameter) => Some(parameter),
            _ => None,
        }
    }

    /// The shape that a checkpoint gives this item.
    fn stored_shape(&self) -> Shape {
        match &self.slot {
            Slot::Parameter(parameter) => self.layout.checkpoint_shape(parameter.shape()),
            Slot::Buffer(buffer) => self.layout.checkpoint_shape(buffer.value().shape()),
            Slot::Counter(_) => Shape::from([]),
        }
    }
}

/// The parameters, buffers and counters of a network, in the order in which PyTorch's `state_dict` has them. Made by
/// [`Builder::state`](crate::Builder::state); clones refer to the same network.
#[derive(Debug, Clone)]
pub struct State<T: Element = f32> {
    items: Arc<[Item<T>]>,
}

impl<T: Element> State<T> {
    pub(crate) fn new(items: Vec<Item<T>>) -> Self {
        State { items: items.into() }
    }

    pub(crate) fn items(&self) -> &[Item<T>] {
        &self.items
    }

    /// The same state but for what `leave` says of a name: as a network without its classifier has it.
    pub fn without(&self, leave: impl Fn(&str) -> bool) -> Self {
        State::new(self.items.iter().filter(|item| !leave(&item.name)).cloned().collect())
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.items.iter().map(|item| item.name.as_str())
    }

    /// The names and values of what is learned.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &Parameter<T>)> {
        self.items.iter().filter_map(|item| Some((item.name.as_str(), item.parameter()?)))
    }

    /// How many numbers are learned, frozen ones included.
    pub fn parameter_count(&self) -> usize {
        self.parameters().map(|(_, parameter)| parameter.shape().len()).sum()
    }

    /// Freezes the parameters whose names begin with `prefix` (`"layer1."`; all with `""`), and says how many tensors
    /// that are. A batch norm whose parameters are frozen also stops updating its statistics and normalises by them.
    pub fn freeze(&self, prefix: &str) -> usize {
        self.set_requires_grad(prefix, false)
    }

    /// Undoes [`freeze`](Self::freeze).
    pub fn unfreeze(&self, prefix: &str) -> usize {
        self.set_requires_grad(prefix, true)
    }

    fn set_requires_grad(&self, prefix: &str, requires_grad: bool) -> usize {
        let matching = self.parameters().filter(|(name, _)| name.starts_with(prefix));
        matching.map(|(_, parameter)| parameter.set_requires_grad(requires_grad)).count()
    }

    /// Forgets all accumulated gradients.
    pub fn zero_grad(&self) {
        self.parameters().for_each(|(_, parameter)| parameter.zero_grad());
    }

    /// The current values, as `f32` in PyTorch's layout.
    pub fn to_checkpoint(&self) -> Result<Checkpoint> {
        let mut checkpoint = Checkpoint::new();
        for item in self.items.iter() {
            match &item.slot {
                Slot::Parameter(parameter) => {
                    checkpoint.insert(&item.name, item.layout.to_checkpoint(&parameter.value())?.cast());
                }
                Slot::Buffer(buffer) => {
                    checkpoint.insert(&item.name, item.layout.to_checkpoint(&buffer.value())?.cast());
                }
                Slot::Counter(counter) => {
                    checkpoint.insert_as(&item.name, Dtype::I64, Tensor::scalar(counter.value() as f32));
                }
            }
        }
        Ok(checkpoint)
    }

    /// Everything in which a checkpoint differs from this state. A counter may be missing: older versions of PyTorch
    /// wrote none.
    pub fn compare(&self, checkpoint: &Checkpoint) -> Mismatch {
        let mut mismatch = Mismatch::default();
        for item in self.items.iter() {
            let expected = item.stored_shape();
            match checkpoint.get(&item.name) {
                None if matches!(item.slot, Slot::Counter(_)) => {}
                None => mismatch.missing.push(item.name.clone()),
                Some(entry) if *entry.tensor.shape() == expected => {}
                Some(entry) => mismatch.misshaped.push(Misshaped {
                    name: item.name.clone(),
                    expected: expected.to_vec(),
                    got: entry.tensor.shape().to_vec(),
                }),
            }
        }
        let known: HashSet<&str> = self.names().collect();
        mismatch.unexpected = checkpoint.iter().map(|(name, _)| name.to_owned()).collect();
        mismatch.unexpected.retain(|name| !known.contains(name.as_str()));
        mismatch
    }

    /// Takes the values of a checkpoint. If it does not fit, the error lists every tensor that is missing, unexpected
    /// or misshaped, and nothing has changed; unless `strict`, only misshaped ones count, what is missing keeps its
    /// value and what is unexpected is ignored.
    pub fn load(&self, checkpoint: &Checkpoint, strict: bool) -> Result<()> {
        let mut mismatch = self.compare(checkpoint);
        if !strict {
            mismatch.missing.clear();
            mismatch.unexpected.clear();
        }
        if !mismatch.is_empty() {
            return Err(mismatch.into());
        }
        // Shapes agree, and layouts fit them, so nothing fails from here on. Converted one at a time, so that a replaced
        // value's memory serves the next.
        for item in self.items.iter() {
            let Some(entry) = checkpoint.get(&item.name) else { continue };
            let value = item.layout.from_checkpoint(&entry.tensor)?;
            match &item.slot {
                Slot::Parameter(parameter) => parameter.set_value(value.cast())?,
                Slot::Buffer(buffer) => buffer.set_value(value.cast())?,
                Slot::Counter(counter) => counter.set_value(value.item()? as u64),
            }
        }
        Ok(())
    }
}
