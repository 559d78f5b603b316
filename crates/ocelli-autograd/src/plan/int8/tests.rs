//! That plans in eight bits compute about what was recorded, and where their values are bytes.

use super::*;
use crate::ops::Window;
use crate::{Parameter, trace};

fn random(shape: impl Into<Shape>, seed: u64) -> Tensor {
    crate::ops::random(shape, seed).cast()
}

fn conv(x: &Var, kernel_size: usize, out: usize, seed: u64) -> Result<Var> {
    let w = Parameter::new(random([kernel_size, kernel_size, x.shape().columns(), out], seed));
    x.conv2d(&w.var(), &Window::square(kernel_size).padding(kernel_size / 2), 1)
}

/// A residual network with a pooled stem and a classifier.
fn residual(x: &Var) -> Result<Var> {
    let x = conv(x, 3, 16, 1)?.relu()?.max_pool2d(&Window::square(2).stride(2), false)?;
    let x = conv(&conv(&x, 1, 8, 2)?.relu()?, 3, 16, 3)?.add(&x)?.relu()?;
    let w = Parameter::new(random([16, 7], 4));
    x.global_avg_pool2d()?.linear(&w.var(), Some(&Parameter::new(random([7], 5)).var()))
}

/// Compiles `f`, calibrated on a batch of one and one of three, and compares these. Returns the plan's text.
fn compiled(f: impl Fn(&Var) -> Result<Var>, tolerance: f64) -> String {
    let x = Var::constant(random([2, 8, 6, 4], 100));
    let (y, trace) = trace(|| f(&x));
    let calibration = [1, 3].map(|batch| random([batch, 8, 6, 4], batch as u64));
    let plan = QuantizedPlan::compile(&trace, &x, &y.unwrap(), &calibration).unwrap();
    for x in calibration {
        let expected = f(&Var::constant(x.clone())).unwrap();
        let error = plan.run(&x).unwrap().relative_error(expected.value());
        assert!(error < tolerance, "{error} in\n{plan}");
    }
    plan.to_string()
}

#[test]
fn a_residual_network_stays_in_bytes() {
    let text = compiled(residual, 0.03);
    let expected = "int8 conv2d + relu\nint8 max_pool2d\nint8 conv2d + relu\nint8 conv2d + add + relu\n\
                    global_avg_pool2d\nint8 linear\n";
    assert_eq!(text, expected);
}

#[test]
fn other_operations_read_and_write_numbers() {
    let text = compiled(
        |x| {
            let x = conv(x, 3, 8, 1)?.silu()?;
            let depthwise = Parameter::new(random([3, 3, 1, 8], 2));
            let x = x.conv2d(&depthwise.var(), &Window::square(3), 8)?.sigmoid()?;
            x.max_pool2d(&Window::square(2), false)?.add(&conv(&x, 1, 8, 3)?.max_pool2d(&Window::square(2), false)?)
        },
        0.03,
    );
    let expected = "int8 conv2d + silu\nconv2d + sigmoid\nmax_pool2d\nint8 conv2d\nmax_pool2d\nadd\n";
    assert_eq!(text, expected);
}

#[test]
fn single_pixels_keep_their_digits() {
    let text = compiled(
        |x| {
            let x = conv(x, 1, 8, 1)?;
            let pooled = x.adaptive_avg_pool2d([1, 1])?;
            x.mul(&conv(&pooled, 1, 8, 2)?.sigmoid()?)
        },
        0.03,
    );
    assert_eq!(text, "int8 conv2d\nadaptive_avg_pool2d\nconv2d + sigmoid\nmul\n");
}

#[test]
fn a_value_may_be_read_as_both() {
    let text = compiled(
        |x| {
            let x = conv(x, 3, 8, 1)?.relu()?;
            conv(&x, 1, 8, 2)?.mul(&x)
        },
        0.03,
    );
    assert_eq!(text, "int8 conv2d + relu\nint8 conv2d\nmul\n");
}

#[test]
fn numbers_beyond_the_calibration_are_clipped() {
    let x = Var::constant(Tensor::full([1, 2, 2, 3], 1.0));
    let (y, trace) = trace(|| conv(&x, 1, 5, 1));
    let y = y.unwrap();
    let plan = QuantizedPlan::compile(&trace, &x, &y, &[x.value().clone()]).unwrap();
    assert_eq!(plan.run(&Tensor::full([1, 2, 2, 3], 9.0)).unwrap(), plan.run(x.value()).unwrap());
}

#[test]
fn misuse_is_an_error() {
    let x = Var::constant(random([2, 3, 3, 2], 1));
    let (y, trace) = trace(|| conv(&x, 1, 2, 1));
    let y = y.unwrap();
    let compile = |calibration: &[Tensor]| QuantizedPlan::compile(&trace, &x, &y, calibration);
    for calibration in [vec![], vec![Tensor::zeros([0, 3, 3, 2])]] {
        let error = compile(&calibration).unwrap_err();
        assert_eq!(error.to_string(), "plan: eight bits need at least one image to calibrate with");
    }
    let wrong = Error::PlanInput { expected: *x.shape(), got: [1, 3, 2, 2].into() };
    assert_eq!(compile(&[random([1, 3, 2, 2], 1)]).unwrap_err(), wrong);
    let plan = compile(&[x.value().clone()]).unwrap();
    assert_eq!(plan.run(&random([1, 3, 2, 2], 1)).unwrap_err(), wrong);
    let stranger = Var::constant(random([2, 3, 3, 2], 1));
    let error = QuantizedPlan::compile(&trace, &stranger, &y, &[x.value().clone()]).unwrap_err();
    assert_eq!(error, Error::NotTraced);
}

#[test]
fn plans_can_be_shared_between_threads() {
    fn shared<P: Send + Sync>() {}
    shared::<QuantizedPlan>();
}
