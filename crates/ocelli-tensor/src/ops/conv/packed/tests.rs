//! That packed convolutions write slices of wider rows, and nothing else, and that fully connected layers are compact.

use super::*;
use crate::ops::conv::algorithm::with_algorithm;
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
