//! Gradients. One program for all of them: each would compile the generic code of the crates below anew.

mod adjoints;
mod anomalies;
mod checkpoint;
mod common;
mod complete;
mod gates;
mod graphs;
mod wrong_backwards;
