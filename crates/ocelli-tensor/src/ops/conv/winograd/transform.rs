//! The one-dimensional transforms of F(4, 3), with the interpolation points 0, ±1, ±2, ∞.
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
//! ```

use crate::Element;
use crate::simd::Simd;

/// Outputs of a tile along an axis.
pub(super) const OUTPUTS: usize = 4;
/// Inputs of a tile along an axis.
pub(super) const INPUTS: usize = 6;
/// Taps along an axis.
pub(super) const TAPS: usize = 3;
/// Frequencies of a tile.
pub(super) const FREQUENCIES: usize = INPUTS * INPUTS;

/// Constants and operations of one instruction set, so that the formulas below read as such.
#[derive(Clone, Copy)]
pub(super) struct Transform<S> {
    pub simd: S,
}

impl<S> Transform<S> {
    #[inline(always)]
    fn times<T: Element>(self, factor: f64, x: S::V) -> S::V
    where
        S: Simd<T>,
    {
        self.simd.mul(self.simd.splat(T::from_f64(factor)), x)
    }

    /// factor · x + y
    #[inline(always)]
    fn add<T: Element>(self, factor: f64, x: S::V, y: S::V) -> S::V
    where
        S: Simd<T>,
    {
        self.simd.mul_add(self.simd.splat(T::from_f64(factor)), x, y)
    }

    /// Bᵀ d
    #[inline(always)]
    pub fn input<T: Element>(self, d: [S::V; INPUTS]) -> [S::V; INPUTS]
    where
        S: Simd<T>,
    {
        let s = self.simd;
        let even = self.add(-4.0, d[2], d[4]);
        let odd = self.add(-4.0, d[1], d[3]);
        let near = s.sub(d[4], d[2]);
        let far = s.sub(d[3], d[1]);
        [
            self.add(4.0, d[0], self.add(-5.0, d[2], d[4])),
            s.add(even, odd),
            s.sub(even, odd),
            self.add(2.0, far, near),
            self.add(-2.0, far, near),
            self.add(4.0, d[1], self.add(-5.0, d[3], d[5])),
        ]
    }

    /// G g
    #[inline(always)]
    pub fn weight<T: Element>(self, g: [S::V; TAPS]) -> [S::V; INPUTS]
    where
        S: Simd<T>,
    {
        let s = self.simd;
        let ends = self.times(-1.0 / 6.0, s.add(g[0], g[2]));
        let wide = self.add(1.0 / 24.0, g[0], self.times(1.0 / 6.0, g[2]));
        [
            self.times(0.25, g[0]),
            self.add(-1.0 / 6.0, g[1], ends),
            self.add(1.0 / 6.0, g[1], ends),
            self.add(1.0 / 12.0, g[1], wide),
            self.add(-1.0 / 12.0, g[1], wide),
            g[2],
        ]
    }

    /// Aᵀ m
    #[inline(always)]
    pub fn output<T: Element>(self, m: [S::V; INPUTS]) -> [S::V; OUTPUTS]
    where
        S: Simd<T>,
    {
        let s = self.simd;
        let (sum, difference) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
        let (wide_sum, wide_difference) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
        [
            s.add(s.add(m[0], sum), wide_sum),
            self.add(2.0, wide_difference, difference),
            self.add(4.0, wide_sum, sum),
            s.add(self.add(8.0, wide_difference, difference), m[5]),
        ]
    }

    /// A y, the adjoint of [`output`](Self::output).
    #[inline(always)]
    pub fn output_adjoint<T: Element>(self, y: [S::V; OUTPUTS]) -> [S::V; INPUTS]
    where
        S: Simd<T>,
    {
        let s = self.simd;
        let (even, odd) = (s.add(y[0], y[2]), s.add(y[1], y[3]));
        let wide_even = self.add(4.0, y[2], y[0]);
        let wide_odd = self.times(2.0, self.add(4.0, y[3], y[1]));
        [y[0], s.add(even, odd), s.sub(even, odd), s.add(wide_even, wide_odd), s.sub(wide_even, wide_odd), y[3]]
    }

    /// Gᵀ u, the adjoint of [`weight`](Self::weight).
    #[inline(always)]
    pub fn weight_adjoint<T: Element>(self, u: [S::V; INPUTS]) -> [S::V; TAPS]
    where
        S: Simd<T>,
    {
        let s = self.simd;
        let near = self.times(-1.0 / 6.0, s.add(u[1], u[2]));
        let far = s.add(u[3], u[4]);
        let first = self.add(0.25, u[0], self.add(1.0 / 24.0, far, near));
        let difference = self.times(1.0 / 6.0, s.sub(u[2], u[1]));
        let middle = self.add(1.0 / 12.0, s.sub(u[3], u[4]), difference);
        let last = s.add(self.add(1.0 / 6.0, far, near), u[5]);
        [first, middle, last]
    }

    /// A one-dimensional transform of `I` to `O` values applied to the columns, then the rows of a tile.
    #[inline(always)]
    pub fn both<T: Element, const I: usize, const O: usize>(
        self,
        tile: [[S::V; I]; I],
        f: impl Fn([S::V; I]) -> [S::V; O],
    ) -> [[S::V; O]; O]
    where
        S: Simd<T>,
    {
        let zero = self.simd.splat(T::ZERO);
        let mut half = [[zero; I]; O];
        for x in 0..I {
            let mut column = [zero; I];
            for y in 0..I {
                column[y] = tile[y][x];
            }
            let column = f(column);
            for y in 0..O {
                half[y][x] = column[y];
            }
        }
        half.map(f)
    }
}
