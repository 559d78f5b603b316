//! Softmax and its logarithm over the last axis.
//!
//! softmax(x)ⱼ = e^(xⱼ − m) / Σₖ e^(xₖ − m) with m = maxₖ xₖ, so that nothing overflows; log softmax(x)ⱼ = xⱼ − m −
//! ln Σₖ e^(xₖ − m). A row that holds a NaN becomes NaN.

use super::pointwise::{load, store, stream};
use crate::simd::{Kernel, Simd, math};
use crate::{Element, Error, Result, Tensor, threads};

/// Softmax of every row of `[…, C]`.
pub fn softmax<T: Element>(x: &Tensor<T>) -> Tensor<T> {
    forward(x, false)
}

/// The logarithm of the softmax of every row of `[…, C]`; exact where the softmax itself would be rounded to 0.
pub fn log_softmax<T: Element>(x: &Tensor<T>) -> Tensor<T> {
    forward(x, true)
}

/// The gradient dx of [`softmax`], from its output y: dxⱼ = yⱼ (dyⱼ − Σₖ dyₖ yₖ).
///
/// Errors if the shapes differ.
pub fn softmax_backward<T: Element>(y: &Tensor<T>, dy: &Tensor<T>) -> Result<Tensor<T>> {
    backward("softmax_backward", y, dy, false)
}

/// The gradient dx of [`log_softmax`], from its output y: dxⱼ = dyⱼ − e^yⱼ Σₖ dyₖ.
///
/// Errors if the shapes differ.
pub fn log_softmax_backward<T: Element>(y: &Tensor<T>, dy: &Tensor<T>) -> Result<Tensor<T>> {
    backward("log_softmax_backward", y, dy, true)
}

fn forward<T: Element>(x: &Tensor<T>, log: bool) -> Tensor<T> {
    let mut y = Tensor::scratch(x.shape());
    let columns = x.shape().columns();
    let chunk = threads::rows_per_chunk(columns) * columns;
    threads::for_each_chunk(y.data_mut(), chunk, |i, y| {
        let x = &x.data()[i * chunk..][..y.len()];
        T::softmax(Forward { log, columns, x, y });
    });
    y
}

fn backward<T: Element>(op: &'static str, y: &Tensor<T>, dy: &Tensor<T>, log: bool) -> Result<Tensor<T>> {
    if y.shape() != dy.shape() {
        return Err(Error::shape(op, "dy", y.shape(), dy.shape()));
    }
    let mut dx = Tensor::scratch(y.shape());
    let columns = y.shape().columns();
    let chunk = threads::rows_per_chunk(columns) * columns;
    threads::for_each_chunk(dx.data_mut(), chunk, |i, dx| {
        let (y, dy) = (&y.data()[i * chunk..][..dx.len()], &dy.data()[i * chunk..][..dx.len()]);
        T::softmax_backward(Backward { log, columns, y, dy, dx });
    });
    Ok(dx)
}

pub struct Forward<'a, T> {
    log: bool,
    columns: usize,
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Element> Kernel<T> for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Forward { log, columns, x, y } = self;
        for start in (0..y.len()).step_by(columns) {
            let (x, y) = (&x[start..start + columns], &mut y[start..start + columns]);
            if !log {
                let (_, sum) = exponentials::<T, S, true>(simd, x, y);
                multiply(simd, y, T::from_f64(1.0 / sum));
                continue;
            }
            let (max, sum) = exponentials::<T, S, false>(simd, x, y);
            let (max, log_sum) = (simd.splat(max), simd.splat(T::from_f64(sum.ln())));
            for c in (0..columns).step_by(S::LANES) {
                let n = S::LANES.min(columns - c);
                store(simd, simd.sub(simd.sub(load(simd, x, c, n), max), log_sum), y, c, n);
            }
        }
    }
}

