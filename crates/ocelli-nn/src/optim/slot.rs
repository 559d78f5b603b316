//! What an optimizer keeps of a parameter, with its names and layouts in checkpoints.

use ocelli_autograd::Parameter;
use ocelli_autograd::tensor::{Element, Tensor};

use crate::checkpoint::Checkpoint;
use crate::{Layout, Mismatch, Misshaped, Result};

/// The name of a count of steps, behind the parameter's.
const STEPS: &str = "/steps";
/// Where counts end: checkpoints hold f32, exact up to here, and βᵗ has long been 0.
pub(super) const MOST_STEPS: u64 = 1 << 24;

/// One tensor of a parameter's shape that a method keeps.
pub(super) struct Kept {
    /// Of its name, behind the parameter's.
    pub suffix: &'static str,
    /// What it begins with.
    pub start: f64,
}

/// A parameter and what is kept of it.
#[derive(Debug)]
pub(super) struct Slot<T: Element> {
    pub name: String,
    pub layout: Layout,
    pub parameter: Parameter<T>,
    /// Whether weight decay applies.
    pub decays: bool,
    /// Empty until the first step that has a gradient.
    pub tensors: Vec<Tensor<T>>,
    /// Steps that it has taken.
    pub steps: u64,
}

impl<T: Element> Slot<T> {
    /// Counts a step, the first of which makes the tensors.
    pub fn begin(&mut self, kept: &[Kept]) {
        self.steps = MOST_STEPS.min(self.steps + 1);
        if self.tensors.is_empty() {
            let shape = *self.parameter.shape();
            self.tensors.extend(kept.iter().map(|kept| Tensor::full(shape, T::from_f64(kept.start))));
        }
    }
}

/// Everything that is kept, named and laid out as the parameters.
pub(super) fn to_checkpoint<T: Element>(slots: &[Slot<T>], kept: &[Kept], counts: bool) -> Result<Checkpoint> {
    let mut checkpoint = Checkpoint::new();
    for slot in slots {
        for (kept, tensor) in kept.iter().zip(&slot.tensors) {
            checkpoint.insert(format!("{}{}", slot.name, kept.suffix), slot.layout.to_checkpoint(tensor)?.cast());
        }
        if counts && slot.steps > 0 {
            checkpoint.insert(format!("{}{STEPS}", slot.name), Tensor::scalar(slot.steps as f32));
        }
    }
    Ok(checkpoint)
}

/// Takes what [`to_checkpoint`] gave. On an error, which lists all that does not fit, nothing has changed.
pub(super) fn load<T: Element>(
    slots: &mut [Slot<T>],
    kept: &[Kept],
    counts: bool,
    checkpoint: &Checkpoint,
) -> Result<()> {
    let mut mismatch = Mismatch::default();
    let (mut found, mut loaded) = (0, Vec::with_capacity(slots.len()));
    for slot in slots.iter() {
        let expected = slot.layout.checkpoint_shape(slot.parameter.shape());
        let mut tensors = Vec::with_capacity(kept.len());
        let names = kept.iter().map(|kept| format!("{}{}", slot.name, kept.suffix));
        let steps = counts.then(|| format!("{}{STEPS}", slot.name)).and_then(|name| checkpoint.get(&name));
        let mut missing = Vec::new();
        for name in names {
            match checkpoint.get(&name) {
                None => missing.push(name),
                Some(entry) if *entry.tensor.shape() == expected => {
                    tensors.push(slot.layout.from_checkpoint(&entry.tensor)?.cast());
                    found += 1;
                }
                Some(entry) => {
                    let (expected, got) = (expected.to_vec(), entry.tensor.shape().to_vec());
                    mismatch.misshaped.push(Misshaped { name, expected, got });
                    found += 1;
                }
            }
        }
        // All or nothing: a parameter of which nothing is kept has not moved yet.
        if missing.len() < kept.len() || steps.is_some() {
            mismatch.missing.append(&mut missing);
        }
        let mut count = 0;
        match steps {
            Some(entry) if entry.tensor.len() == 1 => {
                count = entry.tensor.item()? as u64;
                found += 1;
            }
            Some(entry) => {
                let (name, got) = (format!("{}{STEPS}", slot.name), entry.tensor.shape().to_vec());
                mismatch.misshaped.push(Misshaped { name, expected: Vec::new(), got });
                found += 1;
            }
            None if counts && !tensors.is_empty() => mismatch.missing.push(format!("{}{STEPS}", slot.name)),
            None => {}
        }
        loaded.push((tensors, count));
    }
    if found < checkpoint.len() {
        mismatch.unexpected = unexpected(slots, kept, counts, checkpoint);
    }
    if !mismatch.is_empty() {
        return Err(mismatch.into());
    }
    for (slot, (tensors, steps)) in slots.iter_mut().zip(loaded) {
        (slot.tensors, slot.steps) = (tensors, steps);
    }
    Ok(())
}

fn unexpected<T: Element>(slots: &[Slot<T>], kept: &[Kept], counts: bool, checkpoint: &Checkpoint) -> Vec<String> {
    let suffixes = || kept.iter().map(|kept| kept.suffix).chain(counts.then_some(STEPS));
    let known = |name: &str| {
        suffixes()
            .any(|suffix| name.strip_suffix(suffix).is_some_and(|name| slots.iter().any(|slot| slot.name == name)))
    };
    checkpoint.iter().map(|(name, _)| name).filter(|name| !known(name)).map(str::to_owned).collect()
}
