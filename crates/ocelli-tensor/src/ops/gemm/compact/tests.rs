//! Compact matrices against the numbers that they are made of, and their products against plain loops in `f64`.

use proptest::prelude::*;

use super::*;
use crate::Tensor;
use crate::ops::Activation;
use crate::ops::gemm::gather::Epilogue;
use crate::ops::testing::{Rng, Sum, on_every_isa, same_bits};

/// Numbers about as they are in a trained layer, with others among them.
fn weights(k: usize, columns: usize, others: &[f32]) -> Tensor {
    let mut rng = Rng::new(3);
    let w = rng.tensor::<f32>([k, columns]);
    let far = 10 * EXCEPTION_OF;
    Tensor::from_fn([k, columns], |i| match others.get(i / far) {
        Some(&other) if i.is_multiple_of(far) => other,
        _ => w.data()[i] * w.data()[(i * 31 + 7) % w.len()] * 0.3,
    })
}

fn packed(w: &Tensor) -> Compact {
    Compact::pack(bytemuck::cast_slice(w.data()), w.shape().columns()).expect("few exceptions")
}

/// Runs `f` on every instruction set that expands compact numbers.
fn on_every_expanding_isa(f: impl Fn()) {
    on_every_isa(|| {
        if lanes().is_some() {
            f();
        }
    });
}

#[test]
fn numbers_are_kept_without_loss() {
    let others = [0.0, -0.0, 1e30, -1e-30, f32::MIN_POSITIVE / 2.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1.0];
    let w = weights(300, 331, &others);
    on_every_expanding_isa(|| {
        let compact = packed(&w);
        let (lanes, mut rare) = (compact.width / REGISTERS, 0);
        for (row, w) in w.data().chunks_exact(331).enumerate() {
            for (column, w) in w.iter().enumerate() {
                let (panel, column) = (column / compact.width, column % compact.width);
                let run = &compact.panel(panel)[row * compact.run..][..compact.run];
                let mut number =
                    Place::new(column / TOGETHER * TOGETHER, lanes).read(run, &compact.tops)[column % TOGETHER];
                let is_here = |e: &&Exception| (e.row, e.column) == (row, column);
                if let Some(exception) = compact.exceptions[panel].iter().find(is_here) {
                    assert_eq!(number.to_bits(), 0);
                    number = exception.value;
                    rare += 1;
                }
                assert_eq!(number.to_bits(), w.to_bits());
            }
        }
        assert!(rare >= 7);
    });
}

fn product_of(x: &Tensor, w: &Compact, epilogue: Epilogue<'_, f32>) -> Tensor {
    let mut y = Tensor::full([x.shape()[0], w.columns], 1.0);
    product(x.data(), w, y.data_mut(), epilogue);
    y
}

fn reference(x: &Tensor<f64>, w: &Tensor) -> Sum {
    let [rows, columns] = [x.shape()[0], w.shape().columns()];
    let mut y = Sum::zeros(&Tensor::<f64>::zeros([rows, columns]));
    for (i, x) in x.data().iter().enumerate() {
        let (row, k) = (i / w.shape()[0], i % w.shape()[0]);
        for column in 0..columns {
            y.add(row * columns + column, 1.0, x * f64::from(w.data()[k * columns + column]));
        }
    }
    y
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn products_match_the_reference(rows in 0..11usize, k in 1..700usize, columns in 1..150usize) {
        // (None so large that it decides how the sums behind it are rounded.)
        let (x, w) = (Rng::new(1).tensor::<f64>([rows, k]), weights(k, columns, &[3.0, 1e-20, -2.5]));
        let expected = reference(&x, &w);
        on_every_expanding_isa(|| {
            // (Of few numbers, one exception is too many.)
            if let Some(compact) = Compact::pack(bytemuck::cast_slice(w.data()), columns) {
                assert!(expected.error(&product_of(&x.cast::<f32>(), &compact, Epilogue::NONE)) < 1e-6);
            }
        });
    }
}

#[test]
fn what_follows_is_done() {
    let (rows, k, columns) = (3, 40, 77);
    let mut rng = Rng::new(4);
    let (x, w) = (rng.tensor::<f32>([rows, k]), weights(k, columns, &[]));
    let (bias, residual) = (rng.tensor::<f32>([columns]), rng.tensor::<f32>([rows, columns]));
    on_every_expanding_isa(|| {
        let compact = packed(&w);
        let plain = product_of(&x, &compact, Epilogue::NONE);
        let y = product_of(
            &x,
            &compact,
            Epilogue {
                bias: Some(bias.data()),
                residual: Some(residual.data()),
                clamp: Some([-0.5, 0.5]),
                curve: Some(Activation::Sigmoid),
                ..Epilogue::NONE
            },
        );
        let expected = Tensor::from_fn([rows, columns], |i| {
            let sum = plain.data()[i] + bias.data()[i % columns] + residual.data()[i];
            1.0 / (1.0 + (-sum.clamp(-0.5, 0.5)).exp())
        });
        assert!(y.relative_error(&expected) < 1e-6);
    });
}

#[test]
fn what_does_not_fit_is_not_packed() {
    on_every_isa(|| {
        let w = weights(1024, 600, &[]);
        assert_eq!(Compact::new(w.data(), 600, 1).is_some(), lanes().is_some());
        assert!(Compact::new(w.data(), 600, ROWS + 1).is_none());
        assert!(Compact::new(w.data(), 100, 1).is_none(), "too narrow");
        assert!(Compact::new(&w.data()[..600 * 8], 600, 1).is_none());
        assert!(Compact::new(w.cast::<f64>().data(), 600, 1).is_none());
        // Of all magnitudes.
        let powers = Tensor::from_fn([1024, 600], |i| ((i % 100) as f32 - 50.0).exp2());
        assert!(Compact::new(powers.data(), 600, 1).is_none());
    });
}

#[test]
fn same_bits_for_any_number_of_threads() {
    let (x, w) = (Rng::new(1).tensor::<f32>([5, 700]), weights(700, 1111, &[3.0]));
    on_every_expanding_isa(|| same_bits(|| vec![product_of(&x, &packed(&w), Epilogue::NONE)]));
}
