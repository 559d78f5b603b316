//! Exponential moving averages of weights, which generalise better than the last weights: Polyak and Juditsky 1992,
//! <https://doi.org/10.1137/0330046>; in the networks of Szegedy et al. 2015 and Tan and Le 2019.
//!
//! After step t: a ← d·a + (1 − d)·w, with d = min(decay, (1 + t) / (10 + t)), as TensorFlow does, so that the first
//! averages are not those of random weights.

use ocelli_autograd::Parameter;
use ocelli_autograd::tensor::simd::Simd;
use ocelli_autograd::tensor::{Element, Tensor};

use super::pass::{self, Piece, Rule};
use super::slot::MOST_STEPS;
use crate::checkpoint::Checkpoint;
use crate::state::Slot;
use crate::{Error, Result, State};

/// The name of the count of updates in a checkpoint.
const UPDATES: &str = "/updates";

/// The averages of a network's parameters, and of its buffers, such as running means.
#[derive(Debug)]
pub struct Ema<T: Element = f32> {
    decay: f64,
    updates: u64,
    state: State<T>,
    /// One for each item of the state; `None` for counters.
    averages: Vec<Option<Tensor<T>>>,
}

impl<T: Element> Ema<T> {
    /// Averages that begin with the state's current values. Errors unless 0 ≤ `decay` < 1; 0.9999 suits long training.
    pub fn new(state: &State<T>, decay: f64) -> Result<Self> {
        if !(0.0..1.0).contains(&decay) {
            return Err(Error::argument("Ema decay", "at least 0 and below 1", decay));
        }
        let averages = state.items().iter().map(|item| value(&item.slot)).collect();
        Ok(Ema { decay, updates: 0, state: state.clone(), averages })
    }

    /// Follows the state, after a step of the optimizer.
    pub fn update(&mut self) {
        let t = self.updates as f64;
        let decay = self.decay.min((1.0 + t) / (10.0 + t));
        self.updates = MOST_STEPS.min(self.updates + 1);
        let values: Vec<Option<Tensor<T>>> = self.state.items().iter().map(|item| value(&item.slot)).collect();
        // The first update unshares the averages from the values with which they began.
        let pairs = self.averages.iter_mut().flatten().zip(values.iter().flatten());
        let wholes = pairs.map(|(average, value)| Piece::whole(average.data_mut(), value.data(), &mut []));
        let rule = Blend { take: T::from_f64(1.0 - decay) };
        pass::for_each(&mut pass::cut(wholes.collect()), |piece| pass::apply(rule, piece));
    }

    /// Runs `f`, an evaluation or the writing of weights, while the network has the averages for values.
    pub fn with_averages<R>(&mut self, f: impl FnOnce() -> R) -> R {
        struct Restore<'a, T: Element>(&'a mut Ema<T>);
        impl<T: Element> Drop for Restore<'_, T> {
            fn drop(&mut self) {
                self.0.swap();
            }
        }
        self.swap();
        let _restore = Restore(self);
        f()
    }

    /// Exchanges the averages and the network's values.
    fn swap(&mut self) {
        const SHAPE: &str = "an average has its value's shape";
        for (item, average) in self.state.items().iter().zip(&mut self.averages) {
            let Some(average) = average else { continue };
            match &item.slot {
                Slot::Parameter(parameter) => parameter.update(|value| std::mem::swap(value, average)),
                Slot::Buffer(buffer) => {
                    let value = buffer.value();
                    buffer.set_value(std::mem::replace(average, value)).expect(SHAPE);
                }
                Slot::Counter(_) => {}
            }
        }
    }

    /// The averages, named and laid out as the state, and how many updates they have seen.
    pub fn to_checkpoint(&self) -> Result<Checkpoint> {
        let mut checkpoint = Checkpoint::new();
        for (item, average) in self.state.items().iter().zip(&self.averages) {
            if let Some(average) = average {
                checkpoint.insert(&item.name, item.layout.to_checkpoint(average)?.cast());
            }
        }
        checkpoint.insert(UPDATES, Tensor::scalar(self.updates as f32));
        Ok(checkpoint)
    }

    /// Takes what [`to_checkpoint`](Self::to_checkpoint) gave. On an error, which lists all that does not fit, nothing
    /// has changed.
    pub fn load(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let mut averages = checkpoint.clone();
        averages.retain(|name| name != UPDATES);
        let mut mismatch = self.state.compare(&averages);
        let updates = checkpoint.get(UPDATES).map(|entry| entry.tensor.item()).transpose()?;
        if updates.is_none() {
            mismatch.missing.push(UPDATES.into());
        }
        if !mismatch.is_empty() {
            return Err(mismatch.into());
        }
        let read = |item: &crate::state::Item<T>| {
            let entry = averages.get(&item.name);
            entry.map(|entry| Ok(item.layout.from_checkpoint(&entry.tensor)?.cast())).transpose()
        };
        self.averages = self.state.items().iter().map(read).collect::<Result<_>>()?;
        self.updates = updates.map_or(0, |updates| updates as u64);
        Ok(())
    }
}

/// No copy.
fn value<T: Element>(slot: &Slot<T>) -> Option<Tensor<T>> {
    match slot {
        Slot::Parameter(parameter) => Some(Parameter::value(parameter)),
        Slot::Buffer(buffer) => Some(buffer.value()),
        Slot::Counter(_) => None,
    }
}

/// a + (1 − d)·(w − a)
#[derive(Clone, Copy)]
struct Blend<T> {
    take: T,
}

impl<T: Element> Rule<T, 0> for Blend<T> {
    #[inline(always)]
    fn update<S: Simd<T>>(&self, simd: S, average: S::V, value: S::V, _: &mut [S::V; 0]) -> S::V {
        simd.mul_add(simd.splat(self.take), simd.sub(value, average), average)
    }
}
