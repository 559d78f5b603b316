//! Concatenations of concatenations, as DenseNet's blocks make them, into one value that grows: its columns are written
//! where they belong, once, and what reads a part of it reads the first columns of its rows.

use std::collections::HashMap;

use ocelli_tensor::Element;

use super::fuse::{Action, Fusion, Node, Operand};

/// Where a value is read: the node, and the position among its inputs.
type Reading = (usize, usize);

/// Replaces each chain of concatenations whose intermediate values are read only by steps that can read a part of a row.
pub(super) fn grow<T: Element>(fusion: &mut Fusion<T>) {
    let nodes = &fusion.nodes;
    let made: HashMap<u64, usize> = nodes.iter().enumerate().map(|(i, node)| (node.output, i)).collect();
    let mut readings: HashMap<u64, Vec<Reading>> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for (position, id) in node.inputs.iter().enumerate().filter_map(|(p, input)| Some((p, input.id()?))) {
            readings.entry(id).or_default().push((i, position));
        }
    }
    let readings = |id: u64| readings.get(&id).map_or(&[][..], Vec::as_slice);
    // The concatenation that a concatenation may grow from.
    let base = |i: usize| {
        let id = nodes[i].inputs[0].id().filter(|&id| Some(id) != fusion.output.id())?;
        let &base = made.get(&id)?;
        let fits = |&(reader, position): &Reading| position == 0 && (reader == i || nodes[reader].reads_columns());
        (nodes[base].is_concat() && readings(id).iter().all(fits)).then_some(base)
    };
    let bases: Vec<Option<usize>> = (0..nodes.len()).map(|i| base(i).filter(|_| nodes[i].is_concat())).collect();
    let ends = (0..nodes.len()).filter(|i| bases[*i].is_some() && !bases.contains(&Some(*i)));
    let chains: Vec<Vec<usize>> = ends
        .map(|end| {
            let mut chain: Vec<_> = std::iter::successors(Some(end), |&i| bases[i]).collect();
            chain.reverse();
            chain
        })
        .collect();
    for chain in chains {
        rewrite(&mut fusion.nodes, &chain);
    }
}

/// Makes one value, that of the last concatenation, of a chain's.
fn rewrite<T: Element>(nodes: &mut [Node<T>], chain: &[usize]) {
    let outputs: Vec<u64> = chain.iter().map(|&i| nodes[i].output).collect();
    let whole = outputs[outputs.len() - 1];
    for input in nodes.iter_mut().flat_map(|node| &mut node.inputs) {
        if input.id().is_some_and(|id| outputs.contains(&id)) {
            *input = Operand::Value(whole);
        }
    }
    let shape = nodes[chain[chain.len() - 1]].shape;
    let mut first = 0;
    for &i in chain {
        let node = &mut nodes[i];
        node.action = if first == 0 { Action::Widen(shape.columns()) } else { Action::Append(first) };
        if first > 0 {
            node.inputs.remove(0);
        }
        node.output = whole;
        first = node.shape.columns();
        node.shape = shape;
    }
}
