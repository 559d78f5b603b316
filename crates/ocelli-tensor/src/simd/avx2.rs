//! AVX2 with FMA and F16C: eight `f32` lanes.

use std::arch::asm;
use std::arch::x86_64::*;

use half::f16;

use super::{Kernel, Simd};

/// Proof that the processor has AVX2, FMA and F16C (as all with AVX2 have).
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    /// The token, if the processor has the instructions.
    #[inline]
    pub fn new() -> Option<Self> {
        let has =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        has.then_some(Avx2(()))
    }

    /// Runs a kernel compiled for these instructions.
    #[inline]
    pub fn vectorize<K: Kernel<f32>>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn run<K: Kernel<f32>>(token: Avx2, kernel: K) -> K::Output {
            kernel.run(token)
        }
        // SAFETY: the token proves that the processor has these features.
        unsafe { run(self, kernel) }
    }
}

/// Asks for a cache line, which may be anywhere, to write it.
///
/// (The compiler's intrinsic asks for reading unless a feature is enabled that is not detected here: a processor without
/// this instruction does nothing.)
#[inline(always)]
pub(super) fn prefetch_to_write(dst: *const f32) {
    // SAFETY: fetching changes nothing, and faults nowhere.
    unsafe { asm!("prefetchw [{}]", in(reg) dst, options(readonly, nostack, preserves_flags)) }
}

/// A mask whose first `n` lanes are set.
#[inline(always)]
fn first(n: usize) -> __m256i {
    // SAFETY: only called with a token in scope, which proves AVX2.
    unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
}

// SAFETY of all blocks below: `self` proves that the processor has AVX2, FMA and F16C; pointers are the caller's promise,
// stated at the trait.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd<f32> for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const TILE_ROWS: usize = 6;
    const TILE_VECTORS: usize = 2;
    const EXPANDS: bool = true;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load_ptr(self, src: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(src) }
    }
    #[inline(always)]
    unsafe fn store_ptr(self, v: __m256, dst: *mut f32) {
        unsafe { _mm256_storeu_ps(dst, v) }
    }
    #[inline(always)]
    unsafe fn load_partial_ptr(self, src: *const f32, n: usize) -> __m256 {
        unsafe { _mm256_maskload_ps(src, first(n)) }
    }
    #[inline(always)]
    unsafe fn store_partial_ptr(self, v: __m256, dst: *mut f32, n: usize) {
        unsafe { _mm256_maskstore_ps(dst, first(n), v) }
    }
    #[inline(always)]
    unsafe fn widen_ptr(self, src: *const f16) -> __m256 {
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(src.cast())) }
    }
    #[inline(always)]
    fn prefetch(self, src: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(src.cast()) }
    }
    #[inline(always)]
    fn prefetch_to_write(self, dst: *const f32) {
        prefetch_to_write(dst);
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        unsafe { _mm256_sqrt_ps(a) }
    }
    #[inline(always)]
    fn select_gt(self, a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) }
    }
    #[inline(always)]
    fn raise_where_gt(self, a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        // Blending takes more operations than these two.
        unsafe { _mm256_max_ps(_mm256_and_ps(yes, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b)), no) }
    }
    #[inline(always)]
    fn keep_where(self, v: __m256, bytes: &[u8], wanted: u8) -> __m256 {
        assert!(bytes.len() >= 8);
        unsafe {
            let equal = _mm_cmpeq_epi8(_mm_loadl_epi64(bytes.as_ptr().cast()), _mm_set1_epi8(wanted as i8));
            _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_cvtepi8_epi32(equal)))
        }
    }
    #[inline(always)]
    fn scale_exp2(self, a: __m256, power: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(power)))) }
    }
    #[inline(always)]
    fn spread(self, v: __m256, group: usize, i: usize) -> __m256 {
        unsafe {
            let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let first = _mm256_andnot_si256(_mm256_set1_epi32(group as i32 - 1), lane);
            _mm256_permutevar8x32_ps(v, _mm256_add_epi32(first, _mm256_set1_epi32(i as i32)))
        }
    }
    #[inline(always)]
    fn zip(self, a: __m256, b: __m256) -> [__m256; 2] {
        unsafe {
            let (even, odd) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            [_mm256_permute2f128_ps::<0x20>(even, odd), _mm256_permute2f128_ps::<0x31>(even, odd)]
        }
    }
    #[inline(always)]
    unsafe fn expand(self, run: *const u8, tops: &[u8; 16]) -> [__m256; 4] {
        unsafe {
            let low = [_mm256_loadu_si256(run.cast()), _mm256_loadu_si256(run.add(32).cast())];
            let third = _mm256_loadu_si256(run.add(64).cast());
            // The upper half takes the upper four bits of what the lower half takes the lower ones of.
            let numbers = _mm256_broadcastsi128_si256(_mm_loadu_si128(run.add(96).cast()));
            let numbers = _mm256_srlv_epi64(numbers, _mm256_setr_epi64x(0, 0, 4, 4));
            let numbers = _mm256_and_si256(numbers, _mm256_set1_epi8(15));
            let tops = _mm256_broadcastsi128_si256(_mm_loadu_si128(tops.as_ptr().cast()));
            let tops = _mm256_shuffle_epi8(tops, numbers);
            let high = [_mm256_unpacklo_epi8(third, tops), _mm256_unpackhi_epi8(third, tops)];
            [
                _mm256_castsi256_ps(_mm256_unpacklo_epi16(low[0], high[0])),
                _mm256_castsi256_ps(_mm256_unpackhi_epi16(low[0], high[0])),
                _mm256_castsi256_ps(_mm256_unpacklo_epi16(low[1], high[1])),
                _mm256_castsi256_ps(_mm256_unpackhi_epi16(low[1], high[1])),
            ]
        }
    }
    #[inline(always)]
    fn reduce_add(self, v: __m256) -> f32 {
        unsafe {
            let half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(quarter, _mm_shuffle_ps::<1>(quarter, quarter)))
        }
    }
    #[inline(always)]
    fn reduce_max(self, v: __m256) -> f32 {
        unsafe {
            let half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let quarter = _mm_max_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_max_ss(quarter, _mm_shuffle_ps::<1>(quarter, quarter)))
        }
    }
}
