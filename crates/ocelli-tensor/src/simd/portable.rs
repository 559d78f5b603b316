//! Lanes for every processor, by `wide`: eight `f32` or four `f64`.

use wide::{f32x8, f64x4};

use super::Simd;

/// The token that needs no proof.
#[derive(Clone, Copy)]
pub(super) struct Portable;

macro_rules! portable {
    ($t:ident, $v:ident, $lanes:literal, $mantissa:literal) => {
        impl Simd<$t> for Portable {
            type V = $v;
            const LANES: usize = $lanes;
            const TILE_ROWS: usize = 4;
            const TILE_VECTORS: usize = 1;

            #[inline(always)]
            fn splat(self, x: $t) -> $v {
                $v::splat(x)
            }
            #[inline(always)]
            unsafe fn load_ptr(self, src: *const $t) -> $v {
                // SAFETY: the caller vouches for a whole register's elements.
                $v::from(unsafe { src.cast::<[$t; $lanes]>().read_unaligned() })
            }
            #[inline(always)]
            unsafe fn store_ptr(self, v: $v, dst: *mut $t) {
                // SAFETY: the caller vouches for room for a whole register.
                unsafe { dst.cast::<[$t; $lanes]>().write_unaligned(v.to_array()) }
            }
            #[inline(always)]
            unsafe fn load_partial_ptr(self, src: *const $t, n: usize) -> $v {
                let mut lanes = [0.0; $lanes];
                // SAFETY: the caller vouches for `n <= LANES` elements.
                unsafe { std::ptr::copy_nonoverlapping(src, lanes.as_mut_ptr(), n) }
                $v::from(lanes)
            }
            #[inline(always)]
            unsafe fn store_partial_ptr(self, v: $v, dst: *mut $t, n: usize) {
                // SAFETY: the caller vouches for room for `n <= LANES` elements.
                unsafe { std::ptr::copy_nonoverlapping(v.to_array().as_ptr(), dst, n) }
            }
            #[inline(always)]
            fn add(self, a: $v, b: $v) -> $v {
                a + b
            }
            #[inline(always)]
            fn sub(self, a: $v, b: $v) -> $v {
                a - b
            }
            #[inline(always)]
            fn mul(self, a: $v, b: $v) -> $v {
                a * b
            }
            #[inline(always)]
            fn div(self, a: $v, b: $v) -> $v {
                a / b
            }
            #[inline(always)]
            fn mul_add(self, a: $v, b: $v, c: $v) -> $v {
                a * b + c
            }
            #[inline(always)]
            fn max(self, a: $v, b: $v) -> $v {
                a.simd_gt(b).select(a, b)
            }
            #[inline(always)]
            fn min(self, a: $v, b: $v) -> $v {
                b.simd_gt(a).select(a, b)
            }
            #[inline(always)]
            fn sqrt(self, a: $v) -> $v {
                a.sqrt()
            }
            #[inline(always)]
            fn select_gt(self, a: $v, b: $v, yes: $v, no: $v) -> $v {
                a.simd_gt(b).select(yes, no)
            }
            #[inline(always)]
            fn scale_exp2(self, a: $v, power: $v) -> $v {
                a * $v::from(power.to_array().map(|power| $t::from_bits(power.to_bits() << $mantissa)))
            }
            #[inline(always)]
            fn reduce_add(self, v: $v) -> $t {
                v.reduce_add()
            }
            #[inline(always)]
            fn reduce_max(self, v: $v) -> $t {
                v.to_array().into_iter().fold($t::NEG_INFINITY, $t::max)
            }
        }
    };
}

portable!(f32, f32x8, 8, 23);
portable!(f64, f64x4, 4, 52);
