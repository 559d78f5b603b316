//! A typed, 64-byte aligned block of memory that returns to the pool when dropped.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;

use super::pool::{self, Block};

pub(crate) struct Buffer<T> {
    /// At least as long as the elements.
    block: Block,
    /// The byte of the block where they begin.
    start: usize,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Pod> Buffer<T> {
    /// `len` elements of unspecified (but initialised) content.
    pub fn scratch(len: usize) -> Self {
        Self::take(len).0
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let (mut buffer, zeroed) = Self::take(len);
        if !zeroed {
            buffer.fill(T::zeroed());
        }
        buffer
    }

    /// `f(0)` to `f(len - 1)`.
    pub fn from_fn(len: usize, f: impl Fn(usize) -> T) -> Self {
        let mut buffer = Self::scratch(len);
        buffer.iter_mut().enumerate().for_each(|(i, x)| *x = f(i));
        buffer
    }

    /// Takes another length; the content becomes unspecified. The memory stays if there is enough of it, and its middle is
    /// used: each of two threads, which have written the halves of what was there, then has its own half in its cache.
    pub fn resize(&mut self, len: usize) {
        if len * size_of::<T>() > self.capacity() {
            // What is there goes back first, so that the pool may use it.
            *self = Self::default();
            *self = Self::scratch(len);
        }
        self.start = (self.capacity() - len * size_of::<T>()) / 2 / pool::LINE * pool::LINE;
        self.len = len;
    }

    fn take(len: usize) -> (Self, bool) {
        let (block, zeroed) = if len == 0 { (Block::default(), true) } else { pool::take(len * size_of::<T>()) };
        (Buffer { block, start: 0, len, element: PhantomData }, zeroed)
    }
}

impl<T> Buffer<T> {
    /// Bytes that there are.
    pub fn capacity(&self) -> usize {
        self.block.bytes.len()
    }
}

/// No elements.
impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Buffer { block: Block::default(), start: 0, len: 0, element: PhantomData }
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        if self.len == 0 {
            return &[];
        }
        bytemuck::cast_slice(&self.block.bytes[self.start..][..self.len * size_of::<T>()])
    }
}

impl<T: Pod> DerefMut for Buffer<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        if self.len == 0 {
            return &mut [];
        }
        bytemuck::cast_slice_mut(&mut self.block.bytes[self.start..][..self.len * size_of::<T>()])
    }
}

impl<T: Pod> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::scratch(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl<T: Pod + PartialEq> PartialEq for Buffer<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Pod + Eq> Eq for Buffer<T> {}

impl<T: Pod + fmt::Debug> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        pool::give(std::mem::take(&mut self.block));
    }
}
