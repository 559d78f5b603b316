//! How a register's lanes read a pixel: [`Reads`](super::channels::Reads) as types, so that kernels know at compile time.

use crate::Element;
use crate::simd::Simd;

/// Reads the input channels that the lanes of a register are multiplied with.
pub trait Read: Copy {
    /// Whether groups are known to have a single channel.
    const SINGLE: bool = false;

    /// Channel `i` of each lane's group, from the register's first input on; `live` lanes count.
    ///
    /// # Safety
    /// The channels of the live lanes' groups must be readable at `src`.
    unsafe fn read<T: Element, S: Simd<T>>(self, simd: S, src: *const T, i: usize, live: usize) -> S::V;
}

/// Each lane its own channel.
#[derive(Clone, Copy)]
pub struct Own;

/// Each lane one channel of its group, of the size given.
#[derive(Clone, Copy)]
pub struct Spread(pub usize);

/// All lanes the same channel.
#[derive(Clone, Copy)]
pub struct Group;

impl Read for Own {
    const SINGLE: bool = true;

    #[inline(always)]
    unsafe fn read<T: Element, S: Simd<T>>(self, simd: S, src: *const T, _: usize, live: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { load(simd, src, live) }
    }
}

impl Read for Spread {
    #[inline(always)]
    unsafe fn read<T: Element, S: Simd<T>>(self, simd: S, src: *const T, i: usize, live: usize) -> S::V {
        // SAFETY: the caller's promise.
        simd.spread(unsafe { load(simd, src, live) }, self.0, i)
    }
}

impl Read for Group {
    #[inline(always)]
    unsafe fn read<T: Element, S: Simd<T>>(self, simd: S, src: *const T, i: usize, _: usize) -> S::V {
        // SAFETY: the caller's promise.
        simd.splat(unsafe { *src.add(i) })
    }
}

/// # Safety
/// `live` elements must be readable at `src`.
#[inline(always)]
pub unsafe fn load<T: Element, S: Simd<T>>(simd: S, src: *const T, live: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { if live == S::LANES { simd.load_ptr(src) } else { simd.load_partial_ptr(src, live) } }
}

/// # Safety
/// `live` elements must be writable at `dst`.
#[inline(always)]
pub unsafe fn store<T: Element, S: Simd<T>>(simd: S, v: S::V, dst: *mut T, live: usize) {
    // SAFETY: the caller's promise.
    unsafe { if live == S::LANES { simd.store_ptr(v, dst) } else { simd.store_partial_ptr(v, dst, live) } }
}

/// Calls `$kernel::<R, K, STEP>` for a read and for windows whose `run` neighbouring taps and `step` have a kernel of
/// their own; 0 and 0 stand for all others.
macro_rules! with_windows {
    ($reads:expr, $run:expr, $step:expr, |$read:ident, $k:ident, $s:ident| $call:expr) => {
        match $reads {
            Reads::Own => with_windows!(@ $run, $step, Own, |$read, $k, $s| $call,
                (1 1) (2 1) (3 1) (4 1) (5 1) (7 1) (3 2) (5 2) (7 2)),
            Reads::Spread(group) => with_windows!(@ $run, $step, Spread(group), |$read, $k, $s| $call,
                (1 1) (2 1) (3 1) (3 2)),
            Reads::Group => with_windows!(@ $run, $step, Group, |$read, $k, $s| $call,
                (1 1) (2 1) (3 1) (3 2)),
        }
    };
    (@ $run:expr, $step:expr, $reads:expr, |$read:ident, $k:ident, $s:ident| $call:expr, $(($kn:literal $sn:literal))*) => {
        match ($run, $step) {
            $(($kn, $sn) => {
                const $k: usize = $kn;
                const $s: usize = $sn;
                let $read = $reads;
                $call
            })*
            _ => {
                const $k: usize = 0;
                const $s: usize = 0;
                let $read = $reads;
                $call
            }
        }
    };
}
pub(super) use with_windows;

/// Repeats a statement for each column that a tile of at most 14 pixels, 2 apart, with 7 taps reads. A macro because
/// compilers don't unroll a loop of this length, and registers must be named at compile time.
macro_rules! for_each_column {
    ($count:expr, |$j:ident| $body:block) => {
        for_each_column!(@ $count, |$j| $body,
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32)
    };
    (@ $count:expr, |$j:ident| $body:block, $($n:literal)*) => {
        const { assert!($count <= [$($n),*].len()) };
        $(if $n < $count {
            const $j: usize = $n;
            $body
        })*
    };
}
pub(super) use for_each_column;
