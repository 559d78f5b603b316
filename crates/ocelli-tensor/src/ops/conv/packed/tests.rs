//! That packed convolutions write slices of wider rows, and nothing else, that fully connected layers are compact, that
//! rows are averaged, and what weights in 16 bits compute.

use half::f16;
use proptest::prelude::*;

use super::storage::{HALF_BYTES, HALF_ROWS};
use super::*;
use crate::ops::conv::algorithm::with_algorithm;
use crate::ops::testing::{on_every_isa, same_bits};
use crate::simd;

fn random(shape: impl Into<Shape>, seed: usize) -> Tensor {
    Tensor::from_fn(shape, |i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0)
}

#[test]
fn columns_are_written_where_they_belong() {
    for (kernel, [cin, cout], [columns, first]) in [
        (1, [20, 36], [50, 14]),
        (3, [8, 33], [64, 16]),
        (5, [16, 64], [65, 0]),
        (3, [3, 7], [7, 0]),
        (1, [4, 5], [9, 3]),
    ] {
        let window = Window::square(kernel).padding(kernel / 2);
        let (x, w) = (random([2, 9, 13, cin], 1), random([kernel, kernel, cin, cout], 2));
        let bias = random([cout], 3);
        for algorithm in [Algorithm::Direct, Algorithm::Winograd] {
            for &isa in simd::available() {
                let run = || {
                    let conv = PackedConv::new(&w, Some(&bias), Some(Activation::Silu), window, 1, x.shape()).unwrap();
                    assert!(conv.writes_columns());
                    let mut y = Tensor::full([2, 9, 13, columns], 7.0);
                    conv.run_columns_into(&x, &mut Tensor::default(), &mut y, [columns, first]).unwrap();
                    (conv.run(&x, None).unwrap(), y)
                };
                let (expected, y) = with_algorithm(algorithm, || simd::with_isa(isa, run));
                for (row, expected) in y.data().chunks_exact(columns).zip(expected.data().chunks_exact(cout)) {
                    let others = row[..first].iter().chain(&row[first + cout..]);
                    assert!(others.into_iter().all(|&other| other == 7.0));
                    assert_eq!(row[first..][..cout], *expected, "{isa:?} {algorithm:?} {kernel}×{kernel}");
                }
            }
        }
    }
}

#[test]
fn columns_that_do_not_exist_are_errors() {
    let (x, w) = (Tensor::<f32>::zeros([1, 4, 4, 8]), Tensor::zeros([1, 1, 8, 5]));
    let conv = PackedConv::new(&w, None, None, Window::square(1), 1, x.shape()).unwrap();
    let [mut workspace, mut y] = [(); 2].map(|()| Tensor::default());
    let error = conv.run_columns_into(&x, &mut workspace, &mut y, [9, 5]).unwrap_err();
    let expected =
        "conv2d: expected columns that the output has, not grouped, scaled or compact, got 5..5+5 of 9, product";
    assert_eq!(error.to_string(), expected);
    assert!(conv.scaled().unwrap().run_columns_into(&x, &mut workspace, &mut y, [9, 0]).is_err());
}

#[test]
fn fully_connected_layers_are_compact() {
    let [cin, cout] = [1024, 600];
    let w = random([1, 1, cin, cout], 1);
    let bias = random([cout], 2);
    for &isa in simd::available() {
        simd::with_isa(isa, || {
            let pack = |rows: usize| {
                let x = Shape::from([rows, 1, 1, cin]);
                PackedConv::new(&w, Some(&bias), Some(Activation::Relu), Window::square(1), 1, &x).unwrap()
            };
            let (compact, panels) = (pack(2), pack(20));
            let expands = matches!(isa, simd::Isa::Avx2 | simd::Isa::Avx512);
            assert_eq!(
                [compact.algorithm(), panels.algorithm()],
                [if expands { "compact" } else { "product" }, "product"]
            );
            // Also for more images, and larger ones, than they are meant for.
            for shape in [[1, 1, 1, cin], [2, 1, 1, cin], [20, 1, 1, cin], [1, 2, 3, cin]] {
                let (x, residual) = (random(shape, 3), random(Shape::from(shape).with_columns(cout), 4));
                let [y, expected] = [&compact, &panels].map(|conv| conv.run(&x, Some(&residual)).unwrap());
                assert!(y.relative_error(&expected) < 1e-6);
            }
            let (x, scale) = (random([2, 1, 2, cin], 5), random([2, 1, 1, cin], 6));
            let [y, expected] = [compact, panels].map(|conv| {
                let (mut workspace, mut y) = (Tensor::default(), Tensor::default());
                conv.scaled().unwrap().run_into(&x, Some(&scale), None, &mut workspace, &mut y).unwrap();
                y
            });
            assert!(y.relative_error(&expected) < 1e-6);
        });
    }
}

