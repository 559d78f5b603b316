//! Where an operation's backward pass leaves the gradients of its inputs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ocelli_tensor::ops::{self, GradientSums};
use ocelli_tensor::{Element, Tensor};

use crate::Result;
use crate::checkpoint::Recompute;
use crate::node::{Node, Origin};
use crate::ops::BatchStats;

/// An input's gradient, as an operation finds it that adds its part.
pub struct Target<'a, T: Element = f32> {
    /// What the gradient is so far, if something else has added to it. The operation may take it and return the sum, where
    /// that saves a pass over memory.
    pub earlier: Option<Tensor<T>>,
    /// Where the input came from, if nothing is left that would add to its gradient.
    last: Option<&'a Node<T>>,
}

impl<'a, T: Element> Target<'a, T> {
    /// That of an input which came from this node.
    pub(crate) fn new(earlier: Option<Tensor<T>>, node: Option<&'a Arc<Node<T>>>) -> Self {
        // Whoever has not yet added to the gradient knows the node. (So does a value that somebody holds, then the gradient
        // goes the longer way.)
        let last = node.filter(|node| Arc::strong_count(node) == 1).map(|node| &**node);
        Target { earlier, last }
    }

    /// What the gradient is to go through when this operation's part has been added: then the operation may do that
    /// where it has the sum in registers, and say that it [has](Self::passed).
    pub fn gate(&self) -> Result<Option<Gate<T>>> {
        self.last.map_or(Ok(None), Node::gate)
    }

    /// The gradient that the operation returns has gone through the [gate](Self::gate).
    pub fn passed(&self, sums: GradientSums) {
        if let Some(node) = self.last {
            node.passed(sums);
        }
    }
}

impl<T: Element> Node<T> {
    /// What the gradient goes through first. A checkpoint has to run again for that, somewhat earlier than it would.
    fn gate(&self) -> Result<Option<Gate<T>>> {
        match &self.origin {
            Origin::Parameter(_) => Ok(None),
            Origin::Op(record) => lock(record).as_ref().map_or(Ok(None), |record| record.call.gate()),
            Origin::Checkpoint(recompute) => match lock(recompute).as_ref().map_or(Ok(None), Recompute::node)? {
                Some(node) if Arc::strong_count(node) == 1 => node.gate(),
                _ => Ok(None),
            },
        }
    }

    /// The gradient will have gone through the gate that there is.
    fn passed(&self, sums: GradientSums) {
        match &self.origin {
            Origin::Parameter(_) => {}
            Origin::Op(record) => {
                if let Some(record) = &mut *lock(record) {
                    record.call.passed(sums);
                }
            }
            Origin::Checkpoint(recompute) => {
                if let Some(Ok(Some(node))) = lock(recompute).as_ref().map(Recompute::node) {
                    node.passed(sums);
                }
            }
        }
    }
}

fn lock<R>(record: &Mutex<R>) -> MutexGuard<'_, R> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Element> Default for Target<'_, T> {
    fn default() -> Self {
        Target { earlier: None, last: None }
    }
}

/// A batch norm with a ReLU, relu(γ x̂ + β + residual), that needs of its value's gradient only what the ReLU let through, and
/// its sums: see [`ops::Gate`].
pub struct Gate<T: Element = f32> {
    /// x, which is these side by side.
    pub parts: Vec<Tensor<T>>,
    /// Those of x.
    pub stats: BatchStats<T>,
    /// `[C]`
    pub gamma: Tensor<T>,
    /// `[C]`
    pub beta: Tensor<T>,
    /// Added to the variance.
    pub eps: f64,
    /// If there is a residual, that, or in place of it the value.
    pub known: Option<Known<T>>,
}

/// What the ReLU's input is known from, besides x.
pub enum Known<T: Element = f32> {
    /// The residual.
    Residual(Tensor<T>),
    /// The value.
    Output(Tensor<T>),
}

impl<T: Element> Gate<T> {
    /// As the tensor operations take it.
    pub fn of(&self) -> ops::Gate<'_, T> {
        ops::Gate {
            parts: &self.parts,
            normalization: self.stats.normalization(&self.gamma, &self.beta, self.eps),
            recompute: self.known.as_ref().map_or(ops::Recompute::Normalized, Known::recompute),
        }
    }
}

impl<T: Element> Known<T> {
    pub(crate) fn recompute(&self) -> ops::Recompute<'_, T> {
        match self {
            Known::Residual(residual) => ops::Recompute::Residual(residual),
            Known::Output(y) => ops::Recompute::Output(y),
        }
    }
}
