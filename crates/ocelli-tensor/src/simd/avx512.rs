//! AVX-512: sixteen `f32` lanes.

use std::arch::x86_64::*;

use half::f16;

use super::avx2::prefetch_to_write;
use super::math::power_zero;
use super::{Kernel, Simd};

/// Proof that the processor has AVX-512 F, DQ, BW and VL, AVX2 and FMA.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    /// The token, if the processor has the instructions.
    #[inline]
    pub fn new() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma");
        has.then_some(Avx512(()))
    }

    /// Runs a kernel compiled for these instructions.
    #[inline]
    pub fn vectorize<K: Kernel<f32>>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
        fn run<K: Kernel<f32>>(token: Avx512, kernel: K) -> K::Output {
            kernel.run(token)
        }
        // SAFETY: the token proves that the processor has these features.
        unsafe { run(self, kernel) }
    }
}

/// A mask whose first `n <= 16` lanes are set.
#[inline(always)]
pub(super) fn first(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

// SAFETY of all blocks below: `self` proves that the processor has the features; pointers are the caller's promise,
// stated at the trait.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd<f32> for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const TILE_ROWS: usize = 14;
    const REGISTERS: usize = 32;
    const TILE_VECTORS: usize = 2;
    const WIDE_ROWS: usize = 6;
    const EXPANDS: bool = true;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load_ptr(self, src: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(src) }
    }
    #[inline(always)]
    unsafe fn store_ptr(self, v: __m512, dst: *mut f32) {
        unsafe { _mm512_storeu_ps(dst, v) }
    }
    #[inline(always)]
    unsafe fn load_partial_ptr(self, src: *const f32, n: usize) -> __m512 {
        unsafe { _mm512_maskz_loadu_ps(first(n), src) }
    }
    #[inline(always)]
    unsafe fn store_partial_ptr(self, v: __m512, dst: *mut f32, n: usize) {
        unsafe { _mm512_mask_storeu_ps(dst, first(n), v) }
    }
    #[inline(always)]
    unsafe fn widen_ptr(self, src: *const f16) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(src.cast())) }
    }
    #[inline(always)]
    fn prefetch(self, src: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(src.cast()) }
    }
    #[inline(always)]
    fn prefetch_near(self, src: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(src.cast()) }
    }
    #[inline(always)]
    fn prefetch_to_write(self, dst: *const f32) {
        prefetch_to_write(dst);
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    /// An estimate of 14 bits and a step of Newton's, since a division takes as long as a dozen other instructions.
    #[inline(always)]
    fn reciprocal(self, a: __m512) -> __m512 {
        unsafe {
            let estimate = _mm512_rcp14_ps(a);
            let missing = _mm512_fnmadd_ps(a, estimate, _mm512_set1_ps(1.0));
            _mm512_fmadd_ps(estimate, missing, estimate)
        }
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    fn select_gt(self, a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), no, yes) }
    }
    #[inline(always)]
    fn keep_where(self, v: __m512, bytes: &[u8], wanted: u8) -> __m512 {
        assert!(bytes.len() >= 16);
        unsafe {
            let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
            _mm512_maskz_mov_ps(_mm_cmpeq_epi8_mask(bytes, _mm_set1_epi8(wanted as i8)), v)
        }
    }
    #[inline(always)]
    fn scale_exp2(self, a: __m512, power: __m512) -> __m512 {
        unsafe { _mm512_scalef_ps(a, _mm512_sub_ps(power, _mm512_set1_ps(power_zero::<f32>()))) }
    }
    #[inline(always)]
    fn spread(self, v: __m512, group: usize, i: usize) -> __m512 {
        unsafe {
            let lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let first = _mm512_andnot_si512(_mm512_set1_epi32(group as i32 - 1), lane);
            _mm512_permutexvar_ps(_mm512_add_epi32(first, _mm512_set1_epi32(i as i32)), v)
        }
    }
    #[inline(always)]
    fn zip(self, a: __m512, b: __m512) -> [__m512; 2] {
        unsafe {
            let lower = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let upper = _mm512_add_epi32(lower, _mm512_set1_epi32(8));
            [_mm512_permutex2var_ps(a, lower, b), _mm512_permutex2var_ps(a, upper, b)]
        }
    }
    #[inline(always)]
    unsafe fn expand(self, run: *const u8, tops: &[u8; 16]) -> [__m512; 4] {
        unsafe {
            let low = [_mm512_loadu_si512(run.cast()), _mm512_loadu_si512(run.add(64).cast())];
            let third = _mm512_loadu_si512(run.add(128).cast());
            // The upper half takes the upper four bits of what the lower half takes the lower ones of.
            let numbers = _mm512_broadcast_i64x4(_mm256_loadu_si256(run.add(192).cast()));
            let numbers = _mm512_srlv_epi64(numbers, _mm512_setr_epi64(0, 0, 0, 0, 4, 4, 4, 4));
            let numbers = _mm512_and_si512(numbers, _mm512_set1_epi8(15));
            let tops = _mm512_broadcast_i32x4(_mm_loadu_si128(tops.as_ptr().cast()));
            let tops = _mm512_shuffle_epi8(tops, numbers);
            let high = [_mm512_unpacklo_epi8(third, tops), _mm512_unpackhi_epi8(third, tops)];
            [
                _mm512_castsi512_ps(_mm512_unpacklo_epi16(low[0], high[0])),
                _mm512_castsi512_ps(_mm512_unpackhi_epi16(low[0], high[0])),
                _mm512_castsi512_ps(_mm512_unpacklo_epi16(low[1], high[1])),
                _mm512_castsi512_ps(_mm512_unpackhi_epi16(low[1], high[1])),
            ]
        }
    }
    #[inline(always)]
    fn reduce_add(self, v: __m512) -> f32 {
        unsafe { _mm512_reduce_add_ps(v) }
    }
    #[inline(always)]
    fn reduce_max(self, v: __m512) -> f32 {
        unsafe { _mm512_reduce_max_ps(v) }
    }
}
