#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub use ocelli_nn as nn;

pub mod alexnet;
mod architecture;
mod backbone;
mod chain;
pub mod cifar_resnet;
pub mod deformable_resnet;
pub mod densenet;
pub mod efficientnet;
pub mod efficientnet_v2;
mod error;
pub mod googlenet;
pub mod inception;
mod model;
pub mod preact_resnet;
mod registry;
pub mod resnet;
pub mod resnext;
pub mod senet;
#[cfg(test)]
mod testing;
pub mod vgg;
pub mod wide_resnet;

pub use architecture::{Architecture, Auxiliary, Outputs};
pub use backbone::{Feature, Part, Stage};
pub use chain::Chain;
pub use error::{Error, Result};
pub use model::{Model, adapted_to_channels};
pub use registry::{Build, Options, Variant, variant, variants};

#[cfg(doctest)]
#[doc = include_str!("../../../docs/backbones.md")]
mod page {}
