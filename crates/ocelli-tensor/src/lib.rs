#![doc = include_str!("../README.md")]

mod element;
mod error;
mod memory;
pub mod ops;
pub mod peak;
mod shape;
pub mod simd;
mod tensor;
pub mod threads;

pub use element::Element;
pub use error::{Error, Result};
pub use memory::pool;
pub use shape::{MAX_RANK, Shape};
pub use tensor::Tensor;
