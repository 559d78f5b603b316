//! Means over images that a depthwise convolution makes, as squeeze and excitation reads them: the convolution averages each
//! row of its output's pixels while they are in registers, and what is left to average are these means.

use std::collections::HashMap;

use ocelli_tensor::{Element, Shape};

use super::fuse::{Fusion, Means, Node, Operand, Origin};
use crate::Cost;
use crate::node::next_id;

/// Replaces the input of each mean over an image by the means over its rows, where the step before can make them.
pub(super) fn average<T: Element>(fusion: &mut Fusion<T>) {
    let nodes = &mut fusion.nodes;
    let made: HashMap<u64, usize> = nodes.iter().enumerate().map(|(i, node)| (node.output, i)).collect();
    for i in 0..nodes.len() {
        let maker = nodes[i].inputs.first().and_then(Operand::id).and_then(|id| made.get(&id));
        let Some(&maker) = maker.filter(|_| matches!(nodes[i].origin, Some(Origin::Mean))) else { continue };
        let Some(means) = means(&mut nodes[maker]) else { continue };
        let mean = &mut nodes[i];
        mean.inputs = vec![Operand::Value(means.id)];
        mean.cost = Cost::streaming::<T>(&[means.shape], &mean.shape);
    }
}

/// The means of a step's rows, which it makes from now on.
fn means<T: Element>(node: &mut Node<T>) -> Option<Means> {
    let &[batch, height, _, channels] = &*node.shape else { return None };
    if node.means.is_none() && node.averages_rows() {
        node.means = Some(Means { id: next_id(), shape: Shape::from([batch, height, 1, channels]) });
    }
    node.means
}
