//! Graphs: what they keep, when they free it, and what walking one in wrong ways gives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn parameter(value: f32) -> Parameter {
    Parameter::new(Tensor::full([2], value))
}

/// y = x, counting in what it saves how much of it is alive.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Op<f32> for Counted {
    type Saved = Alive;

    fn name(&self) -> &'static str {
        "counted"
    }

    fn forward(&self, inputs: &[&Tensor], _: &[bool]) -> Result<(Tensor, Alive)> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok((inputs[0].clone(), Alive(self.0.clone())))
    }

    fn backward(&self, saved: Alive, dy: Tensor, _: &[bool]) -> Result<Gradients<f32>> {
        // What comes later in the graph has been freed by now.
        let alive = saved.0.load(Ordering::SeqCst);
        Ok(vec![Some(dy.map(|dy| dy + alive as f32))])
    }
}

#[test]
fn the_walk_frees_as_it_passes() {
    let (alive, w) = (Arc::new(AtomicUsize::new(0)), parameter(1.0));
    let apply = |x: &Var| Var::apply(Counted(alive.clone()), &[x]).unwrap();
    let y = apply(&apply(&apply(&w.var())));
    assert_eq!(alive.load(Ordering::SeqCst), 3);
    y.backward_with(Tensor::zeros([2])).unwrap();
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    assert_eq!(w.grad().unwrap().data(), [6.0, 6.0]); // 3 alive, then 2, then 1
}

#[test]
fn nothing_is_kept_without_need() {
    let alive = Arc::new(AtomicUsize::new(0));
    let apply = |x: &Var| Var::apply(Counted(alive.clone()), &[x]).unwrap();
    let w = parameter(1.0);
    let values = [apply(&w.var().detach()), no_grad(|| apply(&w.var()))];
    w.set_requires_grad(false);
    assert!(!apply(&w.var()).requires_grad() && values.iter().all(|y| !y.requires_grad()));
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    w.set_requires_grad(true);
    let y = apply(&w.var());
    assert_eq!(alive.load(Ordering::SeqCst), 1);
    drop(y);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn values_die_with_their_vars() {
    let w = parameter(1.0);
    let y = w.var().scale(2.0).unwrap();
    let z = y.add(&y).unwrap();
    // The graph holds neither y nor z: a sum's gradient needs no values.
    assert!(y.into_value().is_unique());
    assert!(z.value().is_unique());
}

#[test]
fn gradients_accumulate_over_uses_and_passes() {
    let w = parameter(3.0);
    let x = w.var();
    for pass in 1..=2 {
        let y = x.mul(&x).unwrap().add(&w.var().scale(5.0).unwrap()).unwrap();
        y.sum().unwrap().backward().unwrap();
        assert_eq!(w.grad().unwrap().data(), [11.0 * pass as f32; 2]);
    }
    w.zero_grad();
    assert!(w.grad().is_none());
}

#[test]
fn a_graph_is_walked_once() {
    let (v, w) = (parameter(1.0), parameter(2.0));
    let shared = w.var().scale(2.0).unwrap();
    let first = shared.sum().unwrap();
    let second = shared.mul(&v.var()).unwrap().sum().unwrap();
    first.backward().unwrap();
    assert_eq!(first.backward(), Err(Error::Freed));
    w.zero_grad();
    // The second meets the freed part on its way; no parameter has got anything by then.
    assert_eq!(second.backward(), Err(Error::Freed));
    assert!(v.grad().is_none() && w.grad().is_none());
}

#[test]
fn misuse_is_an_error() {
    let w = parameter(1.0);
    assert_eq!(w.var().backward(), Err(Error::NotScalar { shape: [2].into() }));
    assert_eq!(Var::constant(Tensor::scalar(1.0f32)).backward(), Err(Error::NotRecorded));
    let error = w.var().backward_with(Tensor::zeros([3])).unwrap_err();
    assert_eq!(error.to_string(), "backward: expected gradient of shape [2], got [3]");
    let error = w.set_value(Tensor::zeros([3])).unwrap_err();
    assert_eq!(error.to_string(), "parameter: expected a value of shape [2], got [3]");
    assert!(w.accumulate(Tensor::zeros([2, 1])).is_err());
    let error = w.var().mul(&Var::constant(Tensor::zeros([3]))).unwrap_err();
    assert!(matches!(error, Error::Tensor(_)), "{error}");
}

#[test]
fn wrong_backwards_are_errors() {
    #[derive(Debug)]
    struct Wrong(Gradients<f32>);
    impl Op<f32> for Wrong {
        type Saved = ();
        fn name(&self) -> &'static str {
            "wrong"
        }
        fn forward(&self, inputs: &[&Tensor], _: &[bool]) -> Result<(Tensor, ())> {
            Ok((inputs[0].clone(), ()))
        }
        fn backward(&self, (): (), _: Tensor, _: &[bool]) -> Result<Gradients<f32>> {
            Ok(self.0.clone())
        }
    }
    let backward = |gradients| {
        let y = Var::apply(Wrong(gradients), &[&parameter(1.0).var()]).unwrap();
        y.backward_with(Tensor::zeros([2]))
    };
    let error = backward(vec![Some(Tensor::zeros([2, 1]))]).unwrap_err();
    assert_eq!(error.to_string(), "wrong: expected gradient of shape [2], got [2, 1]");
    assert_eq!(backward(vec![]), Err(Error::GradientCount { op: "wrong", expected: 1, got: 0 }));
    assert_eq!(backward(vec![None]), Ok(()));
}

