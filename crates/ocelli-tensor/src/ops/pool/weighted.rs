//! Weighted sums over the product of two axes: what average pooling of any kind is, forward and backward.
//!
//! A destination pixel is Σ vᵢ hⱼ · source pixel (i, j), over the positions that each axis lists for it. Rows are summed
//! first, into one line; then the line's pixels.

use crate::memory::Scratch;
use crate::ops::pointwise::{load, store};
use crate::simd::{Kernel, Simd};
use crate::{Element, Shape, Tensor, threads};

/// For every destination along an axis, the source positions that it sums, each with its weight.
pub(super) struct Axis<T> {
    sources: usize,
    /// The positions of all destinations, one destination after the other, each one's ascending, and their weights.
    positions: Scratch<usize>,
    weights: Scratch<T>,
    /// Where those of each destination start, and where the last ones end.
    starts: Scratch<usize>,
}

/// Source positions, and their weights.
type Taps<'a, T> = (&'a [usize], &'a [T]);

impl<T: Element> Axis<T> {
    /// The taps of each of so many destinations.
    fn new<I: Iterator<Item = (usize, T)>>(sources: usize, destinations: usize, taps: impl Fn(usize) -> I) -> Self {
        let mut starts = Scratch::zeros(destinations + 1);
        for d in 0..destinations {
            starts[d + 1] = starts[d] + taps(d).count();
        }
        let total = starts[destinations];
        let (mut positions, mut weights) = (Scratch::new(total), Scratch::new(total));
        for (i, (position, weight)) in (0..destinations).flat_map(taps).enumerate() {
            (positions[i], weights[i]) = (position, weight);
        }
        let axis = Axis { sources, positions, weights, starts };
        debug_assert!((0..destinations).all(|d| axis.of(d).0.is_sorted()), "the last position is the furthest");
        axis
    }

    /// Output `o` of `outputs` averages the input positions `positions(o)`, of which it counts `count(o)`.
    pub fn averages<P: Iterator<Item = usize>>(
        (inputs, outputs): (usize, usize),
        positions: impl Fn(usize) -> P,
        count: impl Fn(usize) -> usize,
    ) -> Self {
        Axis::new(inputs, outputs, |o| {
            let weight = T::from_f64(1.0 / count(o).max(1) as f64);
            positions(o).map(move |i| (i, weight))
        })
    }

    /// The gradient's axis: every source becomes a destination, of the same weights.
    pub fn transposed(&self) -> Self {
        let mut lists = vec![Vec::new(); self.sources];
        for o in 0..self.destinations() {
            let (positions, weights) = self.of(o);
            positions.iter().zip(weights).for_each(|(&i, &weight)| lists[i].push((o, weight)));
        }
        Axis::new(self.destinations(), self.sources, |source| lists[source].iter().copied())
    }

    #[inline(always)]
    fn destinations(&self) -> usize {
        self.starts.len() - 1
    }

    /// How many of a destination's positions the one before it has, too: both list them in order.
    #[inline(always)]
    fn known(&self, destination: usize) -> usize {
        let last = destination.checked_sub(1).and_then(|before| self.of(before).0.last());
        last.map_or(0, |last| self.of(destination).0.iter().filter(|&position| position <= last).count())
    }

    #[inline(always)]
    fn of(&self, destination: usize) -> Taps<'_, T> {
        let taps = self.starts[destination]..self.starts[destination + 1];
        (&self.positions[taps.clone()], &self.weights[taps])
    }
}

/// Makes `dst` the weighted sums, of shape `[N, H, W, C]`, whose height and width are the axes' destinations.
pub(super) fn weighted_sums<T: Element>(src: &Tensor<T>, shape: Shape, axes: &[Axis<T>; 2], dst: &mut Tensor<T>) {
    let (channels, row) = (shape[3], shape[2] * shape[3]);
    let rows = threads::rows_per_chunk(row.max(axes[1].sources * channels));
    threads::for_each_chunk(dst.resize(shape), rows * row, |i, dst| {
        let mut line = Scratch::new(axes[1].sources * channels);
        let line = &mut line;
        T::weighted_pool(Rows { axes, channels, height: shape[1], src: src.data(), first: i * rows, line, dst });
    });
}

