//! Transformed weights.

use std::ops::Range;

use super::Form;
use super::transform::{FIVE_TAPS, INPUTS, Map, SMALL_INPUTS, TAPS, Weight};
use crate::ops::gemm::Packed;
use crate::ops::gemm::transpose::Transpose;
use crate::simd::{self, Kernel, Simd};
use crate::{Element, Tensor, threads};

/// U = G w Gᵀ of `w` `[K, K, Cin, Cout]`, packed as a matrix a frequency.
pub(in super::super) fn pack<T: Element>(w: &Tensor<T>, form: Form) -> Packed<T> {
    let [cin, cout] = [w.shape()[2], w.shape()[3]];
    let frequencies = form.frequencies();
    let mut packed = Packed::scratch(frequencies, cin, cout);
    let (width, isa) = (packed.width, packed.isa);
    threads::for_each_chunk(packed.panels_mut(), frequencies * cin * width, |panel, u| {
        let first = panel * width;
        simd::with_isa(isa, || T::winograd_weights(Weights { w: w.data(), cin, cout, form, first, width, u }));
    });
    packed
}

/// The weights of the backward pass to the input: turned by 180° and transposed, `[K, K, Cout, Cin]`.
pub(in super::super) fn flipped<T: Element>(w: &Tensor<T>) -> Tensor<T> {
    const BLOCK: usize = 16;
    let [height, width, cin, cout] = [0, 1, 2, 3].map(|axis| w.shape()[axis]);
    let mut out = Tensor::scratch([height, width, cout, cin]);
    // Blocks of rows must not straddle taps.
    let block = if cout % BLOCK == 0 { BLOCK } else { cout };
    threads::for_each_chunk(out.data_mut(), block * cin, |i, rows| {
        let (tap, first) = (i * block / cout, i * block % cout);
        let source = &w.data()[(height * width - 1 - tap) * cin * cout..];
        let size = [cin, block];
        T::transpose(Transpose { from: &source[first..], from_stride: cout, to: rows, to_stride: cin, size });
    });
    out
}

/// A panel of transformed weights, `[frequencies, Cin, width]`.
pub struct Weights<'a, T> {
    w: &'a [T],
    cin: usize,
    cout: usize,
    form: Form,
    first: usize,
    width: usize,
    u: &'a mut [T],
}

impl<T: Element> Kernel<T> for Weights<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Weights { w, cin, cout, form, first, width, u } = self;
        let (size, channels) = ([cin, cout], 0..cin);
        let (w, columns, apart) = ((w, size), (first, width), cin * width);
        match form {
            Form::Large => transform::<T, S, TAPS, INPUTS>(simd, w, channels, columns, u, apart),
            Form::Small => transform::<T, S, TAPS, SMALL_INPUTS>(simd, w, channels, columns, u, apart),
            Form::Five => transform::<T, S, FIVE_TAPS, INPUTS>(simd, w, channels, columns, u, apart),
        }
    }
}

/// Writes U = G w Gᵀ of `w` `[KERNEL, KERNEL, Cin, Cout]` at some input channels and `width` output channels from `first`
/// on, as `[frequencies, channels, width]` with frequencies `apart` elements apart; zeros beyond the last output channel.
#[inline(always)]
pub(super) fn transform<T: Element, S: Simd<T>, const KERNEL: usize, const IN: usize>(
    simd: S,
    (w, [cin, cout]): (&[T], [usize; 2]),
    channels: Range<usize>,
    (first, width): (usize, usize),
    u: &mut [T],
    apart: usize,
) where
    Weight: Map<KERNEL, IN>,
{
    /// Input channels that are asked for ahead: what is read of each, tap by tap, lies in many places.
    const AHEAD: usize = 4;
    assert!(width.is_multiple_of(S::LANES) && channels.end <= cin && w.len() == KERNEL * KERNEL * cin * cout);
    assert!(channels.is_empty() || (IN * IN - 1) * apart + channels.len() * width <= u.len());
    let mut g = [[simd.splat(T::ZERO); KERNEL]; KERNEL];
    for (row, ci) in channels.enumerate() {
        for v in (0..width).step_by(S::LANES) {
            let start = (first + v).min(cout);
            let n = S::LANES.min(cout - start);
            // SAFETY: the weights have these channels and u these rows, as asserted.
            unsafe {
                for tap in 0..KERNEL * KERNEL {
                    let from = w.as_ptr().add((tap * cin + ci) * cout + start);
                    simd.prefetch(from.wrapping_add(AHEAD * cout));
                    g[tap / KERNEL][tap % KERNEL] =
                        if n == S::LANES { simd.load_ptr(from) } else { simd.load_partial_ptr(from, n) };
                }
                let x: [[S::V; IN]; IN] = Weight::both(simd, &g);
                for f in 0..IN * IN {
                    simd.store_ptr(x[f / IN][f % IN], u.as_mut_ptr().add(f * apart + row * width + v));
                }
            }
        }
    }
}