/// Of one row max x and Σ e^(x − max x), whose terms are y if they are `KEPT`.
#[inline(always)]
pub(crate) fn exponentials<T: Element, S: Simd<T>, const KEPT: bool>(simd: S, x: &[T], y: &mut [T]) -> (T, f64) {
    let max = maximum(simd, x);
    let largest = simd.splat(max);
    let mut totals = [simd.splat(T::ZERO); 2];
    let (mut xs, mut ys) = (x.chunks_exact(2 * S::LANES), y.chunks_exact_mut(2 * S::LANES));
    for (x, y) in (&mut xs).zip(&mut ys) {
        for (r, total) in totals.iter_mut().enumerate() {
            let at = r * S::LANES;
            // Here rather than for the maximum, which would ask faster than memory answers.
            simd.ask_ahead(x, at);
            simd.ask_ahead(y, at);
            let e = exp_below(simd, simd.load(&x[at..]), largest);
            if KEPT {
                simd.store(e, &mut y[at..]);
            }
            *total = simd.add(*total, e);
        }
    }
    let (x, y) = (xs.remainder(), ys.into_remainder());
    for c in (0..x.len()).step_by(S::LANES) {
        let n = S::LANES.min(x.len() - c);
        store(simd, exp_below(simd, load(simd, x, c, n), largest), y, c, n);
    }
    let rest: f64 = y.iter().map(|y| y.to_f64()).sum();
    (max, simd.reduce_add(simd.add(totals[0], totals[1])).to_f64() + rest)
}

/// e^(x − largest)
#[inline(always)]
fn exp_below<T: Element, S: Simd<T>>(simd: S, x: S::V, largest: S::V) -> S::V {
    // A NaN is the second operand, which `min` returns.
    math::inverse_exp(simd, simd.min(simd.splat(math::most()), simd.sub(largest, x)))
}

/// max x. (Four at once: one maximum after the other would wait for each.)
#[inline(always)]
fn maximum<T: Element, S: Simd<T>>(simd: S, x: &[T]) -> T {
    let mut largest = [simd.splat(T::NEG_INFINITY); 4];
    let mut quads = x.chunks_exact(4 * S::LANES);
    for quad in &mut quads {
        for (r, largest) in largest.iter_mut().enumerate() {
            *largest = simd.max(simd.load(&quad[r * S::LANES..]), *largest);
        }
    }
    let [mut a, b, c, d] = largest;
    let mut rest = quads.remainder().chunks_exact(S::LANES);
    for x in &mut rest {
        a = simd.max(simd.load(x), a);
    }
    let max = simd.reduce_max(simd.max(simd.max(a, b), simd.max(c, d)));
    rest.remainder().iter().fold(max, |max, &x| max.max(x))
}

/// y = y · factor
#[inline(always)]
pub(crate) fn multiply<T: Element, S: Simd<T>>(simd: S, y: &mut [T], factor: T) {
    let factor = simd.splat(factor);
    let mut registers = y.chunks_exact_mut(S::LANES);
    for y in &mut registers {
        simd.store(simd.mul(simd.load(y), factor), y);
    }
    let y = registers.into_remainder();
    simd.store_partial(simd.mul(simd.load_partial(y), factor), y);
}

pub struct Backward<'a, T> {
    log: bool,
    columns: usize,
    y: &'a [T],
    dy: &'a [T],
    dx: &'a mut [T],
}

