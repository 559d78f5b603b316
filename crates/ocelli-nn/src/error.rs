//! The one error type of this crate.

use std::fmt;
use std::path::{Path, PathBuf};

use ocelli_autograd::tensor;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a layer, a checkpoint or an optimizer refused its input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A recorded operation or a kernel refused its operands.
    #[error(transparent)]
    Autograd(Box<ocelli_autograd::Error>),
    /// The system could not read or write.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Something went wrong with a file; the source says what.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: Box<Error>,
    },
    /// The bytes are no checkpoint that this crate reads.
    #[error("not a readable checkpoint: {0}")]
    Checkpoint(String),
    /// A pickle names a class or function other than the few that a state dict consists of.
    #[error(
        "the checkpoint refers to `{0}`, which is not part of a plain state dict; \
         save `model.state_dict()` and load that file instead"
    )]
    RefusedGlobal(String),
    /// A checkpoint does not fit the model.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// A setting is out of its domain.
    #[error("{item}: expected {expected}, got {got}")]
    Argument {
        /// Which setting of what: `SGD momentum`, …
        item: &'static str,
        /// The domain.
        expected: String,
        /// What came.
        got: String,
    },
    /// Two tensors of one model asked for the same name.
    #[error("the name `{0}` is given to two tensors of one model")]
    DuplicateName(String),
}

impl Error {
    /// A [`Checkpoint`](Error::Checkpoint) error.
    pub(crate) fn checkpoint(reason: impl Into<String>) -> Self {
        Error::Checkpoint(reason.into())
    }

    /// An [`Argument`](Error::Argument) error.
    pub fn argument(item: &'static str, expected: impl ToString, got: impl ToString) -> Self {
        Error::Argument { item, expected: expected.to_string(), got: got.to_string() }
    }

    /// This error, with the file that it is about.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        Error::File { path: path.to_owned(), source: Box::new(self) }
    }
}

impl From<ocelli_autograd::Error> for Error {
    fn from(error: ocelli_autograd::Error) -> Self {
        Error::Autograd(Box::new(error))
    }
}

impl From<tensor::Error> for Error {
    fn from(error: tensor::Error) -> Self {
        ocelli_autograd::Error::from(error).into()
    }
}

/// All the ways in which a checkpoint does not fit a model, in the model's order (unexpected tensors in the
/// checkpoint's). Its display lists every one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// Tensors of the model which the checkpoint lacks.
    pub missing: Vec<String>,
    /// Tensors of the checkpoint which the model lacks.
    pub unexpected: Vec<String>,
    /// Tensors whose shapes differ.
    pub misshaped: Vec<Misshaped>,
}

/// A tensor whose shape in a checkpoint differs from the model's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshaped {
    /// Its name.
    pub name: String,
    /// The model's shape, as a checkpoint lays it out.
    pub expected: Vec<usize>,
    /// The checkpoint's.
    pub got: Vec<usize>,
}

impl Mismatch {
    /// Whether everything fits.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshaped.is_empty()
    }
}

impl std::error::Error for Mismatch {}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let misshaped = self.misshaped.iter().map(|m| format!("{} {:?} instead of {:?}", m.name, m.got, m.expected));
        let parts = [
            ("missing", self.missing.clone()),
            ("unexpected", self.unexpected.clone()),
            ("misshaped", misshaped.collect()),
        ];
        write!(f, "the checkpoint does not fit the model")?;
        let mut separator = ": ";
        for (what, names) in parts.iter().filter(|(_, names)| !names.is_empty()) {
            write!(f, "{separator}{} {what} ({})", names.len(), names.join(", "))?;
            separator = "; ";
        }
        Ok(())
    }
}