/// Whole rows of destination pixels, of which the first is row `first` of all images.
pub struct Rows<'a, T> {
    axes: &'a [Axis<T>; 2],
    channels: usize,
    height: usize,
    src: &'a [T],
    first: usize,
    line: &'a mut [T],
    dst: &'a mut [T],
}

impl<T: Element> Kernel<T> for Rows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Rows { axes: [vertical, horizontal], channels, height, src, first, line, dst } = self;
        let (row, image) = (horizontal.destinations() * channels, vertical.sources * line.len());
        for (r, dst) in dst.chunks_exact_mut(row).enumerate() {
            let (n, y) = ((first + r) / height, (first + r) % height);
            let (rows, known, src) = (vertical.of(y), vertical.known(y), &src[n * image..(n + 1) * image]);
            let (stride, mut summed) = (line.len(), 0);
            for (x, dst) in dst.chunks_exact_mut(channels).enumerate() {
                let pixels = horizontal.of(x);
                // The line is summed as far as it is needed, so that reading and writing memory need not take turns.
                let needed = pixels.0.last().map_or(0, |last| (last + 1) * channels);
                if summed < needed {
                    let end = line.len().min(needed.next_multiple_of(4 * S::LANES));
                    sum::<T, S, true>(simd, rows, known, &src[summed..], stride, &mut line[summed..end]);
                    summed = end;
                }
                sum::<T, S, false>(simd, pixels, pixels.0.len(), line, channels, dst);
            }
        }
    }
}

/// `dst` = Σ weight · row `i` of `src`, whose rows are `stride` long. What lies a page ahead of the rows behind the first `known`
/// ones is fetched, and of `dst`, unless this is the `LINE`, which stays in a cache.
#[inline(always)]
fn sum<T: Element, S: Simd<T>, const LINE: bool>(
    simd: S,
    taps: Taps<'_, T>,
    known: usize,
    src: &[T],
    stride: usize,
    dst: &mut [T],
) {
    let mut c = 0;
    while c + 4 * S::LANES <= dst.len() {
        sum_registers::<T, S, LINE, 4>(simd, taps, known, src, stride, (c, S::LANES), dst);
        c += 4 * S::LANES;
    }
    while c < dst.len() {
        let n = S::LANES.min(dst.len() - c);
        sum_registers::<T, S, LINE, 1>(simd, taps, known, src, stride, (c, n), dst);
        c += n;
    }
}

/// [`sum`] for `R` registers from element `c` on, each of which holds `n` elements.
#[inline(always)]
fn sum_registers<T: Element, S: Simd<T>, const LINE: bool, const R: usize>(
    simd: S,
    (positions, weights): Taps<'_, T>,
    known: usize,
    src: &[T],
    stride: usize,
    (c, n): (usize, usize),
    dst: &mut [T],
) {
    let mut sums = [simd.splat(T::ZERO); R];
    for (tap, (&i, &weight)) in positions.iter().zip(weights).enumerate() {
        let (src, weight) = (&src[i * stride + c..][..R * n], simd.splat(weight));
        for (r, sum) in sums.iter_mut().enumerate() {
            if tap >= known {
                simd.ask_ahead(src, r * S::LANES);
            }
            *sum = simd.mul_add(load(simd, src, r * S::LANES, n), weight, *sum);
        }
    }
    let dst = &mut dst[c..][..R * n];
    for (r, &sum) in sums.iter().enumerate() {
        if !LINE {
            simd.ask_ahead(dst, r * S::LANES);
        }
        store(simd, sum, dst, r * S::LANES, n);
    }
}
