//! The operations, one file each: its struct, forward, backward, the method of [`Var`](crate::Var) that applies it,
//! and its tests.

mod mul;
mod sum;

pub use mul::Mul;
pub use sum::Sum;
