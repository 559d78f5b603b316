//! Against plain loops in f64 and central differences.

use super::*;
use crate::ops::testing::{Rng, central_difference, on_every_isa, same_bits};

const EPS: f64 = 1e-5;
const SHAPES: [[usize; 4]; 6] =
    [[1, 1, 1, 1], [1, 2, 3, 3], [2, 5, 7, 17], [4, 3, 3, 24], [1, 30, 40, 8], [3, 1, 65, 33]];

/// The specification: mean and biased variance, column by column.
fn reference_stats(x: &Tensor<f64>) -> (Tensor<f64>, Tensor<f64>) {
    let (rows, columns) = (x.shape().rows(), x.shape().columns());
    let column = |c: usize| (0..rows).map(move |r| x.data()[r * columns + c]);
    let mean = Tensor::from_fn([columns], |c| column(c).sum::<f64>() / rows as f64);
    let var = |c| column(c).map(|x| (x - mean.data()[c]).powi(2)).sum::<f64>() / rows as f64;
    (mean.clone(), Tensor::from_fn([columns], var))
}

/// The specification, element by element.
fn reference(
    x: &Tensor<f64>,
    stats: &(Tensor<f64>, Tensor<f64>),
    gamma: &Tensor<f64>,
    beta: &Tensor<f64>,
) -> Tensor<f64> {
    Tensor::from_fn(x.shape(), |i| {
        let c = i % x.shape().columns();
        let normal = (x.data()[i] - stats.0.data()[c]) / (stats.1.data()[c] + EPS).sqrt();
        gamma.data()[c] * normal + beta.data()[c]
    })
}

struct Case {
    x: Tensor<f64>,
    gamma: Tensor<f64>,
    beta: Tensor<f64>,
    dy: Tensor<f64>,
}

fn case(shape: [usize; 4]) -> Case {
    let mut rng = Rng::new(shape.iter().sum::<usize>() as u64);
    let x = rng.tensor::<f64>(shape).map(|x| 3.0 * x + 1.0);
    Case { x, gamma: rng.tensor([shape[3]]), beta: rng.tensor([shape[3]]), dy: rng.tensor(shape) }
}

#[test]
fn forward_matches_reference() {
    for shape in SHAPES {
        let Case { x, gamma, beta, .. } = case(shape);
        let stats = reference_stats(&x);
        let expected = reference(&x, &stats, &gamma, &beta);
        on_every_isa(|| {
            let (mean, var) = batch_norm_stats(&x).unwrap();
            assert!(mean.relative_error(&stats.0) < 1e-13 && var.relative_error(&stats.1) < 1e-13, "{shape:?}");
            let y = batch_norm(&x, &mean, &var, &gamma, &beta, EPS).unwrap();
            assert!(y.relative_error(&expected) < 1e-11, "{shape:?}");

            let x = x.cast::<f32>();
            let (mean, var) = batch_norm_stats(&x).unwrap();
            assert!(mean.relative_error(&stats.0.cast()) < 1e-6 && var.relative_error(&stats.1.cast()) < 1e-6);
            let y = batch_norm(&x, &mean, &var, &gamma.cast(), &beta.cast(), EPS).unwrap();
            assert!(y.relative_error(&expected.cast()) < 5e-6, "{shape:?}");
        });
    }
}

#[test]
fn variance_survives_a_large_mean() {
    // E[x²] − E[x]² would leave nothing of it in f32.
    let x = Rng::new(1).tensor::<f64>([5000, 3]).map(|x| ((x + 1000.0) as f32).into());
    let (mean, var) = batch_norm_stats(&x.cast::<f32>()).unwrap();
    let expected = reference_stats(&x);
    assert!(mean.relative_error(&expected.0.cast()) < 1e-7);
    assert!(var.relative_error(&expected.1.cast()) < 1e-5);
}

