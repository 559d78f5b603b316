//! Memory for the duration of a call: what a kernel needs beside its operands.
//!
//! A thread keeps what it once needed, so that a call that is repeated neither allocates nor takes the pool's lock, which
//! all threads share.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;

use super::Buffer;

/// Bytes up to which a thread keeps a block; what is larger goes back to the pool, where others find it.
const KEPT: usize = 1 << 20;

thread_local! {
    /// The thread's blocks that are not in use.
    static IDLE: RefCell<Vec<Buffer<u8>>> = const { RefCell::new(Vec::new()) };
}

/// `len` elements of unspecified (but initialised) content.
pub(crate) struct Scratch<T> {
    bytes: Buffer<u8>,
    element: PhantomData<T>,
}

impl<T: Pod> Scratch<T> {
    pub fn new(len: usize) -> Self {
        let size = len * size_of::<T>();
        let mut bytes = if size <= KEPT { IDLE.with_borrow_mut(|idle| take(idle, size)) } else { Buffer::default() };
        bytes.resize(size);
        Scratch { bytes, element: PhantomData }
    }

    pub fn zeros(len: usize) -> Self {
        let mut scratch = Self::new(len);
        scratch.fill(T::zeroed());
        scratch
    }
}

/// The smallest block that has `size` bytes, else the largest, which is to grow: whatever order blocks come back in, calls
/// that are repeated find what they need.
fn take(idle: &mut Vec<Buffer<u8>>, size: usize) -> Buffer<u8> {
    // Blocks that are too small come last.
    let rank = |&i: &usize| (idle[i].capacity() < size, idle[i].capacity().abs_diff(size));
    (0..idle.len()).min_by_key(rank).map(|i| idle.swap_remove(i)).unwrap_or_default()
}

impl<T: Pod> Deref for Scratch<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // (Nothing lies nowhere in particular.)
        if self.bytes.is_empty() { &[] } else { bytemuck::cast_slice(&self.bytes) }
    }
}

impl<T: Pod> DerefMut for Scratch<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        if self.bytes.is_empty() { &mut [] } else { bytemuck::cast_slice_mut(&mut self.bytes) }
    }
}

impl<T> Drop for Scratch<T> {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.capacity() <= KEPT {
            // A thread that is ending keeps nothing any more: the block goes back to the pool.
            let _ = IDLE.try_with(|idle| idle.borrow_mut().push(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_calls_find_their_blocks_again() {
        let addresses = || {
            let outer = Scratch::<f32>::new(1000);
            let inner = Scratch::<f64>::zeros(70);
            assert_eq!((outer.len(), inner.len()), (1000, 70));
            assert!(inner.iter().all(|&x| x == 0.0));
            [outer.as_ptr().addr(), inner.as_ptr().addr()]
        };
        assert_eq!(addresses(), addresses());
    }

    #[test]
    fn a_block_grows() {
        Scratch::<u8>::new(10).fill(1);
        assert!(Scratch::<f32>::zeros(100_000).iter().all(|&x| x == 0.0));
        assert!(Scratch::<f32>::new(0).is_empty());
    }
}
