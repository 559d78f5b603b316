//! The door to SIMD: instruction sets as tokens, kernels generic over them, and the one place that chooses.
//!
//! A kernel is a struct of its operands with [`Kernel::run`], generic over a token `S: Simd<T>`. Owning a token is the
//! proof that the processor has the instructions, because only detection at run time builds one. [`dispatch`] picks
//! the best and runs the kernel inside a function compiled for it, so a binary built without any flags is at full
//! speed. Everything that a kernel calls must be `#[inline(always)]`, to be compiled for the token's instructions. That leaves
//! out closures in `array::map`, and in large kernels iterators that are zipped: loops over rows and pixels count instead.
//!
//! ```
//! use ocelli_tensor::simd::{Kernel, Simd, dispatch};
//!
//! struct Double<'a>(&'a mut [f32]);
//!
//! impl Kernel<f32> for Double<'_> {
//!     type Output = ();
//!
//!     #[inline(always)]
//!     fn run<S: Simd<f32>>(self, simd: S) {
//!         for chunk in self.0.chunks_mut(S::LANES) {
//!             let x = simd.load_partial(chunk);
//!             simd.store_partial(simd.add(x, x), chunk);
//!         }
//!     }
//! }
//!
//! let mut x = [1.0, 2.0, 3.0];
//! dispatch(Double(&mut x));
//! assert_eq!(x, [2.0, 4.0, 6.0]);
//! ```

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod compact;
pub(crate) mod int8;
pub mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use std::cell::Cell;
use std::sync::LazyLock;

pub use half::f16;

use crate::Element;

