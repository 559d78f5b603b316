//! The one error type of this crate: which operation, what it expected, what came.

use crate::Shape;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation refused its input. Nothing has been computed when one of these is returned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor's shape does not fit the operation.
    #[error("{op}: expected {what} of shape {expected}, got {got}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The operand: `input`, `weight`, …
        what: &'static str,
        /// What would have fitted, such as `[N, H, W, 64]`.
        expected: String,
        /// The shape that came.
        got: Shape,
    },
    /// An attribute (a stride, a group count, a probability, …) is out of its domain.
    #[error("{op}: expected {what} {expected}, got {got}")]
    Argument {
        /// The operation.
        op: &'static str,
        /// The attribute: `stride`, `groups`, …
        what: &'static str,
        /// The domain, such as `of at least 1`.
        expected: String,
        /// The value that came.
        got: String,
    },
}

impl Error {
    /// A shape error; `expected` is anything that prints as a shape.
    pub fn shape(op: &'static str, what: &'static str, expected: impl ToString, got: &Shape) -> Self {
        Error::Shape { op, what, expected: expected.to_string(), got: *got }
    }

    /// An argument error.
    pub fn argument(op: &'static str, what: &'static str, expected: impl ToString, got: impl ToString) -> Self {
        Error::Argument { op, what, expected: expected.to_string(), got: got.to_string() }
    }
}