#[test]
fn rows_are_averaged() {
    let curves = [None, Some(Activation::Relu6), Some(Activation::Silu)];
    for (i, width) in [1, 5, 7, 8, 9, 14, 15, 16, 17, 26, 30, 42].into_iter().enumerate() {
        for (channels, groups, stride) in [(32, 32, 1), (5, 5, 2), (48, 12, 1)] {
            let window = Window::square(3).padding(1).stride(stride);
            let x = random([2, 6, width * stride, channels], 1);
            let (w, bias) = (random([3, 3, channels / groups, channels], 2), random([channels], 3));
            on_every_isa(|| {
                let conv = PackedConv::new(&w, Some(&bias), curves[i % 3], window, groups, x.shape()).unwrap();
                assert!(conv.averages_rows());
                same_bits(|| {
                    let [mut workspace, mut y, mut means] = [(); 3].map(|()| Tensor::default());
                    conv.run_averaged_into(&x, &mut workspace, &mut y, &mut means).unwrap();
                    assert_eq!(y, conv.run(&x, None).unwrap());
                    let &[n, height, _, _] = &**y.shape() else { unreachable!("an image") };
                    let rows = y.cast::<f64>().reshape([n * height, width, 1, channels]).unwrap();
                    let expected = ops::global_avg_pool2d(&rows).unwrap().reshape([n, height, 1, channels]).unwrap();
                    let error = means.cast::<f64>().relative_error(&expected);
                    assert!(error < 1e-6, "{error:e} of {channels} channels, {width} wide");
                    vec![means]
                });
            });
        }
    }
    let (x, w) = (random([1, 4, 4, 8], 1), random([1, 1, 8, 5], 2));
    let conv = PackedConv::new(&w, None, None, Window::square(1), 1, x.shape()).unwrap();
    let [mut workspace, mut y, mut means] = [(); 3].map(|()| Tensor::default());
    let error = conv.run_averaged_into(&x, &mut workspace, &mut y, &mut means).unwrap_err();
    let expected = "conv2d: expected convolution of narrow groups that fill registers, to average rows, got product";
    assert!(error.to_string() == expected && !conv.averages_rows(), "{error}");
    let (x, w) = (random([1, 4, 4, 20], 1), random([3, 3, 1, 20], 2));
    let shared = PackedConv::new(&w, None, None, Window::square(3), 20, x.shape()).unwrap();
    assert!(!shared.averages_rows());
    assert!(shared.run_averaged_into(&x, &mut workspace, &mut y, &mut means).is_err());
}

fn rounded(w: &Tensor) -> Tensor {
    Tensor::from_fn(*w.shape(), |i| f16::from_f32(w.data()[i]).to_f32())
}

/// A convolution with weights in 16 bits, and one with the same weights in 32, for inputs of a shape.
fn halved(w: &Tensor, window: Window, x: impl Into<Shape>) -> [PackedConv; 2] {
    let (bias, curve, x) = (random([w.shape().columns()], 2), Some(Activation::Silu), x.into());
    [(Storage::Half, w), (Storage::Exact, &rounded(w))]
        .map(|(storage, w)| PackedConv::with_storage(storage, w, Some(&bias), curve, window, 1, &x).unwrap())
}

