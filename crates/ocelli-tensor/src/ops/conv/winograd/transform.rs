//! The one-dimensional transforms of F(4, 3) and F(2, 5), with the interpolation points 0, ±1, ±2, ∞, and F(2, 3), with
//! 0, ±1, ∞.
//!
//! `y = Aᵀ [(G g) ⊙ (Bᵀ d)]` gives four outputs of a filter g of three taps over six inputs d, with six multiplications
//! instead of twelve. Applied to rows and columns: 36 instead of 144. Lavin & Gray, *Fast Algorithms for Convolutional
//! Neural Networks*, 2015 (arXiv 1509.09308).
//!
//! ```text
//!      ⎡4  0 −5  0 1 0⎤        ⎡ ¼    0    0 ⎤
//!      ⎢0 −4 −4  1 1 0⎥        ⎢−⅙   −⅙   −⅙ ⎥         ⎡1 1  1 1  1 0⎤
//! Bᵀ = ⎢0  4 −4 −1 1 0⎥    G = ⎢−⅙    ⅙   −⅙ ⎥    Aᵀ = ⎢0 1 −1 2 −2 0⎥
//!      ⎢0 −2 −1  2 1 0⎥        ⎢¹⁄₂₄ ¹⁄₁₂  ⅙ ⎥         ⎢0 1  1 4  4 0⎥
//!      ⎢0  2 −1 −2 1 0⎥        ⎢¹⁄₂₄ −¹⁄₁₂ ⅙ ⎥         ⎣0 1 −1 8 −8 1⎦
//!      ⎣0  4  0 −5 0 1⎦        ⎣ 0    0    1 ⎦
//!
//!                             ⎡ ¼    0   0   0   0 ⎤
//!                             ⎢−⅙   −⅙  −⅙  −⅙  −⅙ ⎥
//! Bᵀ as above             G = ⎢−⅙    ⅙  −⅙   ⅙  −⅙ ⎥      Aᵀ = ⎡1 1  1 1  1 0⎤
//!                             ⎢¹⁄₂₄ ¹⁄₁₂ ⅙   ⅓   ⅔ ⎥           ⎣0 1 −1 2 −2 1⎦
//!                             ⎢¹⁄₂₄ −¹⁄₁₂ ⅙ −⅓   ⅔ ⎥
//!                             ⎣ 0    0   0   0   1 ⎦
//!
//!      ⎡1  0 −1  0⎤            ⎡1  0  0⎤
//! Bᵀ = ⎢0  1  1  0⎥        G = ⎢½  ½  ½⎥               Aᵀ = ⎡1 1  1  0⎤
//!      ⎢0 −1  1  0⎥            ⎢½ −½  ½⎥                    ⎣0 1 −1 −1⎦
//!      ⎣0  1  0 −1⎦            ⎣0  0  1⎦
//! ```

use crate::Element;
use crate::simd::Simd;

/// Outputs of a large tile along an axis.
pub(super) const OUTPUTS: usize = 4;
/// Inputs of a large tile along an axis, and of one for five taps.
pub(super) const INPUTS: usize = 6;
/// Outputs of a small tile along an axis, and of one for five taps.
pub(super) const SMALL_OUTPUTS: usize = 2;
/// Inputs of a small tile along an axis.
pub(super) const SMALL_INPUTS: usize = 4;
/// Taps along an axis, and those of a large kernel.
pub(super) const TAPS: usize = 3;
pub(super) const FIVE_TAPS: usize = 5;
/// Frequencies of a large tile.
pub(super) const FREQUENCIES: usize = INPUTS * INPUTS;

/// A linear map of `I` values to `O`, applied to registers lane by lane.
///
/// Values pass through loops and plain methods rather than closures and iterators: those are not always inlined, and
/// what is not inlined is not compiled for the token's instructions.
pub(super) trait Map<const I: usize, const O: usize> {
    fn apply<T: Element, S: Simd<T>>(simd: S, x: [S::V; I]) -> [S::V; O];

