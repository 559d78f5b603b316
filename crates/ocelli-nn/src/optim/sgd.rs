//! Stochastic gradient descent with momentum, as PyTorch defines it:
//!
//! g ← dw + λ·w;  v ← μ·v + g;  w ← w − lr · (g + μ·v if Nesterov, else v)
//!
//! Here lr scales the whole step, so a change of lr acts at once also on the momentum.

use ocelli_autograd::Parameter;
use ocelli_autograd::tensor::{Element, Tensor, threads};

use crate::checkpoint::Checkpoint;
use crate::{Error, Layout, Mismatch, Misshaped, Result, State};

/// The constants of [`Sgd`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdOptions {
    /// μ: how much of the last direction is kept.
    pub momentum: f64,
    /// Whether to look one step ahead along the momentum (Nesterov 1983; needs momentum).
    pub nesterov: bool,
    /// λ: how strongly weights are pulled to 0.
    pub weight_decay: f64,
    /// Whether λ also applies to vectors, the parameters of norms and biases, as PyTorch's own does. Large-batch
    /// recipes spare them (He et al. 2018, <https://arxiv.org/abs/1812.01187>, section 3.1).
    pub decay_vectors: bool,
}

impl Default for SgdOptions {
    /// Plain gradient descent.
    fn default() -> Self {
        SgdOptions { momentum: 0.0, nesterov: false, weight_decay: 0.0, decay_vectors: true }
    }
}

/// The optimizer of a network's parameters.
#[derive(Debug)]
pub struct Sgd<T: Element = f32> {
    options: SgdOptions,
    slots: Vec<Slot<T>>,
}

#[derive(Debug)]
struct Slot<T: Element> {
    name: String,
    layout: Layout,
    parameter: Parameter<T>,
    /// v, from the first step on that has a gradient.
    velocity: Option<Tensor<T>>,
}

impl<T: Element> Sgd<T> {
    /// An optimizer of all parameters of a state. Errors if a constant is out of its domain.
    pub fn new(state: &State<T>, options: SgdOptions) -> Result<Self> {
        for (item, value) in [("SGD momentum", options.momentum), ("SGD weight decay", options.weight_decay)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::argument(item, "a number of at least 0", value));
            }
        }
        if options.nesterov && options.momentum == 0.0 {
            return Err(Error::argument("SGD momentum", "more than 0 for Nesterov's method", 0));
        }
        let slot = |item: &crate::state::Item<T>| {
            let parameter = item.parameter()?.clone();
            Some(Slot { name: item.name.clone(), layout: item.layout, parameter, velocity: None })
        };
        Ok(Sgd { options, slots: state.items().iter().filter_map(slot).collect() })
    }

    /// Moves every parameter that has a gradient and takes the gradient away; the others, such as frozen ones, stay
    /// as they are.
    pub fn step(&mut self, lr: f64) {
        for slot in &mut self.slots {
            if let Some(gradient) = slot.parameter.take_grad() {
                slot.step(&gradient, &self.options, lr);
            }
        }
    }

    /// The velocities, named and laid out as the parameters that they belong to.
    pub fn to_checkpoint(&self) -> Result<Checkpoint> {
        let mut checkpoint = Checkpoint::new();
        for slot in &self.slots {
            if let Some(velocity) = &slot.velocity {
                checkpoint.insert(&slot.name, slot.layout.to_checkpoint(velocity)?.cast());
            }
        }
        Ok(checkpoint)
    }

    /// Takes the velocities that [`to_checkpoint`](Self::to_checkpoint) gave; a parameter without one has not moved
    /// yet. Training then goes on as if it had never stopped. On an error, which lists all that does not fit, nothing
    /// has changed.
    pub fn load(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let mut mismatch = Mismatch::default();
        for (name, entry) in checkpoint.iter() {
            let Some(slot) = self.slots.iter().find(|slot| slot.name == name) else {
                mismatch.unexpected.push(name.to_owned());
                continue;
            };
            let expected = slot.layout.checkpoint_shape(slot.parameter.shape());
            if *entry.tensor.shape() != expected {
                let got = entry.tensor.shape().to_vec();
                mismatch.misshaped.push(Misshaped { name: name.to_owned(), expected: expected.to_vec(), got });
            }
        }
        if !mismatch.is_empty() {
            return Err(mismatch.into());
        }
        let read = |slot: &Slot<T>| {
            let entry = checkpoint.get(&slot.name);
            entry.map(|entry| Ok(slot.layout.from_checkpoint(&entry.tensor)?.cast())).transpose()
        };
        let velocities: Vec<Option<Tensor<T>>> = self.slots.iter().map(read).collect::<Result<_>>()?;
        self.slots.iter_mut().zip(velocities).for_each(|(slot, velocity)| slot.velocity = velocity);
        Ok(())
    }
}

/// Numbers a thread takes at a time.
const CHUNK: usize = 16 * 1024;

impl<T: Element> Slot<T> {
    fn step(&mut self, gradient: &Tensor<T>, options: &SgdOptions, lr: f64) {
        let decays = options.decay_vectors || self.layout != Layout::Vector;
        let decay = T::from_f64(if decays { options.weight_decay } else { 0.0 });
        let (lr, momentum) = (T::from_f64(lr), T::from_f64(options.momentum));
        let gradient = gradient.data();
        if options.momentum == 0.0 {
            return self.parameter.update(|w| {
                threads::for_each_chunk(w.data_mut(), CHUNK, |i, w| {
                    w.iter_mut().zip(&gradient[i * CHUNK..]).for_each(|(w, &dw)| *w -= lr * (dw + decay * *w));
                });
            });
        }
        let velocity = self.velocity.get_or_insert_with(|| Tensor::zeros(*self.parameter.shape()));
        self.parameter.update(|w| {
            threads::for_each_chunk2((w.data_mut(), CHUNK), (velocity.data_mut(), CHUNK), |i, w, v| {
                for ((w, v), &dw) in w.iter_mut().zip(v).zip(&gradient[i * CHUNK..]) {
                    let g = dw + decay * *w;
                    *v = momentum * *v + g;
                    *w -= lr * if options.nesterov { g + momentum * *v } else { *v };
                }
            });
        });
    }
}
