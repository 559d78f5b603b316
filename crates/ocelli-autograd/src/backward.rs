//! The backward pass: a walk from a value to the parameters it was computed from.

use std::collections::BTreeMap;
use std::sync::Arc;

use ocelli_tensor::{Element, Tensor, ops};

use crate::checkpoint::Recompute;
use crate::node::{Node, Origin, Record, take};
use crate::uses::Uses;
use crate::{Error, Parameter, Pass, Result, Target, Var, anomaly, profile};

impl<T: Element> Var<T> {
    /// Adds the gradients of this value, which must have one element, to the parameters that it was computed from.
    ///
    /// The records of the graph are freed as the walk passes, so a graph can be walked once.
    ///
    /// # Errors
    /// [`Error::NotScalar`], [`Error::NotRecorded`], [`Error::Freed`] if an earlier pass has been here (also in a part
    /// that two graphs share), or what an operation returns. No parameter's gradient has changed then.
    pub fn backward(&self) -> Result<()> {
        if self.value().len() != 1 {
            return Err(Error::NotScalar { shape: *self.shape() });
        }
        self.backward_with(Tensor::full(self.shape(), T::ONE))
    }

    /// As [`backward`](Self::backward), for a value of any shape, from a given gradient `dy` of that shape.
    pub fn backward_with(&self, dy: Tensor<T>) -> Result<()> {
        let node = self.node().ok_or(Error::NotRecorded)?;
        check_shape("backward", node, &dy)?;
        // Handed over at the end, so that an error leaves no parameter with half of its gradient.
        let mut finished = Vec::new();
        walk(node.clone(), dy, None, |parameter, gradient| {
            finished.push((parameter, gradient));
            Ok(())
        })?;
        finished.into_iter().try_for_each(|(parameter, gradient)| parameter.accumulate(gradient))
    }

    /// As [`backward`](Self::backward), and calls `complete` for each parameter as soon as its gradient is complete. The
    /// parameter may be changed there, since what the graph keeps of it does not change, and its gradient may be taken:
    /// then not all gradients need live at once.
    ///
    /// A parameter that a [checkpoint](crate::checkpoint) uses waits until that has run again; and all do, if the checkpoint's
    /// function holds a value of the graph, whose parameters are not known before.
    ///
    /// # Errors
    /// As for [`backward`](Self::backward), but parameters whose gradients are complete by then have them.
    pub fn backward_each(&self, mut complete: impl FnMut(&Parameter<T>)) -> Result<()> {
        if self.value().len() != 1 {
            return Err(Error::NotScalar { shape: *self.shape() });
        }
        let node = self.node().ok_or(Error::NotRecorded)?;
        walk(node.clone(), Tensor::full(self.shape(), T::ONE), Some(Uses::of(node)), |parameter, gradient| {
            parameter.accumulate(gradient)?;
            complete(&parameter);
            Ok(())
        })
    }
}

/// A node whose gradient is not yet complete.
struct Pending<T: Element> {
    node: Arc<Node<T>>,
    dy: Tensor<T>,
}