    /// The map applied to the columns, then the rows of a tile.
    #[inline(always)]
    fn both<T: Element, S: Simd<T>>(simd: S, tile: &[[S::V; I]; I]) -> [[S::V; O]; O] {
        let zero = simd.splat(T::ZERO);
        let mut half = [[zero; I]; O];
        for x in 0..I {
            let mut column = [zero; I];
            for y in 0..I {
                column[y] = tile[y][x];
            }
            let column = Self::apply(simd, column);
            for y in 0..O {
                half[y][x] = column[y];
            }
        }
        let mut out = [[zero; O]; O];
        for y in 0..O {
            out[y] = Self::apply(simd, half[y]);
        }
        out
    }
}

/// factor · x
#[inline(always)]
fn times<T: Element, S: Simd<T>>(s: S, factor: f64, x: S::V) -> S::V {
    s.mul(s.splat(T::from_f64(factor)), x)
}

/// factor · x + y
#[inline(always)]
fn plus<T: Element, S: Simd<T>>(s: S, factor: f64, x: S::V, y: S::V) -> S::V {
    s.mul_add(s.splat(T::from_f64(factor)), x, y)
}

/// Bᵀ d
pub(super) struct Input;

impl Map<INPUTS, INPUTS> for Input {
    #[inline(always)]
    fn apply<T: Element, S: Simd<T>>(s: S, d: [S::V; INPUTS]) -> [S::V; INPUTS] {
        let even = plus(s, -4.0, d[2], d[4]);
        let odd = plus(s, -4.0, d[1], d[3]);
        let near = s.sub(d[4], d[2]);
        let far = s.sub(d[3], d[1]);
        [
            plus(s, 4.0, d[0], plus(s, -5.0, d[2], d[4])),
            s.add(even, odd),
            s.sub(even, odd),
            plus(s, 2.0, far, near),
            plus(s, -2.0, far, near),
            plus(s, 4.0, d[1], plus(s, -5.0, d[3], d[5])),
        ]
    }
}

impl Map<SMALL_INPUTS, SMALL_INPUTS> for Input {
    #[inline(always)]
    fn apply<T: Element, S: Simd<T>>(s: S, d: [S::V; SMALL_INPUTS]) -> [S::V; SMALL_INPUTS] {
        [s.sub(d[0], d[2]), s.add(d[1], d[2]), s.sub(d[2], d[1]), s.sub(d[1], d[3])]
    }
}

/// G g
pub(super) struct Weight;

impl Map<TAPS, SMALL_INPUTS> for Weight {
    #[inline(always)]
    fn apply<T: Element, S: Simd<T>>(s: S, g: [S::V; TAPS]) -> [S::V; SMALL_INPUTS] {
        let (ends, middle) = (times(s, 0.5, s.add(g[0], g[2])), times(s, 0.5, g[1]));
        [g[0], s.add(ends, middle), s.sub(ends, middle), g[2]]
    }
}

impl Map<TAPS, INPUTS> for Weight {
    #[inline(always)]
    fn apply<T: Element, S: Simd<T>>(s: S, g: [S::V; TAPS]) -> [S::V; INPUTS] {
        let ends = times(s, -1.0 / 6.0, s.add(g[0], g[2]));
        let wide = plus(s, 1.0 / 24.0, g[0], times(s, 1.0 / 6.0, g[2]));
        [
            times(s, 0.25, g[0]),
            plus(s, -1.0 / 6.0, g[1], ends),
            plus(s, 1.0 / 6.0, g[1], ends),
            plus(s, 1.0 / 12.0, g[1], wide),
            plus(s, -1.0 / 12.0, g[1], wide),
            g[2],
        ]
    }
}

