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

const ACTIVATIONS: [Option<Activation>; 5] =
    [None, Some(Activation::Relu), Some(Activation::Relu6), Some(Activation::Sigmoid), Some(Activation::Silu)];

/// The specification of the fused forward, element by element.
fn reference_act(y: &Tensor<f64>, residual: Option<&Tensor<f64>>, activation: Option<Activation>) -> Tensor<f64> {
    Tensor::from_fn(y.shape(), |i| {
        let v = y.data()[i] + residual.map_or(0.0, |residual| residual.data()[i]);
        match activation {
            None => v,
            Some(Activation::Relu) => v.max(0.0),
            Some(Activation::Relu6) => v.clamp(0.0, 6.0),
            Some(Activation::Sigmoid) => 1.0 / (1.0 + (-v).exp()),
            Some(Activation::Silu) => v / (1.0 + (-v).exp()),
        }
    })
}

#[test]
fn fused_forward_matches_reference() {
    for shape in SHAPES {
        let Case { x, gamma, beta, dy: residual } = case(shape);
        let (mean, var) = reference_stats(&x);
        let plain = reference(&x, &(mean.clone(), var.clone()), &gamma, &beta);
        let [x1, mean1, var1, gamma1, beta1, residual1] =
            [&x, &mean, &var, &gamma, &beta, &residual].map(|t| t.cast::<f32>());
        for activation in ACTIVATIONS {
            for (residual, residual1) in [(None, None), (Some(&residual), Some(&residual1))] {
                let expected = reference_act(&plain, residual, activation);
                on_every_isa(|| {
                    let n = Normalization { mean: &mean, var: &var, gamma: &gamma, beta: &beta, eps: EPS };
                    let y = batch_norm_act(&x, n, residual, activation).unwrap();
                    assert!(y.relative_error(&expected) < 1e-11, "{shape:?} {activation:?}");
                    let n = Normalization { mean: &mean1, var: &var1, gamma: &gamma1, beta: &beta1, eps: EPS };
                    let y = batch_norm_act(&x1, n, residual1, activation).unwrap();
                    assert!(y.relative_error(&expected.cast()) < 5e-6, "{shape:?} {activation:?}");
                });
            }
        }
    }
}

#[test]
fn fused_backward_matches_central_differences() {
    for shape in [[1, 2, 3, 3], [2, 3, 2, 17]] {
        let Case { x, gamma, beta, dy } = case(shape);
        let residual = Rng::new(11).tensor::<f64>(shape);
        let (mean, var) = reference_stats(&x);
        let n = Normalization { mean: &mean, var: &var, gamma: &gamma, beta: &beta, eps: EPS };
        for activation in ACTIVATIONS {
            let f = |x: &Tensor<f64>, gamma: &Tensor<f64>, beta: &Tensor<f64>, residual: Option<&Tensor<f64>>| {
                reference_act(&reference(x, &reference_stats(x), gamma, beta), residual, activation)
            };
            for added in [None, Some(&residual)] {
                let dx = central_difference(&x, &dy, |x| f(x, &gamma, &beta, added));
                let dgamma = central_difference(&gamma, &dy, |gamma| f(&x, gamma, &beta, added));
                let dbeta = central_difference(&beta, &dy, |beta| f(&x, &gamma, beta, added));
                let dresidual = central_difference(&residual, &dy, |r| f(&x, &gamma, &beta, added.map(|_| r)));
                let y = f(&x, &gamma, &beta, added);
                let mut forms = vec![added.map_or(Recompute::Normalized, Recompute::Residual)];
                if added.is_some() && activation.is_none_or(Activation::saves_output) {
                    forms.push(Recompute::Output(&y));
                }
                on_every_isa(|| {
                    for &form in &forms {
                        let got = batch_norm_act_backward(&x, n, activation, form, dy.clone(), None).unwrap();
                        let in_place = batch_norm_act_backward(&x, n, activation, form, dy.map(|dy| dy), None).unwrap();
                        assert_eq!(got, in_place);
                        let onto =
                            batch_norm_act_backward(&x, n, activation, form, dy.clone(), Some(x.clone())).unwrap();
                        let part = Tensor::from_fn(shape, |i| onto.dx.data()[i] - x.data()[i]);
                        assert!(part.relative_error(&got.dx) < 1e-12, "{activation:?} {form:?}: added to x");
                        let close = |a: &Tensor<f64>, b: &Tensor<f64>| {
                            (0..a.len()).all(|i| (a.data()[i] - b.data()[i]).abs() < 2e-7)
                        };
                        let message = format!("{shape:?} {activation:?} {form:?}");
                        assert!(close(&got.dx, &dx) && close(&got.dgamma, &dgamma), "{message}");
                        assert!(close(&got.dbeta, &dbeta), "{message}");
                        assert_eq!(got.dresidual.is_some(), added.is_some());
                        assert!(got.dresidual.is_none_or(|got| close(&got, &dresidual)), "{message}");
                    }
                });
            }
        }
    }
}

