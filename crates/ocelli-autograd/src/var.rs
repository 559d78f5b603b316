//! Values in a recorded computation.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use ocelli_tensor::{Element, Shape, Tensor};

use crate::node::{Node, Origin, Record, Saved, next_id};
use crate::ops::BatchStats;
use crate::{Kept, Op, Pass, Result, anomaly, grad_mode, profile, trace};

/// A value, and where it came from if it requires a gradient. Clones are the same value; dropping the last one frees
/// its tensor, unless an operation saved it for its backward pass.
///
/// Operations are methods, one file each in this crate's `ops`, and any [`Op`] through [`apply`](Self::apply).
pub struct Var<T: Element = f32> {
    id: u64,
    value: Tensor<T>,
    /// How operations keep the value, if not as it is.
    recipe: Option<Kept<T>>,
    /// Known to all clones as soon as one has been asked for them.
    pub(crate) stats: Arc<OnceLock<BatchStats<T>>>,
    node: Option<Arc<Node<T>>>,
}

impl<T: Element> Var<T> {
    /// A value that requires no gradient.
    pub fn constant(value: Tensor<T>) -> Self {
        Var::new(next_id(), value, None)
    }

    pub(crate) fn new(id: u64, value: Tensor<T>, node: Option<Arc<Node<T>>>) -> Self {
        Var { id, value, recipe: None, stats: Arc::default(), node }
    }

    /// The tensor.
    pub fn value(&self) -> &Tensor<T> {
        &self.value
    }

    /// The tensor, without a copy.
    pub fn into_value(self) -> Tensor<T> {
        self.value
    }

    /// The tensor's shape.
    pub fn shape(&self) -> &Shape {
        self.value.shape()
    }

    /// Whether a backward pass through this value reaches a parameter.
    pub fn requires_grad(&self) -> bool {
        self.node.is_some()
    }

    /// The same tensor as a constant: gradients end here.
    pub fn detach(&self) -> Self {
        Var::constant(self.value.clone())
    }

    /// Applies an operation, and records it if one of the inputs requires a gradient.
    pub fn apply<O: Op<T>>(op: O, inputs: &[&Var<T>]) -> Result<Var<T>> {
        let op = Arc::new(op);
        let recording = grad_mode::is_recording();
        let parent = |x: &&Var<T>| x.node.clone().filter(|_| recording);
        let parents: Vec<_> = inputs.iter().map(parent).collect();
        let needs: Vec<bool> = parents.iter().map(Option::is_some).collect();
        let operands: Vec<&Tensor<T>> = inputs.iter().map(|x| &x.value).collect();

        let clock = profile::start();
        let (value, mut saved) = op.forward(&operands, &needs)?;
        let label = clock.map(|clock| {
            let shapes: Vec<Shape> = inputs.iter().map(|x| *x.shape()).collect();
            clock.forward(op.name(), op.cost(&shapes, value.shape()))
        });
        if !recording && inputs.iter().any(|x| x.node.is_some()) {
            grad_mode::miss();
        }
        let scope = anomaly::location();
        if let Some(scope) = &scope {
            anomaly::check(&value, op.name(), scope, Pass::Forward)?;
        }
        let id = next_id();
        trace::record(&op, inputs, (id, &value));
        if !needs.contains(&true) {
            return Ok(Var::new(id, value, None));
        }
        let inputs: Vec<Kept<T>> = inputs.iter().map(|x| x.kept()).collect();
        let recipe = if op.repeats(&inputs) { Kept::recipe(op.clone(), inputs.clone()) } else { None };
        op.keep(&mut saved, &inputs, &recipe.clone().unwrap_or_else(|| value.clone().into()));
        let call = Box::new(Saved { op, saved });
        let origin = Origin::Op(Mutex::new(Some(Record { parents, call, scope, label })));
        let node = Node::new(id, *value.shape(), origin);
        Ok(Var { recipe, ..Var::new(id, value, Some(node)) })
    }

    fn kept(&self) -> Kept<T> {
        self.recipe.clone().unwrap_or_else(|| self.value.clone().into())
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
        write!(f, "Var({:?}{recorded})", self.value)
    }
}
