//! Activation checkpointing: memory for time (Chen et al. 2016, <https://arxiv.org/abs/1604.06174>).

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::{Arc, Mutex, OnceLock};

use ocelli_tensor::Element;

use crate::node::{Node, Origin, next_id};
use crate::{Error, Result, Var, anomaly, detect_anomalies, grad_mode, scope, switch};

thread_local! {
    static RECOMPUTING: Cell<bool> = const { Cell::new(false) };
}

/// `f` of `inputs`, of which nothing but the inputs is kept: the backward pass runs `f` again, recorded, when it gets
/// there. Gradients, also those of parameters that `f` uses, are the same bits as without a checkpoint.
///
/// `f` must compute the same again: what is random in it must not be drawn anew, and what it changes beside its value
/// it must not change when it [is run again](is_recomputing).
///
/// ```
/// use ocelli_autograd::{Error, Parameter, Tensor, checkpoint};
///
/// let (x, w) = (Parameter::new(Tensor::full([2], 3.0f32)), Parameter::new(Tensor::full([2], 0.5)));
/// let gate = w.clone();
/// let y = checkpoint(&[&x.var()], move |x| Ok::<_, Error>(x[0].mul(&gate.var())?.sigmoid()?.mul(&x[0])?))?;
/// y.sum()?.backward()?;
/// assert!(x.grad().is_some() && w.grad().is_some());
/// # Ok::<(), Error>(())
/// ```
pub fn checkpoint<T: Element, E: From<Error> + Display>(
    inputs: &[&Var<T>],
    f: impl Fn(&[Var<T>]) -> Result<Var<T>, E> + Send + Sync + 'static,
) -> Result<Var<T>, E> {
    let inputs: Vec<Var<T>> = inputs.iter().map(|&x| x.clone()).collect();
    if !grad_mode::is_recording() {
        return f(&inputs);
    }
    let (y, missed) = grad_mode::watched_no_grad(|| f(&inputs));
    let y = y?;
    if missed.nodes.is_empty() && !y.requires_grad() {
        return Ok(y);
    }
    // Not known if a value of a graph that `f` holds leads to further ones.
    let given: BTreeSet<u64> = inputs.iter().filter_map(|x| Some(x.node()?.id)).collect();
    let mut ends = missed.nodes.iter().copied().chain(y.node().map(|node| node.id));
    let known = ends.all(|id| given.contains(&id) || missed.parameters.contains(&id));
    let parameters = known.then_some(missed.parameters);
    let f = Box::new(move |x: &[Var<T>]| f(x).map_err(|e| Error::Recompute { reason: e.to_string() }));
    let recompute = Recompute { inputs, f, parameters, scope: anomaly::location(), value: OnceLock::new() };
    let (id, shape, stats) = (y.id(), *y.shape(), y.stats.clone());
    let node = Node::new(next_id(), shape, Origin::Checkpoint(Mutex::new(Some(recompute))));
    let mut made = Var::new(id, y.into_value(), Some(node));
    // Statistics that were taken along with the value need not be the same bits as those of another pass over it.
    made.stats = stats;
    Ok(made)
}

/// Whether a backward pass is running the function of a [`checkpoint`] again: running statistics must not move twice.
pub fn is_recomputing() -> bool {
    RECOMPUTING.get()
}

/// A part of a network.
type Function<T> = dyn Fn(&[Var<T>]) -> Result<Var<T>> + Send + Sync;

/// What a backward pass does at a checkpoint.
pub(crate) struct Recompute<T: Element> {
    pub inputs: Vec<Var<T>>,
    /// The parameters that the function reads, if all are known.
    pub parameters: Option<BTreeSet<u64>>,
    f: Box<Function<T>>,
    /// Where it is, if anomalies are looked for.
    scope: Option<String>,
    /// When it has run.
    value: OnceLock<Var<T>>,
}

impl<T: Element> Recompute<T> {
    /// What the value again, computed now unless it has been, came from: a graph that leads to the inputs' own nodes.
    pub fn node(&self) -> Result<Option<&Arc<Node<T>>>> {
        if self.value.get().is_none() {
            let run = || switch::with(&RECOMPUTING, true, || grad_mode::with_grad(|| (self.f)(&self.inputs)));
            let value = match &self.scope {
                Some(path) => detect_anomalies(|| scope(path, run)),
                None => run(),
            }?;
            self.value.get_or_init(|| value);
        }
        Ok(self.value.get().and_then(Var::node))
    }

    /// The nodes that it holds.
    pub fn into_nodes(self) -> impl Iterator<Item = Arc<Node<T>>> {
        self.inputs.into_iter().chain(self.value.into_inner()).filter_map(Var::into_node)
    }
}
