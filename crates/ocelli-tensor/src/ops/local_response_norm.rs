//! Local response normalisation, Krizhevsky et al. 2012, section 3.3:
//!
//! `y_c = x_c / D_c^β`, `D_c = k + α/size · Σ_j x_j²` over the `size` channels j from `c − ⌊size/2⌋` on.
//!
//! Its gradient is `dx_c = dy_c / D_c^β − 2αβ/size · x_c · Σ_j dy_j y_j / D_j` over the channels j whose sums c is in,
//! from `c − ⌊(size−1)/2⌋` on. The channels beyond the first and the last are zeros. As in PyTorch α is divided by the size,
//! which the paper does not do.

use super::pointwise::{load, store};
use crate::memory::Scratch;
use crate::simd::{Kernel, Simd};
use crate::{Element, Error, Result, Tensor, threads};

/// The attributes of local response normalisation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocalResponseNorm {
    /// Channels in a sum.
    pub size: usize,
    /// Times the mean of squares.
    pub alpha: f64,
    /// The power.
    pub beta: f64,
    /// Added to the mean.
    pub k: f64,
}

impl LocalResponseNorm {
    /// PyTorch's settings: α = 10⁻⁴, β = 0.75, k = 1.
    pub fn new(size: usize) -> Self {
        LocalResponseNorm { size, alpha: 1e-4, beta: 0.75, k: 1.0 }
    }

    fn check(&self, op: &'static str) -> Result<()> {
        if self.size == 0 { Err(Error::argument(op, "size", "of at least 1", self.size)) } else { Ok(()) }
    }
}

/// Normalises every row of `x` `[…, C]`.
///
/// Errors if the size is 0.
pub fn local_response_norm<T: Element>(x: &Tensor<T>, attributes: &LocalResponseNorm) -> Result<Tensor<T>> {
    Tensor::made(|y| local_response_norm_into(x, attributes, y))
}

/// As [`local_response_norm`], into `y`, which is [resized](Tensor::resize).
pub fn local_response_norm_into<T: Element>(
    x: &Tensor<T>,
    attributes: &LocalResponseNorm,
    y: &mut Tensor<T>,
) -> Result<()> {
    attributes.check("local_response_norm")?;
    let columns = x.shape().columns();
    let chunk = threads::rows_per_chunk(columns) * columns;
    threads::for_each_chunk(y.resize(x.shape()), chunk, |i, y| {
        let x = &x.data()[i * chunk..][..y.len()];
        T::local_response_norm(Forward { attributes, columns, x, y });
    });
    Ok(())
}

/// The gradient dx of [`local_response_norm`], from its input `x` and its output's gradient `dy`.
///
/// Errors if the size is 0 or the shapes differ.
pub fn local_response_norm_backward<T: Element>(
    x: &Tensor<T>,
    dy: &Tensor<T>,
    attributes: &LocalResponseNorm,
) -> Result<Tensor<T>> {
    let op = "local_response_norm_backward";
    attributes.check(op)?;
    if x.shape() != dy.shape() {
        return Err(Error::shape(op, "dy", x.shape(), dy.shape()));
    }
    let mut dx = Tensor::scratch(x.shape());
    let columns = x.shape().columns();
    let chunk = threads::rows_per_chunk(columns) * columns;
    threads::for_each_chunk(dx.data_mut(), chunk, |i, dx| {
        let (x, dy) = (&x.data()[i * chunk..][..dx.len()], &dy.data()[i * chunk..][..dx.len()]);
        T::local_response_norm_backward(Backward { attributes, columns, x, dy, dx });
    });
    Ok(dx)
}

pub struct Forward<'a, T> {
    attributes: &'a LocalResponseNorm,
    columns: usize,
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Element> Kernel<T> for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Forward { attributes, columns, x, y } = self;
        let mut squares = Neighbours::new(columns, attributes.size, attributes.size / 2);
        for (x, y) in x.chunks_exact(columns).zip(y.chunks_exact_mut(columns)) {
            squares.square(simd, x);
            for c in (0..columns).step_by(S::LANES) {
                let n = S::LANES.min(columns - c);
                let d = divisor(simd, attributes, &squares, c, n);
                store(simd, simd.mul(load(simd, x, c, n), inverse_power(simd, d, attributes.beta)), y, c, n);
            }
        }
    }
}

