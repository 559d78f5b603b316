//! The one error type of this crate: the kernels' refusals, and misuse of a graph or a plan.

use ocelli_tensor::Shape;

use crate::Pass;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a recorded operation, a backward pass or a plan refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A kernel refused its operands; or a gradient has another shape than its value.
    #[error(transparent)]
    Tensor(#[from] ocelli_tensor::Error),
    /// `backward` without a gradient of the output needs one element, such as a loss.
    #[error("backward: expected a value of one element, got shape {shape}")]
    NotScalar {
        /// The shape of the value.
        shape: Shape,
    },
    /// Nothing that this value was computed from requires a gradient, or it was computed under `no_grad`.
    #[error("backward: the value was not recorded, so it has no gradients to compute")]
    NotRecorded,
    /// An earlier backward pass has freed the records that this one needs.
    #[error("backward: the graph was freed by an earlier backward pass")]
    Freed,
    /// An operation's backward returned another number of gradients than the operation has inputs.
    #[error("{op}: expected {expected} gradients, got {got}")]
    GradientCount {
        /// The operation.
        op: &'static str,
        /// Its number of inputs.
        expected: usize,
        /// The number of gradients.
        got: usize,
    },
    /// An operation gave a NaN or an infinity while [anomalies](crate::detect_anomalies) were looked for.
    #[error("{op}{}: the {pass} pass gave a number that is not finite", within(scope))]
    Anomaly {
        /// The operation.
        op: &'static str,
        /// The names of the scopes around it, with dots between.
        scope: String,
        /// Whether it is a value or a gradient.
        pass: Pass,
    },
    /// A checkpoint's function failed when the backward pass ran it again.
    #[error("checkpoint: {reason}")]
    Recompute {
        /// What the function said.
        reason: String,
    },
    /// A parameter keeps its shape for life.
    #[error("parameter: expected a value of shape {expected}, got {got}")]
    ParameterShape {
        /// The parameter's shape.
        expected: Shape,
        /// The shape that came.
        got: Shape,
    },
    /// The trace that a plan is made of does not lead from the input to the output.
    #[error("plan: the trace does not compute the output from the input")]
    NotTraced,
    /// The ranges of a plan's values are those that they have for calibration images.
    #[error("plan: eight bits need at least one image to calibrate with")]
    NotCalibrated,
    /// A plan is compiled for one height, width and number of channels.
    #[error("plan: expected an input of shape {expected} but for the batch size, got {got}")]
    PlanInput {
        /// The shape of the traced input.
        expected: Shape,
        /// The shape that came.
        got: Shape,
    },
}

/// A place, after an operation's name.
fn within(scope: &str) -> String {
    if scope.is_empty() { String::new() } else { format!(" in {scope}") }
}
