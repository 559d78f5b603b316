//! The adjoint identity ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ of every linear operation, Aᵀ y being what its backward pass gives from y.
//! Unlike central differences it costs one pass whatever the size, and holds to rounding.

use crate::common::random;
use ocelli_autograd::ops::{DeformConv2d, Padding, Window};
use ocelli_autograd::{Parameter, Result, Shape, Tensor, Var};
use proptest::prelude::*;

/// A sum of products, and that of their magnitudes.
#[derive(Debug, Default)]
struct Inner {
    sum: f64,
    magnitude: f64,
}

impl Inner {
    fn add(self, a: &Tensor<f64>, b: &Tensor<f64>) -> Self {
        a.data().iter().zip(b.data()).fold(self, |Inner { sum, magnitude }, (a, b)| Inner {
            sum: sum + a * b,
            magnitude: magnitude + (a * b).abs(),
        })
    }
}

/// Checks the identity for a function that is linear in all of `xs` together: ⟨f(x₁, x₂, …), y⟩ = Σ ⟨xᵢ, dxᵢ⟩.
fn adjoint(xs: &[&Tensor<f64>], f: impl Fn(&[Var<f64>]) -> Result<Var<f64>>) -> Result<(), TestCaseError> {
    let parameters: Vec<_> = xs.iter().map(|&x| Parameter::new(x.clone())).collect();
    let ax = f(&parameters.iter().map(Parameter::var).collect::<Vec<_>>()).unwrap();
    let y = random(*ax.shape(), 99);
    ax.mul(&Var::constant(y.clone())).unwrap().sum().unwrap().backward().unwrap();

    let forward = Inner::default().add(ax.value(), &y);
    let gradients = parameters.iter().map(|p| p.grad().expect("every input has a gradient"));
    let backward = xs.iter().zip(gradients).fold(Inner::default(), |inner, (x, dx)| inner.add(x, &dx));
    let allowed = 1e-12 * (forward.magnitude + backward.magnitude);
    prop_assert!((forward.sum - backward.sum).abs() <= allowed, "{forward:?} forward, {backward:?} backward");
    Ok(())
}

/// Checks the identity for each factor of a bilinear function, the other one being constant.
fn adjoints(
    [a, b]: [&Tensor<f64>; 2],
    f: impl Fn(&Var<f64>, &Var<f64>) -> Result<Var<f64>>,
) -> Result<(), TestCaseError> {
    adjoint(&[a], |v| f(&v[0], &Var::constant(b.clone())))?;
    adjoint(&[b], |v| f(&Var::constant(a.clone()), &v[0]))
}

#[derive(Debug, Clone)]
struct Geometry {
    batch: usize,
    /// Height and width; the padded image is no smaller than the window.
    input: [usize; 2],
    channels: usize,
    out_channels: usize,
    groups: usize,
    window: Window,
    seed: u64,
}

impl Geometry {
    fn image(&self, channels: usize) -> Tensor<f64> {
        let [h, w] = self.input;
        random([self.batch, h, w, channels], self.seed)
    }

    fn weight(&self, in_channels: usize, out_channels: usize, groups: usize) -> Tensor<f64> {
        let [kh, kw] = self.window.kernel_size;
        random([kh, kw, in_channels / groups, out_channels], self.seed ^ 1)
    }
}

/// Geometries whose edges are padded by up to `most(kernel size)`.
fn geometries(most: fn(usize) -> usize) -> impl Strategy<Value = Geometry> {
    let pair = |range: std::ops::Range<usize>| [range.clone(), range];
    let window = (pair(1..5), pair(1..4), pair(1..4), [0usize..5, 0..5, 0..5, 0..5]);
    let sizes = (1usize..4, pair(1..10), 1usize..20, 1usize..20, 1usize..4);
    (window, sizes, any::<u64>()).prop_map(move |((kernel_size, stride, dilation, edges), sizes, seed)| {
        let (batch, input, channels, out_channels, groups) = sizes;
        let edge = |i: usize| edges[i].min(most(kernel_size[i / 2]));
        let padding = Padding { top: edge(0), bottom: edge(1), left: edge(2), right: edge(3) };
        let window = Window { kernel_size, stride, padding, dilation };
        let padded = [edge(0) + edge(1), edge(2) + edge(3)];
        let input = [0, 1].map(|axis| input[axis].max(window.extent(axis).saturating_sub(padded[axis])));
        Geometry { batch, input, channels, out_channels, groups, window, seed }
    })
}

fn convolutions() -> impl Strategy<Value = Geometry> {
    geometries(|kernel_size| kernel_size)
}