/// An instruction set's lanes of element `T`. The value is a token: it exists only where the processor has it.
pub trait Simd<T: Element>: Copy + Send + Sync + 'static {
    /// A register of [`LANES`](Self::LANES) elements.
    type V: Copy;
    /// The elements in a register.
    const LANES: usize;
    /// The elements in a cache line.
    const LINE: usize = 64 / size_of::<T>();
    /// The elements in a page of memory.
    const PAGE: usize = 4096 / size_of::<T>();
    /// Rows of the register tile in matrix products.
    const TILE_ROWS: usize;
    /// Registers that there are at least.
    const REGISTERS: usize = 16;
    /// Registers in a row of that tile.
    const TILE_VECTORS: usize;
    /// Rows of a tile of two such panels side by side, if there are registers for it: as many multiply-adds take fewer loads.
    const WIDE_ROWS: usize = 0;
    /// Whether the token has instructions to [`expand`](Self::expand).
    const EXPANDS: bool = false;

    /// All lanes `x`.
    fn splat(self, x: T) -> Self::V;
    /// The first `LANES` elements of `src`.
    ///
    /// # Panics
    /// If `src` is shorter.
    #[inline(always)]
    fn load(self, src: &[T]) -> Self::V {
        assert!(src.len() >= Self::LANES);
        // SAFETY: the slice holds a whole register, as just asserted.
        unsafe { self.load_ptr(src.as_ptr()) }
    }
    /// Writes all lanes to the front of `dst`.
    ///
    /// # Panics
    /// If `dst` is shorter.
    #[inline(always)]
    fn store(self, v: Self::V, dst: &mut [T]) {
        assert!(dst.len() >= Self::LANES);
        // SAFETY: the slice holds a whole register, as just asserted.
        unsafe { self.store_ptr(v, dst.as_mut_ptr()) }
    }
    /// Up to `LANES` elements of `src`; the other lanes are zero.
    #[inline(always)]
    fn load_partial(self, src: &[T]) -> Self::V {
        // SAFETY: exactly the slice's elements are read.
        unsafe { self.load_partial_ptr(src.as_ptr(), src.len().min(Self::LANES)) }
    }
    /// Writes as many lanes as `dst` has room for.
    #[inline(always)]
    fn store_partial(self, v: Self::V, dst: &mut [T]) {
        // SAFETY: exactly the slice's elements are written.
        unsafe { self.store_partial_ptr(v, dst.as_mut_ptr(), dst.len().min(Self::LANES)) }
    }
    /// Reads a register from `src`.
    ///
    /// # Safety
    /// `LANES` elements must be readable at `src`.
    unsafe fn load_ptr(self, src: *const T) -> Self::V;
    /// Writes a register to `dst`.
    ///
    /// # Safety
    /// `LANES` elements must be writable at `dst`.
    unsafe fn store_ptr(self, v: Self::V, dst: *mut T);
    /// Reads `n <= LANES` elements; the other lanes are zero.
    ///
    /// # Safety
    /// `n` elements must be readable at `src`.
    unsafe fn load_partial_ptr(self, src: *const T, n: usize) -> Self::V;
    /// Writes the first `n <= LANES` lanes.
    ///
    /// # Safety
    /// `n` elements must be writable at `dst`.
    unsafe fn store_partial_ptr(self, v: Self::V, dst: *mut T, n: usize);
    /// Reads a register of finite numbers from `src`, where they are kept in 16 bits.
    ///
    /// # Safety
    /// `LANES` numbers must be readable at `src`.
    #[inline(always)]
    unsafe fn widen_ptr(self, src: *const f16) -> Self::V {
        let mut lanes = [T::ZERO; 16];
        assert!(Self::LANES <= lanes.len());
        // SAFETY: the caller vouches for the numbers, and the array has room for a register, as just asserted.
        unsafe {
            for (i, lane) in lanes[..Self::LANES].iter_mut().enumerate() {
                *lane = T::from_f64(f64::from(widened(*src.add(i))));
            }
            self.load_ptr(lanes.as_ptr())
        }
    }
    /// Asks for the cache line of `src`, which may be any pointer, to be brought into the second-level cache.
    #[inline(always)]
    fn prefetch(self, _src: *const T) {}
    /// As [`prefetch`](Self::prefetch), into the first-level cache too where registers hold a line. Kernels that ask for a line
    /// every few multiply-adds wait less for these: a depthwise 7×7 convolution takes a fifth less time. With registers of half a
    /// line they are faster with the second-level cache alone.
    #[inline(always)]
    fn prefetch_near(self, src: *const T) {
        self.prefetch(src);
    }
    /// Asks for the line of `dst`, which may be any pointer, to be brought where it can be written: what other processors have of
    /// it they give up.
    #[inline(always)]
    fn prefetch_to_write(self, dst: *const T) {
        self.prefetch(dst);
    }
    /// Asks for what lies a page behind element `at` of a slice that is read or written in order: a processor's own
    /// fetching stops at the end of a page, and sums over tensors that no cache holds took twice as long without.
    #[inline(always)]
    fn ask_ahead(self, slice: &[T], at: usize) {
        self.prefetch(slice.as_ptr().wrapping_add(at + Self::PAGE));
    }
    /// a + b
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a − b
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// 1 / a for normal a, within 2 ulp.
    #[inline(always)]
    fn reciprocal(self, a: Self::V) -> Self::V {
        self.div(self.splat(T::ONE), a)
    }
    /// a · b + c, fused where the processor can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger of each pair; b where either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller of each pair; b where either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// √a
    fn sqrt(self, a: Self::V) -> Self::V;
    /// `yes` where a > b, else `no`.
    fn select_gt(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// As [`select_gt`](Self::select_gt), of positive numbers of which `yes` is the larger, which may be faster to find.
    #[inline(always)]
    fn raise_where_gt(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        self.select_gt(a, b, yes, no)
    }
    /// v in the lanes whose byte is `wanted`, and zero in the others.
    ///
    /// # Panics
    /// If there are fewer bytes than lanes.
    #[inline(always)]
    fn keep_where(self, v: Self::V, bytes: &[u8], wanted: u8) -> Self::V {
        let mut lanes = [T::ZERO; 16];
        self.store(v, &mut lanes);
        for (lane, &byte) in lanes[..Self::LANES].iter_mut().zip(&bytes[..Self::LANES]) {
            if byte != wanted {
                *lane = T::ZERO;
            }
        }
        self.load(&lanes)
    }
    /// a · 2ⁿ for integral n, given as n + [`math::power_zero`], where 2ⁿ is a normal number.
    fn scale_exp2(self, a: Self::V, power: Self::V) -> Self::V;
    /// Lane `i` of each run of `group` lanes, in all lanes of that run; `group` divides `LANES`.
    #[inline(always)]
    fn spread(self, v: Self::V, group: usize, i: usize) -> Self::V {
        let mut lanes = [T::ZERO; 16];
        assert!(Self::LANES <= lanes.len() && i < group);
        // SAFETY: the array has room for a register, as just asserted.
        unsafe {
            self.store_ptr(v, lanes.as_mut_ptr());
            for run in lanes[..Self::LANES].chunks_exact_mut(group) {
                run.fill(run[i]);
            }
            self.load_ptr(lanes.as_ptr())
        }
    }
    /// The lanes of a and b in turns: of their lower halves, and of their upper ones.
    #[inline(always)]
    fn zip(self, a: Self::V, b: Self::V) -> [Self::V; 2] {
        let mut lanes = [T::ZERO; 32];
        let mut zipped = [T::ZERO; 32];
        assert!(2 * Self::LANES <= lanes.len());
        // SAFETY: the arrays have room for two registers, as just asserted.
        unsafe {
            self.store_ptr(a, lanes.as_mut_ptr());
            self.store_ptr(b, lanes.as_mut_ptr().add(Self::LANES));
            for i in 0..Self::LANES {
                (zipped[2 * i], zipped[2 * i + 1]) = (lanes[i], lanes[Self::LANES + i]);
            }
            [self.load_ptr(zipped.as_ptr()), self.load_ptr(zipped.as_ptr().add(Self::LANES))]
        }
    }
    /// The numbers of a run of compact ones (`simd/compact.rs`) for registers of this token, if it [can](Self::EXPANDS).
    ///
    /// # Safety
    /// The run's bytes, 14 for each lane, must be readable.
    #[inline(always)]
    unsafe fn expand(self, _run: *const u8, _tops: &[u8; 16]) -> [Self::V; 4] {
        unreachable!("nobody makes compact numbers for tokens that cannot expand them")
    }
    /// The sum of all lanes, in a fixed order.
    fn reduce_add(self, v: Self::V) -> T;
    /// The maximum of all lanes.
    fn reduce_max(self, v: Self::V) -> T;
}