pub struct Backward<'a, T> {
    attributes: &'a LocalResponseNorm,
    columns: usize,
    x: &'a [T],
    dy: &'a [T],
    dx: &'a mut [T],
}

impl<T: Element> Kernel<T> for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Backward { attributes, columns, x, dy, dx } = self;
        let LocalResponseNorm { size, alpha, beta, .. } = *attributes;
        let mut squares = Neighbours::new(columns, size, size / 2);
        // dy · y / D, which the channels of its sum share.
        let mut shared = Neighbours::new(columns, size, (size - 1) / 2);
        let factor = simd.splat(T::from_f64(-2.0 * alpha * beta / size as f64));
        let rows = x.chunks_exact(columns).zip(dy.chunks_exact(columns)).zip(dx.chunks_exact_mut(columns));
        for ((x, dy), dx) in rows {
            squares.square(simd, x);
            for c in (0..columns).step_by(S::LANES) {
                let n = S::LANES.min(columns - c);
                let d = divisor(simd, attributes, &squares, c, n);
                let own = simd.mul(load(simd, dy, c, n), inverse_power(simd, d, beta));
                store(simd, own, dx, c, n);
                store(simd, simd.div(simd.mul(own, load(simd, x, c, n)), d), shared.row_mut(), c, n);
            }
            for c in (0..columns).step_by(S::LANES) {
                let n = S::LANES.min(columns - c);
                let others = simd.mul(factor, simd.mul(load(simd, x, c, n), shared.sum(simd, c, n)));
                store(simd, simd.add(load(simd, dx, c, n), others), dx, c, n);
            }
        }
    }
}

/// A row with zeros before and behind it, of which neighbours are added up.
struct Neighbours<T> {
    padded: Scratch<T>,
    columns: usize,
    size: usize,
    before: usize,
}

impl<T: Element> Neighbours<T> {
    #[inline(always)]
    fn new(columns: usize, size: usize, before: usize) -> Self {
        // Channels further away than the row is long change nothing.
        let (before, behind) = (before.min(columns), (size - 1 - before).min(columns));
        Neighbours { padded: Scratch::zeros(before + columns + behind), columns, size: before + 1 + behind, before }
    }

    #[inline(always)]
    fn row_mut(&mut self) -> &mut [T] {
        &mut self.padded[self.before..self.before + self.columns]
    }

    /// Makes the row x².
    #[inline(always)]
    fn square<S: Simd<T>>(&mut self, simd: S, x: &[T]) {
        let row = self.row_mut();
        for c in (0..x.len()).step_by(S::LANES) {
            let n = S::LANES.min(x.len() - c);
            let x = load(simd, x, c, n);
            store(simd, simd.mul(x, x), row, c, n);
        }
    }

    /// The sums of the `n` columns from `c` on.
    #[inline(always)]
    fn sum<S: Simd<T>>(&self, simd: S, c: usize, n: usize) -> S::V {
        let mut sum = load(simd, &self.padded, c, n);
        for neighbour in 1..self.size {
            sum = simd.add(sum, load(simd, &self.padded, c + neighbour, n));
        }
        sum
    }
}

/// D of the `n` channels from `c` on.
#[inline(always)]
fn divisor<T: Element, S: Simd<T>>(
    simd: S,
    attributes: &LocalResponseNorm,
    squares: &Neighbours<T>,
    c: usize,
    n: usize,
) -> S::V {
    let share = simd.splat(T::from_f64(attributes.alpha / attributes.size as f64));
    simd.mul_add(share, squares.sum(simd, c, n), simd.splat(T::from_f64(attributes.k)))
}

