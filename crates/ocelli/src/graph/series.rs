//! The data flow of a trace: operations in series, and where it parts and joins again, in parallel.

use std::collections::{HashMap, HashSet};

use ocelli_train::zoo::nn::autograd::{Entry, Trace};

/// A part of a series.
pub enum Node<'t> {
    Operation(&'t Entry),
    /// Series that begin at the same value and are joined by an operation. An empty one is the value itself.
    Parallel(Vec<Vec<Node<'t>>>, &'t Entry),
}

/// All operations of a trace.
pub fn series(trace: &Trace) -> Vec<Node<'_>> {
    decompose(&trace.entries().iter().collect::<Vec<_>>())
}

/// Cuts at every value behind which none from before it is used. What lies between two cuts and is more than one
/// operation goes parallel ways.
fn decompose<'t>(entries: &[&'t Entry]) -> Vec<Node<'t>> {
    let made: HashMap<u64, usize> = entries.iter().enumerate().map(|(i, entry)| (entry.output(), i)).collect();
    // The first operation takes the value where the series begins.
    let Some(start) = entries.first().and_then(|entry| entry.inputs().first()) else { return Vec::new() };
    let mut last_use = vec![0; entries.len() + 1];
    for (i, entry) in entries.iter().enumerate() {
        for value in entry.inputs() {
            match made.get(value) {
                Some(&maker) => last_use[maker + 1] = i,
                None if value == start => last_use[0] = i,
                // A weight.
                None => {}
            }
        }
    }
    let (mut nodes, mut begin, mut reach) = (Vec::new(), 0, 0);
    for i in 0..entries.len() {
        reach = reach.max(last_use[i]);
        if reach <= i {
            section(&entries[begin..=i], &mut nodes);
            begin = i + 1;
        }
    }
    nodes
}

/// What lies between two cuts.
fn section<'t>(entries: &[&'t Entry], nodes: &mut Vec<Node<'t>>) {
    let [inner @ .., join] = entries else { return };
    // A deformable convolution takes what other convolutions say of its input: one layer.
    if inner.is_empty() || join.name() == "deform_conv2d" {
        nodes.push(Node::Operation(join));
        return;
    }
    let made: HashMap<u64, &Entry> = inner.iter().map(|entry| (entry.output(), *entry)).collect();
    let begins = inner[0].inputs()[0];
    let ways: Vec<HashSet<u64>> = (join.inputs().iter())
        .filter(|value| made.contains_key(value) || **value == begins)
        .map(|value| ancestors(*value, &made))
        .collect();
    let total: usize = ways.iter().map(HashSet::len).sum();
    if ways.len() < 2 || total != inner.len() {
        // No ways apart: shown in the order in which they run.
        nodes.extend(entries.iter().map(|entry| Node::Operation(entry)));
        return;
    }
    let branch = |way: &HashSet<u64>| {
        let own: Vec<&Entry> = inner.iter().copied().filter(|entry| way.contains(&entry.output())).collect();
        decompose(&own)
    };
    nodes.push(Node::Parallel(ways.iter().map(branch).collect(), join));
}

/// The values that `value` is made of, itself included, as far as `made` knows their makers.
fn ancestors(value: u64, made: &HashMap<u64, &Entry>) -> HashSet<u64> {
    let (mut found, mut open) = (HashSet::new(), vec![value]);
    while let Some(value) = open.pop() {
        if let Some(entry) = made.get(&value)
            && found.insert(value)
        {
            open.extend(entry.inputs());
        }
    }
    found
}