impl<T: Element> Kernel<T> for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Backward { log, columns, y, dy, dx } = self;
        for start in (0..y.len()).step_by(columns) {
            let row = start..start + columns;
            let (y, dy, dx) = (&y[row.clone()], &dy[row.clone()], &mut dx[row]);
            let mut total = simd.splat(T::ZERO);
            for c in (0..columns).step_by(S::LANES) {
                let n = S::LANES.min(columns - c);
                let dy = stream(simd, dy, c, n);
                simd.ask_ahead(y, c);
                total = if log { simd.add(dy, total) } else { simd.mul_add(dy, load(simd, y, c, n), total) };
            }
            let total = simd.splat(simd.reduce_add(total));
            for c in (0..columns).step_by(S::LANES) {
                let n = S::LANES.min(columns - c);
                let (y, dy) = (load(simd, y, c, n), load(simd, dy, c, n));
                simd.ask_ahead(dx, c);
                let v = if log {
                    simd.sub(dy, simd.mul(math::exp(simd, y), total))
                } else {
                    simd.mul(y, simd.sub(dy, total))
                };
                store(simd, v, dx, c, n);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Rng, central_difference, on_every_isa, same_bits};
    use super::*;

    const SHAPES: [[usize; 2]; 7] = [[0, 3], [1, 1], [3, 1], [2, 3], [5, 17], [1, 24], [40, 1000]];

    fn reference(x: &Tensor<f64>, log: bool) -> Tensor<f64> {
        let columns = x.shape().columns();
        Tensor::from_fn(x.shape(), |i| {
            let row = &x.data()[i / columns * columns..][..columns];
            let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|x| (x - max).exp()).sum();
            let y = x.data()[i] - max - sum.ln();
            if log { y } else { y.exp() }
        })
    }

    #[test]
    fn forward_matches_reference() {
        for shape in SHAPES {
            let x = Rng::new(1).tensor::<f64>(shape).map(|x| 20.0 * x - 300.0);
            for (log, f32, f64) in [
                (false, softmax::<f32> as fn(&_) -> _, softmax::<f64> as fn(&_) -> _),
                (true, log_softmax, log_softmax),
            ] {
                let expected = reference(&x, log);
                on_every_isa(|| {
                    assert!(f64(&x).relative_error(&expected) < 1e-13, "{shape:?} {log}");
                    // x itself is rounded by 2⁻²⁴ · 320.
                    assert!(f32(&x.cast()).relative_error(&expected.cast()) < 5e-5, "{shape:?} {log}");
                });
            }
        }
    }

    #[test]
    fn backward_matches_central_differences() {
        for shape in [[1, 1], [2, 3], [5, 17], [3, 24]] {
            let (x, dy) = (Rng::new(2).tensor::<f64>(shape).map(|x| 3.0 * x), Rng::new(3).tensor::<f64>(shape));
            let (y, log_y) = (softmax(&x), log_softmax(&x));
            let expected = central_difference(&x, &dy, softmax);
            let expected_log = central_difference(&x, &dy, log_softmax);
            on_every_isa(|| {
                let close = |dx: Tensor<f64>, expected: &Tensor<f64>, tolerance: f64| {
                    dx.data().iter().zip(expected.data()).all(|(a, b)| (a - b).abs() < tolerance)
                };
                assert!(close(softmax_backward(&y, &dy).unwrap(), &expected, 1e-8));
                assert!(close(log_softmax_backward(&log_y, &dy).unwrap(), &expected_log, 1e-8));
                let [y, log_y, dy] = [&y, &log_y, &dy].map(|t| t.cast::<f32>());
                assert!(close(softmax_backward(&y, &dy).unwrap().cast(), &expected, 1e-6));
                assert!(close(log_softmax_backward(&log_y, &dy).unwrap().cast(), &expected_log, 3e-6));
            });
        }
    }

    #[test]
    fn extremes_do_not_overflow_and_nan_is_not_lost() {
        let x = Tensor::from_slice([3, 2], &[1e30, -1e30, 1000.0, f32::NEG_INFINITY, f32::NAN, 1.0]).unwrap();
        on_every_isa(|| {
            let y = softmax(&x);
            assert_eq!(y.data()[0], 1.0);
            assert!(y.data()[1] < 1e-37 && y.data()[2] == 1.0 && y.data()[3] < 1e-37);
            assert!(y.data()[4].is_nan() && y.data()[5].is_nan());
            assert_eq!(log_softmax(&x).data()[..2], [0.0, -2e30]);
            assert!(log_softmax(&x).data()[5].is_nan());
        });
    }

    #[test]
    fn a_nan_anywhere_makes_its_row_nan() {
        for place in 0..75 {
            let x = Tensor::from_fn([2, 75], |i| if i == place { f64::NAN } else { i as f64 / 10.0 });
            on_every_isa(|| {
                for y in [
                    softmax(&x),
                    log_softmax(&x),
                    softmax(&x.cast::<f32>()).cast(),
                    log_softmax(&x.cast::<f32>()).cast(),
                ] {
                    let (first, second) = y.data().split_at(75);
                    assert!(first.iter().all(|y| y.is_nan()) && second.iter().all(|y| y.is_finite()), "{place}");
                }
            });
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let x = Rng::new(7).tensor::<f32>([90, 1001]);
        same_bits(|| {
            let (y, log_y) = (softmax(&x), log_softmax(&x));
            let (dx, dlog) = (softmax_backward(&y, &x).unwrap(), log_softmax_backward(&log_y, &x).unwrap());
            vec![y, log_y, dx, dlog]
        });
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let (y, dy) = (Tensor::<f32>::zeros([2, 3]), Tensor::zeros([3]));
        let error = softmax_backward(&y, &dy).unwrap_err();
        assert_eq!(error.to_string(), "softmax_backward: expected dy of shape [2, 3], got [3]");
        let error = log_softmax_backward(&y, &dy).unwrap_err();
        assert_eq!(error.to_string(), "log_softmax_backward: expected dy of shape [2, 3], got [3]");
    }
}