/// Pooling accepts padding of half the kernel.
fn poolings() -> impl Strategy<Value = Geometry> {
    geometries(|kernel_size| kernel_size / 2)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conv2d(g in convolutions()) {
        let [c, o] = [g.channels, g.out_channels];
        // Plain, grouped, depthwise, and depthwise with a multiplier.
        for (c, o, groups) in [(c, o, 1), (c * g.groups, o * g.groups, g.groups), (c, c, c), (c, 2 * c, c)] {
            adjoints([&g.image(c), &g.weight(c, o, groups)], |x, w| x.conv2d(w, &g.window, groups))?;
        }
    }

    #[test]
    fn deform_conv2d(g in convolutions()) {
        let [oh, ow] = g.window.output_size("test", g.input).unwrap();
        for (groups, offset_groups) in [(1, 1), (g.groups, 1), (1, g.groups)] {
            let (c, o) = (g.channels * groups * offset_groups, g.out_channels * groups);
            let samples = offset_groups * g.window.taps();
            let offset = Var::constant(random([g.batch, oh, ow, 2 * samples], g.seed ^ 2).map(|r| 3.0 * r));
            let mask = random([g.batch, oh, ow, samples], g.seed ^ 3);
            let attributes = DeformConv2d { window: g.window, groups, offset_groups };
            let (x, w) = (g.image(c), g.weight(c, o, groups));
            adjoints([&x, &w], |x, w| x.deform_conv2d(&offset, None, w, &attributes))?;
            // Linear in the modulation too.
            let w = Var::constant(w);
            adjoints([&x, &mask], |x, mask| x.deform_conv2d(&offset, Some(mask), &w, &attributes))?;
        }
    }

    #[test]
    fn linear_and_matmul([m, k, n] in [1usize..40, 1..40, 1..40], seed: u64) {
        let [x, w, b] = [random([m, k], seed), random([k, n], seed ^ 1), random([n], seed ^ 2)];
        adjoints([&x, &w], Var::matmul)?;
        adjoints([&x, &w], |x, w| x.linear(w, None))?;
        adjoint(&[&x, &b], |v| v[0].linear(&w.clone().into(), Some(&v[1])))?;
        adjoint(&[&w, &b], |v| Var::constant(x.clone()).linear(&v[0], Some(&v[1])))?;
    }

    #[test]
    fn average_pooling(g in poolings()) {
        let x = g.image(g.channels);
        for (ceil_mode, count_include_pad) in [(false, false), (false, true), (true, false), (true, true)] {
            adjoint(&[&x], |v| v[0].avg_pool2d(&g.window, ceil_mode, count_include_pad))?;
        }
        for output in [[1, 1], g.window.kernel_size, [g.input[0], 1], [g.input[0] + 1, 2 * g.input[1]]] {
            adjoint(&[&x], |v| v[0].adaptive_avg_pool2d(output))?;
        }
        adjoint(&[&x], |v| v[0].global_avg_pool2d())?;
    }

    #[test]
    fn rearrangements(g in poolings(), from in 0usize..20, len in 1usize..20) {
        let (c, stride) = (g.channels, g.window.stride[0]);
        let [x, more] = [g.image(c), g.image(g.out_channels)];
        adjoint(&[&x, &more, &x], |v| Var::concat(&[&v[0], &v[1], &v[2]]))?;
        let start = from % c;
        adjoint(&[&x], |v| v[0].columns(start..c.min(start + len)))?;
        adjoint(&[&x], |v| v[0].subsample_pad(stride, c + g.groups - 1))?;
        adjoint(&[&x], |v| v[0].reshape([x.len() / c, c]))?;
        adjoint(&[&x], |v| v[0].flatten())?;
    }

    #[test]
    fn sums_and_multiples(g in poolings(), factor in -3.0..3.0f64) {
        let (x, [n, c], [h, w]) = (g.image(g.channels), [g.batch, g.channels], g.input);
        adjoint(&[&x], |v| v[0].sum())?;
        adjoint(&[&x], |v| v[0].mean())?;
        adjoint(&[&x], |v| v[0].scale(factor))?;
        adjoint(&[&x], |v| v[0].dropout(0.3, g.seed))?;
        for shape in [Shape::from([n, h, w, c]), [c].into(), [n, 1, 1, c].into(), [n, h, w, 1].into()] {
            let b = random(shape, g.seed ^ 1);
            adjoint(&[&x, &b], |v| v[0].add(&v[1]))?;
            adjoints([&x, &b], Var::mul)?;
        }
    }
}
