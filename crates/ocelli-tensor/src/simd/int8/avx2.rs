//! Products of bytes with AVX2, which adds them in 16 bits first: pairs by `vpmaddubsw`, two of these by `vpaddw`, and
//! only then, with `vpmaddwd` by ones, in 32 bits.

use std::arch::x86_64::*;

use super::super::avx2::Avx2;
use super::{ByteKernel, Int8};

const LANES: usize = 8;

/// Runs a kernel compiled for these instructions.
#[inline]
pub fn vectorize<K: ByteKernel>(token: Avx2, kernel: K) -> K::Output {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn run<K: ByteKernel>(token: Avx2, kernel: K) -> K::Output {
        kernel.run(token)
    }
    // SAFETY: the token proves that the processor has these features.
    unsafe { run(token, kernel) }
}

// SAFETY of all blocks below: `self` proves that the processor has AVX2; pointers are the caller's promise, stated at the
// trait.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Int8 for Avx2 {
    type Floats = Self;
    type Sums = __m256i;
    type Row = [__m256i; 2];
    type Weights = [__m256i; 2];
    const DEPTH: usize = 8;
    const TILE_ROWS: usize = 4;
    const TILE_VECTORS: usize = 2;

    #[inline(always)]
    fn floats(self) -> Self {
        self
    }
    #[inline(always)]
    fn zero(self) -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn row(self, src: *const u8) -> [__m256i; 2] {
        unsafe {
            // Broadcast from memory: one load of both halves would have to be taken apart again.
            let (a, b) = (src.cast::<i32>().read_unaligned(), src.add(4).cast::<i32>().read_unaligned());
            [_mm256_set1_epi32(a), _mm256_set1_epi32(b)]
        }
    }
    #[inline(always)]
    unsafe fn weights(self, src: *const i8, stride: usize) -> [__m256i; 2] {
        unsafe { [_mm256_loadu_si256(src.cast()), _mm256_loadu_si256(src.add(stride).cast())] }
    }
    #[inline(always)]
    fn dot(self, sums: __m256i, row: [__m256i; 2], weights: [__m256i; 2]) -> __m256i {
        unsafe {
            let a = _mm256_maddubs_epi16(row[0], weights[0]);
            let b = _mm256_maddubs_epi16(row[1], weights[1]);
            let four = _mm256_add_epi16(a, b);
            _mm256_add_epi32(sums, _mm256_madd_epi16(four, _mm256_set1_epi16(1)))
        }
    }
    #[inline(always)]
    fn numbers(self, sums: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(sums) }
    }
    #[inline(always)]
    unsafe fn load_bytes(self, src: *const u8, n: usize) -> __m256 {
        unsafe {
            let bytes = if n == LANES {
                src.cast::<i64>().read_unaligned()
            } else {
                let mut bytes = [0; LANES];
                std::ptr::copy_nonoverlapping(src, bytes.as_mut_ptr(), n);
                i64::from_le_bytes(bytes)
            };
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes)))
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, v: __m256, dst: *mut u8, n: usize) {
        unsafe {
            let wide = _mm256_cvtps_epi32(v);
            let half = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256::<1>(wide));
            let bytes = _mm_cvtsi128_si64(_mm_packus_epi16(half, half));
            if n == LANES {
                dst.cast::<i64>().write_unaligned(bytes);
            } else {
                std::ptr::copy_nonoverlapping(bytes.to_le_bytes().as_ptr(), dst, n);
            }
        }
    }
}