#[test]
fn fused_backward_in_single_precision_is_that_in_double() {
    for shape in [[2, 5, 7, 17], [4, 30, 30, 24], [3, 1, 65, 33]] {
        let Case { x, gamma, beta, dy } = case(shape);
        let residual = Rng::new(11).tensor::<f64>(shape);
        let [x1, gamma1, beta1, dy1, residual1] = [&x, &gamma, &beta, &dy, &residual].map(|t| t.cast::<f32>());
        // Both in the same statistics, which f32 holds.
        let (mean1, var1) = batch_norm_stats(&x1).unwrap();
        let (mean, var) = (mean1.cast::<f64>(), var1.cast::<f64>());
        let n = Normalization { mean: &mean, var: &var, gamma: &gamma, beta: &beta, eps: EPS };
        let n1 = Normalization { mean: &mean1, var: &var1, gamma: &gamma1, beta: &beta1, eps: EPS };
        for activation in ACTIVATIONS {
            on_every_isa(|| {
                for (form, form1) in [
                    (Recompute::Normalized, Recompute::Normalized),
                    (Recompute::Residual(&residual), Recompute::Residual(&residual1)),
                ] {
                    let expected = batch_norm_act_backward(&x, n, activation, form, dy.clone(), None).unwrap();
                    let got = batch_norm_act_backward(&x1, n1, activation, form1, dy1.clone(), None).unwrap();
                    let message = format!("{shape:?} {activation:?}");
                    assert!(got.dx.relative_error(&expected.dx.cast()) < 1e-5, "{message}");
                    assert!(got.dgamma.relative_error(&expected.dgamma.cast()) < 1e-5, "{message}");
                    assert!(got.dbeta.relative_error(&expected.dbeta.cast()) < 1e-5, "{message}");
                }
            });
        }
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
        let frozen = batch_norm_backward_frozen(&x, &mean, &var, &gamma, EPS, &dy).unwrap();
        let n = Normalization { mean: &mean, var: &var, gamma: &gamma, beta: &beta, eps: EPS };
        let z = batch_norm_act(&x, n, Some(&dy), Some(Activation::Relu)).unwrap();
        let fused =
            batch_norm_act_backward(&x, n, Some(Activation::Relu), Recompute::Output(&z), dy.clone(), None).unwrap();
        let mut all = vec![z, fused.dx, fused.dgamma, fused.dbeta, fused.dresidual.unwrap(), frozen.0, frozen.1];
        all.extend([mean, var, y, dx, dgamma, dbeta]);
        all
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
    let n = Normalization { mean: &three, var: &three, gamma: &three, beta: &three, eps: EPS };
    let error = batch_norm_act(&x, n, Some(&three), None).unwrap_err();
    assert_eq!(error.to_string(), "batch_norm_act: expected residual of shape [2, 3], got [3]");
    let error =
        batch_norm_act_backward(&x, n, Some(Activation::Silu), Recompute::Output(&x), x.clone(), None).unwrap_err();
    let expected = "expected activation one whose gradient reads its output, got Silu";
    assert_eq!(error.to_string(), format!("batch_norm_act_backward: {expected}"));
}
