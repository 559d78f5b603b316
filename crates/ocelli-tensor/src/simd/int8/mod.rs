//! Products of bytes: what a token can do beside its lanes of `f32`.
//!
//! A step multiplies [`Int8::DEPTH`] bytes of a row, unsigned, with as many signed ones of every lane, and adds the
//! products to the lanes' sums of 32 bits. AVX2 has no such instruction: it adds four products in 16 bits first. So that
//! all instruction sets have the same sums, weights keep [`LARGEST_SUM`], which makes that exact.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;
#[cfg(target_arch = "x86_64")]
mod vnni;

use super::{Isa, Simd};

/// Bytes of a run of weights: four rows of a lane lie side by side, then comes the next lane.
pub const RUN: usize = 4;
/// Rows of the common dimension are padded to a multiple of this, which all steps divide.
pub const STEP: usize = 8;
/// The weights of a lane in rows 0, 1, 4, 5 of every [`STEP`], and in rows 2, 3, 6, 7, have positive parts whose sum is at
/// most this, and negative ones likewise: 128 · 255 fits into 16 bits.
pub const LARGEST_SUM: i32 = 128;

/// The rows of a step whose products are added in 16 bits.
pub const SUMMED: [[usize; 4]; 2] = [[0, 1, 4, 5], [2, 3, 6, 7]];

/// An instruction set's products of bytes.
pub trait Int8: Copy + Send + Sync + 'static {
    /// The token for lanes of `f32`, as many as there are sums in a register.
    type Floats: Simd<f32>;
    /// A register of sums.
    type Sums: Copy;
    /// A step's bytes of a row, in all lanes.
    type Row: Copy;
    /// A step's weights of all lanes.
    type Weights: Copy;
    /// Rows of the common dimension in a step.
    const DEPTH: usize;
    /// Rows of the register tile.
    const TILE_ROWS: usize;
    /// Registers in a row of the tile.
    const TILE_VECTORS: usize;

    /// The token for what follows the product.
    fn floats(self) -> Self::Floats;
    /// Sums of nothing.
    fn zero(self) -> Self::Sums;
    /// Reads a step's bytes of a row.
    ///
    /// # Safety
    /// `DEPTH` bytes must be readable at `src`.
    unsafe fn row(self, src: *const u8) -> Self::Row;
    /// Reads a step's weights: of every [`RUN`] of rows a register, `stride` bytes apart.
    ///
    /// # Safety
    /// `DEPTH / RUN` registers must be readable at `src`, `stride` bytes apart.
    unsafe fn weights(self, src: *const i8, stride: usize) -> Self::Weights;
    /// Adds a step's products, whose weights keep [`LARGEST_SUM`].
    fn dot(self, sums: Self::Sums, row: Self::Row, weights: Self::Weights) -> Self::Sums;
    /// The sums as numbers, rounded to nearest.
    fn numbers(self, sums: Self::Sums) -> Lanes<Self>;
    /// Reads `n` bytes as numbers; the other lanes are zero.
    ///
    /// # Safety
    /// `n ≤ LANES` bytes must be readable at `src`.
    unsafe fn load_bytes(self, src: *const u8, n: usize) -> Lanes<Self>;
    /// Writes the first `n` lanes, numbers of 0 to 255, as the nearest bytes, ties to even.
    ///
    /// # Safety
    /// `n ≤ LANES` bytes must be writable at `dst`.
    unsafe fn store_bytes(self, v: Lanes<Self>, dst: *mut u8, n: usize);
}

/// A register of `f32`.
pub type Lanes<S> = <<S as Int8>::Floats as Simd<f32>>::V;

/// A computation on bytes that runs on any instruction set.
pub trait ByteKernel {
    /// What it returns.
    type Output;
    /// Computes. Implementations are `#[inline(always)]`.
    fn run<S: Int8>(self, simd: S) -> Self::Output;
}

/// Runs a kernel on the best products of bytes that `isa` has.
pub fn dispatch_bytes<K: ByteKernel>(isa: Isa, kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if isa == Isa::Avx512
            && let Some(token) = vnni::Vnni::new()
        {
            return token.vectorize(kernel);
        }
        if matches!(isa, Isa::Avx2 | Isa::Avx512)
            && let Some(token) = super::avx2::Avx2::new()
        {
            return avx2::vectorize(token, kernel);
        }
    }
    let _ = isa;
    kernel.run(super::portable::Portable)
}

#[cfg(test)]
mod tests;
