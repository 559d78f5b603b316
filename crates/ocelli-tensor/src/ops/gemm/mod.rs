//! The matrix products under every convolution and fully connected layer, in two forms:
//!
//! - [`gather`]: `C[target(r), n] = Σₜ Σₖ A[source(r, t) + k] · B[t, k, n]`. Rows of `A` are found through pointers, one
//!   for every tap, so that a convolution needs no im2col buffer; `B` is packed into panels ([`pack`]), or
//!   read where it lies.
//! - [`reduce`]: `C[t, m, n] = Σₚ A[source(p, t) + m] · B[p, n]`, the product over pixels that gives weight gradients.
//!
//! Matrix products of few rows have forms of their own: [`few`], without packing, and [`compact`], with weights that are
//! packed into fewer bytes.
//!
//! [`grid`] says which pixel is whose source, [`tile`] and [`strip`] hold the register tiles, and the loops around them stand in
//! `gather` and `reduce`; [`pieces`] divides gathered ones into tasks. Each C element is summed by one task in one order,
//! whatever the number of threads.

mod ahead;
mod bend;
pub(crate) mod compact;
pub(crate) mod counts;
mod epilogue;
pub(crate) mod few;
pub(crate) mod gate;
pub(crate) mod gather;
pub(crate) mod grid;
pub(crate) mod half;
pub(crate) mod number;
pub(crate) mod pack;
mod pieces;
pub(crate) mod reduce;
mod strip;
mod tile;
pub(crate) mod transpose;

pub(crate) use grid::Grid;
pub(crate) use pack::{Matrix, Packed};
pub(crate) use pieces::{Cuts, cut};
pub(crate) use tile::with_tile;

use crate::memory::Scratch;

/// A pointer that tasks share; each task reads or writes a part of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared<P>(pub P);

// SAFETY: a `Shared` is made only where products are divided into tasks, which write disjoint elements and read only operands
// that nobody writes meanwhile (they are borrowed for the whole call).
unsafe impl<P> Send for Shared<P> {}
// SAFETY: as above.
unsafe impl<P> Sync for Shared<P> {}

impl<P: Copy> Shared<P> {
    /// The pointer. A method, so that closures capture the wrapper.
    pub fn get(&self) -> P {
        self.0
    }
}

/// Scratch memory as a table of pointers, all null.
pub(crate) fn pointers<T>(scratch: &mut Scratch<usize>) -> &mut [*const T] {
    scratch.fill(0);
    // SAFETY: a pointer to a sized type is as large and aligned as a `usize`, and zeros are one.
    unsafe { std::slice::from_raw_parts_mut(scratch.as_mut_ptr().cast(), scratch.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_null_at_first() {
        let mut scratch = Scratch::new(3);
        scratch.fill(usize::MAX);
        assert!(pointers::<f32>(&mut scratch).iter().all(|pointer| pointer.is_null()));
    }
}
