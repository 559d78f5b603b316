//! Products of bytes with AVX-512 VNNI, whose `vpdpbusd` adds four to a sum.

use std::arch::x86_64::*;

use super::super::avx512::{Avx512, first};
use super::{ByteKernel, Int8, RUN};

/// Proof that the processor has AVX-512 VNNI beside what its field proves.
#[derive(Clone, Copy)]
pub(in crate::simd) struct Vnni(Avx512);

impl Vnni {
    /// The token, if the processor has the instructions.
    #[inline]
    pub fn new() -> Option<Self> {
        if is_x86_feature_detected!("avx512vnni") { Avx512::new().map(Vnni) } else { None }
    }

    /// Runs a kernel compiled for these instructions.
    #[inline]
    pub fn vectorize<K: ByteKernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,avx2,fma")]
        fn run<K: ByteKernel>(token: Vnni, kernel: K) -> K::Output {
            kernel.run(token)
        }
        // SAFETY: the token proves that the processor has these features.
        unsafe { run(self, kernel) }
    }
}

// SAFETY of all blocks below: `self` proves that the processor has the features; pointers are the caller's promise,
// stated at the trait.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Int8 for Vnni {
    type Floats = Avx512;
    type Sums = __m512i;
    type Row = __m512i;
    type Weights = __m512i;
    const DEPTH: usize = RUN;
    const TILE_ROWS: usize = 14;
    const TILE_VECTORS: usize = 2;

    #[inline(always)]
    fn floats(self) -> Avx512 {
        self.0
    }
    #[inline(always)]
    fn zero(self) -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn row(self, src: *const u8) -> __m512i {
        unsafe { _mm512_set1_epi32(src.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn weights(self, src: *const i8, _: usize) -> __m512i {
        unsafe { _mm512_loadu_si512(src.cast()) }
    }
    #[inline(always)]
    fn dot(self, sums: __m512i, row: __m512i, weights: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, row, weights) }
    }
    #[inline(always)]
    fn numbers(self, sums: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(sums) }
    }
    #[inline(always)]
    unsafe fn load_bytes(self, src: *const u8, n: usize) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first(n), src.cast()))) }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, v: __m512, dst: *mut u8, n: usize) {
        unsafe { _mm_mask_storeu_epi8(dst.cast(), first(n), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(v))) }
    }
}
