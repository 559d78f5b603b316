//! Backward passes with the mistakes that real ones make: the gradient check catches every one, and passes the right
//! backward of the same operation.

use crate::common::random;
use ocelli_autograd::gradcheck::{GradError, gradcheck};
use ocelli_autograd::tensor::ops;
use ocelli_autograd::{Gradients, Op, Result, Tensor, Var};

type Forward = fn(&[&Tensor<f64>]) -> Tensor<f64>;

/// The gradients of inputs, from these and dy.
type Backward = fn(&[Tensor<f64>], &Tensor<f64>) -> Gradients<f64>;

#[derive(Debug)]
struct Given(Forward, Backward);

impl Op<f64> for Given {
    type Saved = Vec<Tensor<f64>>;

    fn name(&self) -> &'static str {
        "given"
    }

    fn forward(&self, inputs: &[&Tensor<f64>], _: &[bool]) -> Result<(Tensor<f64>, Self::Saved)> {
        Ok(((self.0)(inputs), inputs.iter().map(|&x| x.clone()).collect()))
    }

    fn backward(&self, inputs: Self::Saved, dy: Tensor<f64>, _: &[bool]) -> Result<Gradients<f64>> {
        Ok((self.1)(&inputs, &dy))
    }
}

/// Checks that `right` passes, and that each of `wrong` disagrees with central differences.
fn only_right_passes(inputs: &[Tensor<f64>], forward: Forward, right: Backward, wrong: &[(&str, Backward)]) {
    let check = |backward| gradcheck(inputs, |v| Var::apply(Given(forward, backward), &v.iter().collect::<Vec<_>>()));
    check(right).unwrap();
    for &(mistake, backward) in wrong {
        assert!(matches!(check(backward), Err(GradError::Mismatch { .. })), "{mistake}");
    }
}

fn zip(a: &Tensor<f64>, b: &Tensor<f64>, f: impl Fn(f64, f64) -> f64) -> Tensor<f64> {
    assert_eq!(a.shape(), b.shape());
    Tensor::from_fn(a.shape(), |i| f(a.data()[i], b.data()[i]))
}

fn matmul(a: &Tensor<f64>, b: &Tensor<f64>) -> Tensor<f64> {
    ops::matmul(a, b).unwrap()
}

fn transposed(a: &Tensor<f64>) -> Tensor<f64> {
    a.permute(&[1, 0]).unwrap()
}

#[test]
fn elementwise() {
    // y = x / (1 + x²)
    only_right_passes(
        &[random([3, 5], 1)],
        |v| v[0].map(|x| x / (1.0 + x * x)),
        |v, dy| vec![Some(zip(&v[0], dy, |x, dy| dy * (1.0 - x * x) / (1.0 + x * x).powi(2)))],
        &[
            ("a factor", |v, dy| vec![Some(zip(&v[0], dy, |x, dy| dy * (1.0 - 2.0 * x * x) / (1.0 + x * x).powi(2)))]),
            ("a sign", |v, dy| vec![Some(zip(&v[0], dy, |x, dy| -dy * (1.0 - x * x) / (1.0 + x * x).powi(2)))]),
            ("a power", |v, dy| vec![Some(zip(&v[0], dy, |x, dy| dy * (1.0 - x * x) / (1.0 + x * x)))]),
            ("dy is not used", |v, _| vec![Some(v[0].map(|x| (1.0 - x * x) / (1.0 + x * x).powi(2)))]),
        ],
    );
}

#[test]
fn dense() {
    // y = x w + b; w is square, so that shapes don't give mistakes away.
    only_right_passes(
        &[random([3, 4], 1), random([4, 4], 2), random([4], 3)],
        |v| ops::add(&matmul(v[0], v[1]), v[2]).unwrap(),
        |v, dy| {
            let (dx, dw) = (matmul(dy, &transposed(&v[1])), matmul(&transposed(&v[0]), dy));
            vec![Some(dx), Some(dw), Some(ops::sum_rows(dy))]
        },
        &[
            ("w is not transposed", |v, dy| {
                let (dx, dw) = (matmul(dy, &v[1]), matmul(&transposed(&v[0]), dy));
                vec![Some(dx), Some(dw), Some(ops::sum_rows(dy))]
            }),
            ("dw is transposed", |v, dy| {
                let (dx, dw) = (matmul(dy, &transposed(&v[1])), matmul(&transposed(dy), &v[0]));
                vec![Some(dx), Some(dw), Some(ops::sum_rows(dy))]
            }),
            ("db is averaged over the batch", |v, dy| {
                let (dx, dw) = (matmul(dy, &transposed(&v[1])), matmul(&transposed(&v[0]), dy));
                vec![Some(dx), Some(dw), Some(ops::sum_rows(dy).map(|db| db / 3.0))]
            }),
            ("no gradient of w", |v, dy| vec![Some(matmul(dy, &transposed(&v[1]))), None, Some(ops::sum_rows(dy))]),
        ],
    );
}

