//! That what is kept as a recipe is computed once, from what it should be, and freed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::ops::{Activation, random};
use crate::{Gradients, Op, Parameter, Var};

/// y = x, and counts its runs.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Op<f64> for Counted {
    type Saved = ();

    fn name(&self) -> &'static str {
        "counted"
    }

    fn forward(&self, inputs: &[&Tensor<f64>], _: &[bool]) -> Result<(Tensor<f64>, ())> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok((inputs[0].map(|x| x), ()))
    }

    fn repeats(&self, _: &[Kept<f64>]) -> bool {
        true
    }

    fn backward(&self, (): (), dy: Tensor<f64>, _: &[bool]) -> Result<Gradients<f64>> {
        Ok(vec![Some(dy)])
    }
}

#[test]
fn a_value_is_computed_again_once_however_many_need_it() {
    let runs = Arc::new(AtomicUsize::new(0));
    let x = Parameter::new(random([3, 4], 1));
    let y = Var::apply(Counted(runs.clone()), &[&x.var()]).unwrap();
    let z = y.mul(&y).unwrap().add(&y.silu().unwrap()).unwrap().sum().unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    z.backward().unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 2);

    let plain = Parameter::new(x.value());
    let y = plain.var();
    y.mul(&y).unwrap().add(&y.silu().unwrap()).unwrap().sum().unwrap().backward().unwrap();
    assert_eq!(x.grad(), plain.grad());
}

#[test]
fn a_normalised_value_is_kept_by_nobody_or_behind_a_residual() {
    let [gamma, beta] = [1, 2].map(|seed| Parameter::new(random([3], seed)));
    let (x, w) = (Parameter::new(random([2, 4, 4, 3], 3)), Parameter::new(random([1, 1, 3, 2], 4)));
    let (x, window) = (x.var(), crate::ops::Window::square(1));
    let (gamma, beta) = (gamma.var(), beta.var());
    let (parameters, relu) = ([&gamma, &beta], Some(Activation::Relu));
    let first = x.batch_norm_act(parameters, 1e-5, None, relu).unwrap().0;
    let second = x.batch_norm_repeated(parameters, 1e-5, Some(&first), relu).unwrap().0;
    let third = x.batch_norm_act(parameters, 1e-5, Some(&second), relu).unwrap().0;
    let joined = Var::concat(&[&first, &second]).unwrap().columns(0..3).unwrap();
    let _read = [&second, &third, &joined].map(|x| x.conv2d(&w.var(), &window, 1).unwrap());
    // What a variable holds besides the graph does not count.
    assert!(first.into_value().is_unique() && second.into_value().is_unique() && !third.into_value().is_unique());
}

#[test]
fn recipes_are_followed_to_a_certain_depth() {
    let x = Parameter::new(random([2], 1));
    let mut kept = Kept::from(x.value());
    let op: Arc<dyn AnyOp<f64>> = Arc::new(Activation::Silu);
    let mut links = 0;
    while let Some(next) = Kept::recipe(op.clone(), vec![kept.clone()]) {
        (kept, links) = (next, links + 1);
    }
    assert_eq!(links, DEEPEST);
    let expected = (0..links).try_fold(x.var(), |x, _| x.silu()).unwrap();
    assert!(kept.at_hand().is_none());
    assert_eq!(&kept.value().unwrap(), expected.value());
    assert!(kept.at_hand().is_some());
}
