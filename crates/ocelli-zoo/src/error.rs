//! Errors of this crate.

use crate::nn;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a model could not be made, loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No variant has this name.
    #[error("there is no model {name:?}{}", suggestions(nearest))]
    UnknownModel {
        /// The name that was asked for.
        name: String,
        /// The most similar names, nearest first.
        nearest: Vec<&'static str>,
    },
    /// The input does not fit the architecture.
    #[error("{model} takes images of at least {least}×{least} pixels and {channels} channels, got shape {got}")]
    Input {
        /// The variant.
        model: &'static str,
        /// The smallest height and width.
        least: usize,
        /// The channels that the model was built for.
        channels: usize,
        /// The shape that came.
        got: nn::tensor::Shape,
    },
    /// There is no such stage.
    #[error("{model} has {count} stages, from 0: there is no stage {stage}")]
    Stage {
        /// The variant.
        model: &'static str,
        /// The stages that it has.
        count: usize,
        /// The one that was asked for.
        stage: usize,
    },
    /// From the layers below.
    #[error(transparent)]
    Nn(#[from] nn::Error),
}

impl From<nn::autograd::Error> for Error {
    fn from(error: nn::autograd::Error) -> Self {
        Error::Nn(error.into())
    }
}

impl From<nn::tensor::Error> for Error {
    fn from(error: nn::tensor::Error) -> Self {
        Error::Nn(error.into())
    }
}

fn suggestions(nearest: &[&str]) -> String {
    match nearest {
        [] => "; `ocelli models` lists them".into(),
        [one] => format!("; did you mean {one}?"),
        [first @ .., last] => format!("; did you mean {} or {last}?", first.join(", ")),
    }
}
