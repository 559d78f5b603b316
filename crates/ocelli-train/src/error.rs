//! The one error type of this crate: which file or setting, and what is wrong with it.

use std::io;
use std::path::{Path, PathBuf};

use ocelli_zoo::nn;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why data could not be read, or training could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// `read`, `write`, …
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not an image that can be decoded whole.
    #[error("{name}: {reason}")]
    Image {
        /// The file.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A data set is not laid out as it must be, or lacks images.
    #[error("{}: {reason}", path.display())]
    Data {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it, and what was expected.
        reason: String,
    },
    /// A setting is out of its domain, or settings contradict each other.
    #[error("{what}: {reason}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A loss or output is infinite or no number: training has diverged.
    #[error("{what} is not finite: training has diverged, a lower learning rate may help")]
    NotFinite {
        /// Of which step or output.
        what: String,
    },
    /// Published weights are not known, or could not be fetched.
    #[error("{name}: {reason}")]
    Weights {
        /// Their name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The zoo refused a name, a shape or weights.
    #[error(transparent)]
    Zoo(#[from] ocelli_zoo::Error),
    /// A layer, a checkpoint or an optimizer refused its input.
    #[error(transparent)]
    Nn(#[from] nn::Error),
}

impl Error {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Error::Io { path: path.to_owned(), action, source }
    }

    pub(crate) fn image(name: impl Into<String>, reason: impl ToString) -> Self {
        Error::Image { name: name.into(), reason: reason.to_string() }
    }

    pub(crate) fn data(path: &Path, reason: impl Into<String>) -> Self {
        Error::Data { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn setting(what: &'static str, reason: impl Into<String>) -> Self {
        Error::Setting { what, reason: reason.into() }
    }
}

impl From<nn::tensor::Error> for Error {
    fn from(error: nn::tensor::Error) -> Self {
        Error::Nn(error.into())
    }
}

impl From<nn::autograd::Error> for Error {
    fn from(error: nn::autograd::Error) -> Self {
        Error::Nn(error.into())
    }
}
