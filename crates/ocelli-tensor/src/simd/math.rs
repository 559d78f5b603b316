//! Elementary functions over lanes.

use super::Simd;
use crate::Element;

/// 1 / k!
const INVERSE_FACTORIALS: [f64; 14] = {
    let mut inverse = [1.0; 14];
    let mut k = 1;
    while k < inverse.len() {
        inverse[k] = inverse[k - 1] / k as f64;
        k += 1;
    }
    inverse
};

/// eˣ by range reduction to [−½ ln 2, ½ ln 2] and a Taylor polynomial, whose degree is the element type's: within 2
/// ulp of the exact value for `f32` and `f64` alike. The argument is clamped to the range of normal results, so large
/// arguments give the largest such number and very negative ones almost zero.
#[inline(always)]
pub fn exp<T: Element, S: Simd<T>>(simd: S, x: S::V) -> S::V {
    let c = |x: f64| simd.splat(T::from_f64(x));
    let double = size_of::<T>() == 8;
    let (low, high, degree) = if double { (-708.0, 709.0, 13) } else { (-87.0, 88.0, 7) };
    // In this order of operands NaN passes.
    let x = simd.min(c(high), simd.max(c(low), x));
    let n = simd.round(simd.mul(x, c(std::f64::consts::LOG2_E)));
    // ln 2 in two parts, so that n·ln 2 is subtracted without rounding.
    let (ln2_high, ln2_low) = if double {
        (6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10)
    } else {
        (0.693_359_375, -2.121_944_400_546_905_8e-4)
    };
    let r = simd.mul_add(n, c(-ln2_high), x);
    let r = simd.mul_add(n, c(-ln2_low), r);
    let mut p = c(INVERSE_FACTORIALS[degree]);
    for k in (0..degree).rev() {
        p = simd.mul_add(p, r, c(INVERSE_FACTORIALS[k]));
    }
    simd.mul(p, simd.exp2_integral(n))
}

/// 1 / (1 + e⁻ˣ)
#[inline(always)]
pub fn sigmoid<T: Element, S: Simd<T>>(simd: S, x: S::V) -> S::V {
    let one = simd.splat(T::ONE);
    let e = exp(simd, simd.sub(simd.splat(T::ZERO), x));
    simd.reciprocal(simd.add(one, e))
}
