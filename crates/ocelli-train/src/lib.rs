#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod config;
pub mod data;
mod decode;
mod error;
mod evaluate;
#[cfg(feature = "hub")]
pub mod hub;
pub mod loader;
mod network;
mod optimizer;
mod picture;
mod predict;
pub mod pretrained;
pub mod published;
mod quantize;
pub mod report;
mod rng;
mod run;
mod scores;
mod training;
pub mod transform;

pub use ocelli_zoo as zoo;

pub use config::Config;
pub use data::{Data, Dataset};
pub use decode::{EXTENSIONS, decode_image, read_image};
pub use error::{Error, Result};
pub use evaluate::{ClassReport, Report, evaluate, evaluate_half, evaluate_quantized};
pub use loader::{Batch, Loader};
pub use network::Network;
pub use optimizer::Algorithm;
pub use picture::Picture;
pub use predict::{Prediction, Predictor};
pub use quantize::quantize;
pub use report::EpochMetrics;
pub use run::Run;
pub use training::{Observer, Outcome, Outline, Step, fit};
pub use transform::{Augment, Interpolation, Preprocessing, Transform};
