//! How often a backward pass will still meet each parameter, so that it knows when a gradient is complete.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use ocelli_tensor::Element;

use crate::node::{Node, Origin, Record};

/// The uses of parameters in the part of a graph that has not been walked.
#[derive(Default)]
pub(crate) struct Uses {
    /// By the parameters' identities.
    left: HashMap<u64, usize>,
    seen: HashSet<u64>,
    /// Checkpoints which have not run again, and of which nobody knows which parameters they use.
    unknown: usize,
    /// Of which no use is left.
    used_up: Vec<u64>,
}

impl Uses {
    /// Those in all that `root` was computed from.
    pub fn of<T: Element>(root: &Arc<Node<T>>) -> Self {
        let mut uses = Uses::default();
        uses.count(root);
        uses
    }

    /// The operation is about to be walked.
    pub fn visit<T: Element>(&mut self, record: &Record<T>) {
        for parent in record.parents.iter().flatten() {
            self.leave(parent.id);
        }
    }

    /// A checkpoint of these parameters has run again, and become the graph that leads to these nodes.
    pub fn replace_checkpoint<'n, T: Element>(
        &mut self,
        parameters: Option<&BTreeSet<u64>>,
        roots: impl Iterator<Item = &'n Arc<Node<T>>>,
    ) {
        roots.for_each(|root| self.count(root));
        match parameters {
            Some(parameters) => parameters.iter().for_each(|&id| self.leave(id)),
            None => self.unknown -= 1,
        }
    }

    /// A use is done.
    fn leave(&mut self, id: u64) {
        if let Some(left) = self.left.get_mut(&id) {
            *left -= 1;
            if *left == 0 {
                self.used_up.push(id);
            }
        }
    }

    /// The parameters whose gradients are complete now, each told once.
    pub fn complete(&mut self) -> Vec<u64> {
        if self.unknown > 0 {
            return Vec::new();
        }
        // A checkpoint may have brought new uses.
        std::mem::take(&mut self.used_up).into_iter().filter(|id| self.left[id] == 0).collect()
    }

    fn count<T: Element>(&mut self, root: &Arc<Node<T>>) {
        let mut rest = vec![root.clone()];
        while let Some(node) = rest.pop() {
            if !self.seen.insert(node.id) {
                continue;
            }
            match &node.origin {
                Origin::Parameter(_) => {}
                Origin::Op(record) => {
                    let record = record.lock().unwrap_or_else(PoisonError::into_inner);
                    for parent in record.iter().flat_map(|record| &record.parents).flatten() {
                        if matches!(parent.origin, Origin::Parameter(_)) {
                            *self.left.entry(parent.id).or_default() += 1;
                        } else {
                            rest.push(parent.clone());
                        }
                    }
                }
                Origin::Checkpoint(recompute) => {
                    let recompute = recompute.lock().unwrap_or_else(PoisonError::into_inner);
                    let Some(recompute) = &*recompute else { continue };
                    match &recompute.parameters {
                        // In use until it has run again: what it reads must not change before.
                        Some(parameters) => parameters.iter().for_each(|&id| *self.left.entry(id).or_default() += 1),
                        None => self.unknown += 1,
                    }
                    rest.extend(recompute.inputs.iter().filter_map(|input| input.node().cloned()));
                }
            }
        }
    }
}
