#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub use ocelli_nn as nn;

pub mod cifar_resnet;
pub mod efficientnet;
mod error;
mod model;
mod registry;
pub mod resnet;
#[cfg(test)]
mod testing;

pub use error::{Error, Result};
pub use model::Model;
pub use registry::{Build, Options, Variant, variant, variants};
