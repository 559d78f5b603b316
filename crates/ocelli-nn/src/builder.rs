//! The path-scoped builder, through which layers get their parameters and parameters their names.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use ocelli_autograd::Parameter;
use ocelli_autograd::tensor::{self, Element, Shape, Tensor};

use crate::state::{Item, Slot};
use crate::{Buffer, Counter, Error, Init, Layout, Result, State};

/// Hands out the parameters of a network under construction, and remembers them by their dotted names.
///
/// What a parameter's random values are depends on the seed and on its name alone: adding a layer, or building in
/// another order, leaves all others as they were.
///
/// ```
/// use ocelli_nn::{Builder, Init, Layout};
///
/// let b = Builder::<f32>::new(42);
/// let layer = b.enter("layer1").enter("0");
/// let weight = layer.parameter("weight", [3, 3, 16, 32], Init::RELU, Layout::Conv)?;
/// assert_eq!(b.state().names().collect::<Vec<_>>(), ["layer1.0.weight"]);
/// assert_eq!(weight.shape()[..], [3, 3, 16, 32]);
/// # Ok::<(), ocelli_nn::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Builder<T: Element = f32> {
    path: String,
    /// `None`: all zeros.
    seed: Option<u64>,
    parts: Arc<Mutex<Parts<T>>>,
}

/// What has been handed out, in order, and the names.
#[derive(Debug)]
struct Parts<T: Element> {
    items: Vec<Item<T>>,
    names: HashSet<String>,
}

impl<T: Element> Builder<T> {
    /// For a new network, whose weights are drawn by `seed`.
    pub fn new(seed: u64) -> Self {
        let parts = Parts { items: Vec::new(), names: HashSet::new() };
        Builder { path: String::new(), seed: Some(seed), parts: Arc::new(Mutex::new(parts)) }
    }

    /// For a network whose weights will be loaded: every parameter is zero, which saves the time of drawing it.
    pub fn zeroed() -> Self {
        Builder { seed: None, ..Self::new(0) }
    }

    /// The builder of the part called `name` (or, with dots, of a part of a part) of the same network.
    pub fn enter(&self, name: impl AsRef<str>) -> Self {
        Builder { path: self.full_name(name.as_ref()), ..self.clone() }
    }

    /// The dotted path, empty for the whole network.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A learned tensor. `shape` is this crate's; `layout` says how checkpoints lay it out.
    ///
    /// # Errors
    /// If the layout is one of other shapes, or there is a tensor of this name.
    pub fn parameter(&self, name: &str, shape: impl Into<Shape>, init: Init, layout: Layout) -> Result<Parameter<T>> {
        let shape = shape.into();
        let name = self.full_name(name);
        if !layout.fits(&shape) {
            return Err(tensor::Error::shape("parameter", "value", format!("for {layout:?}"), &shape).into());
        }
        let value = match self.seed {
            Some(seed) => init.tensor(shape, layout, mix(seed, &name)),
            None => Tensor::zeros(shape),
        };
        let parameter = Parameter::new(value);
        self.register(name, layout, Slot::Parameter(parameter.clone()))?;
        Ok(parameter)
    }

    /// A tensor of the state that is not learned.
    pub fn buffer(&self, name: &str, value: Tensor<T>) -> Result<Buffer<T>> {
        let buffer = Buffer::new(value);
        self.register(self.full_name(name), Layout::Vector, Slot::Buffer(buffer.clone()))?;
        Ok(buffer)
    }

    /// A counter of the state, from 0.
    pub fn counter(&self, name: &str) -> Result<Counter> {
        let counter = Counter::default();
        self.register(self.full_name(name), Layout::Vector, Slot::Counter(counter.clone()))?;
        Ok(counter)
    }

    /// All that has been built so far, by this builder and those entered from or before it.
    pub fn state(&self) -> State<T> {
        State::new(self.parts.lock().unwrap_or_else(PoisonError::into_inner).items.clone())
    }

    fn full_name(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn register(&self, name: String, layout: Layout, slot: Slot<T>) -> Result<()> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if !parts.names.insert(name.clone()) {
            return Err(Error::DuplicateName(name));
        }
        parts.items.push(Item { name, layout, slot });
        Ok(())
    }
}

/// A seed of its own for every name: FNV-1a of the name, mixed with the network's seed.
fn mix(seed: u64, name: &str) -> u64 {
    let fnv = name.bytes().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    crate::mode::split_mix(fnv ^ crate::mode::split_mix(seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_of_some_shapes() {
        let flattened = Layout::LinearAfterFlatten { height: 2, width: 3, channels: 4 };
        let made = |shape: &[usize], layout| {
            Builder::<f32>::zeroed().parameter("w", Shape::new(shape).unwrap(), Init::Constant(0.0), layout).map(|_| ())
        };
        for (layout, shape) in [(Layout::Conv, &[1, 2, 3, 4][..]), (Layout::Linear, &[5, 6]), (flattened, &[24, 6])] {
            made(shape, layout).unwrap();
            made(shape, Layout::Vector).unwrap();
            made(&[7, 24, 6], layout).unwrap_err();
        }
        let error = made(&[25, 6], flattened).unwrap_err().to_string();
        assert!(error.contains("LinearAfterFlatten") && error.contains("[25, 6]"), "{error}");
    }

    #[test]
    fn values_depend_on_seed_and_name_alone() {
        let weight = |b: &Builder, name: &str| {
            b.parameter(name, [5], Init::Normal { std: 1.0 }, Layout::Vector).unwrap().value()
        };
        let (first, second, other) = (Builder::new(1), Builder::new(1), Builder::new(2));
        let (a, b) = (weight(&first, "a"), weight(&first, "b"));
        let (b_again, a_again) = (weight(&second, "b"), weight(&second, "a"));
        assert_eq!((&a, &b), (&a_again, &b_again));
        assert_ne!(a, b);
        assert_ne!(a, weight(&other, "a"));
        assert_eq!(weight(&Builder::zeroed(), "a").data(), [0.0; 5]);
    }

    #[test]
    fn names_are_given_once() {
        let b = Builder::<f32>::new(0).enter("bn1");
        b.counter("num_batches_tracked").unwrap();
        let error = b.buffer("num_batches_tracked", Tensor::zeros([1])).unwrap_err();
        assert_eq!(error.to_string(), "the name `bn1.num_batches_tracked` is given to two tensors of one model");
    }
}
