//! Gradients through checkpoints are the same bits as without.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ocelli_autograd::gradcheck::gradcheck;
use ocelli_autograd::{Error, Parameter, Result, Tensor, Var, checkpoint, is_recomputing, no_grad};

fn parameter(seed: usize) -> Parameter<f32> {
    Parameter::new(Tensor::from_fn([3, 3], |i| ((i * 7 + seed * 5) % 11) as f32 / 7.0 - 0.6))
}

/// Uses both operands more than once, and `w` beside them.
fn part(x: &[Var<f32>], w: &Parameter<f32>) -> Result<Var<f32>> {
    let y = x[0].matmul(&w.var())?.sigmoid()?;
    y.add(&x[1].matmul(&y)?)?.mul(&x[0])?.add(&w.var())
}

/// Three parts, of which two share a parameter with each other and with what surrounds them.
fn gradients(apply: impl Fn(&[&Var<f32>], &Parameter<f32>) -> Result<Var<f32>>) -> Vec<Tensor<f32>> {
    let [x, w, v] = [1, 2, 3].map(parameter);
    let start = x.var().mul(&w.var()).unwrap();
    let a = apply(&[&start, &x.var()], &w).unwrap();
    let b = apply(&[&a, &start], &v).unwrap();
    let c = apply(&[&b, &a], &w).unwrap();
    c.add(&a.mul(&w.var()).unwrap()).unwrap().sum().unwrap().backward().unwrap();
    [x, w, v].map(|p| p.grad().unwrap()).to_vec()
}

#[test]
fn gradients_are_the_same_bits() {
    let plain = gradients(|x, w| part(&x.iter().map(|&x| x.clone()).collect::<Vec<_>>(), w));
    let once = gradients(|x, w| {
        let w = w.clone();
        checkpoint(x, move |x| part(x, &w))
    });
    let nested = gradients(|x, w| {
        let w = w.clone();
        checkpoint(x, move |x| {
            let w = w.clone();
            checkpoint(&[&x[0], &x[1]], move |x| part(x, &w))
        })
    });
    assert!(once == plain && nested == plain);
}

#[test]
fn a_function_runs_once_forward_and_once_backward() {
    let runs = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let (count, w) = (runs.clone(), parameter(1));
    let f = move |x: &[Var<f32>]| {
        count[usize::from(is_recomputing())].fetch_add(1, Ordering::Relaxed);
        part(&[x[0].clone(), x[0].clone()], &w)
    };
    let seen = || [0, 1].map(|i| runs[i].load(Ordering::Relaxed));
    let x = parameter(2);
    let y = checkpoint(&[&x.var()], f).unwrap();
    assert!(y.requires_grad() && seen() == [1, 0]);
    let y = y.sum().unwrap();
    y.backward().unwrap();
    assert_eq!(seen(), [1, 1]);
    assert_eq!(y.backward().unwrap_err(), Error::Freed);
}

#[test]
fn what_needs_no_gradient_makes_no_checkpoint() {
    let (x, w) = (Var::constant(Tensor::full([3, 3], 1.0f32)), parameter(1));
    let [frozen, learned] = [w.clone(), w.clone()];
    w.set_requires_grad(false);
    let y = checkpoint(&[&x], move |x| x[0].matmul(&frozen.var())).unwrap();
    assert!(!y.requires_grad());
    w.set_requires_grad(true);
    let f = move |x: &[Var<f32>]| x[0].matmul(&learned.var());
    assert!(!no_grad(|| checkpoint(&[&x], f.clone())).unwrap().requires_grad());
    // The input is a constant, but a parameter inside is not.
    checkpoint(&[&x], f).unwrap().sum().unwrap().backward().unwrap();
    assert!(w.grad().is_some());
}

#[test]
fn gradients_are_right() {
    let x = Tensor::from_fn([2, 3], |i| i as f64 / 3.0 - 0.8);
    gradcheck(&[x.clone(), x], |v| {
        checkpoint(&[&v[0], &v[1]], |x| x[0].mul(&x[1])?.silu()?.add(&x[0])).and_then(|y| y.mul(&v[0]))
    })
    .unwrap();
}

#[test]
fn a_failure_in_the_second_run_is_told() {
    let x = parameter(1);
    let f = |x: &[Var<f32>]| match is_recomputing() {
        true => x[0].matmul(&Var::constant(Tensor::zeros([5, 5]))),
        false => x[0].relu(),
    };
    let error = checkpoint(&[&x.var()], f).unwrap().sum().unwrap().backward().unwrap_err();
    assert!(matches!(&error, Error::Recompute { reason } if reason.starts_with("matmul")), "{error}");
}

#[test]
fn a_long_chain_is_freed_without_recursion() {
    let mut y = parameter(1).var();
    for _ in 0..100_000 {
        y = checkpoint(&[&y], |x| x[0].scale(1.0)).unwrap();
    }
    drop(y);
}
