//! A convolution that completes the gradient of a batch norm with a ReLU takes it through the ReLU by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::random;
use ocelli_autograd::gradcheck::gradcheck;
use ocelli_autograd::ops::{Activation, BatchNorm, Window};
use ocelli_autograd::tensor::ops::GradientSums;
use ocelli_autograd::{Gate, Gradients, Kept, Op, Parameter, Result, Tensor, Var, checkpoint, detect_anomalies};

/// A batch norm that counts how often its gradient has come through the gate.
#[derive(Debug)]
struct Watched(BatchNorm<f64>, Arc<AtomicUsize>);

impl Op<f64> for Watched {
    type Saved = <BatchNorm<f64> as Op<f64>>::Saved;

    fn name(&self) -> &'static str {
        "watched"
    }

    fn forward(&self, inputs: &[&Tensor<f64>], needs: &[bool]) -> Result<(Tensor<f64>, Self::Saved)> {
        self.0.forward(inputs, needs)
    }

    fn backward(&self, saved: Self::Saved, dy: Tensor<f64>, needs: &[bool]) -> Result<Gradients<f64>> {
        self.0.backward(saved, dy, needs)
    }

    fn gate(&self, saved: &Self::Saved) -> Result<Option<Gate<f64>>> {
        self.0.gate(saved)
    }

    fn passed(&self, saved: &mut Self::Saved, sums: GradientSums) {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.passed(saved, sums);
    }

    fn keep(&self, saved: &mut Self::Saved, inputs: &[Kept<f64>], value: &Kept<f64>) {
        self.0.keep(saved, inputs, value);
    }
}

fn conv(x: &Var<f64>, w: &Var<f64>) -> Result<Var<f64>> {
    x.conv2d(w, &Window::square(1), 1)
}

/// x, a weight, γ and β, and a second weight. (Columns fill whole panels on every instruction set.)
fn operands() -> [Tensor<f64>; 5] {
    [
        random([2, 4, 5, 16], 1),
        random([1, 1, 16, 16], 2),
        random([16], 3).map(|x| x + 1.5),
        random([16], 4),
        random([1, 1, 16, 16], 5),
    ]
}

/// Who else has to do with the norm's value.
#[derive(Clone, Copy, PartialEq)]
enum Else {
    Nobody,
    /// The value itself is kept.
    Holder,
    /// A second convolution.
    User,
    /// Something is added behind all, so that the convolution is not the last.
    Last,
}

/// relu(norm(conv(x)) + x) and a convolution; how often a gate was passed, and all gradients.
fn run(other: Else) -> (usize, Vec<Tensor<f64>>) {
    let count = Arc::new(AtomicUsize::new(0));
    let parameters = operands().map(Parameter::new);
    let [x, w, gamma, beta, v] = parameters.each_ref().map(Parameter::var);
    let z = conv(&x, &w).unwrap();
    let (_, stats) = z.batch_norm(&gamma, &beta, 1e-5).unwrap();
    let norm = BatchNorm { stats, eps: 1e-5, activation: Some(Activation::Relu), repeated: false };
    let y = Var::apply(Watched(norm, count.clone()), &[&z, &gamma, &beta, &x]).unwrap();
    // The backward pass gets to what was recorded first last.
    let first = (other == Else::Last).then(|| y.scale(0.5).unwrap());
    let mut end = conv(&y, &v).unwrap();
    if other == Else::User {
        end = end.add(&conv(&y, &v).unwrap()).unwrap();
    }
    if let Some(first) = first {
        end = end.add(&first).unwrap();
    }
    let held = (other == Else::Holder).then(|| y.clone());
    drop((y, z, x));
    let weights = Var::constant(random([2, 4, 5, 16], 6));
    end.mul(&weights).unwrap().sum().unwrap().backward().unwrap();
    drop(held);
    (count.load(Ordering::Relaxed), parameters.map(|parameter| parameter.grad().unwrap()).to_vec())
}

#[test]
fn the_last_convolution_passes_the_gate() {
    let [(alone, gradients), (held, expected)] = [Else::Nobody, Else::Holder].map(run);
    assert_eq!([alone, held], [1, 0]);
    for (got, expected) in gradients.iter().zip(&expected) {
        assert!(got.relative_error(expected) < 1e-12);
    }
    assert_eq!([Else::User, Else::Last].map(|other| run(other).0), [1, 0]);
}

#[test]
fn nothing_is_gated_while_anomalies_are_looked_for() {
    let (count, gradients) = detect_anomalies(|| run(Else::Nobody));
    assert_eq!((count, gradients), run(Else::Holder));
}

/// A norm alone, one behind a residual, and one of a concatenation, each in front of a convolution.
fn network(v: &[Var<f64>]) -> Result<Var<f64>> {
    let [x, w, gamma, beta, u] = v else { unreachable!() };
    let relu = Some(Activation::Relu);
    let norm = |x: &Var<f64>, residual: Option<&Var<f64>>| -> Result<Var<f64>> {
        Ok(x.batch_norm_act([gamma, beta], 1e-5, residual, relu)?.0)
    };
    let first = norm(&conv(x, w)?, None)?;
    let second = norm(&conv(&first, u)?, Some(&first))?;
    let third = conv(&second, w)?;
    let joined = Var::concat(&[&third, &second])?;
    let [gamma, beta] = [gamma, beta].map(|v| Var::concat(&[v, v]));
    let joined = joined.batch_norm_act([&gamma?, &beta?], 1e-5, None, relu)?.0;
    conv(&joined, &Var::constant(random([1, 1, 32, 3], 7)))
}

#[test]
fn gradients_are_right() {
    gradcheck(&operands(), network).unwrap();
}

#[test]
fn gradients_through_checkpoints_are_the_same_bits() {
    let gradients = |apply: fn(&[&Var<f64>]) -> Result<Var<f64>>| {
        let parameters = operands().map(Parameter::new);
        let [x, w, gamma, beta, u] = parameters.each_ref().map(Parameter::var);
        let unit = apply(&[&x, &w, &gamma, &beta]).unwrap();
        let end = conv(&unit, &u).unwrap();
        drop(unit);
        end.sum().unwrap().backward().unwrap();
        parameters.map(|parameter| parameter.grad().unwrap())
    };
    fn unit(v: &[Var<f64>]) -> Result<Var<f64>> {
        Ok(conv(&v[0], &v[1])?.batch_norm_act([&v[2], &v[3]], 1e-5, Some(&v[0]), Some(Activation::Relu))?.0)
    }
    let plain = gradients(|v| unit(&v.iter().map(|&v| v.clone()).collect::<Vec<_>>()));
    let once = gradients(|v| checkpoint(v, unit));
    let nested = gradients(|v| checkpoint(v, |v| checkpoint(&v.iter().collect::<Vec<_>>(), unit)));
    assert!(once == plain && nested == plain);
}
