//! The recorded graph: what an operation kept for its backward pass, and which nodes its inputs came from.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ocelli_tensor::ops::GradientSums;
use ocelli_tensor::{Element, Shape, Tensor};

use crate::checkpoint::Recompute;
use crate::op::{Gradients, Op};
use crate::profile::Label;
use crate::{Error, Gate, Parameter, Result, Target};

/// A new identity, larger than all earlier ones. A node's is larger than its parents', which were there before it:
/// descending identities are an order in which a backward pass may visit nodes.
pub(crate) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The origin of a value that requires a gradient. It never holds the value itself.
pub(crate) struct Node<T: Element> {
    pub id: u64,
    pub shape: Shape,
    pub origin: Origin<T>,
}

pub(crate) enum Origin<T: Element> {
    /// The gradient ends here.
    Parameter(Parameter<T>),
    /// Taken by the backward pass that uses it.
    Op(Mutex<Option<Record<T>>>),
    /// To be computed again, and taken by the backward pass that does.
    Checkpoint(Mutex<Option<Recompute<T>>>),
}

/// An operation that has run.
pub(crate) struct Record<T: Element> {
    /// The nodes of the inputs; `None` where an input requires no gradient.
    pub parents: Vec<Option<Arc<Node<T>>>>,
    pub call: Box<dyn Call<T>>,
    /// Where it is, if anomalies are looked for.
    pub scope: Option<String>,
    /// What it is, if a profile is made.
    pub label: Option<Label>,
}

/// An operation with what it saved, whatever type that is.
pub(crate) trait Call<T: Element>: Send {
    fn name(&self) -> &'static str;
    fn backward(self: Box<Self>, dy: Tensor<T>, needs: &[bool], targets: &mut [Target<'_, T>]) -> Result<Gradients<T>>;
    fn gate(&self) -> Result<Option<Gate<T>>>;
    fn passed(&mut self, sums: GradientSums);
}

/// The only implementation of [`Call`].
pub(crate) struct Saved<T: Element, O: Op<T>> {
    pub op: Arc<O>,
    pub saved: O::Saved,
}

impl<T: Element, O: Op<T>> Call<T> for Saved<T, O> {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn backward(self: Box<Self>, dy: Tensor<T>, needs: &[bool], targets: &mut [Target<'_, T>]) -> Result<Gradients<T>> {
        self.op.backward_onto(self.saved, dy, needs, targets)
    }

    fn gate(&self) -> Result<Option<Gate<T>>> {
        self.op.gate(&self.saved)
    }

    fn passed(&mut self, sums: GradientSums) {
        self.op.passed(&mut self.saved, sums);
    }
}

impl<T: Element> Node<T> {
    pub fn new(id: u64, shape: Shape, origin: Origin<T>) -> Arc<Self> {
        Arc::new(Node { id, shape, origin })
    }
}

/// Takes a record out for good.
pub(crate) fn take<R>(record: &Mutex<Option<R>>) -> Result<R> {
    record.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or(Error::Freed)
}

/// Dropping the last reference to a long chain would recurse once for each node and overflow the stack; this unlinks
/// the nodes in a loop instead.
impl<T: Element> Drop for Node<T> {
    fn drop(&mut self) {
        let mut orphans = self.unlink();
        while let Some(node) = orphans.pop() {
            if let Some(mut node) = Arc::into_inner(node) {
                orphans.append(&mut node.unlink());
            }
        }
    }
}

impl<T: Element> Node<T> {
    fn unlink(&mut self) -> Vec<Arc<Node<T>>> {
        match &mut self.origin {
            Origin::Parameter(_) => Vec::new(),
            Origin::Op(record) => {
                let record = record.get_mut().unwrap_or_else(PoisonError::into_inner).take();
                record.map_or_else(Vec::new, |record| record.parents.into_iter().flatten().collect())
            }
            Origin::Checkpoint(recompute) => {
                let recompute = recompute.get_mut().unwrap_or_else(PoisonError::into_inner).take();
                recompute.map_or_else(Vec::new, |recompute| recompute.into_nodes().collect())
            }
        }
    }
}