impl Map<FIVE_TAPS, INPUTS> for Weight {
    #[inline(always)]
    fn apply<T: Element, S: Simd<T>>(s: S, g: [S::V; FIVE_TAPS]) -> [S::V; INPUTS] {
        let even = times(s, -1.0 / 6.0, s.add(s.add(g[0], g[2]), g[4]));
        let odd = s.add(g[1], g[3]);
        let wide_even = plus(s, 1.0 / 24.0, g[0], plus(s, 1.0 / 6.0, g[2], times(s, 2.0 / 3.0, g[4])));
        let wide_odd = plus(s, 4.0, g[3], g[1]);
        [
            times(s, 0.25, g[0]),
            plus(s, -1.0 / 6.0, odd, even),
            plus(s, 1.0 / 6.0, odd, even),
            plus(s, 1.0 / 12.0, wide_odd, wide_even),
            plus(s, -1.0 / 12.0, wide_odd, wide_even),
            g[4],
        ]
    }
}

/// Aᵀ m
pub(super) struct Output;

impl Map<INPUTS, OUTPUTS> for Output {
    #[inline(always)]
    fn apply<T: Element, S: Simd<T>>(s: S, m: [S::V; INPUTS]) -> [S::V; OUTPUTS] {
        let (sum, difference) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
        let (wide_sum, wide_difference) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
        [
            s.add(s.add(m[0], sum), wide_sum),
            plus(s, 2.0, wide_difference, difference),
            plus(s, 4.0, wide_sum, sum),
            s.add(plus(s, 8.0, wide_difference, difference), m[5]),
        ]
    }
}

impl Map<INPUTS, SMALL_OUTPUTS> for Output {
    #[inline(always)]
    fn apply<T: Element, S: Simd<T>>(s: S, m: [S::V; INPUTS]) -> [S::V; SMALL_OUTPUTS] {
        let sums = s.add(s.add(m[1], m[2]), s.add(m[3], m[4]));
        let differences = plus(s, 2.0, s.sub(m[3], m[4]), s.sub(m[1], m[2]));
        [s.add(m[0], sums), s.add(differences, m[5])]
    }
}

impl Map<SMALL_INPUTS, SMALL_OUTPUTS> for Output {
    #[inline(always)]
    fn apply<T: Element, S: Simd<T>>(s: S, m: [S::V; SMALL_INPUTS]) -> [S::V; SMALL_OUTPUTS] {
        [s.add(m[0], s.add(m[1], m[2])), s.sub(s.sub(m[1], m[2]), m[3])]
    }
}

/// A y, the adjoint of [`Output`].
pub(super) struct OutputAdjoint;

impl Map<OUTPUTS, INPUTS> for OutputAdjoint {
    #[inline(always)]
    fn apply<T: Element, S: Simd<T>>(s: S, y: [S::V; OUTPUTS]) -> [S::V; INPUTS] {
        let (even, odd) = (s.add(y[0], y[2]), s.add(y[1], y[3]));
        let wide_even = plus(s, 4.0, y[2], y[0]);
        let wide_odd = times(s, 2.0, plus(s, 4.0, y[3], y[1]));
        [y[0], s.add(even, odd), s.sub(even, odd), s.add(wide_even, wide_odd), s.sub(wide_even, wide_odd), y[3]]
    }
}

/// Gᵀ u, the adjoint of [`Weight`].
pub(super) struct WeightAdjoint;

impl Map<INPUTS, TAPS> for WeightAdjoint {
    #[inline(always)]
    fn apply<T: Element, S: Simd<T>>(s: S, u: [S::V; INPUTS]) -> [S::V; TAPS] {
        let near = times(s, -1.0 / 6.0, s.add(u[1], u[2]));
        let far = s.add(u[3], u[4]);
        let first = plus(s, 0.25, u[0], plus(s, 1.0 / 24.0, far, near));
        let difference = times(s, 1.0 / 6.0, s.sub(u[2], u[1]));
        let middle = plus(s, 1.0 / 12.0, s.sub(u[3], u[4]), difference);
        let last = s.add(plus(s, 1.0 / 6.0, far, near), u[5]);
        [first, middle, last]
    }
}
