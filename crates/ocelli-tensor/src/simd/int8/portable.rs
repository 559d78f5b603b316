//! Products of bytes for every processor.

// Lanes are named by their place.
#![allow(clippy::needless_range_loop)]

use super::super::portable::Portable;
use super::{Int8, Lanes, RUN};

const LANES: usize = 8;

impl Int8 for Portable {
    type Floats = Self;
    type Sums = [i32; LANES];
    type Row = [i32; RUN];
    type Weights = [i8; RUN * LANES];
    const DEPTH: usize = RUN;
    const TILE_ROWS: usize = 4;
    const TILE_VECTORS: usize = 1;

    #[inline(always)]
    fn floats(self) -> Self {
        self
    }
    #[inline(always)]
    fn zero(self) -> Self::Sums {
        [0; LANES]
    }
    #[inline(always)]
    unsafe fn row(self, src: *const u8) -> Self::Row {
        // SAFETY: the caller vouches for DEPTH bytes.
        unsafe { src.cast::<[u8; RUN]>().read() }.map(i32::from)
    }
    #[inline(always)]
    unsafe fn weights(self, src: *const i8, _: usize) -> Self::Weights {
        // SAFETY: the caller vouches for a register.
        unsafe { src.cast::<Self::Weights>().read() }
    }
    #[inline(always)]
    fn dot(self, mut sums: Self::Sums, row: Self::Row, weights: Self::Weights) -> Self::Sums {
        for lane in 0..LANES {
            for i in 0..RUN {
                sums[lane] += row[i] * i32::from(weights[lane * RUN + i]);
            }
        }
        sums
    }
    #[inline(always)]
    fn numbers(self, sums: Self::Sums) -> Lanes<Self> {
        sums.map(|sum| sum as f32).into()
    }
    #[inline(always)]
    unsafe fn load_bytes(self, src: *const u8, n: usize) -> Lanes<Self> {
        let mut bytes = [0; LANES];
        // SAFETY: the caller vouches for `n ≤ LANES` bytes.
        unsafe { std::ptr::copy_nonoverlapping(src, bytes.as_mut_ptr(), n) }
        bytes.map(f32::from).into()
    }
    #[inline(always)]
    unsafe fn store_bytes(self, v: Lanes<Self>, dst: *mut u8, n: usize) {
        let bytes = v.to_array().map(|x| x.round_ties_even() as u8);
        // SAFETY: the caller vouches for room for `n ≤ LANES` bytes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), dst, n) }
    }
}
