//! The first operation that is not finite is named, with its place, in both directions.

use ocelli_autograd::{
    Error, Gradients, Op, Parameter, Pass, Result, Tensor, Var, checkpoint, detect_anomalies, scope,
};

/// y = √|x|, whose slope at 0 is infinite.
#[derive(Debug)]
struct Root;

impl Op<f64> for Root {
    type Saved = Tensor<f64>;

    fn name(&self) -> &'static str {
        "root"
    }

    fn forward(&self, inputs: &[&Tensor<f64>], _: &[bool]) -> Result<(Tensor<f64>, Tensor<f64>)> {
        Ok((inputs[0].map(|x| x.abs().sqrt()), inputs[0].clone()))
    }

    fn backward(&self, x: Tensor<f64>, dy: Tensor<f64>, _: &[bool]) -> Result<Gradients<f64>> {
        Ok(vec![Some(Tensor::from_fn(x.shape(), |i| dy.data()[i] * 0.5 / x.data()[i].abs().sqrt()))])
    }
}

fn network(x: &Var<f64>) -> Result<Var<f64>> {
    let y = scope("body", || scope("conv1", || x.mul(x)))?;
    let z = scope("body", || scope("act", || Var::apply(Root, &[&y])))?;
    scope("head", || z.add(&y))?.sum()
}

fn error(x: f64, forward: impl Fn(&Var<f64>) -> Result<Var<f64>>) -> (Error, Parameter<f64>) {
    let x = Parameter::new(Tensor::from_slice([2], &[1.0, x]).unwrap());
    let y = detect_anomalies(|| forward(&x.var()));
    (y.and_then(|y| y.backward()).unwrap_err(), x)
}

#[test]
fn the_first_value_that_is_not_finite_is_named() {
    for bad in [f64::NAN, f64::INFINITY, 1e200] {
        let (error, _) = error(bad, network);
        assert_eq!(error, Error::Anomaly { op: "mul", scope: "body.conv1".into(), pass: Pass::Forward }, "{bad}");
    }
}

#[test]
fn the_first_gradient_that_is_not_finite_is_named_and_none_is_kept() {
    let (error, x) = error(0.0, network);
    assert_eq!(error.to_string(), "root in body.act: the backward pass gave a number that is not finite");
    assert_eq!(x.grad(), None);
}

#[test]
fn checkpoints_keep_the_place() {
    let inside = |x: &Var<f64>| scope("stage", || checkpoint(&[x], |x| network(&x[0])));
    let (error, _) = error(0.0, inside);
    assert_eq!(error, Error::Anomaly { op: "root", scope: "stage.body.act".into(), pass: Pass::Backward });
}

#[test]
fn nothing_is_looked_for_outside() {
    let x = Parameter::new(Tensor::from_slice([2], &[1.0, 0.0]).unwrap());
    network(&x.var()).unwrap().backward().unwrap();
    assert!(!x.grad().unwrap().data()[1].is_finite());
    assert!(network(&Var::constant(Tensor::full([1], f64::NAN))).unwrap().value().data()[0].is_nan());
}
