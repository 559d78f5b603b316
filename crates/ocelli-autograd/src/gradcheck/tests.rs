//! That right gradients pass, and that wrong ones are caught: each wrong backward here is a mistake that real ones make.

use super::*;
use crate::{Gradients, Op, Result};

/// y = a · b², with a mistake of choice.
#[derive(Debug, Clone, Copy)]
enum Product {
    Right,
    /// Forgets the factor 2 of db.
    Factor,
    /// Has one wrong element in da.
    OneElement,
    /// Off by a hundred-thousandth.
    Slightly,
    /// Gives no gradient for b.
    Missing,
    /// da is right only if db is wanted too.
    NeedsTheOther,
    /// Gives NaN.
    Nan,
}

impl Op<f64> for Product {
    type Saved = [Tensor<f64>; 2];

    fn name(&self) -> &'static str {
        "product"
    }

    fn forward(&self, inputs: &[&Tensor<f64>], _: &[bool]) -> Result<(Tensor<f64>, Self::Saved)> {
        let [a, b] = [inputs[0].clone(), inputs[1].clone()];
        Ok((zip(&a, &b, |a, b| a * b * b), [a, b]))
    }

    fn backward(&self, [a, b]: Self::Saved, dy: Tensor<f64>, needs: &[bool]) -> Result<Gradients<f64>> {
        let mut da = zip(&b, &dy, |b, dy| b * b * dy);
        let mut db = Some(zip(&zip(&a, &b, |a, b| 2.0 * a * b), &dy, |x, dy| x * dy));
        match self {
            Product::Right => {}
            Product::Factor => db = db.map(|db| db.map(|x| x / 2.0)),
            Product::OneElement => da.data_mut()[3] = 0.0,
            Product::Slightly => da = da.map(|x| x * (1.0 + 1e-5)),
            Product::Missing => db = None,
            Product::NeedsTheOther if !needs[1] => da = da.map(|x| -x),
            Product::NeedsTheOther => {}
            Product::Nan => da.data_mut()[0] = f64::NAN,
        }
        Ok(vec![Some(da), db])
    }
}

fn zip(a: &Tensor<f64>, b: &Tensor<f64>, f: impl Fn(f64, f64) -> f64) -> Tensor<f64> {
    Tensor::from_fn(a.shape(), |i| f(a.data()[i], b.data()[i]))
}

fn inputs() -> [Tensor<f64>; 2] {
    [random([2, 3].into(), 1), random([2, 3].into(), 2)]
}

fn check(product: Product) -> Result<(), GradError> {
    gradcheck(&inputs(), |v| Var::apply(product, &[&v[0], &v[1]]))
}

#[test]
fn right_gradients_pass() {
    check(Product::Right).unwrap();
}

#[test]
fn wrong_gradients_are_caught() {
    let input = |product| match check(product).unwrap_err() {
        GradError::Mismatch { input, index, .. } => (input, index),
        other => panic!("{other}"),
    };
    assert_eq!(input(Product::Factor), (1, 0));
    assert_eq!(input(Product::OneElement), (0, 3));
    assert_eq!(input(Product::Slightly), (0, 0));
    assert_eq!(input(Product::Missing), (1, 0));
    assert_eq!(input(Product::Nan), (0, 0));
}

#[test]
fn the_error_names_both_values() {
    let [_, b] = inputs();
    let error = check(Product::OneElement).unwrap_err();
    let GradError::Mismatch { analytic, numeric, .. } = error else { panic!("{error}") };
    assert!(analytic == 0.0 && numeric.abs() > 0.1 * b.data()[3].powi(2));
    assert!(
        error.to_string().starts_with("gradient of input 0 at element 3: backward gives 0e0, central differences ")
    );
}

#[test]
fn a_gradient_that_depends_on_the_others_need_is_caught() {
    let error = check(Product::NeedsTheOther).unwrap_err();
    assert!(matches!(error, GradError::Alone { input: 0, index: 0, .. }), "{error}");
}

#[test]
fn a_kink_inside_of_the_step_is_no_mistake() {
    // A step of 10⁻⁵ from 3·10⁻⁶ crosses the kink at 0.
    let x = Tensor::from_slice([2], &[3e-6, 1.0]).unwrap();
    gradcheck(&[x], |v| v[0].relu()).unwrap();
}

#[test]
fn a_kink_inside_of_the_least_step_is_no_mistake() {
    // On either side, and curved beyond it.
    let x = Tensor::from_slice([3], &[1e-9, -1e-9, 1.0]).unwrap();
    gradcheck(std::slice::from_ref(&x), |v| v[0].relu()?.add(&v[0].sigmoid()?)).unwrap();
    // A gradient that is wrong by 10⁻⁵ is one there, too.
    let wrong = |v: &[Var<f64>]| {
        let exact = v[0].relu()?.add(&v[0].sigmoid()?)?;
        if exact.requires_grad() { exact.scale(1.0 + 1e-5) } else { Ok(exact) }
    };
    assert!(matches!(gradcheck(&[x], wrong), Err(GradError::Mismatch { index: 0, .. })));
}

#[test]
fn a_gradient_of_zero_passes_beside_large_values() {
    // x − x does not depend on x, but its roundings do.
    let x = Tensor::from_slice([3], &[1e3, 2e3, 3e3]).unwrap();
    gradcheck(&[x], |v| v[0].mul(&v[0])?.add(&v[0].mul(&v[0])?.scale(-1.0)?)).unwrap();
}

#[test]
fn samples_bound_the_work() {
    let evaluations = std::cell::Cell::new(0);
    let check = GradCheck { samples: 5, ..GradCheck::default() };
    let f = |v: &[Var<f64>]| {
        evaluations.set(evaluations.get() + 1);
        v[0].mul(&v[0])
    };
    check.check(&[random([100].into(), 3)], f).unwrap();
    // Value, gradient and differences; then value, gradient and the gradient alone.
    assert_eq!(evaluations.get(), (1 + 1 + 2 * 5) + (1 + 1 + 1));
}

#[test]
fn errors_of_the_function_come_through() {
    let error = gradcheck(&inputs(), |_| Err::<Var<f64>, _>("no")).unwrap_err();
    assert_eq!(error.to_string(), "the function under test: no");
}

#[test]
fn parameters_are_checked_where_they_are() {
    let parameters = inputs().map(Parameter::new);
    let check = |product| {
        let f = || Var::apply(product, &[&parameters[0].var(), &parameters[1].var()]);
        GradCheck::default().check_parameters(&parameters, f)
    };
    check(Product::Right).unwrap();
    assert!(matches!(check(Product::OneElement), Err(GradError::Mismatch { input: 0, index: 3, .. })));
    // They are as they were, also after a failure.
    assert_eq!(parameters.each_ref().map(Parameter::value), inputs());
    assert!(parameters.iter().all(|p| p.grad().is_none()));
}
