//! How often a backward pass will still meet each parameter, so that it knows when a gradient is complete.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use ocelli_tensor::Element;

use crate::node::{Node, Origin, Record};

/// The uses of parameters in the part of a graph that has not been walked.
#[derive(Default)]
pub(crate) struct Uses {
    /// By the parameters' identities.
    left: HashMap<u64, usize>,
    seen: HashSet<u64>,
    /// Checkpoints which have not run again: nobody knows which parameters they use.
    checkpoints: usize,
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
            if let Some(left) = self.left.get_mut(&parent.id) {
                *left -= 1;
                if *left == 0 {
                    self.used_up.push(parent.id);
                }
            }
        }
    }

    /// A checkpoint has run again, and become the graph that leads to these nodes.
    pub fn replace_checkpoint<'n, T: Element>(&mut self, roots: impl Iterator<Item = &'n Arc<Node<T>>>) {
        self.checkpoints -= 1;
        roots.for_each(|root| self.count(root));
    }

    /// The parameters whose gradients are complete now, each told once.
    pub fn complete(&mut self) -> Vec<u64> {
        if self.checkpoints > 0 {
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
                    self.checkpoints += 1;
                    let recompute = recompute.lock().unwrap_or_else(PoisonError::into_inner);
                    let inputs = recompute.iter().flat_map(|recompute| &recompute.inputs);
                    rest.extend(inputs.filter_map(|input| input.node().cloned()));
                }
            }
        }
    }
}
