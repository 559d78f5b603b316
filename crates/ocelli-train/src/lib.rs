#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod data;
mod decode;
mod error;
pub mod loader;
mod picture;
mod rng;
pub mod transform;

pub use data::{Data, Dataset};
pub use decode::{EXTENSIONS, decode_image, read_image};
pub use error::{Error, Result};
pub use loader::{Batch, Loader};
pub use picture::Picture;
pub use transform::{Augment, Interpolation, Preprocessing, Transform};
