#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod anomaly;
mod backward;
mod checkpoint;
mod error;
mod grad_mode;
pub mod gradcheck;
mod joined;
mod kept;
mod node;
mod op;
pub mod ops;
mod parameter;
pub mod plan;
mod profile;
mod switch;
mod target;
mod trace;
mod uses;
mod var;

pub use ocelli_tensor as tensor;
pub use ocelli_tensor::{Element, Shape, Tensor};

pub use anomaly::{Pass, detect_anomalies};
pub use checkpoint::{checkpoint, is_recomputing};
pub use error::{Error, Result};
pub use grad_mode::{is_recording, no_grad};
pub use kept::Kept;
pub use op::{Cost, Gradients, Op};
pub use parameter::Parameter;
pub use plan::{Plan, QuantizedPlan};
pub use profile::{Timed, profile};
pub use target::{Gate, Known, Target};
pub use trace::{Entry, Trace, scope, trace};
pub use var::Var;

#[cfg(test)]
mod tests;