/// Visits the nodes that `root` was computed from, and hands each parameter with its gradient to `finish`: at the end, or
/// as soon as no use of it is left.
fn walk<T: Element>(
    root: Arc<Node<T>>,
    dy: Tensor<T>,
    mut uses: Option<Uses>,
    mut finish: impl FnMut(Parameter<T>, Tensor<T>) -> Result<()>,
) -> Result<()> {
    // By identity: when the largest is visited, all that depends on it has been, since identities grow from a node's
    // parents to the node. The order, and so the order of sums, depends on the recorded program alone.
    let mut pending = BTreeMap::from([(root.id, Pending { node: root, dy })]);
    while let Some((_, Pending { node, dy })) = pending.pop_last() {
        let parents = match &node.origin {
            Origin::Parameter(parameter) => {
                finish(parameter.clone(), dy)?;
                continue;
            }
            Origin::Op(record) => {
                let record = take(record)?;
                uses.iter_mut().for_each(|uses| uses.visit(&record));
                step(record, dy, &mut pending)?
            }
            // The nodes of the new graph are younger than all that are pending, so they are visited next, as those of
            // the old one would have been.
            Origin::Checkpoint(recompute) => {
                let recompute = take(recompute)?;
                let parameters = recompute.parameters.clone();
                let parents = again(recompute, dy)?;
                let roots = || parents.iter().map(|parent| &parent.node);
                uses.iter_mut().for_each(|uses| uses.replace_checkpoint(parameters.as_ref(), roots()));
                parents
            }
        };
        for Pending { node, dy } in parents {
            let dy = match pending.remove(&node.id) {
                Some(earlier) => profile::aside("sum of gradients", Pass::Backward, || sum(earlier.dy, dy))?,
                None => dy,
            };
            pending.insert(node.id, Pending { node, dy });
        }
        for id in uses.iter_mut().flat_map(Uses::complete) {
            if let Some(Pending { node, dy }) = pending.remove(&id)
                && let Origin::Parameter(parameter) = &node.origin
            {
                finish(parameter.clone(), dy)?;
            }
        }
    }
    Ok(())
}

/// One operation's backward: the inputs' nodes with what it adds to their gradients, or with these and what they were so
/// far, taken out of `pending`. What the operation had saved is freed.
fn step<T: Element>(
    record: Record<T>,
    dy: Tensor<T>,
    pending: &mut BTreeMap<u64, Pending<T>>,
) -> Result<Vec<Pending<T>>> {
    let Record { parents, call, scope, label } = record;
    let needs: Vec<bool> = parents.iter().map(Option::is_some).collect();
    let mut targets = Vec::with_capacity(parents.len());
    for node in &parents {
        let earlier = node.as_ref().and_then(|node| Some(pending.remove(&node.id)?.dy));
        // A gate would hide anomalies.
        targets.push(Target::new(earlier, node.as_ref().filter(|_| scope.is_none())));
    }
    let op = call.name();
    let clock = profile::start();
    let gradients = call.backward(dy, &needs, &mut targets)?;
    let earlier: Vec<Option<Tensor<T>>> = targets.into_iter().map(|target| target.earlier).collect();
    if let (Some(clock), Some(label)) = (clock, &label) {
        clock.backward(label, needs.iter().filter(|&&needed| needed).count());
    }
    if gradients.len() != parents.len() {
        return Err(Error::GradientCount { op, expected: parents.len(), got: gradients.len() });
    }
    if let Some(scope) = scope {
        gradients.iter().flatten().try_for_each(|dx| anomaly::check(dx, op, &scope, Pass::Backward))?;
    }
    for (node, dy) in parents.iter().zip(earlier).filter_map(|(node, dy)| Some((node.clone()?, dy?))) {
        pending.insert(node.id, Pending { node, dy });
    }
    let added = parents.into_iter().zip(gradients).filter_map(|(parent, dx)| Some(Pending { node: parent?, dy: dx? }));
    added.map(|parent| check_shape(op, &parent.node, &parent.dy).map(|()| parent)).collect()
}

/// A checkpoint's value once more, as far as it depends on anything.
fn again<T: Element>(recompute: Recompute<T>, dy: Tensor<T>) -> Result<Vec<Pending<T>>> {
    let Some(node) = recompute.node()? else { return Ok(Vec::new()) };
    check_shape("checkpoint", node, &dy)?;
    Ok(vec![Pending { node: node.clone(), dy }])
}

fn check_shape<T: Element>(op: &'static str, node: &Node<T>, gradient: &Tensor<T>) -> Result<()> {
    if *gradient.shape() != node.shape {
        return Err(ocelli_tensor::Error::shape(op, "gradient", node.shape, gradient.shape()).into());
    }
    Ok(())
}

/// a + b of one shape, in the buffer of one of them if it is not shared.
pub(crate) fn sum<T: Element>(a: Tensor<T>, b: Tensor<T>) -> Result<Tensor<T>> {
    let (mut sum, other) = if a.is_unique() || !b.is_unique() { (a, b) } else { (b, a) };
    ops::add_assign(&mut sum, &other)?;
    Ok(sum)
}
