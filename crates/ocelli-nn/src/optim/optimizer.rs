//! The optimizer: a method at work on the parameters of a network.

use std::collections::HashMap;

use ocelli_autograd::tensor::{Element, Tensor};
use ocelli_autograd::{Parameter, Var};

use super::clip::Clip;
use super::method::{About, Method, Step};
use super::pass::{self, Piece};
use super::slot::{self, Slot};
use crate::checkpoint::Checkpoint;
use crate::{Error, Layout, Result, State};

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
        let (gradients, slots): (Vec<Tensor<T>>, Vec<&mut Slot<T>>) =
            self.slots.iter_mut().filter_map(|slot| Some((slot.parameter.take_grad()?, slot))).unzip();
        let mut step = Step { lr, scale, limit: f64::INFINITY };
        match self.clip {
            Some(Clip::Norm(limit)) => step.scale *= (limit / (scale * norm(&gradients) + 1e-6)).min(1.0),
            Some(Clip::Value(limit)) => step.limit = limit,
            None => {}
        }
        advance(self.method, slots, &gradients, step);
    }

    /// The backward pass of `loss` and a step, after which the weights have the same bits as after
    /// [`backward`](Var::backward) and [`step`](Self::step); but each parameter moves as soon as its gradient is complete,
    /// so that not all gradients live at once.
    ///
    /// Errors as the backward pass does, when some parameters may have moved; and if gradients are limited by
    /// [`Clip::Norm`], for which all must be known.
    pub fn backward_step(&mut self, loss: &Var<T>, lr: f64) -> Result<()> {
        let limit = match self.clip {
            Some(Clip::Norm(limit)) => return Err(Error::argument("Clip of single gradients", "a value", limit)),
            Some(Clip::Value(limit)) => limit,
            None => f64::INFINITY,
        };
        let (method, slots, step) = (self.method, &mut self.slots, Step { lr, scale: 1.0, limit });
        let places: HashMap<_, _> = slots.iter().enumerate().map(|(i, slot)| (slot.parameter.id(), i)).collect();
        loss.backward_each(|parameter| {
            let slot = places.get(&parameter.id()).map(|&i| &mut slots[i]);
            if let Some((slot, gradient)) = slot.and_then(|slot| Some((slot, parameter.take_grad()?))) {
                advance(method, vec![slot], &[gradient], step);
            }
        })?;
        Ok(())
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

/// Moves the parameters of some slots, in one pass.
fn advance<T: Element>(method: Method, mut slots: Vec<&mut Slot<T>>, gradients: &[Tensor<T>], step: Step) {
    slots.iter_mut().for_each(|slot| slot.begin(method.kept()));
    let abouts: Vec<About> = slots.iter().map(|slot| About { t: slot.steps, decays: slot.decays }).collect();
    let parameters: Vec<Parameter<T>> = slots.iter().map(|slot| slot.parameter.clone()).collect();
    Parameter::update_all(&parameters, |weights| {
        let operands = weights.into_iter().zip(gradients).zip(&mut slots);
        let wholes = operands.map(|((w, g), slot)| Piece::whole(w.data_mut(), g.data(), &mut slot.tensors)).collect();
        method.step(&mut pass::cut(wholes), &abouts, step);
    });
}

/// ‖g‖₂ of all gradients together.
fn norm<T: Element>(gradients: &[Tensor<T>]) -> f64 {
    let wholes = gradients.iter().map(|g| Piece::whole(&mut [], g.data(), &mut []));
    let sums = pass::map(&mut pass::cut(wholes.collect()), |piece| pass::square_sum(piece.g));
    sums.into_iter().sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ocelli_autograd::ops::Activation;
    use ocelli_autograd::tensor::Tensor;

    use super::*;
    use crate::loss::cross_entropy;
    use crate::optim::{AdamOptions, LambOptions, RmsPropOptions, SgdOptions};
    use crate::{Builder, Conv2dOptions, ConvNorm, GlobalAvgPool, Layer, Linear, LinearOptions, Mode, checkpoint};

    /// The state after three steps of a network, part of which is computed again if `again`.
    fn trained(method: Method, again: bool, early: bool) -> Checkpoint {
        let b = Builder::<f32>::new(3);
        let unit = |name, channels| {
            let (conv, relu) = (Conv2dOptions::new(3).padding(1), Some(Activation::Relu));
            ConvNorm::new(&b.enter(name), ("0", "1"), channels, conv, Default::default(), relu)
        };
        let (first, second) = (unit("a", [3, 8]).unwrap(), Arc::new(unit("b", [8, 8]).unwrap()));
        let last = Linear::new(&b.enter("fc"), 8, 4, LinearOptions::default()).unwrap();
        let mut optimizer = Optimizer::new(&b.state(), method).unwrap().with_clip(Clip::Value(0.01)).unwrap();
        for k in 0..3 {
            let (x, mode) = (Tensor::from_fn([2, 6, 6, 3], |i| ((i + k) % 13) as f32 / 6.0 - 1.0), Mode::train(0));
            let x = first.forward(&Var::constant(x), &mode).unwrap();
            let (layer, shared) = (second.clone(), second.clone());
            let x = match again {
                true => checkpoint(&[&x], &mode, move |x, mode| layer.forward(&x[0], mode)),
                false => layer.forward(&x, &mode),
            };
            let x = shared.forward(&x.unwrap(), &mode).unwrap();
            let logits = last.forward(&GlobalAvgPool.forward(&x, &mode).unwrap(), &mode).unwrap();
            let loss = cross_entropy(&logits, &[1, 3], 0.0).unwrap();
            if early {
                optimizer.backward_step(&loss, 0.1).unwrap();
            } else {
                loss.backward().unwrap();
                optimizer.step(0.1);
            }
        }
        b.state().to_checkpoint().unwrap()
    }

    #[test]
    fn steps_of_single_parameters_give_the_same_bits() {
        let sgd = SgdOptions { momentum: 0.9, weight_decay: 1e-4, ..SgdOptions::default() };
        let methods: [Method; 4] =
            [sgd.into(), AdamOptions::adamw().into(), LambOptions::default().into(), RmsPropOptions::default().into()];
        for method in methods {
            for again in [false, true] {
                let [early, late] = [true, false].map(|early| trained(method, again, early));
                for ((name, early), (_, late)) in early.iter().zip(late.iter()) {
                    assert_eq!(early.tensor, late.tensor, "{name}, {method:?}, again: {again}");
                }
            }
        }
    }

    #[test]
    fn a_norm_needs_all_gradients() {
        let b = Builder::<f32>::new(3);
        let layer = Linear::new(&b, 2, 2, LinearOptions::default()).unwrap();
        let mut optimizer = Optimizer::new(&b.state(), SgdOptions::default()).unwrap();
        optimizer = optimizer.with_clip(Clip::Norm(1.0)).unwrap();
        let y = layer.forward(&Var::constant(Tensor::full([1, 2], 1.0)), &Mode::Eval).unwrap();
        let error = optimizer.backward_step(&y.sum().unwrap(), 0.1).unwrap_err();
        assert!(error.to_string().contains("Clip of single gradients"), "{error}");
    }
}
