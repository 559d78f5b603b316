//! Softmax and cross-entropy in one: the loss of classification, and its gradient by the logits.
//!
//! loss = −1/N Σₙ Σⱼ qₙⱼ ln pₙⱼ with p = softmax(logits) and q = (1 − ε) [j = targetₙ] + ε / C, where ε is the label
//! smoothing of Szegedy et al. 2015, <https://arxiv.org/abs/1512.00567>. Then dlogits = (p − q) / N.

use super::softmax::{exponentials, multiply};
use crate::memory::Buffer;
use crate::simd::{Kernel, Simd};
use crate::{Element, Error, Result, Shape, Tensor, threads};

/// The mean loss, of shape `[]`, and the probabilities `[N, C]` of logits `[N, C]`, given the class of every row. The
/// loss of no rows is NaN.
///
/// Errors if the logits are not of rank 2, if there is not one target below C for every row, or if the smoothing is
/// not in [0, 1].
pub fn softmax_cross_entropy<T: Element>(
    logits: &Tensor<T>,
    targets: &[u32],
    label_smoothing: f64,
) -> Result<(Tensor<T>, Tensor<T>)> {
    let [rows, columns] = check("softmax_cross_entropy", "logits", logits.shape(), targets, label_smoothing)?;
    let mut probabilities = Tensor::scratch(logits.shape());
    let mut losses = Buffer::scratch(rows);
    let chunk = threads::rows_per_chunk(columns);
    threads::for_each_chunk2((probabilities.data_mut(), chunk * columns), (&mut losses, chunk), |i, y, losses| {
        let (x, targets) = (&logits.data()[i * chunk * columns..], &targets[i * chunk..]);
        T::cross_entropy(Forward { x, targets, label_smoothing, y, losses });
    });
    let loss = losses.iter().sum::<f64>() / rows as f64;
    Ok((Tensor::scalar(T::from_f64(loss)), probabilities))
}

/// The gradient dlogits of [`softmax_cross_entropy`], from its probabilities and the loss's gradient.
///
/// Errors as [`softmax_cross_entropy`] does.
pub fn softmax_cross_entropy_backward<T: Element>(
    probabilities: &Tensor<T>,
    targets: &[u32],
    label_smoothing: f64,
    dloss: T,
) -> Result<Tensor<T>> {
    const OP: &str = "softmax_cross_entropy_backward";
    let [rows, columns] = check(OP, "probabilities", probabilities.shape(), targets, label_smoothing)?;
    let share = dloss.to_f64() / rows as f64;
    let (factor, uniform) = (T::from_f64(share), T::from_f64(label_smoothing / columns as f64));
    let on_target = T::from_f64(share * (1.0 - label_smoothing));
    let mut dx = probabilities.map(|p| (p - uniform) * factor);
    for (row, &target) in dx.data_mut().chunks_exact_mut(columns).zip(targets) {
        row[target as usize] -= on_target;
    }
    Ok(dx)
}

fn check(op: &'static str, what: &'static str, shape: &Shape, targets: &[u32], smoothing: f64) -> Result<[usize; 2]> {
    let Ok([rows, columns]) = <[usize; 2]>::try_from(&**shape) else {
        return Err(Error::shape(op, what, "[N, C]", shape));
    };
    if targets.len() != rows {
        return Err(Error::argument(op, "target count", rows, targets.len()));
    }
    if let Some(target) = targets.iter().find(|&&target| target as usize >= columns) {
        return Err(Error::argument(op, "target", format!("below {columns}"), target));
    }
    if !(0.0..=1.0).contains(&smoothing) {
        return Err(Error::argument(op, "label smoothing", "in [0, 1]", smoothing));
    }
    Ok([rows, columns])
}

/// As many rows as there are `losses`.
pub struct Forward<'a, T> {
    x: &'a [T],
    targets: &'a [u32],
    label_smoothing: f64,
    y: &'a mut [T],
    losses: &'a mut [f64],
}

impl<T: Element> Kernel<T> for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Forward { x, targets, label_smoothing, y, losses } = self;
        let columns = y.len() / losses.len();
        for (i, (&target, loss)) in targets.iter().zip(losses).enumerate() {
            let row = i * columns..(i + 1) * columns;
            let (x, y) = (&x[row.clone()], &mut y[row]);
            let (max, sum) = exponentials::<T, S, true>(simd, x, y);
            multiply(simd, y, T::from_f64(1.0 / sum));
            let log_sum = sum.ln();
            *loss = (1.0 - label_smoothing) * (log_sum + max.to_f64() - x[target as usize].to_f64());
            if label_smoothing > 0.0 {
                *loss += label_smoothing * (log_sum - sum_below(simd, x, max) / columns as f64);
            }
        }
    }
}