#[test]
fn weights_in_16_bits_give_what_they_give_in_32() {
    let same = Window::square(3).padding(1);
    for (window, [cin, cout], x, algorithm) in [
        (Window::square(1), [700, 401], [9, 1, 1], "product f16"),
        (Window::square(1), [512, 512], [1, 7, 7], "product f16"),
        (Window::square(1).stride(2), [260, 1030], [1, 16, 16], "product f16"),
        (same, [80, 380], [2, 5, 6], "gathered f16"),
        (same.stride(2), [120, 257], [1, 14, 14], "gathered f16"),
        (Window::square(5), [9, 1200], [1, 9, 9], "gathered f16"),
    ] {
        let [kh, kw] = window.kernel_size;
        let w = random([kh, kw, cin, cout], 1);
        let shape = |n| [n, x[1], x[2], cin];
        on_every_isa(|| {
            let pair = || with_algorithm(Algorithm::Direct, || halved(&w, window, shape(x[0])));
            let [half, exact] = pair();
            assert_eq!(half.algorithm(), algorithm);
            assert!(!exact.algorithm().ends_with("f16"));
            for batch in [x[0], 3] {
                let x = random(shape(batch), 3);
                let residual = random(*exact.run(&x, None).unwrap().shape(), 4);
                for residual in [None, Some(&residual)] {
                    let [y, expected] = [&half, &exact].map(|conv| conv.run(&x, residual).unwrap());
                    assert_eq!(y.data(), expected.data(), "{window:?} of {batch} {x:?}");
                }
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn fully_connected_layers_in_16_bits_match(rows in 0..=HALF_ROWS, cin in 500..900usize, more in 0..40usize) {
        let w = random([1, 1, cin, HALF_BYTES / 4 / cin + 1 + more], 1);
        let x = random([rows, 1, 1, cin], 3);
        on_every_isa(|| {
            let [half, exact] = halved(&w, Window::square(1), *x.shape());
            assert_eq!(half.algorithm(), "product f16");
            let [y, expected] = [half, exact].map(|conv| conv.run(&x, None).unwrap());
            assert!(y.relative_error(&expected) < 1e-6);
        });
    }
}

#[test]
fn weights_in_16_bits_may_be_scaled_and_sliced() {
    let (w, [cin, cout]) = (random([1, 1, 512, 512], 1), [512, 512]);
    let (x, scale) = (random([2, 3, 5, cin], 5), random([2, 1, 1, cin], 6));
    let product = crate::ops::mul(&x, &scale).unwrap();
    on_every_isa(|| {
        let [half, _] = halved(&w, Window::square(1), *x.shape());
        let expected = half.run(&product, None).unwrap();
        let (mut workspace, mut y) = (Tensor::default(), Tensor::full([2, 3, 5, cout + 9], 7.0));
        half.run_columns_into(&product, &mut workspace, &mut y, [cout + 9, 4]).unwrap();
        for (row, expected) in y.data().chunks_exact(cout + 9).zip(expected.data().chunks_exact(cout)) {
            assert_eq!(row[4..][..cout], *expected);
        }
        let scaled = half.scaled().unwrap();
        assert_eq!(scaled.workspace(), x.len());
        scaled.run_into(&x, Some(&scale), None, &mut workspace, &mut y).unwrap();
        assert_eq!(y.data(), expected.data());
        same_bits(|| vec![halved(&w, Window::square(1), *x.shape())[0].run(&x, None).unwrap()]);
    });
}

#[test]
fn what_16_bits_do_not_hold_stays_as_it_is() {
    let (w, x) = (random([1, 1, 512, 512], 1), Shape::from([1, 7, 7, 512]));
    let half = |w: &Tensor, x: &Shape| {
        let conv = PackedConv::with_storage(Storage::Half, w, None, None, Window::square(1), 1, x).unwrap();
        conv.algorithm().ends_with("f16")
    };
    assert!(half(&w, &x));
    // Some numbers may be tiny, or zero.
    assert!(half(&Tensor::from_fn(*w.shape(), |i| if i % 3 == 0 { 1e-9 } else { w.data()[i] }), &x));
    assert!(half(&w.map(|_| 0.0), &x));
    for other in [f32::NAN, f32::INFINITY, 1e5] {
        assert!(!half(&Tensor::from_fn(*w.shape(), |i| if i == 7777 { other } else { w.data()[i] }), &x));
    }
    assert!(!half(&w.map(|x| x * 1e-6), &x), "all are tiny");
    // And where it would gain nothing.
    assert!(!half(&w, &Shape::from([1, 9, 9, 512])), "many rows");
    assert!(!half(&random([1, 1, 512, 500], 1), &x), "few weights");
    let conv = PackedConv::with_storage(Storage::Half, &w.cast::<f64>(), None, None, Window::square(1), 1, &x);
    assert_eq!(conv.unwrap().algorithm(), "product");
    let groups = PackedConv::with_storage(Storage::Half, &w, None, None, Window::square(1), 2, &x.with_columns(1024));
    assert_eq!(groups.unwrap().algorithm(), "product");
}
