//! Memory: 64-byte aligned buffers from a reusing pool.

mod arena;
mod buffer;
mod pages;
pub mod pool;
mod scratch;

pub(crate) use buffer::Buffer;
pub(crate) use scratch::Scratch;
