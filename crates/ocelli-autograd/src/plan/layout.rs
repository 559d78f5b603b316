//! Which values of a plan share memory: those that never live at once.

use std::ops::RangeInclusive;

/// A value's number of elements, and the steps from the one that makes it to the last that reads it.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub elements: usize,
    pub steps: RangeInclusive<usize>,
}

/// The place of each value, and the places' numbers of elements. The largest values choose first: each takes the smallest
/// place that is free all its life, so that no place is larger than its first value, and a new one only if there is none.
/// (Pisarchyk and Lee 2020, "greedy by size", <https://arxiv.org/abs/2001.03288>.)
pub(super) fn places(lives: &[Life]) -> (Vec<usize>, Vec<usize>) {
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
