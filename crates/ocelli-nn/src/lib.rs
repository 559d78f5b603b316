#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod builder;
pub mod checkpoint;
mod error;
mod init;
mod layers;
mod layout;
pub mod loss;
mod mode;
pub mod optim;
mod recompute;
pub mod schedule;
mod state;

pub use ocelli_autograd as autograd;
pub use ocelli_autograd::tensor;

pub use builder::Builder;
pub use error::{Error, Mismatch, Misshaped, Result};
pub use init::{Fan, Init};
pub use layers::{
    AdaptiveAvgPool2d, AvgPool2d, BatchNorm2d, BatchNormOptions, Branches, Conv2d, Conv2dOptions, ConvNorm,
    ConvPadding, DeformConv2d, DeformConv2dPack, DeformOptions, Dropout, Flatten, GlobalAvgPool, Layer, Linear,
    LinearOptions, MaxPool2d, Sequential, SqueezeExcitation, SqueezeOptions, StochasticDepth,
};
pub use layout::Layout;
pub use mode::{Mode, Randomness};
pub use recompute::checkpoint;
pub use state::{Buffer, Counter, State};
