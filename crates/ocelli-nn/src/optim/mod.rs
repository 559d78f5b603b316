//! Optimizers: from gradients to better parameters.

mod sgd;

pub use sgd::{Sgd, SgdOptions};
