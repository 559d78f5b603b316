//! Concatenations whose parts convolutions make: each writes its columns where they belong, and nothing is left to join.

use std::collections::HashMap;

use ocelli_tensor::Element;
use ocelli_tensor::ops::PackedConv;

use super::fuse::{Action, Fusion, Node, Operand};

/// Leaves out each concatenation all of whose parts are convolutions that nothing else reads.
pub(super) fn slice<T: Element>(fusion: &mut Fusion<T>) {
    let (readers, nodes) = (fusion.readers(), &mut fusion.nodes);
    let made: HashMap<u64, usize> = nodes.iter().enumerate().map(|(i, node)| (node.output, i)).collect();
    let mut left = vec![true; nodes.len()];
    for i in 0..nodes.len() {
        let mut first = match &nodes[i].action {
            Action::Concat(_) => 0,
            Action::Append(first) => *first,
            _ => continue,
        };
        let maker = |part: &Operand<T>| {
            let id = part.id().filter(|id| readers[id] == 1)?;
            let &maker = made.get(&id)?;
            Some((maker, convolution(&nodes[maker])?.clone()))
        };
        let Some(parts) = nodes[i].inputs.iter().map(maker).collect::<Option<Vec<_>>>() else { continue };
        let (whole, shape) = (nodes[i].output, nodes[i].shape);
        for (maker, conv) in parts {
            let node = &mut nodes[maker];
            let width = node.shape.columns();
            node.action = Action::Slice(Box::new(conv), [shape.columns(), first]);
            (node.output, node.shape) = (whole, shape);
            first += width;
        }
        left[i] = false;
    }
    let mut left = left.into_iter();
    nodes.retain(|_| left.next() == Some(true));
}

/// The convolution of images that a step is, if it can write columns.
fn convolution<T: Element>(node: &Node<T>) -> Option<&PackedConv<T>> {
    node.convolution().filter(|conv| conv.writes_columns() && node.shape.rank() == 4)
}
