//! PyTorch's checkpoints, without PyTorch: a pickle that describes tensors, and the bytes that they view.
//!
//! A pickle is a program for a stack machine which in Python may call anything. [`machine`] runs the few
//! instructions that a state dict needs and builds plain data and tensors, nothing else; [`state_dict`] finds the
//! tensors in what came out; [`archive`] and [`stream`] know where the two kinds of files keep the bytes.

mod archive;
mod machine;
mod state_dict;
mod stream;
mod tensors;
#[cfg(test)]
mod tests;
mod value;

use crate::Result;
use crate::checkpoint::Checkpoint;

/// Reads the content, if it is of one of PyTorch's kinds.
pub(super) fn read(bytes: &[u8]) -> Option<Result<Checkpoint>> {
    if bytes.starts_with(&archive::MAGIC) {
        Some(archive::read(bytes))
    } else if bytes.starts_with(&stream::MAGIC) {
        Some(stream::read(bytes))
    } else {
        None
    }
}