/// yᵢ = a xᵢ₋₁ + b xᵢ + c xᵢ₊₁ with zeros beyond the borders.
fn correlate(x: &Tensor<f64>, [a, b, c]: [f64; 3]) -> Tensor<f64> {
    let at = |i: Option<usize>| i.and_then(|i| x.data().get(i)).copied().unwrap_or(0.0);
    Tensor::from_fn(x.shape(), |i| a * at(i.checked_sub(1)) + b * at(Some(i)) + c * at(Some(i + 1)))
}

#[test]
fn convolution() {
    only_right_passes(
        &[random([7], 1)],
        |v| correlate(v[0], [1.0, 2.0, 3.0]),
        |_, dy| vec![Some(correlate(dy, [3.0, 2.0, 1.0]))],
        &[
            ("the kernel is not flipped", |_, dy| vec![Some(correlate(dy, [1.0, 2.0, 3.0]))]),
            ("the outermost pixels miss a term", |_, dy| {
                let mut dx = correlate(dy, [3.0, 2.0, 1.0]);
                dx.data_mut()[6] -= 3.0 * dy.data()[5];
                vec![Some(dx)]
            }),
            ("the border is repeated instead of zero", |_, dy| {
                let mut dx = correlate(dy, [3.0, 2.0, 1.0]);
                dx.data_mut()[0] += dy.data()[0];
                vec![Some(dx)]
            }),
        ],
    );
}

/// Each column of x `[N, C]` without its mean, and its standard deviation.
fn centred(x: &Tensor<f64>) -> (Tensor<f64>, Tensor<f64>) {
    let mean = column_means(x);
    let centred = ops::add(x, &mean.map(|m| -m)).unwrap();
    let std = column_means(&centred.map(|x| x * x)).map(f64::sqrt);
    (centred, std)
}

fn column_means(x: &Tensor<f64>) -> Tensor<f64> {
    let rows = x.shape().rows() as f64;
    ops::sum_rows(x).map(|sum| sum / rows)
}

/// (dy − `mean` · E[dy] − `var` · x̂ · E[dy x̂]) / σ: right if both shares are 1.
fn norm_gradient(x: &Tensor<f64>, dy: &Tensor<f64>, mean: f64, var: f64) -> Gradients<f64> {
    let (centred, std) = centred(x);
    let inverse = std.map(f64::recip);
    let normalized = ops::mul(&centred, &inverse).unwrap();
    let through_mean = column_means(dy).map(|m| -mean * m);
    let through_var = column_means(&zip(dy, &normalized, |dy, x| dy * x)).map(|m| -var * m);
    let through_var = ops::mul(&normalized, &through_var).unwrap();
    let dx = ops::add(&zip(dy, &through_var, |a, b| a + b), &through_mean).unwrap();
    vec![Some(ops::mul(&dx, &inverse).unwrap())]
}

#[test]
fn batch_norm() {
    only_right_passes(
        &[random([6, 3], 1)],
        |v| {
            let (centred, std) = centred(v[0]);
            ops::mul(&centred, &std.map(f64::recip)).unwrap()
        },
        |v, dy| norm_gradient(&v[0], dy, 1.0, 1.0),
        &[
            ("the batch's mean is a constant", |v, dy| norm_gradient(&v[0], dy, 0.0, 1.0)),
            ("the batch's variance is a constant", |v, dy| norm_gradient(&v[0], dy, 1.0, 0.0)),
            ("both are", |v, dy| norm_gradient(&v[0], dy, 0.0, 0.0)),
            ("the variance is taken for the unbiased one", |v, dy| norm_gradient(&v[0], dy, 1.0, 6.0 / 5.0)),
        ],
    );
}

#[test]
fn concatenation() {
    only_right_passes(
        &[random([3, 2], 1), random([3, 2], 2)],
        |v| ops::concat_columns(v).unwrap(),
        |_, dy| ops::split_columns(dy, &[2, 2]).unwrap().into_iter().map(Some).collect(),
        &[("parts are swapped", |_, dy| {
            ops::split_columns(dy, &[2, 2]).unwrap().into_iter().rev().map(Some).collect()
        })],
    );
}

#[test]
fn two_uses_of_a_value() {
    let forward: Forward = |v| zip(v[0], v[1], |a, b| a * b);
    let (both, first): (Backward, Backward) = (
        |v, dy| vec![Some(zip(&v[1], dy, |b, dy| b * dy)), Some(zip(&v[0], dy, |a, dy| a * dy))],
        |v, dy| vec![Some(zip(&v[1], dy, |b, dy| b * dy)), None],
    );
    let square = |backward| gradcheck(&[random([4], 1)], |v| Var::apply(Given(forward, backward), &[&v[0], &v[0]]));
    square(both).unwrap();
    // x² then has the gradient x · dy instead of 2 x · dy.
    let error = square(first).unwrap_err();
    let GradError::Mismatch { analytic, numeric, .. } = error else { panic!("{error}") };
    assert!((2.0 * analytic - numeric).abs() < 1e-8, "{error}");
}