/// A finite number, by steps that any processor has instructions for: all its bits but the sign, put where they are in an
/// `f32`, are the number but for the difference of the exponents' biases.
#[inline(always)]
fn widened(x: f16) -> f32 {
    const BIAS: f32 = f32::from_bits((127 + 127 - 15) << 23);
    let bits = u32::from(x.to_bits());
    let size = f32::from_bits((bits & 0x7fff) << 13) * BIAS;
    f32::from_bits(size.to_bits() | (bits & 0x8000) << 16)
}

/// A computation that runs on any instruction set.
pub trait Kernel<T: Element> {
    /// What it returns.
    type Output;
    /// Computes. Implementations are `#[inline(always)]`.
    fn run<S: Simd<T>>(self, simd: S) -> Self::Output;
}

/// The instruction sets for which there are kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Any processor, by `wide`.
    Portable,
    /// x86-64 with AVX2, FMA and F16C, which came before both.
    Avx2,
    /// x86-64 with AVX-512 F, DQ, BW and VL.
    Avx512,
    /// 64-bit Arm with NEON, which is all of them.
    Neon,
}

impl Isa {
    /// `portable`, `avx2`, `avx512`, `neon`
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
        }
    }
}

/// The instruction sets of this processor, best last. Tests run every kernel on each.
pub fn available() -> &'static [Isa] {
    static AVAILABLE: LazyLock<Vec<Isa>> = LazyLock::new(|| {
        #[allow(unused_mut)] // other processors add nothing
        let mut list = vec![Isa::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            list.extend(avx2::Avx2::new().map(|_| Isa::Avx2));
            list.extend(avx512::Avx512::new().map(|_| Isa::Avx512));
        }
        #[cfg(target_arch = "aarch64")]
        list.extend(neon::Neon::new().map(|_| Isa::Neon));
        list
    });
    &AVAILABLE
}

thread_local! {
    static FORCED: Cell<Option<Isa>> = const { Cell::new(None) };
}

/// The instruction set that kernels use on this thread: the best one, unless `OCELLI_ISA` (`portable`, `avx2`,
/// `avx512`, `neon`) names a lesser one or [`with_isa`] is in force.
pub fn current() -> Isa {
    static DEFAULT: LazyLock<Isa> = LazyLock::new(|| {
        let asked = std::env::var("OCELLI_ISA").ok();
        let list = available();
        *list.iter().find(|isa| asked.as_deref() == Some(isa.name())).unwrap_or(&list[list.len() - 1])
    });
    FORCED.get().unwrap_or_else(|| *DEFAULT)
}

/// Runs `f` with kernels on `isa`, also those that it starts on other threads. An instruction set that the processor
/// lacks falls back to the portable one.
pub fn with_isa<R>(isa: Isa, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Isa>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    let _restore = Restore(FORCED.replace(Some(isa)));
    f()
}

/// Runs a kernel on the current instruction set.
#[inline]
pub fn dispatch<T: Element, K: Kernel<T>>(kernel: K) -> K::Output {
    T::dispatch_on(current(), kernel)
}

/// Runs a kernel on `isa`, or on the portable lanes if the processor lacks it.
pub(crate) fn dispatch_f32<K: Kernel<f32>>(isa: Isa, kernel: K) -> K::Output {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            if let Some(token) = avx512::Avx512::new() {
                return token.vectorize(kernel);
            }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            if let Some(token) = avx2::Avx2::new() {
                return token.vectorize(kernel);
            }
        }
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => {
            if let Some(token) = neon::Neon::new() {
                return token.vectorize(kernel);
            }
        }
        _ => {}
    }
    // Named once: it is inlined here, and each naming would be another copy of it.
    kernel.run(portable::Portable)
}

/// Double precision, in which gradients are checked, runs on portable lanes everywhere.
pub(crate) fn dispatch_f64<K: Kernel<f64>>(_: Isa, kernel: K) -> K::Output {
    kernel.run(portable::Portable)
}

#[cfg(test)]
mod tests;
