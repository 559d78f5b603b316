//! Elementary functions over lanes.

use super::Simd;
use crate::Element;

/// p(r) ≈ eʳ for |r| ≤ ½ ln 2, by ascending powers, for `f32`: the polynomial of degree 6 with p(0) = p′(0) = 1 whose
/// largest relative error, 3.1e-9, is the least.
const SINGLE: [f64; 7] = [
    1.0,
    1.0,
    0.499_999_934_515_962_5,
    0.166_665_206_874_912_6,
    0.041_668_387_369_449_465,
    0.008_368_710_108_984_104,
    0.001_381_461_422_009_493_6,
];

/// The same for `f64`: Taylor's, 1 / k!
const DOUBLE: [f64; 14] = {
    let mut inverse = [1.0; 14];
    let mut k = 1;
    while k < inverse.len() {
        inverse[k] = inverse[k - 1] / k as f64;
        k += 1;
    }
    inverse
};

/// eˣ within 2 ulp of the exact value, for `f32` and `f64` alike. The argument is clamped to the range of normal results,
/// so large arguments give the largest such number and very negative ones almost zero.
#[inline(always)]
pub fn exp<T: Element, S: Simd<T>>(simd: S, x: S::V) -> S::V {
    exp_signed(simd, x, 1.0)
}

/// e to the power of x or, for a `sign` of −1, −x: range reduction to ±½ ln 2 and a polynomial.
#[inline(always)]
fn exp_signed<T: Element, S: Simd<T>>(simd: S, x: S::V, sign: f64) -> S::V {
    let c = |x: f64| simd.splat(T::from_f64(x));
    let double = size_of::<T>() == 8;
    let polynomial: &[f64] = if double { &DOUBLE } else { &SINGLE };
    let least = if double { -708.0 } else { -87.0 };
    let [low, high] = if sign > 0.0 { [least, 1.0 - least] } else { [least - 1.0, -least] };
    // In this order of operands NaN passes.
    let x = simd.min(c(high), simd.max(c(low), x));
    // n = round(±x / ln 2): a sum with a number whose last place is that of ones has no fraction.
    let large = c(1.5 * if double { 1u64 << 52 } else { 1 << 23 } as f64);
    let n = simd.sub(simd.mul_add(x, c(sign * std::f64::consts::LOG2_E), large), large);
    // ln 2 in two parts, so that n·ln 2 is subtracted without rounding.
    let (ln2_high, ln2_low) = if double {
        (6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10)
    } else {
        (0.693_359_375, -2.121_944_400_546_905_8e-4)
    };
    let r = simd.mul_add(n, c(-sign * ln2_high), x);
    let r = simd.mul_add(n, c(-sign * ln2_low), r);
    // r has the sign of x: odd powers have that of the argument.
    let power = |k: usize| c(if k % 2 == 1 { sign * polynomial[k] } else { polynomial[k] });
    let degree = polynomial.len() - 1;
    let mut p = power(degree);
    for k in (0..degree).rev() {
        p = simd.mul_add(p, r, power(k));
    }
    simd.scale_exp2(p, n)
}

/// 1 / (1 + e⁻ˣ)
#[inline(always)]
pub fn sigmoid<T: Element, S: Simd<T>>(simd: S, x: S::V) -> S::V {
    simd.reciprocal(simd.add(simd.splat(T::ONE), exp_signed(simd, x, -1.0)))
}
