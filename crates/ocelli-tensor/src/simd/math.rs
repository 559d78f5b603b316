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

/// p(r) ≈ 2⁻ʳ for |r| ≤ ½, by ascending powers, for `f32`: the polynomial of degree 5 with p(0) = 1 whose largest relative
/// error, 9.1e-8, is the least.
const INVERSE_POWER: [f64; 6] = [
    1.0,
    -0.693_146_977_598_715_8,
    0.240_222_420_846_351_68,
    -0.055_507_337_435_749_58,
    0.009_671_512_688_149_374,
    -0.001_326_472_724_687_540_9,
];

/// eˣ within 2 ulp of the exact value, for `f32` and `f64` alike: range reduction to ±½ ln 2 and a polynomial. The argument
/// is clamped to the range of normal results, so large arguments give the largest such number and very negative ones almost
/// zero. NaN stays NaN.
#[inline(always)]
pub fn exp<T: Element, S: Simd<T>>(simd: S, x: S::V) -> S::V {
    let (double, most) = (size_of::<T>() == 8, most::<T>().to_f64());
    let x = clamped(simd, x, [-most, 1.0 + most]);
    let (n, power) = rounded(simd, x, std::f64::consts::LOG2_E);
    // ln 2 in two parts, so that n·ln 2 is subtracted without rounding.
    let (ln2_high, ln2_low) = if double {
        (6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10)
    } else {
        (0.693_359_375, -2.121_944_400_546_905_8e-4)
    };
    let r = simd.mul_add(n, constant(simd, -ln2_high), x);
    let r = simd.mul_add(n, constant(simd, -ln2_low), r);
    simd.scale_exp2(polynomial(simd, r, if double { &DOUBLE } else { &SINGLE }), power)
}

/// e⁻ˣ for |x| up to [`most`], in `f32` within 2 ε = 2 · 2⁻²³ of the exact value for |x| ≤ 5, 4 ε up to 20 and 12 ε beyond (4, 10
/// and 36 without fused multiply-adds): networks take millions, and this is shorter than [`exp`]. NaN stays NaN.
#[inline(always)]
pub fn inverse_exp<T: Element, S: Simd<T>>(simd: S, x: S::V) -> S::V {
    if size_of::<T>() == 8 {
        return exp(simd, simd.sub(simd.splat(T::ZERO), x));
    }
    // e⁻ˣ = 2ⁿ · 2⁻ʳ
    let (n, power) = rounded(simd, x, -std::f64::consts::LOG2_E);
    let r = simd.mul_add(x, constant(simd, std::f64::consts::LOG2_E), n);
    simd.scale_exp2(polynomial(simd, r, &INVERSE_POWER), power)
}

/// What [`inverse_exp`] takes at most.
#[inline(always)]
pub fn most<T: Element>() -> T {
    T::from_f64(if size_of::<T>() == 8 { 708.0 } else { 87.0 })
}

/// 1 / (1 + e⁻ˣ), for |x| up to [`most`], beyond which it stays. In `f32` within 5 ε = 5 · 2⁻²³ of the exact value for |x| ≤ 20 and
/// 12 ε beyond (10 and 36 without fused multiply-adds).
#[inline(always)]
pub fn sigmoid<T: Element, S: Simd<T>>(simd: S, x: S::V) -> S::V {
    let x = clamped(simd, x, [-most::<T>().to_f64(), most::<T>().to_f64()]);
    simd.reciprocal(simd.add(simd.splat(T::ONE), inverse_exp(simd, x)))
}

#[inline(always)]
fn constant<T: Element, S: Simd<T>>(simd: S, x: f64) -> S::V {
    simd.splat(T::from_f64(x))
}

/// x between two numbers. NaN passes, in this order of operands.
#[inline(always)]
fn clamped<T: Element, S: Simd<T>>(simd: S, x: S::V, [low, high]: [f64; 2]) -> S::V {
    simd.min(constant(simd, high), simd.max(constant(simd, low), x))
}

/// x · factor to the nearest integer n, and n + [`power_zero`].
#[inline(always)]
fn rounded<T: Element, S: Simd<T>>(simd: S, x: S::V, factor: f64) -> (S::V, S::V) {
    let zero = simd.splat(power_zero());
    let power = simd.mul_add(x, constant(simd, factor), zero);
    (simd.sub(power, zero), power)
}

/// A number whose last place is that of ones, so that a sum with it has no fraction, and whose last bits are 2⁰'s exponent: those of
/// its sum with n, moved to where an exponent stands, are 2ⁿ.
#[inline(always)]
pub(super) fn power_zero<T: Element>() -> T {
    let (places, bias) = if size_of::<T>() == 8 { (52, 1023.0) } else { (23, 127.0) };
    T::from_f64(1.5 * (1u64 << places) as f64 + bias)
}

/// p(r), by ascending powers.
#[inline(always)]
fn polynomial<T: Element, S: Simd<T>>(simd: S, r: S::V, powers: &[f64]) -> S::V {
    let degree = powers.len() - 1;
    let mut p = constant(simd, powers[degree]);
    for k in (0..degree).rev() {
        p = simd.mul_add(p, r, constant(simd, powers[k]));
    }
    p
}
