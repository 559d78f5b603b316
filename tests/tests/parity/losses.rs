//! Losses and their gradients against PyTorch's (`fixtures/losses.py`).

use ocelli_tests::fixtures::read_json;
use ocelli_train::zoo::nn::autograd::{Parameter, Var};
use ocelli_train::zoo::nn::loss::{
    CrossEntropyOptions, Targets, binary_cross_entropy, cross_entropy, cross_entropy_with, mean_squared_error,
};
use ocelli_train::zoo::nn::tensor::{Element, Tensor};
use ocelli_train::zoo::nn::{Error, Result};
use serde::Deserialize;

const SHAPE: [usize; 2] = [6, 5];

#[derive(Deserialize)]
struct Fixture {
    logits: Vec<f64>,
    targets: Vec<usize>,
    probabilities: Vec<f64>,
    distribution: Vec<f64>,
    classes: Vec<Case>,
    soft: Vec<Case>,
    binary: Expected,
    squared: Expected,
}

#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    label_smoothing: f64,
    ignore_index: Option<usize>,
    class_weights: Option<Vec<f64>>,
    #[serde(flatten)]
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    loss: f64,
    gradient: Vec<f64>,
}

impl Case {
    fn options(&self) -> CrossEntropyOptions<'_> {
        let class_weights = self.class_weights.as_deref();
        CrossEntropyOptions { label_smoothing: self.label_smoothing, ignore_index: self.ignore_index, class_weights }
    }
}

fn tensor<T: Element>(values: &[f64]) -> Tensor<T> {
    Tensor::from_fn(SHAPE, |i| T::from_f64(values[i]))
}

fn compare<T: Element>(logits: &[f64], expected: &Expected, tolerance: f64, loss: impl Fn(&Var<T>) -> Result<Var<T>>) {
    let x = Parameter::new(tensor::<T>(logits));
    let loss = loss(&x.var()).unwrap();
    loss.backward().unwrap();
    let value = loss.value().item().unwrap().to_f64();
    assert!((value - expected.loss).abs() < tolerance * expected.loss, "{value} {}", expected.loss);
    let largest = expected.gradient.iter().fold(0.0f64, |m, g| m.max(g.abs()));
    for (i, (got, expected)) in x.grad().unwrap().data().iter().zip(&expected.gradient).enumerate() {
        assert!((got.to_f64() - expected).abs() < tolerance * largest, "element {i}: {got} {expected}");
    }
}

fn all<T: Element>(tolerance: f64) {
    let f: Fixture = read_json("losses.json");
    assert_eq!((f.classes.len(), f.soft.len()), (5, 3));
    for case in &f.classes {
        let targets = Targets::Classes(&f.targets);
        compare::<T>(&f.logits, &case.expected, tolerance, |x| cross_entropy_with(x, targets, &case.options()));
        if case.ignore_index.is_none() && case.class_weights.is_none() {
            compare::<T>(&f.logits, &case.expected, tolerance, |x| cross_entropy(x, &f.targets, case.label_smoothing));
        }
    }
    let soft = tensor(&f.distribution);
    for case in &f.soft {
        let targets = Targets::Soft(&soft);
        compare::<T>(&f.logits, &case.expected, tolerance, |x| cross_entropy_with(x, targets, &case.options()));
    }
    let targets = tensor(&f.probabilities);
    compare::<T>(&f.logits, &f.binary, tolerance, |x| binary_cross_entropy(x, &targets));
    compare::<T>(&f.logits, &f.squared, tolerance, |x| mean_squared_error(x, &targets));
}

#[test]
fn losses_and_gradients_agree_with_pytorch() {
    all::<f64>(1e-12);
    all::<f32>(2e-6);
}

#[test]
fn what_does_not_fit_is_refused() {
    let x = Var::constant(Tensor::<f32>::zeros(SHAPE));
    let refused = |targets: &[usize], options: &CrossEntropyOptions<'_>| -> String {
        let error: Error = cross_entropy_with(&x, Targets::Classes(targets), options).unwrap_err();
        error.to_string()
    };
    let plain = CrossEntropyOptions::default();
    assert_eq!(refused(&[0; 5], &plain), "cross_entropy target count: expected 6, got 5");
    assert_eq!(refused(&[5; 6], &plain), "cross_entropy target: expected below 5, got 5");
    let weights = CrossEntropyOptions { class_weights: Some(&[1.0]), ..plain };
    assert_eq!(refused(&[0; 6], &weights), "cross_entropy class weights: expected 5, got 1");
    let ignored = CrossEntropyOptions { ignore_index: Some(255), ..plain };
    let loss = cross_entropy_with(&x, Targets::Classes(&[255; 6]), &ignored).unwrap();
    assert_eq!(loss.value().item().unwrap(), 0.0);
}