#[test]
fn long_chains_neither_recurse_in_drop_nor_in_backward() {
    let chain = |w: &Parameter| (0..100_000).fold(w.var(), |x, _| x.scale(1.0).unwrap());
    let small_stack = std::thread::Builder::new().stack_size(128 * 1024);
    let test = move || {
        let w = parameter(1.0);
        drop(chain(&w));
        chain(&w).backward_with(Tensor::full([2], 1.0)).unwrap();
        assert_eq!(w.grad().unwrap().data(), [1.0; 2]);
    };
    small_stack.spawn(test).unwrap().join().unwrap();
}

#[test]
fn deep_diamonds_are_walked_in_linear_time() {
    // 2^60 paths, 60 nodes.
    let w = Parameter::new(Tensor::scalar(1.0f64));
    let y = (0..60).fold(w.var(), |x, _| x.add(&x).unwrap());
    y.backward().unwrap();
    assert_eq!(w.grad().unwrap().item().unwrap(), 2f64.powi(60));
}

#[test]
fn graphs_may_be_walked_on_another_thread() {
    let w = parameter(1.0);
    let y = w.var().sum().unwrap();
    std::thread::spawn(move || y.backward()).join().unwrap().unwrap();
    assert!(w.grad().is_some());
}

#[test]
fn recording_returns_after_a_panic() {
    let panicked = std::panic::catch_unwind(|| no_grad(|| panic!("in no_grad")));
    assert!(panicked.is_err() && is_recording());
    let panicked = std::panic::catch_unwind(|| trace::<f32, _>(|| scope("a", || panic!("in a scope"))));
    assert!(panicked.is_err());
    let (_, trace) = trace::<f32, _>(|| scope("b", || parameter(1.0).var().sum()));
    assert_eq!(trace.entries()[0].scope(), "b");
}

#[test]
fn traces_see_their_own_element_type_and_no_inner_trace() {
    let ((), outer) = trace::<f32, _>(|| {
        parameter(1.0).var().sum().unwrap();
        Var::constant(Tensor::scalar(1.0f64)).sum().unwrap();
        let (_, inner) = trace::<f32, _>(|| parameter(1.0).var().mean());
        assert_eq!(inner.entries().len(), 1);
        no_grad(|| parameter(1.0).var().relu()).unwrap();
    });
    let names: Vec<_> = outer.entries().iter().map(Entry::name).collect();
    assert_eq!(names, ["sum", "relu"]);
    assert_eq!(outer.cost(), Cost { macs: 0, bytes: (2 + 1 + 2 + 2) * 4 });
}