#[test]
fn backward_matches_central_differences() {
    for shape in [[2, 1, 1, 1], [1, 2, 3, 3], [2, 3, 4, 17], [5, 3, 5, 2]] {
        let Case { x, gamma, beta, dy } = case(shape);
        let train =
            |x: &Tensor<f64>, gamma: &Tensor<f64>, beta: &Tensor<f64>| reference(x, &reference_stats(x), gamma, beta);
        let dx = central_difference(&x, &dy, |x| train(x, &gamma, &beta));
        let dgamma = central_difference(&gamma, &dy, |gamma| train(&x, gamma, &beta));
        let dbeta = central_difference(&beta, &dy, |beta| train(&x, &gamma, beta));
        let (mean, var) = reference_stats(&x);
        let frozen = central_difference(&x, &dy, |x| reference(x, &(mean.clone(), var.clone()), &gamma, &beta));
        on_every_isa(|| {
            let got = batch_norm_backward(&x, &mean, &var, &gamma, EPS, &dy).unwrap();
            // Two values normalise to ±1 whatever they are: dx is all but zero there.
            let close = (0..x.len()).all(|i| (got.0.data()[i] - dx.data()[i]).abs() < 1e-7);
            assert!(close && got.1.relative_error(&dgamma) < 1e-7 && got.2.relative_error(&dbeta) < 1e-7, "{shape:?}");
            let got = batch_norm_backward_frozen(&x, &mean, &var, &gamma, EPS, &dy).unwrap();
            assert!(got.0.relative_error(&frozen) < 1e-7, "{shape:?}");
            assert!(got.1.relative_error(&dgamma) < 1e-7 && got.2.relative_error(&dbeta) < 1e-7, "{shape:?}");
        });
    }
}

#[test]
fn backward_in_single_precision_matches_double() {
    // Without the single row, whose dx is zero but for rounding.
    for &shape in &SHAPES[1..] {
        let Case { x, gamma, dy, .. } = case(shape);
        let (mean, var) = reference_stats(&x);
        let single = |t: &Tensor<f64>| t.cast::<f32>();
        let agree = |got: (Tensor, Tensor, Tensor), expected: (Tensor<f64>, Tensor<f64>, Tensor<f64>)| {
            assert!(got.0.relative_error(&single(&expected.0)) < 1e-5, "{shape:?}");
            assert!(got.1.relative_error(&single(&expected.1)) < 1e-5, "{shape:?}");
            assert!(got.2.relative_error(&single(&expected.2)) < 1e-5, "{shape:?}");
        };
        let [x1, mean1, var1, gamma1, dy1] = [&x, &mean, &var, &gamma, &dy].map(single);
        on_every_isa(|| {
            let got = batch_norm_backward(&x1, &mean1, &var1, &gamma1, EPS, &dy1).unwrap();
            agree(got, batch_norm_backward(&x, &mean, &var, &gamma, EPS, &dy).unwrap());
            let got = batch_norm_backward_frozen(&x1, &mean1, &var1, &gamma1, EPS, &dy1).unwrap();
            agree(got, batch_norm_backward_frozen(&x, &mean, &var, &gamma, EPS, &dy).unwrap());
        });
    }
}

#[test]
fn an_empty_batch_is_normalised_but_has_no_statistics() {
    let (x, ones) = (Tensor::<f32>::zeros([0, 2, 2, 3]), Tensor::full([3], 1.0));
    assert!(batch_norm(&x, &ones, &ones, &ones, &ones, EPS).unwrap().is_empty());
    let error = batch_norm_stats(&x).unwrap_err();
    assert_eq!(error.to_string(), "batch_norm_stats: expected input of shape at least one row, got [0, 2, 2, 3]");
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let Case { x, gamma, beta, dy } = case([3, 40, 50, 19]);
    let [x, gamma, beta, dy] = [x, gamma, beta, dy].map(|t| t.cast::<f32>());
    same_bits(|| {
        let (mean, var) = batch_norm_stats(&x).unwrap();
        let y = batch_norm(&x, &mean, &var, &gamma, &beta, EPS).unwrap();
        let (dx, dgamma, dbeta) = batch_norm_backward(&x, &mean, &var, &gamma, EPS, &dy).unwrap();
        vec![mean, var, y, dx, dgamma, dbeta]
    });
}

#[test]
fn wrong_shapes_are_errors() {
    let (x, three, four) = (Tensor::<f32>::zeros([2, 3]), Tensor::zeros([3]), Tensor::zeros([4]));
    let error = batch_norm(&x, &three, &four, &three, &three, EPS).unwrap_err();
    assert_eq!(error.to_string(), "batch_norm: expected var of shape [3], got [4]");
    let error = batch_norm_backward(&x, &three, &three, &four, EPS, &x).unwrap_err();
    assert_eq!(error.to_string(), "batch_norm_backward: expected gamma of shape [3], got [4]");
    let error = batch_norm_backward_frozen(&x, &three, &three, &three, EPS, &three).unwrap_err();
    assert_eq!(error.to_string(), "batch_norm_backward_frozen: expected dy of shape [2, 3], got [3]");
}
