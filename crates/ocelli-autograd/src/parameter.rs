//! Values that are learned: where gradients end and accumulate.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ocelli_tensor::{Element, Shape, Tensor};

use crate::node::{Node, Origin, next_id};
use crate::{Error, Result, Var, grad_mode};

/// A tensor that is learned, with its accumulated gradient. Clones are the same parameter.
///
/// ```
/// use ocelli_autograd::{Parameter, Tensor};
///
/// let w = Parameter::new(Tensor::full([2], 3.0f32));
/// w.var().mul(&w.var())?.sum()?.backward()?;
/// assert_eq!(w.grad(), Some(Tensor::full([2], 6.0)));
/// let gradient = w.take_grad().unwrap();
/// w.update(|w| w.data_mut().iter_mut().zip(gradient.data()).for_each(|(w, dw)| *w -= 0.5 * dw));
/// assert_eq!(w.value(), Tensor::zeros([2]));
/// # Ok::<(), ocelli_autograd::Error>(())
/// ```
pub struct Parameter<T: Element = f32>(Arc<Inner<T>>);

struct Inner<T: Element> {
    id: u64,
    shape: Shape,
    value: RwLock<Tensor<T>>,
    grad: Mutex<Option<Tensor<T>>>,
    requires_grad: AtomicBool,
}

impl<T: Element> Parameter<T> {
    /// A parameter that requires a gradient.
    pub fn new(value: Tensor<T>) -> Self {
        Parameter(Arc::new(Inner {
            id: next_id(),
            shape: *value.shape(),
            value: RwLock::new(value),
            grad: Mutex::new(None),
            requires_grad: AtomicBool::new(true),
        }))
    }

    /// A number that no other parameter has as long as the program runs.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The shape, which never changes.
    pub fn shape(&self) -> &Shape {
        &self.0.shape
    }

    /// The current value; no copy.
    pub fn value(&self) -> Tensor<T> {
        grad_mode::read(self.0.id);
        self.0.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the value by one of the same shape.
    pub fn set_value(&self, value: Tensor<T>) -> Result<()> {
        if *value.shape() != self.0.shape {
            return Err(Error::ParameterShape { expected: self.0.shape, got: *value.shape() });
        }
        *self.0.value.write().unwrap_or_else(PoisonError::into_inner) = value;
        Ok(())
    }

    /// Changes the value in place; without a copy, unless a graph, a plan or a caller still holds the old one.
    ///
    /// # Panics
    /// If `f` leaves a tensor of another shape.
    pub fn update<R>(&self, f: impl FnOnce(&mut Tensor<T>) -> R) -> R {
        let mut value = self.0.value.write().unwrap_or_else(PoisonError::into_inner);
        let result = f(&mut value);
        assert_eq!(*value.shape(), self.0.shape, "a parameter keeps its shape");
        result
    }

    /// As [`update`](Self::update) for many parameters at once, each of which occurs once.
    ///
    /// # Panics
    /// If `f` leaves a tensor of another shape.
    pub fn update_all<R>(parameters: &[Self], f: impl FnOnce(Vec<&mut Tensor<T>>) -> R) -> R {
        let values = parameters.iter().map(|p| p.0.value.write().unwrap_or_else(PoisonError::into_inner));
        let mut values: Vec<_> = values.collect();
        let result = f(values.iter_mut().map(|value| &mut **value).collect());
        let kept = parameters.iter().zip(&values).all(|(p, value)| *value.shape() == p.0.shape);
        assert!(kept, "a parameter keeps its shape");
        result
    }

    /// The gradient that backward passes have accumulated, if any has; no copy.
    pub fn grad(&self) -> Option<Tensor<T>> {
        self.lock_grad().clone()
    }

    /// Takes the accumulated gradient, leaving none.
    pub fn take_grad(&self) -> Option<Tensor<T>> {
        self.lock_grad().take()
    }

    /// Forgets the accumulated gradient.
    pub fn zero_grad(&self) {
        *self.lock_grad() = None;
    }

    /// Adds to the gradient.
    pub fn accumulate(&self, gradient: Tensor<T>) -> Result<()> {
        if *gradient.shape() != self.0.shape {
            return Err(ocelli_tensor::Error::shape("parameter", "gradient", self.0.shape, gradient.shape()).into());
        }
        let mut grad = self.lock_grad();
        *grad = Some(match grad.take() {
            Some(sum) => crate::backward::sum(sum, gradient)?,
            None => gradient,
        });
        Ok(())
    }

    /// Whether backward passes compute this parameter's gradient.
    pub fn requires_grad(&self) -> bool {
        self.0.requires_grad.load(Ordering::Relaxed)
    }

    /// Freezes (`false`) or unfreezes the parameter for what is recorded from now on.
    pub fn set_requires_grad(&self, requires_grad: bool) {
        self.0.requires_grad.store(requires_grad, Ordering::Relaxed);
    }

    /// The current value as an operand; a constant if the parameter is frozen.
    pub fn var(&self) -> Var<T> {
        let node = self.requires_grad().then(|| Node::new(self.0.id, self.0.shape, Origin::Parameter(self.clone())));
        Var::new(self.0.id, self.value(), node)
    }

    /// Whether both are the same parameter, rather than equal ones.
    pub fn is(&self, other: &Parameter<T>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn lock_grad(&self) -> std::sync::MutexGuard<'_, Option<Tensor<T>>> {
        self.0.grad.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Element> Clone for Parameter<T> {
    fn clone(&self) -> Self {
        Parameter(self.0.clone())
    }
}

impl<T: Element> fmt::Debug for Parameter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frozen = if self.requires_grad() { "" } else { ", frozen" };
        write!(f, "Parameter({:?}{frozen})", self.value())
    }
}
