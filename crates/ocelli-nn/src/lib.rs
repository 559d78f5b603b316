#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod checkpoint;
mod error;

pub use error::{Error, Mismatch, Misshaped, Result};
pub use ocelli_autograd as autograd;
pub use ocelli_autograd::tensor;
