//! The operations, one file or folder each: its public functions, kernels, naive reference and tests together.

mod activation;
mod window;

pub use activation::Activation;
pub use window::{Padding, Window};
