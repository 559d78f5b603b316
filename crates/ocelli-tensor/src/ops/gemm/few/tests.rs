//! Products of few rows against plain loops in `f64`.

use proptest::prelude::*;

use super::*;
use crate::ops::testing::{Rng, on_every_isa, same_bits};

/// x · w, y · wᵀ and xᵀ · y.
fn products<T: Element>(size: [usize; 3], [x, y, w]: [&Tensor<T>; 3]) -> [Tensor<T>; 3] {
    let [m, k, n] = size;
    let mut out = [Tensor::full([m, n], T::ONE), Tensor::full([m, k], T::ONE), Tensor::full([k, n], T::ONE)];
    sums(x.data(), w.data(), size, out[0].data_mut());
    dots(y.data(), w.data(), size, out[1].data_mut());
    outer(x.data(), y.data(), size, out[2].data_mut());
    out
}

fn reference<T: Element>([m, k, n]: [usize; 3], [x, y, w]: [&Tensor<T>; 3]) -> [Tensor<T>; 3] {
    let [x, y, w] = [x, y, w].map(|t| t.data().iter().map(|x| x.to_f64()).collect::<Vec<_>>());
    let sum = |count: usize, f: &dyn Fn(usize) -> f64| T::from_f64((0..count).map(f).sum());
    [
        Tensor::from_fn([m, n], |i| sum(k, &|j| x[i / n * k + j] * w[j * n + i % n])),
        Tensor::from_fn([m, k], |i| sum(n, &|j| y[i / k * n + j] * w[i % k * n + j])),
        Tensor::from_fn([k, n], |i| sum(m, &|j| x[j * k + i / n] * y[j * n + i % n])),
    ]
}

fn operands<T: Element>([m, k, n]: [usize; 3], seed: u64) -> [Tensor<T>; 3] {
    let mut rng = Rng::new(seed);
    [rng.tensor([m, k]), rng.tensor([m, n]), rng.tensor([k, n])]
}

fn check<T: Element>(size: [usize; 3], seed: u64, tolerance: f64) {
    let operands = operands::<T>(size, seed);
    let expected = reference(size, operands.each_ref());
    on_every_isa(|| {
        let results = products(size, operands.each_ref());
        for ((result, expected), name) in results.iter().zip(&expected).zip(["sums", "dots", "outer"]) {
            let error = result.relative_error(expected);
            assert!(error < tolerance, "{name} of {size:?}: {error:e}");
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn products_match_the_reference(m in 1..=40usize, k in 1..100usize, n in 1..100usize, seed: u64) {
        check::<f32>([m, k, n], seed, 2e-6);
        check::<f64>([m, k, n], seed, 1e-14);
    }
}

#[test]
fn products_in_several_tasks_match_the_reference() {
    // Many parts; many slices; both; more rows than are asked for; rows that compete for a set of the cache.
    for size in [[1, 1500, 300], [3, 2, 70_001], [40, 700, 411], [64, 600, 1100], [131, 300, 451], [33, 301, 2048]] {
        check::<f32>(size, 5, 1e-5);
    }
    check::<f64>([5, 131, 512], 5, 1e-13);
}

#[test]
fn same_bits_for_any_number_of_threads() {
    let size = [9, 900, 431];
    let operands = operands::<f32>(size, 7);
    same_bits(|| products(size, operands.each_ref()).into());
}
