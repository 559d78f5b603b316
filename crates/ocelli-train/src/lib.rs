#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod data;
mod decode;
mod error;
mod files;
pub mod loader;
mod picture;
pub mod report;
mod rng;
pub mod transform;

pub use data::{Data, Dataset};
pub use decode::{EXTENSIONS, decode_image, read_image};
pub use error::{Error, Result};
pub use loader::{Batch, Loader};
pub use picture::Picture;
pub use report::EpochMetrics;
pub use transform::{Augment, Interpolation, Preprocessing, Transform};
