//! The optimizer: a method at work on the parameters of a network.

use ocelli_autograd::Parameter;
use ocelli_autograd::tensor::{Element, Tensor};

use super::clip::Clip;
use super::method::{About, Method, Step};
use super::pass::{self, Piece};
use super::slot::{self, Slot};
use crate::checkpoint::Checkpoint;
use crate::{Layout, Result, State};

/// The optimizer of a network's parameters.
///
/// ```
/// use ocelli_nn::optim::{AdamOptions, Clip, Optimizer};
/// use ocelli_nn::{Builder, Linear, LinearOptions};
///
/// let b = Builder::<f32>::new(1);
/// let layer = Linear::new(&b.enter("fc"), 8, 2, LinearOptions::default())?;
/// let adamw = AdamOptions { weight_decay: 0.05, ..AdamOptions::adamw() };
/// let optimizer = Optimizer::new(&b.state(), adamw)?
///     .without_decay(|name| name.ends_with(".bias"))
///     .with_clip(Clip::Norm(1.0))?;
/// # Ok::<(), ocelli_nn::Error>(())
/// ```
#[derive(Debug)]
pub struct Optimizer<T: Element = f32> {
    method: Method,
    clip: Option<Clip>,
    slots: Vec<Slot<T>>,
}

impl<T: Element> Optimizer<T> {
    /// An optimizer of all parameters of a state. Errors if a constant is out of its domain.
    pub fn new(state: &State<T>, method: impl Into<Method>) -> Result<Self> {
        let method = method.into();
        method.validate()?;
        let slot = |item: &crate::state::Item<T>| {
            let (parameter, layout) = (item.parameter()?.clone(), item.layout);
            let decays = method.decays_vectors() || layout != Layout::Vector;
            Some(Slot { name: item.name.clone(), layout, parameter, decays, tensors: Vec::new(), steps: 0 })
        };
        Ok(Optimizer { method, clip: None, slots: state.items().iter().filter_map(slot).collect() })
    }

    /// The same, with gradients limited. Errors unless the limit is positive.
    pub fn with_clip(mut self, clip: Clip) -> Result<Self> {
        clip.validate()?;
        self.clip = Some(clip);
        Ok(self)
    }

    /// The same, without weight decay of the parameters whose names `spare` accepts.
    pub fn without_decay(mut self, spare: impl Fn(&str) -> bool) -> Self {
        self.slots.iter_mut().for_each(|slot| slot.decays &= !spare(&slot.name));
        self
    }

    /// Moves every parameter that has a gradient and takes the gradient away; the others, such as frozen ones, stay
    /// as they are.
    pub fn step(&mut self, lr: f64) {
        self.step_scaled(lr, 1.0);
    }

    /// As [`step`](Self::step), with all gradients times `scale`: 1/k after k backward passes makes their sum the mean.
    pub fn step_scaled(&mut self, lr: f64, scale: f64) {
        let method = self.method;
        let (gradients, mut slots): (Vec<Tensor<T>>, Vec<&mut Slot<T>>) =
            self.slots.iter_mut().filter_map(|slot| Some((slot.parameter.take_grad()?, slot))).unzip();
        let mut step = Step { lr, scale, limit: f64::INFINITY };
        match self.clip {
            Some(Clip::Norm(limit)) => step.scale *= (limit / (scale * norm(&gradients) + 1e-6)).min(1.0),
            Some(Clip::Value(limit)) => step.limit = limit,
            None => {}
        }
        slots.iter_mut().for_each(|slot| slot.begin(method.kept()));
        let abouts: Vec<About> = slots.iter().map(|slot| About { t: slot.steps, decays: slot.decays }).collect();
        let parameters: Vec<Parameter<T>> = slots.iter().map(|slot| slot.parameter.clone()).collect();
        Parameter::update_all(&parameters, |weights| {
            let operands = weights.into_iter().zip(&gradients).zip(&mut slots);
            let wholes =
                operands.map(|((w, g), slot)| Piece::whole(w.data_mut(), g.data(), &mut slot.tensors)).collect();
            method.step(&mut pass::cut(wholes), &abouts, step);
        });
    }

    /// What is kept of the parameters, named and laid out as they are.
    pub fn to_checkpoint(&self) -> Result<Checkpoint> {
        slot::to_checkpoint(&self.slots, self.method.kept(), self.method.counts())
    }

    /// Takes what [`to_checkpoint`](Self::to_checkpoint) gave; a parameter of which it holds nothing has not moved
    /// yet. Training then goes on as if it had never stopped. On an error, which lists all that does not fit, nothing
    /// has changed.
    pub fn load(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        slot::load(&mut self.slots, self.method.kept(), self.method.counts(), checkpoint)
    }
}

/// ‖g‖₂ of all gradients together.
fn norm<T: Element>(gradients: &[Tensor<T>]) -> f64 {
    let wholes = gradients.iter().map(|g| Piece::whole(&mut [], g.data(), &mut []));
    let sums = pass::map(&mut pass::cut(wholes.collect()), |piece| pass::square_sum(piece.g));
    sums.into_iter().sum::<f64>().sqrt()
}
