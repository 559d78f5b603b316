//! That no operation goes without a gradient check.

use std::collections::BTreeSet;

use super::testing::{Geometry, random};
use super::{ALL, CHECKS, Window};
use crate::trace;

fn geometry() -> Geometry {
    let window = Window::square(2).padding(1);
    Geometry { batch: 2, input: [3, 4], channels: 2, out_channels: 3, groups: 2, window, seed: 1 }
}

#[test]
fn every_operation_has_a_gradient_check() {
    let checked: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
    assert_eq!(checked, ALL, "each operation of the list needs a gradient check");
    assert!(ALL.is_sorted());
}

#[test]
fn every_check_runs_the_operation_it_is_listed_for() {
    for (name, check) in CHECKS {
        let (result, trace) = trace::<f64, _>(|| check(&geometry()));
        result.unwrap();
        let ran: BTreeSet<&str> = trace.entries().iter().map(|entry| entry.name()).collect();
        assert!(ran.contains(name), "the check listed for {name} runs only {ran:?}");
        ran.iter().for_each(|name| assert!(ALL.contains(name), "{name} is missing in the list of operations"));
    }
}

#[test]
fn every_file_is_in_use_by_the_list() {
    // Every implementation of `Op` in this folder names itself with a string of the list.
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ops");
    let mut names = BTreeSet::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let source = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let Some((_, body)) = source.split_once(concat!("fn name", "(&self) -> &'static str {")) else { continue };
        let body = body.split_once("\n    }").unwrap().0;
        names.extend(body.split('"').skip(1).step_by(2).map(str::to_owned));
    }
    assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), ALL);
}

#[test]
fn random_numbers_are_distinct() {
    let x = random([1000], 1);
    assert_eq!(x.data().iter().map(|x| x.to_bits()).collect::<BTreeSet<_>>().len(), 1000);
}
