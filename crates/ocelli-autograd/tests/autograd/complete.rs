//! `backward_each` tells each parameter once, when its gradient is complete, and gives the gradients of `backward`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ocelli_autograd::{Parameter, Result, Tensor, Var, checkpoint};

fn parameters() -> [Parameter<f64>; 3] {
    [1, 2, 3].map(|k| Parameter::new(Tensor::from_fn([4, 4], |i| ((i * 7 + k * 5) % 11) as f64 / 11.0 - 0.4)))
}

/// What `build` computes, walked in both ways: the places of the parameters in the order in which they were told.
fn told(build: impl Fn(&[Parameter<f64>; 3]) -> Result<Var<f64>>) -> Vec<usize> {
    let parameters = parameters();
    build(&parameters).unwrap().backward().unwrap();
    let expected = parameters.each_ref().map(|parameter| parameter.take_grad().unwrap());

    let places: HashMap<u64, usize> = parameters.iter().enumerate().map(|(i, p)| (p.id(), i)).collect();
    let mut order = Vec::new();
    let loss = build(&parameters).unwrap();
    loss.backward_each(|parameter| {
        let place = places[&parameter.id()];
        assert_eq!(parameter.take_grad().unwrap(), expected[place], "parameter {place}");
        // What is recorded does not see the change.
        parameter.update(|value| value.data_mut().fill(f64::NAN));
        order.push(place);
    })
    .unwrap();
    assert!(parameters.iter().all(|parameter| parameter.grad().is_none()));
    order
}

fn layer(x: &Var<f64>, w: &Parameter<f64>) -> Result<Var<f64>> {
    x.matmul(&w.var())?.sigmoid()
}

fn input() -> Var<f64> {
    Var::constant(Tensor::from_fn([2, 4], |i| i as f64 / 8.0))
}

#[test]
fn the_last_layer_comes_first() {
    assert_eq!(told(|[a, b, c]| layer(&layer(&layer(&input(), a)?, b)?, c)?.sum()), [2, 1, 0]);
}

#[test]
fn a_shared_parameter_waits_for_its_first_use() {
    assert_eq!(told(|[a, b, c]| layer(&layer(&layer(&layer(&input(), a)?, c)?, b)?, c)?.sum()), [1, 2, 0]);
}

#[test]
fn a_parameter_used_twice_by_one_operation_is_told_once() {
    assert_eq!(
        told(|[a, b, c]| layer(&layer(&input(), b)?, &c.clone())?.sum()?.add(&a.var().mul(&a.var())?.sum()?)).len(),
        3
    );
}

#[test]
fn a_parameter_of_a_checkpoint_waits_until_that_has_run() {
    let order = told(|[a, b, c]| {
        let (inner, outer) = (b.clone(), c.clone());
        let x = layer(&input(), a)?;
        let y = checkpoint(&[&x], move |x| layer(&layer(&x[0], &inner)?, &outer))?;
        layer(&y, c)?.sum()
    });
    // c is used behind the checkpoint and in it.
    assert_eq!(order, [2, 1, 0]);
}

/// What happens in the backward pass of a layer of c behind a checkpoint of b, which adds what `held` makes of a.
fn events(held: impl Fn(&Parameter<f64>) -> Result<Var<f64>>) -> Vec<&'static str> {
    let parameters = parameters();
    let [a, b, c] = &parameters;
    let events = Arc::new(Mutex::new(Vec::new()));
    let (value, inner, log) = (held(a).unwrap(), b.clone(), events.clone());
    let y = checkpoint(&[&input()], move |x| {
        log.lock().unwrap().push("runs");
        layer(&x[0], &inner)?.add(&value)
    });
    let loss = layer(&y.unwrap(), c).unwrap().sum().unwrap();
    events.lock().unwrap().clear();
    loss.backward_each(|parameter| {
        let place = parameters.iter().position(|p| p.is(parameter)).unwrap();
        events.lock().unwrap().push(["a", "b", "c"][place]);
    })
    .unwrap();
    events.lock().unwrap().clone()
}

#[test]
fn what_a_checkpoint_does_not_use_does_not_wait_for_it() {
    assert_eq!(events(|_| Ok(input())), ["c", "runs", "b"]);
    // A value whose parameters are not known before the checkpoint has run again: all wait.
    assert_eq!(events(|a| layer(&input(), a)), ["runs", "c", "b", "a"]);
}
