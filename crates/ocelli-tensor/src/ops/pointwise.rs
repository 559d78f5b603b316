//! Loops for functions of one element, or of a pair of elements: what activations, elementwise operations and dropout
//! have in common.

use crate::simd::{self, Kernel, Simd};
use crate::{Element, Tensor, threads};

/// A function of one element.
pub(crate) trait Unary<T: Element>: Copy + Send + Sync {
    /// One register of results. Implementations are `#[inline(always)]`.
    fn apply<S: Simd<T>>(self, simd: S, x: S::V) -> S::V;
}

/// A function of a pair of elements.
pub(crate) trait Binary<T: Element>: Copy + Send + Sync {
    /// One register of results. Implementations are `#[inline(always)]`.
    fn apply<S: Simd<T>>(self, simd: S, a: S::V, b: S::V) -> S::V;
}

/// `n <= LANES` elements of `src` from `at` on; a whole register is the fast case.
#[inline(always)]
pub(crate) fn load<T: Element, S: Simd<T>>(simd: S, src: &[T], at: usize, n: usize) -> S::V {
    if n == S::LANES { simd.load(&src[at..]) } else { simd.load_partial(&src[at..at + n]) }
}

/// As [`load`], from a slice that is read in order, of which more is asked for.
#[inline(always)]
pub(crate) fn stream<T: Element, S: Simd<T>>(simd: S, src: &[T], at: usize, n: usize) -> S::V {
    simd.ask_ahead(src, at);
    load(simd, src, at, n)
}

/// Asks for the line of element `at` of a slice, which may have none.
#[inline(always)]
pub(crate) fn ask<T: Element, S: Simd<T>>(simd: S, slice: &[T], at: usize) {
    simd.prefetch(slice.as_ptr().wrapping_add(at));
}

/// The counterpart of [`load`].
#[inline(always)]
pub(crate) fn store<T: Element, S: Simd<T>>(simd: S, v: S::V, dst: &mut [T], at: usize, n: usize) {
    if n == S::LANES { simd.store(v, &mut dst[at..]) } else { simd.store_partial(v, &mut dst[at..at + n]) }
}

/// Asks for `n` elements from `first` on, which may be any pointer.
#[inline(always)]
pub(crate) fn fetch<T: Element, S: Simd<T>>(simd: S, first: *const T, n: usize) {
    for i in (0..n).step_by(S::LINE) {
        simd.prefetch(first.wrapping_add(i));
    }
}

/// f of every element.
pub(crate) fn map<T: Element, F: Unary<T>>(x: &Tensor<T>, f: F) -> Tensor<T> {
    let mut y = Tensor::default();
    map_into(x, f, &mut y);
    y
}

/// As [`map`], into `y`, which is resized.
pub(crate) fn map_into<T: Element, F: Unary<T>>(x: &Tensor<T>, f: F, y: &mut Tensor<T>) {
    let (chunk, shape, x) = (threads::rows_per_chunk(1), x.shape(), x.data());
    threads::for_each_chunk(y.resize(shape), chunk, |i, y| {
        let start = i * chunk;
        simd::dispatch(Map { f, x: &x[start..start + y.len()], y });
    });
}

/// f of every pair of elements of two tensors of one shape.
pub(crate) fn zip<T: Element, F: Binary<T>>(a: &Tensor<T>, b: &Tensor<T>, f: F) -> Tensor<T> {
    let mut y = Tensor::default();
    zip_into(a, b, f, &mut y);
    y
}

/// As [`zip`], into `y`, which is resized.
pub(crate) fn zip_into<T: Element, F: Binary<T>>(a: &Tensor<T>, b: &Tensor<T>, f: F, y: &mut Tensor<T>) {
    debug_assert_eq!(a.shape(), b.shape());
    let (chunk, shape, a, b) = (threads::rows_per_chunk(1), a.shape(), a.data(), b.data());
    threads::for_each_chunk(y.resize(shape), chunk, |i, y| {
        let (start, end) = (i * chunk, i * chunk + y.len());
        simd::dispatch(Zip { f, a: &a[start..end], b: &b[start..end], y });
    });
}

/// a = f(a, b) for every pair of elements of two tensors of one shape.
pub(crate) fn zip_in_place<T: Element, F: Binary<T>>(a: &mut Tensor<T>, b: &Tensor<T>, f: F) {
    debug_assert_eq!(a.shape(), b.shape());
    let (chunk, b) = (threads::rows_per_chunk(1), b.data());
    threads::for_each_chunk(a.data_mut(), chunk, |i, a| {
        let start = i * chunk;
        simd::dispatch(Update { f, b: &b[start..start + a.len()], a });
    });
}

struct Map<'a, T, F> {
    f: F,
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Element, F: Unary<T>> Kernel<T> for Map<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Map { f, x, y } = self;
        let (mut xs, mut ys) = (x.chunks_exact(S::LANES), y.chunks_exact_mut(S::LANES));
        for (x, y) in (&mut xs).zip(&mut ys) {
            simd.ask_ahead(x, 0);
            simd.ask_ahead(y, 0);
            simd.store(f.apply(simd, simd.load(x)), y);
        }
        let x = simd.load_partial(xs.remainder());
        simd.store_partial(f.apply(simd, x), ys.into_remainder());
    }
}

pub(crate) struct Zip<'a, T, F> {
    pub f: F,
    pub a: &'a [T],
    pub b: &'a [T],
    pub y: &'a mut [T],
}

impl<T: Element, F: Binary<T>> Kernel<T> for Zip<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Zip { f, a, b, y } = self;
        let (mut aa, mut bb) = (a.chunks_exact(S::LANES), b.chunks_exact(S::LANES));
        let mut yy = y.chunks_exact_mut(S::LANES);
        for ((a, b), y) in (&mut aa).zip(&mut bb).zip(&mut yy) {
            for operand in [a, b, &*y] {
                simd.ask_ahead(operand, 0);
            }
            simd.store(f.apply(simd, simd.load(a), simd.load(b)), y);
        }
        let (a, b) = (simd.load_partial(aa.remainder()), simd.load_partial(bb.remainder()));
        simd.store_partial(f.apply(simd, a, b), yy.into_remainder());
    }
}

pub(crate) struct Update<'a, T, F> {
    pub f: F,
    pub a: &'a mut [T],
    pub b: &'a [T],
}

impl<T: Element, F: Binary<T>> Kernel<T> for Update<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Update { f, a, b } = self;
        let (mut aa, mut bb) = (a.chunks_exact_mut(S::LANES), b.chunks_exact(S::LANES));
        for (a, b) in (&mut aa).zip(&mut bb) {
            for operand in [&*a, b] {
                simd.ask_ahead(operand, 0);
            }
            simd.store(f.apply(simd, simd.load(a), simd.load(b)), a);
        }
        let (a, b) = (aa.into_remainder(), simd.load_partial(bb.remainder()));
        let x = simd.load_partial(a);
        simd.store_partial(f.apply(simd, x, b), a);
    }
}
