//! Values in a recorded computation.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use ocelli_tensor::{Element, Shape, Tensor};

use crate::joined::Joined;
use crate::node::{Node, Origin, Record, Saved, next_id};
use crate::ops::BatchStats;
use crate::profile::Label;
use crate::{Kept, Op, Pass, Result, anomaly, grad_mode, profile, trace};

/// A value, and where it came from if it requires a gradient. Clones are the same value; dropping the last one frees
/// its tensor, unless an operation saved it for its backward pass.
///
/// Operations are methods, one file each in this crate's `ops`, and any [`Op`] through [`apply`](Self::apply).
pub struct Var<T: Element = f32> {
    id: u64,
    value: Value<T>,
    /// How operations keep the value, if not as it is.
    recipe: Option<Kept<T>>,
    /// Known to all clones as soon as one has been asked for them.
    pub(crate) stats: Arc<OnceLock<BatchStats<T>>>,
    node: Option<Arc<Node<T>>>,
}

#[derive(Clone)]
pub(crate) enum Value<T: Element> {
    Tensor(Tensor<T>),
    Joined(Arc<Joined<T>>),
}

impl<T: Element> Var<T> {
    /// A value that requires no gradient.
    pub fn constant(value: Tensor<T>) -> Self {
        Var::new(next_id(), value, None)
    }

    pub(crate) fn new(id: u64, value: Tensor<T>, node: Option<Arc<Node<T>>>) -> Self {
        Var { id, value: Value::Tensor(value), recipe: None, stats: Arc::default(), node }
    }

    /// The tensor.
    pub fn value(&self) -> &Tensor<T> {
        match &self.value {
            Value::Tensor(value) => value,
            Value::Joined(joined) => joined.value(),
        }
    }

    /// The tensor, without a copy.
    pub fn into_value(self) -> Tensor<T> {
        self.value().clone()
    }

    /// The tensor's shape.
    pub fn shape(&self) -> &Shape {
        match &self.value {
            Value::Tensor(value) => value.shape(),
            Value::Joined(joined) => &joined.shape,
        }
    }

    /// The values that a [`concat`](Self::concat) joins whose [`value`](Self::value) nobody has asked for; any other value is
    /// its only part.
    pub fn parts(&self) -> Vec<Var<T>> {
        let waiting = match &self.value {
            Value::Tensor(_) => None,
            Value::Joined(joined) => joined.parts(),
        };
        waiting.unwrap_or_else(|| vec![self.clone()])
    }

    /// Whether a backward pass through this value reaches a parameter.
    pub fn requires_grad(&self) -> bool {
        self.node.is_some()
    }

    /// The same tensor as a constant: gradients end here.
    pub fn detach(&self) -> Self {
        Var::constant(self.value().clone())
    }

    /// Applies an operation, and records it if one of the inputs requires a gradient.
    pub fn apply<O: Op<T>>(op: O, inputs: &[&Var<T>]) -> Result<Var<T>> {
        Var::apply_by(op, inputs, O::forward)
    }

    /// As [`apply`](Self::apply), with `forward` in place of the operation's own.
    pub(crate) fn apply_by<O: Op<T>>(
        op: O,
        inputs: &[&Var<T>],
        forward: impl FnOnce(&O, &[&Tensor<T>], &[bool]) -> Result<(Tensor<T>, O::Saved)>,
    ) -> Result<Var<T>> {
        let op = Arc::new(op);
        let recording = grad_mode::is_recording();
        let needs: Vec<bool> = inputs.iter().map(|x| recording && x.requires_grad()).collect();
        let operands: Vec<&Tensor<T>> = inputs.iter().map(|x| x.value()).collect();

        let clock = profile::start();
        let (value, saved) = forward(&op, &operands, &needs)?;
        let label = clock.map(|clock| {
            let shapes: Vec<Shape> = inputs.iter().map(|x| *x.shape()).collect();
            clock.forward(op.name(), op.cost(&shapes, value.shape()))
        });
        if let Some(scope) = anomaly::location() {
            anomaly::check(&value, op.name(), &scope, Pass::Forward)?;
        }
        let id = next_id();
        trace::record(&op, inputs, (id, &value));
        Ok(Var::made((op, saved), inputs, (id, Value::Tensor(value)), label))
    }

    /// The value that an operation made, or will make when it is asked for; recorded if one of the inputs requires a
    /// gradient.
    pub(crate) fn made<O: Op<T>>(
        (op, mut saved): (Arc<O>, O::Saved),
        inputs: &[&Var<T>],
        (id, value): (u64, Value<T>),
        label: Option<Label>,
    ) -> Var<T> {
        let recording = grad_mode::is_recording();
        if !recording {
            inputs.iter().filter_map(|x| x.node.as_ref()).for_each(|node| grad_mode::miss(node));
        }
        let mut made = Var { id, value, recipe: None, stats: Arc::default(), node: None };
        let parents: Vec<_> = inputs.iter().map(|x| x.node.clone().filter(|_| recording)).collect();
        if parents.iter().all(Option::is_none) {
            return made;
        }
        let inputs: Vec<Kept<T>> = inputs.iter().map(|x| x.kept()).collect();
        made.recipe = if op.repeats(&inputs) { Kept::recipe(op.clone(), inputs.clone()) } else { None };
        op.keep(&mut saved, &inputs, &made.kept());
        let call = Box::new(Saved { op, saved });
        let origin = Origin::Op(Mutex::new(Some(Record { parents, call, scope: anomaly::location(), label })));
        made.node = Some(Node::new(id, *made.shape(), origin));
        made
    }

    fn kept(&self) -> Kept<T> {
        self.recipe.clone().unwrap_or_else(|| self.value().clone().into())
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The origin alone.
    pub(crate) fn into_node(self) -> Option<Arc<Node<T>>> {
        self.node
    }

    pub(crate) fn node(&self) -> Option<&Arc<Node<T>>> {
        self.node.as_ref()
    }
}

impl<T: Element> Clone for Var<T> {
    fn clone(&self) -> Self {
        let Var { id, value, recipe, stats, node } = self;
        Var { id: *id, value: value.clone(), recipe: recipe.clone(), stats: stats.clone(), node: node.clone() }
    }
}

impl<T: Element> From<Tensor<T>> for Var<T> {
    fn from(value: Tensor<T>) -> Self {
        Var::constant(value)
    }
}

impl<T: Element> fmt::Debug for Var<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recorded = if self.requires_grad() { ", recorded" } else { "" };
        write!(f, "Var({:?}{recorded})", self.value())
    }
}
