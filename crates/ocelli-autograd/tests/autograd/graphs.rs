//! Gradients of whole graphs: values that are used more than once, broadcast or empty, and random small networks.

use crate::common::random;
use ocelli_autograd::gradcheck::{GradCheck, gradcheck};
use ocelli_autograd::ops::{Activation, LocalResponseNorm, Window};
use ocelli_autograd::{Parameter, Result, Shape, Tensor, Var};
use proptest::prelude::*;

#[test]
fn an_operation_may_read_a_value_twice() {
    // As an image: three of 3 × 2 pixels and two channels; as a weight: 3 × 3 taps from two channels to two.
    let image = random([3, 3, 2, 2], 1);
    let (square, row) = (random([4, 4], 2), random([4], 3));
    let window = Window::square(3).padding(1);
    type Binary = fn(&Var<f64>, &Var<f64>) -> Result<Var<f64>>;
    let cases: [(&Tensor<f64>, Binary); 7] = [
        (&image, |a, b| a.add(b)),
        (&image, |a, b| a.mul(b)),
        (&image, |a, b| Var::concat(&[a, b, a])),
        (&square, |a, b| a.matmul(b)),
        (&square, |a, b| a.linear(b, None)),
        (&square, |a, b| a.mean_squared_error(&b.scale(0.5)?)),
        (&row, |a, b| a.mul(b)?.add(&a.mul(b)?.sigmoid()?)),
    ];
    for (x, f) in cases {
        reads_twice(x, f);
    }
    reads_twice(&image, |a, b| a.conv2d(b, &window, 1));
    reads_twice(&row, |a, b| Ok(Var::constant(square.clone()).batch_norm(a, b, 0.1)?.0));
    let [gamma, beta] = [4, 5].map(|seed| Var::constant(random([2], seed)));
    let unit = |a: &Var<f64>, b: &Var<f64>| a.batch_norm_act([&gamma, &beta], 0.1, Some(b), Some(Activation::Silu));
    reads_twice(&image, |a, b| Ok(unit(a, b)?.0));
}

/// The gradient of f(x, x) is right, and the sum of those of f(x, x′) for x′ = x.
fn reads_twice(x: &Tensor<f64>, f: impl Fn(&Var<f64>, &Var<f64>) -> Result<Var<f64>>) {
    gradcheck(std::slice::from_ref(x), |v| f(&v[0], &v[0])).unwrap();
    let [shared, a, b] = [(); 3].map(|()| Parameter::new(x.clone()));
    let backward = |y: Var<f64>| y.backward_with(random(*y.shape(), 6)).unwrap();
    backward(f(&shared.var(), &shared.var()).unwrap());
    backward(f(&a.var(), &b.var()).unwrap());
    let (da, db) = (a.grad().unwrap(), b.grad().unwrap());
    let sum = Tensor::from_fn(x.shape(), |i| da.data()[i] + db.data()[i]);
    assert!(shared.grad().unwrap().relative_error(&sum) < 1e-14);
}

#[test]
fn broadcasts_sum_what_each_use_gives() {
    let x = random([2, 3, 4, 5], 1);
    for shape in [Shape::from([2, 3, 4, 5]), [5].into(), [2, 1, 1, 5].into(), [2, 3, 4, 1].into()] {
        let inputs = [x.clone(), random(shape, 2)];
        gradcheck(&inputs, |v| v[0].mul(&v[1])?.add(&v[1])?.sigmoid()?.mul(&v[1])).unwrap();
    }
    // A value that is broadcast over the one it was computed from.
    gradcheck(&[x], |v| v[0].mul(&v[0].global_avg_pool2d()?.sigmoid()?.reshape([2, 1, 1, 5])?)).unwrap();
}

#[test]
fn an_empty_batch_has_gradients_of_zero() {
    let window = Window::square(3).padding(1);
    let values = [random([0, 5, 4, 3], 1), random([3, 3, 3, 2], 2), random([2], 3), random([12, 4], 4)];
    let parameters = values.map(Parameter::new);
    let [x, kernel, bias, weight] = parameters.each_ref().map(Parameter::var);
    let y = x.conv2d(&kernel, &window, 1).unwrap().add(&bias).unwrap().relu().unwrap();
    let y = y.max_pool2d(&Window::square(2).stride(2), true).unwrap();
    let y = y.mul(&y).unwrap().flatten().unwrap().linear(&weight, None).unwrap();
    assert_eq!(**y.shape(), [0, 4]);
    y.sum().unwrap().backward().unwrap();
    for parameter in &parameters {
        assert_eq!(parameter.grad(), Some(Tensor::zeros(parameter.shape())));
    }
}

/// Channels of all values of a network, so that any two of them can be added.
const CHANNELS: usize = 4;