/// Σ (x − max)
#[inline(always)]
fn sum_below<T: Element, S: Simd<T>>(simd: S, x: &[T], max: T) -> f64 {
    let mut xs = x.chunks_exact(S::LANES);
    let (largest, mut total) = (simd.splat(max), simd.splat(T::ZERO));
    for x in &mut xs {
        total = simd.add(total, simd.sub(simd.load(x), largest));
    }
    let rest: f64 = xs.remainder().iter().map(|&x| (x - max).to_f64()).sum();
    simd.reduce_add(total).to_f64() + rest
}

#[cfg(test)]
mod tests {
    use super::super::log_softmax;
    use super::super::testing::{Rng, central_difference, on_every_isa, same_bits};
    use super::*;

    fn reference(logits: &Tensor<f64>, targets: &[u32], smoothing: f64) -> Tensor<f64> {
        let [rows, columns] = [logits.shape()[0], logits.shape()[1]];
        let log = log_softmax(logits);
        let terms = log.data().iter().enumerate().map(|(i, log)| {
            let on_target = f64::from(targets[i / columns] as usize == i % columns);
            -log * ((1.0 - smoothing) * on_target + smoothing / columns as f64)
        });
        Tensor::scalar(terms.sum::<f64>() / rows as f64)
    }

    #[test]
    fn loss_and_gradient_match_reference() {
        for (shape, smoothing) in [([1, 1], 0.0), ([3, 10], 0.1), ([5, 17], 0.0), ([40, 1000], 0.3)] {
            let logits = Rng::new(1).tensor::<f64>(shape).map(|x| 5.0 * x);
            let targets: Vec<u32> = (0..shape[0]).map(|i| (i * 7 % shape[1]) as u32).collect();
            let expected = reference(&logits, &targets, smoothing);
            let small = shape[0] * shape[1] < 1000;
            let dy = Tensor::scalar(1.7);
            let slope = small.then(|| central_difference(&logits, &dy, |x| reference(x, &targets, smoothing)));
            on_every_isa(|| {
                let (loss, p) = softmax_cross_entropy(&logits, &targets, smoothing).unwrap();
                assert!(loss.relative_error(&expected) < 1e-12 || expected.data() == [0.0], "{shape:?}");
                let dx = softmax_cross_entropy_backward(&p, &targets, smoothing, 1.7).unwrap();
                if let Some(slope) = &slope {
                    assert!(dx.data().iter().zip(slope.data()).all(|(a, b)| (a - b).abs() < 1e-8), "{shape:?}");
                }
                let (loss, p) = softmax_cross_entropy(&logits.cast::<f32>(), &targets, smoothing).unwrap();
                assert!(loss.relative_error(&expected.cast()) < 1e-6 || expected.data() == [0.0], "{shape:?}");
                let single = softmax_cross_entropy_backward(&p, &targets, smoothing, 1.7).unwrap();
                assert!(dx.data().iter().zip(single.data()).all(|(a, &b)| (a - f64::from(b)).abs() < 1e-6));
            });
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let logits = Rng::new(2).tensor::<f32>([90, 1001]);
        let targets: Vec<u32> = (0..90).collect();
        same_bits(|| {
            let (loss, p) = softmax_cross_entropy(&logits, &targets, 0.1).unwrap();
            let dx = softmax_cross_entropy_backward(&p, &targets, 0.1, 1.0).unwrap();
            vec![loss, p, dx]
        });
    }

    #[test]
    fn wrong_input_is_an_error() {
        let logits = Tensor::<f32>::zeros([2, 3]);
        let text = |x: &Tensor, targets: &[u32], smoothing| {
            softmax_cross_entropy(x, targets, smoothing).unwrap_err().to_string()
        };
        let three = Tensor::zeros([3]);
        assert_eq!(text(&three, &[0], 0.0), "softmax_cross_entropy: expected logits of shape [N, C], got [3]");
        assert_eq!(text(&logits, &[0], 0.0), "softmax_cross_entropy: expected target count 2, got 1");
        assert_eq!(text(&logits, &[0, 3], 0.0), "softmax_cross_entropy: expected target below 3, got 3");
        assert_eq!(text(&logits, &[0, 1], 1.5), "softmax_cross_entropy: expected label smoothing in [0, 1], got 1.5");
        let none = softmax_cross_entropy(&Tensor::<f32>::zeros([0, 3]), &[], 0.0).unwrap();
        assert!(none.0.data()[0].is_nan());
    }
}
