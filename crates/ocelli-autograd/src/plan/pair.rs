//! Pointwise convolutions and the depthwise ones behind them, as MobileNets and EfficientNets have them, made one step: the
//! many channels between them are never a value.

use ocelli_tensor::Element;
use ocelli_tensor::ops::PackedPair;

use super::fuse::{Action, Fusion, Node};
use crate::Cost;

/// Joins each such pair whose first convolution nothing else reads, where that is faster.
pub(super) fn pair<T: Element>(fusion: &mut Fusion<T>) {
    let readers = fusion.readers();
    let mut nodes: Vec<Node<T>> = Vec::with_capacity(fusion.nodes.len());
    for node in fusion.nodes.drain(..) {
        let first = nodes.iter().rposition(|first| node.inputs[0].id() == Some(first.output));
        let pair = first.and_then(|i| Some((i, packed(&nodes[i], &node).filter(|_| readers[&nodes[i].output] == 1)?)));
        let node = match pair {
            Some((i, pair)) => joined(nodes.remove(i), node, pair),
            None => node,
        };
        nodes.push(node);
    }
    fusion.nodes = nodes;
}

/// The convolutions of two steps as one.
fn packed<T: Element>(first: &Node<T>, second: &Node<T>) -> Option<PackedPair<T>> {
    PackedPair::new(first.convolution()?, second.convolution()?)
}

fn joined<T: Element>(first: Node<T>, second: Node<T>, pair: PackedPair<T>) -> Node<T> {
    let between = (first.shape.len() * size_of::<T>()) as u64;
    let cost = Cost {
        macs: first.cost.macs + second.cost.macs,
        bytes: (first.cost.bytes + second.cost.bytes).saturating_sub(2 * between),
    };
    let operations = |label: &str| label.rsplit_once(": ").map_or(label, |(_, operations)| operations).to_owned();
    let scope = second.label.len() - operations(&second.label).len();
    let label = format!("{}{} + {}", &second.label[..scope], operations(&first.label), operations(&second.label));
    Node { label, action: Action::Run(Box::new(pair)), cost, inputs: first.inputs, ..second }
}
