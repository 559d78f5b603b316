//! The operations, one file each: its struct, forward, backward, the method of [`Var`](crate::Var) that applies it, and
//! its gradient check.
//!
//! A new operation is a new file and its lines here: the module, its struct, and its entry in the list of operations.

mod activation;
mod add;
mod conv2d;
mod linear;
mod matmul;
mod mean;
mod mul;
mod reshape;
mod scale;
mod sum;
#[cfg(test)]
mod testing;

pub use ocelli_tensor::ops::{Activation, Padding, Window};

pub use add::Add;
pub use conv2d::Conv2d;
pub use linear::Linear;
pub use matmul::Matmul;
pub use mean::Mean;
pub use mul::Mul;
pub use reshape::Reshape;
pub use scale::Scale;
pub use sum::Sum;

/// The names of all operations.
pub const ALL: &[&str] = &[
    "add", "conv2d", "linear", "matmul", "mean", "mul", "relu", "relu6", "reshape", "scale", "sigmoid", "silu", "sum",
];

/// The gradient check of each operation of [`ALL`].
#[cfg(test)]
const CHECKS: &[(&str, fn(&testing::Geometry) -> testing::Checked)] = &[
    ("add", add::tests::gradients),
    ("conv2d", conv2d::tests::gradients),
    ("linear", linear::tests::gradients),
    ("matmul", matmul::tests::gradients),
    ("mean", mean::tests::gradients),
    ("mul", mul::tests::gradients),
    ("relu", activation::tests::relu),
    ("relu6", activation::tests::relu6),
    ("reshape", reshape::tests::gradients),
    ("scale", scale::tests::gradients),
    ("sigmoid", activation::tests::sigmoid),
    ("silu", activation::tests::silu),
    ("sum", sum::tests::gradients),
];

#[cfg(test)]
mod tests;
