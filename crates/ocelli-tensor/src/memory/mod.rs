//! Memory: 64-byte aligned buffers from a reusing pool.

mod arena;
mod buffer;
pub mod pool;

pub(crate) use buffer::Buffer;
