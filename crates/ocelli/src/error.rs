//! Why a command failed, in one line.

use std::io;
use std::path::Path;

use ocelli_train::zoo::{self, nn};

/// `Result` with this program's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line asks for what cannot be, beyond what the parser sees.
    #[error("{0}")]
    Message(String),
    /// Standard output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// From the layers below.
    #[error(transparent)]
    Library(#[from] ocelli_train::Error),
}

impl Error {
    /// An error of this program's own.
    pub fn message(text: impl Into<String>) -> Self {
        Error::Message(text.into())
    }

    /// An error about a file.
    pub fn file(path: &Path, reason: impl std::fmt::Display) -> Self {
        Error::Message(format!("{}: {reason}", path.display()))
    }

    /// Whether only the reader of the output has gone.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Error::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The message, without line breaks that a file's name or a library's message may hold.
    pub fn line(&self) -> String {
        let message = self.to_string();
        message.split(['\n', '\r']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }
}

impl From<zoo::Error> for Error {
    fn from(error: zoo::Error) -> Self {
        Error::Library(error.into())
    }
}

impl From<nn::Error> for Error {
    fn from(error: nn::Error) -> Self {
        Error::Library(error.into())
    }
}

impl From<nn::autograd::Error> for Error {
    fn from(error: nn::autograd::Error) -> Self {
        Error::Library(error.into())
    }
}

impl From<nn::tensor::Error> for Error {
    fn from(error: nn::tensor::Error) -> Self {
        Error::Library(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line() {
        assert_eq!(Error::message("one\n  two\r\n").line(), "one; two");
    }
}