/// x^−β: by square roots for the paper's 0.75, else number by number.
#[inline(always)]
fn inverse_power<T: Element, S: Simd<T>>(simd: S, x: S::V, beta: f64) -> S::V {
    const MOST_LANES: usize = 16;
    if beta == 0.75 {
        let root = simd.sqrt(x);
        return simd.div(simd.splat(T::ONE), simd.mul(root, simd.sqrt(root)));
    }
    let mut lanes = [T::ZERO; MOST_LANES];
    simd.store(x, &mut lanes);
    for lane in &mut lanes[..S::LANES] {
        *lane = T::from_f64(lane.to_f64().powf(-beta));
    }
    simd.load(&lanes)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Rng, on_every_isa, same_bits};
    use super::*;

    fn reference(x: &Tensor<f64>, dy: &Tensor<f64>, a: &LocalResponseNorm) -> [Tensor<f64>; 2] {
        let columns = x.shape().columns();
        let (mut y, mut dx) = (Tensor::zeros(x.shape()), Tensor::zeros(x.shape()));
        for i in 0..x.len() {
            let (start, c) = (i / columns * columns, i % columns);
            let sum = c.saturating_sub(a.size / 2)..columns.min(c + (a.size - 1) / 2 + 1);
            let squares: f64 = sum.clone().map(|j| x.data()[start + j].powi(2)).sum();
            let d = a.k + a.alpha / a.size as f64 * squares;
            y.data_mut()[i] = x.data()[i] * d.powf(-a.beta);
            dx.data_mut()[i] += dy.data()[i] * d.powf(-a.beta);
            let shared = dy.data()[i] * x.data()[i] * d.powf(-a.beta - 1.0);
            for j in sum {
                dx.data_mut()[start + j] -= 2.0 * a.alpha * a.beta / a.size as f64 * x.data()[start + j] * shared;
            }
        }
        [y, dx]
    }

    #[test]
    fn both_passes_match_the_reference() {
        for shape in [[0, 3], [1, 1], [3, 2], [2, 17], [5, 96], [1, 256], [70, 300]] {
            for (size, beta) in [(5, 0.75), (1, 0.75), (2, 0.75), (4, 0.5), (3, 1.3), (40, 0.75)] {
                let a = LocalResponseNorm { size, alpha: 1.5, beta, k: 0.7 };
                let (x, dy) = (Rng::new(1).tensor::<f64>(shape), Rng::new(2).tensor::<f64>(shape));
                let [y, dx] = reference(&x, &dy, &a);
                let close = |got: Result<Tensor<f64>>, expected: &Tensor<f64>, tolerance: f64| {
                    let error = got.unwrap().relative_error(expected);
                    assert!(error < tolerance, "{shape:?} {a:?}: off by {error:e}");
                };
                close(local_response_norm(&x, &a), &y, 1e-14);
                close(local_response_norm_backward(&x, &dy, &a), &dx, 1e-14);
                let (x, dy) = (x.cast::<f32>(), dy.cast::<f32>());
                on_every_isa(|| {
                    close(local_response_norm(&x, &a).map(|y| y.cast()), &y, 1e-6);
                    close(local_response_norm_backward(&x, &dy, &a).map(|dx| dx.cast()), &dx, 1e-6);
                });
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let (x, dy) = (Rng::new(7).tensor::<f32>([900, 96]), Rng::new(8).tensor([900, 96]));
        let a = LocalResponseNorm::new(5);
        same_bits(|| vec![local_response_norm(&x, &a).unwrap(), local_response_norm_backward(&x, &dy, &a).unwrap()]);
    }

    #[test]
    fn wrong_arguments_are_errors() {
        let x = Tensor::<f32>::zeros([2, 3]);
        let error = local_response_norm(&x, &LocalResponseNorm::new(0)).unwrap_err();
        assert_eq!(error.to_string(), "local_response_norm: expected size of at least 1, got 0");
        let error = local_response_norm_backward(&x, &Tensor::zeros([3]), &LocalResponseNorm::new(5)).unwrap_err();
        assert_eq!(error.to_string(), "local_response_norm_backward: expected dy of shape [2, 3], got [3]");
    }
}