/// A layer of a random network, smooth but for ties of a maximum. Each keeps the image's shape.
#[derive(Debug, Clone, Copy)]
enum Layer {
    /// By one of two kernels that all convolutions share.
    Conv {
        kernel: usize,
        dilation: usize,
    },
    Depthwise,
    Norm,
    /// With a residual and an activation, in one pass.
    NormAct(Activation),
    Act(Activation),
    Lrn,
    AvgPool,
    MaxPool,
    Add,
    Gate,
    /// And a 1×1 convolution back to as many channels.
    Concat,
    /// Channels in another order.
    Shuffle,
    /// Squeeze and excitation.
    Excite,
}

/// A layer, and which of the values so far it reads: all have a first, some a second.
#[derive(Debug, Clone, Copy)]
struct Step {
    layer: Layer,
    reads: [prop::sample::Index; 2],
}

fn step() -> impl Strategy<Value = Step> {
    let act = || prop::sample::select(vec![Activation::Sigmoid, Activation::Silu]);
    use Layer::*;
    let layer = prop_oneof![
        3 => (0usize..2, 1usize..3).prop_map(|(kernel, dilation)| Conv { kernel, dilation }),
        1 => act().prop_map(NormAct),
        2 => act().prop_map(Act),
        9 => prop::sample::select(vec![Depthwise, Norm, Lrn, AvgPool, MaxPool, Add, Gate, Concat, Shuffle, Excite]),
    ];
    (layer, any::<[prop::sample::Index; 2]>()).prop_map(|(layer, reads)| Step { layer, reads })
}

/// The parameters, of which each layer takes those of its kind.
fn parameters(seed: u64) -> Vec<Tensor<f64>> {
    let c = CHANNELS;
    let shapes: [Shape; 7] = [
        [3, 3, c, c].into(),
        [3, 3, c, c].into(),
        [3, 3, 1, c].into(),
        [1, 1, 2 * c, c].into(),
        [c, c].into(),
        [c].into(),
        [c].into(),
    ];
    // Small enough that deep networks don't grow.
    shapes.into_iter().zip(1..).map(|(shape, i)| random(shape, seed ^ i).map(|w| 0.4 * w)).collect()
}

/// Large, so that a norm of nearly equal values is smooth over the step of a difference.
const EPS: f64 = 0.1;

fn layer(layer: Layer, x: &Var<f64>, other: &Var<f64>, parameters: &[Var<f64>]) -> Result<Var<f64>> {
    let [k0, k1, depthwise, project, weight, gamma, beta] = parameters else { unreachable!("see `parameters`") };
    let window = Window::square(3).padding(1);
    match layer {
        Layer::Conv { kernel, dilation } => {
            x.conv2d([k0, k1][kernel], &Window::square(3).padding(dilation).dilation(dilation), 1)
        }
        Layer::Depthwise => x.conv2d(depthwise, &window, CHANNELS),
        Layer::Norm => Ok(x.batch_norm(gamma, beta, EPS)?.0),
        Layer::NormAct(act) => Ok(x.batch_norm_act([gamma, beta], EPS, Some(other), Some(act))?.0),
        Layer::Act(act) => x.activation(act),
        Layer::Lrn => x.local_response_norm(&LocalResponseNorm { alpha: 0.8, k: 2.0, ..LocalResponseNorm::new(3) }),
        Layer::AvgPool => x.avg_pool2d(&window, false, false),
        Layer::MaxPool => x.max_pool2d(&window, false),
        Layer::Add => x.add(other),
        Layer::Gate => x.mul(&other.sigmoid()?),
        Layer::Concat => Var::concat(&[x, other])?.conv2d(project, &Window::square(1), 1),
        Layer::Shuffle => Var::concat(&[&x.columns(1..CHANNELS)?, &x.columns(0..1)?]),
        Layer::Excite => {
            let gate = x.global_avg_pool2d()?.linear(weight, Some(beta))?.sigmoid()?;
            x.mul(&gate.reshape([x.shape()[0], 1, 1, CHANNELS])?)
        }
    }
}

/// The values that no layer reads, side by side: every layer has a part in them.
fn network(steps: &[Step], x: &Var<f64>, parameters: &[Var<f64>]) -> Result<Var<f64>> {
    let (mut values, mut read) = (vec![x.clone()], vec![false]);
    for step in steps {
        let [first, second] = step.reads.map(|index| index.index(values.len()));
        values.push(layer(step.layer, &values[first], &values[second], parameters)?);
        read[first] = true;
        read.push(false);
    }
    let ends = values.iter().zip(read).filter(|(_, read)| !read);
    Var::concat(&ends.map(|(value, _)| value).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_networks(
        steps in prop::collection::vec(step(), 1..12),
        [n, h, w] in [1usize..4, 2..5, 2..5],
        seed: u64,
    ) {
        let mut inputs = vec![random([n, h, w, CHANNELS], seed)];
        inputs.extend(parameters(seed));
        let check = GradCheck { samples: 12, seed, ..GradCheck::default() };
        let checked = check.check(&inputs, |v| network(&steps, &v[0], &v[1..]));
        prop_assert!(checked.is_ok(), "{}", checked.unwrap_err());
    }
}
