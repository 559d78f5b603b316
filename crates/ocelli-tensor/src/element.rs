//! The element types of tensors: `f32`, which has hand-written kernels, and `f64`, in which gradients are checked.

use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

use half::f16;

use crate::ops::conv::{deform, grouped, winograd};
use crate::ops::gemm::number::InPlace;
use crate::ops::gemm::{compact, few, gather, reduce, transpose};
use crate::ops::{batch_norm, concat, cross_entropy, dropout, local_response_norm, pool, softmax};
use crate::simd::{self, Isa, Kernel};

mod sealed {
    use super::*;

    /// Makes a method of every kernel and of both types, rather than a generic function: so they are compiled here,
    /// once, and not again in every crate that uses them.
    macro_rules! kernels {
        ($($name:ident: $kernel:ty,)*) => {
            /// Kernels, run with the current instruction set.
            pub trait Kernels: Sized {
                $(fn $name(kernel: $kernel) where Self: Element;)*
            }
            impl Kernels for f32 {
                $(fn $name(kernel: $kernel) {
                    simd::dispatch(kernel);
                })*
            }
            impl Kernels for f64 {
                $(fn $name(kernel: $kernel) {
                    simd::dispatch(kernel);
                })*
            }
        };
    }

    kernels! {
        batch_norm_normalize: batch_norm::Normalize<'_, Self>,
        batch_norm_scaled: batch_norm::gradient::Scaled<'_, Self>,
        batch_norm_store: batch_norm::gradient::Store<'_, Self>,
        batch_norm_through: batch_norm::gradient::Through<'_, Self>,
        copy_columns: concat::CopyColumns<'_, Self>,
        cross_entropy: cross_entropy::Forward<'_, Self>,
        deform_gather: deform::field::Gather<'_, Self>,
        deform_scatter: deform::input::Scatter<'_, '_, Self>,
        dropout_mask: dropout::Mask<'_, Self>,
        few_dots: few::Dots<'_, Self>,
        few_outer: few::Outer<'_, Self>,
        few_sums: few::Sums<'_, Self>,
        local_response_norm: local_response_norm::Forward<'_, Self>,
        local_response_norm_backward: local_response_norm::Backward<'_, Self>,
        softmax: softmax::Forward<'_, Self>,
        softmax_backward: softmax::Backward<'_, Self>,
        transpose: transpose::Transpose<'_, Self>,
        weighted_pool: pool::weighted::Rows<'_, Self>,
        winograd_own: winograd::gradient::Own<'_, Self>,
        winograd_part: winograd::gradient::Part<Self>,
        winograd_product: winograd::gradient::Product<Self>,
        winograd_taps: winograd::gradient::Taps<'_, Self>,
        winograd_task: winograd::forward::Task<'_, Self>,
        winograd_tiled: winograd::gradient::Tiled<'_, Self>,
        winograd_weights: winograd::weight::Weights<'_, Self>,
    }

    /// Kernels whose caller makes a promise, or which choose their instruction set themselves.
    pub trait Sealed: Kernels {
        /// Runs panels of a gathered product.
        ///
        /// # Safety
        /// That of [`gather::Panels::run`].
        unsafe fn gather(panels: gather::Panels<'_, Self>)
        where
            Self: Element;
        /// Runs strips of a product over rows.
        ///
        /// # Safety
        /// That of [`reduce::Strips::run`].
        unsafe fn reduce(strips: reduce::Strips<'_, Self>);
        /// Runs panels of a product with a compact matrix.
        fn compact_product(panels: compact::Panels<'_, Self>)
        where
            Self: Element;
        /// Computes a row of a convolution of narrow groups.
        ///
        /// # Safety
        /// That of [`grouped::row::run`].
        unsafe fn grouped_row(row: grouped::Row<'_, Self>)
        where
            Self: Element;
        /// Adds a row to such a convolution's weight gradient.
        ///
        /// # Safety
        /// That of [`grouped::sums::run`].
        unsafe fn grouped_sums(row: grouped::SumRow<'_, Self>);
    }
}

/// A number that tensors are made of. Sealed: `f32` and `f64`.
pub trait Element:
    sealed::Sealed
    + bytemuck::Pod
    + PartialOrd
    + Default
    + Debug
    + Display
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + Sum
    + 'static
{
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;
    /// Negative infinity, the neutral element of the maximum.
    const NEG_INFINITY: Self;
    /// `"f32"` or `"f64"`
    const NAME: &'static str;

    /// The nearest value of this type.
    fn from_f64(x: f64) -> Self;
    /// This value, exactly.
    fn to_f64(self) -> f64;
    /// eˣ
    fn exp(self) -> Self;
    /// The natural logarithm.
    fn ln(self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// The larger of two numbers.
    fn max(self, other: Self) -> Self;
    /// The smaller of two numbers.
    fn min(self, other: Self) -> Self;
    /// |x|
    fn abs(self) -> Self;
    /// Whether the number is neither infinite nor NaN.
    fn is_finite(self) -> bool;

    /// Runs a kernel with the given instruction set's lanes of this type.
    #[doc(hidden)]
    fn dispatch_on<K: Kernel<Self>>(isa: Isa, kernel: K) -> K::Output;
}

macro_rules! element {
    ($t:ident, $dispatch:path) => {
        impl sealed::Sealed for $t {
            unsafe fn gather(panels: gather::Panels<'_, Self>) {
                let isa = panels.b.isa;
                if panels.gate.is_some() {
                    $dispatch(isa, gather::Tiles::<Self, Self, true>::new(panels));
                } else if panels.b.is_halved() {
                    $dispatch(isa, gather::Tiles::<Self, f16, false>::new(panels));
                } else if panels.b.is_in_place() {
                    $dispatch(isa, gather::Tiles::<Self, InPlace<Self>, false>::new(panels));
                } else {
                    $dispatch(isa, gather::Tiles::<Self, Self, false>::new(panels));
                }
            }
            unsafe fn reduce(strips: reduce::Strips<'_, Self>) {
                $dispatch(simd::current(), reduce::Tiles(strips));
            }
            fn compact_product(panels: compact::Panels<'_, Self>) {
                $dispatch(panels.isa(), panels);
            }
            unsafe fn grouped_row(row: grouped::Row<'_, Self>) {
                // SAFETY: passed on.
                unsafe { grouped::row::run(row) }
            }
            unsafe fn grouped_sums(row: grouped::SumRow<'_, Self>) {
                // SAFETY: passed on.
                unsafe { grouped::sums::run(row) }
            }
        }

        impl Element for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NEG_INFINITY: Self = $t::NEG_INFINITY;
            const NAME: &'static str = stringify!($t);

            fn from_f64(x: f64) -> Self {
                x as $t
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            fn exp(self) -> Self {
                $t::exp(self)
            }
            fn ln(self) -> Self {
                $t::ln(self)
            }
            fn sqrt(self) -> Self {
                $t::sqrt(self)
            }
            fn max(self, other: Self) -> Self {
                $t::max(self, other)
            }
            fn min(self, other: Self) -> Self {
                $t::min(self, other)
            }
            fn abs(self) -> Self {
                $t::abs(self)
            }
            fn is_finite(self) -> bool {
                $t::is_finite(self)
            }
            fn dispatch_on<K: Kernel<Self>>(isa: Isa, kernel: K) -> K::Output {
                $dispatch(isa, kernel)
            }
        }
    };
}

element!(f32, crate::simd::dispatch_f32);
element!(f64, crate::simd::dispatch_f64);
