//! A typed, 64-byte aligned block of memory that returns to the pool when dropped.

use std::marker::PhantomData;

use super::pool::{self, LINE, Line};
use crate::Element;

pub(crate) struct Buffer<T> {
    lines: Vec<Line>,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Element> Buffer<T> {
    /// `len` elements of unspecified (but initialised) content.
    pub fn scratch(len: usize) -> Self {
        Self::take(len).0
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let (mut buffer, zeroed) = Self::take(len);
        if !zeroed {
            buffer.as_mut_slice().fill(T::ZERO);
        }
        buffer
    }

    fn take(len: usize) -> (Self, bool) {
        let (lines, zeroed) = pool::take((len * size_of::<T>()).div_ceil(LINE));
        (Buffer { lines, len, element: PhantomData }, zeroed)
    }

    pub fn as_slice(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

impl<T: Element> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::scratch(self.len);
        copy.as_mut_slice().copy_from_slice(self.as_slice());
        copy
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        pool::give(std::mem::take(&mut self.lines));
    }
}
