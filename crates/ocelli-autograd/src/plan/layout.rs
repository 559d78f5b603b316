//! Which values of a plan share memory: those that never live at once.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use ocelli_tensor::Element;

use super::fuse::{Node, Operand};

/// Where a plan's values lie.
pub(super) struct Layout {
    /// The place of each value.
    pub values: HashMap<u64, usize>,
    /// The elements of each place. The last is for the nodes' workspaces.
    pub places: Vec<usize>,
}

impl Layout {
    /// Of the values that the nodes make. The output's place is its own, since it leaves.
    pub fn new<T: Element>(nodes: &[Node<T>], output: Option<u64>) -> Self {
        let mut numbers: HashMap<u64, usize> = HashMap::with_capacity(nodes.len());
        let mut lives: Vec<Life> = Vec::with_capacity(nodes.len());
        for (i, node) in nodes.iter().enumerate() {
            let means = node.means.map(|means| (means.id, means.shape));
            for (id, shape) in [(node.output, node.shape)].into_iter().chain(means) {
                let number = *numbers.entry(id).or_insert(lives.len());
                if number == lives.len() {
                    lives.push(Life { elements: shape.len(), steps: i..=i });
                }
            }
            for id in node.inputs.iter().filter_map(Operand::id).chain([node.output]) {
                if let Some(&number) = numbers.get(&id) {
                    let life = &mut lives[number];
                    life.steps = *life.steps.start()..=i;
                }
            }
        }
        if let Some(&number) = output.and_then(|id| numbers.get(&id)) {
            lives[number].steps = 0..=nodes.len();
        }
        let (of, mut places) = places(&lives);
        // Workspaces lie apart: threads divide them in other ways than values, and have to wait for memory that another has
        // written last.
        places.push(nodes.iter().map(Node::workspace).max().unwrap_or(0));
        Layout { values: numbers.into_iter().map(|(id, number)| (id, of[number])).collect(), places }
    }
}

/// A value's number of elements, and the steps from the one that makes it to the last that reads it.
#[derive(Debug, Clone)]
struct Life {
    elements: usize,
    steps: RangeInclusive<usize>,
}

/// The place of each value, and the places' numbers of elements. The largest values choose first: each takes the smallest
/// place that is free all its life, so that no place is larger than its first value, and a new one only if there is none.
/// (Pisarchyk and Lee 2020, "greedy by size", <https://arxiv.org/abs/2001.03288>.)
fn places(lives: &[Life]) -> (Vec<usize>, Vec<usize>) {
    let mut by_size: Vec<usize> = (0..lives.len()).collect();
    by_size.sort_by_key(|&value| std::cmp::Reverse(lives[value].elements));
    let mut tenants: Vec<Vec<usize>> = Vec::new();
    let mut places = vec![0; lives.len()];
    for value in by_size {
        let is_free = |others: &Vec<usize>| others.iter().all(|&other| !overlap(&lives[value], &lives[other]));
        places[value] = tenants.iter().rposition(is_free).unwrap_or_else(|| {
            tenants.push(Vec::new());
            tenants.len() - 1
        });
        tenants[places[value]].push(value);
    }
    (places, tenants.iter().map(|tenants| lives[tenants[0]].elements).collect())
}

/// Whether two values live at once. A step's output may not lie where an input of it does.
fn overlap(a: &Life, b: &Life) -> bool {
    a.steps.start() <= b.steps.end() && b.steps.start() <= a.steps.end()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn life(elements: usize, first: usize, last: usize) -> Life {
        Life { elements, steps: first..=last }
    }

    #[test]
    fn a_chain_takes_two_places() {
        let lives: Vec<Life> = (0..9).map(|i| life(10, i, i + 1)).collect();
        assert_eq!(places(&lives).1, [10, 10]);
    }

    #[test]
    fn small_values_leave_large_places_to_large_ones() {
        // A value, its residual branch of two steps, and the sum.
        let lives = [life(100, 0, 3), life(30, 1, 2), life(20, 2, 3), life(100, 3, 4)];
        let (places, sizes) = places(&lives);
        assert_eq!(sizes, [100, 100, 20]);
        assert_eq!(places[1], places[3]);
    }

    proptest! {
        #[test]
        fn values_that_live_at_once_lie_apart(lives in prop::collection::vec((1..100usize, 0..30usize, 0..10usize), 0..40)) {
            let lives: Vec<Life> = lives.into_iter().map(|(elements, first, steps)| life(elements, first, first + steps)).collect();
            let (places, sizes) = places(&lives);
            for (i, a) in lives.iter().enumerate() {
                prop_assert!(a.elements <= sizes[places[i]]);
                for (j, b) in lives.iter().enumerate().take(i) {
                    prop_assert!(places[i] != places[j] || !overlap(a, b));
                }
            }
        }
    }
}
