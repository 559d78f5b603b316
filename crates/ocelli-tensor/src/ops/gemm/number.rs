//! How the right operand of a gathered product is kept: tiles are compiled for each way.

use half::f16;

use super::Packed;
use crate::Element;
use crate::simd::Simd;

/// A number of the operand as it is kept: an element, one in 16 bits, or one of a matrix that lies [in place](InPlace).
pub(crate) trait Number<T: Element>: Copy {
    /// Whether rows of a panel may lie further apart than a panel's width.
    const APART: bool = false;

    /// The numbers from some row of a panel on, and how far apart its rows lie.
    fn rows(b: &Packed<T>, group: usize, panel: usize, row: usize) -> (&[Self], usize);

    /// Where the rows of a panel end, at most at `end`, that follow some row in the same memory.
    #[inline(always)]
    fn end(_b: &Packed<T>, _panel: usize, _row: usize, end: usize) -> usize {
        end
    }

    /// Reads a register.
    ///
    /// # Safety
    /// `LANES` numbers must be readable at `src`.
    unsafe fn load<S: Simd<T>>(simd: S, src: *const Self) -> S::V;
}

impl<T: Element> Number<T> for T {
    #[inline(always)]
    fn rows(b: &Packed<T>, group: usize, panel: usize, row: usize) -> (&[T], usize) {
        (b.rows_from(group, panel, row), b.width)
    }

    #[inline(always)]
    unsafe fn load<S: Simd<T>>(simd: S, src: *const T) -> S::V {
        // SAFETY: passed on.
        unsafe { simd.load_ptr(src) }
    }
}

impl<T: Element> Number<T> for f16 {
    #[inline(always)]
    fn rows(b: &Packed<T>, group: usize, panel: usize, row: usize) -> (&[f16], usize) {
        (b.halves_from(group, panel, row), b.width)
    }

    #[inline(always)]
    unsafe fn load<S: Simd<T>>(simd: S, src: *const f16) -> S::V {
        // SAFETY: passed on.
        unsafe { simd.widen_ptr(src) }
    }
}

/// An element of an operand that is not packed.
#[derive(Clone, Copy, bytemuck::TransparentWrapper)]
#[repr(transparent)]
pub(crate) struct InPlace<T>(T);

impl<T: Element> Number<T> for InPlace<T> {
    const APART: bool = true;

    #[inline(always)]
    fn rows(b: &Packed<T>, _: usize, panel: usize, row: usize) -> (&[InPlace<T>], usize) {
        let (numbers, apart) = b.lying_rows(panel, row);
        (bytemuck::TransparentWrapper::wrap_slice(numbers), apart)
    }

    #[inline(always)]
    fn end(b: &Packed<T>, panel: usize, row: usize, end: usize) -> usize {
        end.min(b.lying_end(panel, row))
    }

    #[inline(always)]
    unsafe fn load<S: Simd<T>>(simd: S, src: *const Self) -> S::V {
        // SAFETY: passed on.
        unsafe { simd.load_ptr(src.cast()) }
    }
}
