//! Convolution against a naive reference in `f64`, over geometries and on every instruction set.

use proptest::prelude::*;

use super::im2col::conv2d_im2col;
use super::*;
use crate::ops::testing::Sum;
use crate::ops::{Activation, Padding};
use crate::{simd, threads};

/// One convolution to test.
#[derive(Debug, Clone, Copy)]
struct Case {
    batch: usize,
    input: [usize; 2],
    cin: usize,
    cout: usize,
    groups: usize,
    window: Window,
}

impl Case {
    fn x<T: Element>(&self) -> Tensor<T> {
        random([self.batch, self.input[0], self.input[1], self.cin], 1)
    }

    fn w<T: Element>(&self) -> Tensor<T> {
        let [kh, kw] = self.window.kernel_size;
        random([kh, kw, self.cin / self.groups, self.cout], 2)
    }

    fn dy<T: Element>(&self) -> Tensor<T> {
        let [h, w] = self.window.output_size("test", self.input).unwrap();
        random([self.batch, h, w, self.cout], 3)
    }
}

fn random<T: Element>(shape: [usize; 4], seed: u64) -> Tensor<T> {
    Tensor::from_fn(shape, |i| {
        let mut z = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(seed << 32);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        T::from_f64((z >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
    })
}

/// Calls `f(x index, w index, y index)` for every product that a convolution adds up.
fn for_each_product(case: &Case, mut f: impl FnMut(usize, usize, usize)) {
    let Case { batch, input: [height, width], cin, cout, groups, window } = *case;
    let [out_height, out_width] = window.output_size("test", case.input).unwrap();
    let [kh, kw] = window.kernel_size;
    let (cin_group, cout_group) = (cin / groups, cout / groups);
    for (n, oy, ox) in
        (0..batch).flat_map(|n| (0..out_height).flat_map(move |y| (0..out_width).map(move |x| (n, y, x))))
    {
        for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
            let y = (oy * window.stride[0] + ky * window.dilation[0]).wrapping_sub(window.padding.top);
            let x = (ox * window.stride[1] + kx * window.dilation[1]).wrapping_sub(window.padding.left);
            if y >= height || x >= width {
                continue;
            }
            for (ci, co) in (0..cin_group).flat_map(|ci| (0..cout).map(move |co| (ci, co))) {
                let channel = co / cout_group * cin_group + ci;
                f(
                    ((n * height + y) * width + x) * cin + channel,
                    ((ky * kw + kx) * cin_group + ci) * cout + co,
                    ((n * out_height + oy) * out_width + ox) * cout + co,
                );
            }
        }
    }
}

fn check<T: Element>(case: &Case, tolerance: f64) {
    let (x, w, dy) = (case.x::<T>(), case.w::<T>(), case.dy::<T>());
    let mut expected = [&dy, &x, &w, &x].map(Sum::zeros);
    for_each_product(case, |i, j, k| {
        let [x, w, dy] = [x.data()[i], w.data()[j], dy.data()[k]].map(Element::to_f64);
        expected[0].add(k, 1.0, x * w);
        expected[1].add(i, 1.0, dy * w);
        expected[2].add(j, 1.0, dy * x);
        expected[3].add(i, 1.0, dy * w);
    });
    for (i, x) in x.data().iter().enumerate() {
        expected[3].add(i, 1.0, x.to_f64());
    }
    let Case { window, groups, .. } = case;
    // Winograd's transforms lose most of a digit.
    for (algorithm, tolerance) in [(Algorithm::Direct, tolerance), (Algorithm::Winograd, 7.0 * tolerance)] {
        for &isa in simd::available() {
            let all = || {
                let mut onto = x.clone();
                conv2d_backward_input_onto(&mut onto, &dy, &w, window, *groups).unwrap();
                [
                    conv2d(&x, &w, window, *groups).unwrap(),
                    conv2d_backward_input(&dy, &w, x.shape(), window, *groups).unwrap(),
                    conv2d_backward_weight(&x, &dy, w.shape(), window, *groups).unwrap(),
                    onto,
                ]
            };
            let got = simd::with_isa(isa, || with_algorithm(algorithm, all));
            for ((got, expected), what) in got.iter().zip(&expected).zip(["y", "dx", "dw", "x + dx"]) {
                let error = expected.error(got);
                assert!(error < tolerance, "{algorithm:?} on {isa:?}: {what} of {case:?} is off by {error:e}");
            }
        }
    }
    if *groups == 1 {
        let error = expected[0].error(&conv2d_im2col(&x, &w, window).unwrap());
        assert!(error < tolerance, "im2col of {case:?}: off by {error:e}");
    }
}

fn case(batch: usize, input: [usize; 2], cin: usize, cout: usize, groups: usize, window: Window) -> Case {
    Case { batch, input, cin, cout, groups, window }
}

#[test]
fn typical_layers_match_the_reference() {
    let same = Window::square(3).padding(1);
    let uneven = Window { padding: Padding { top: 0, bottom: 1, left: 2, right: 0 }, ..Window::new([3, 2]).stride(2) };
    for case in [
        case(2, [14, 14], 16, 32, 1, same),
        case(1, [7, 7], 300, 70, 1, same),
        case(1, [9, 8], 24, 40, 1, same.stride(2)),
        case(1, [9, 11], 24, 116, 1, same.stride(2)),
        case(2, [12, 13], 512, 100, 1, Window::new([1, 2])),
        case(2, [20, 19], 256, 104, 1, Window::square(1).stride(2)),
        case(2, [5, 9], 30, 104, 1, Window::square(1)),
        case(2, [9, 11], 5, 7, 1, uneven),
        case(1, [10, 10], 12, 16, 1, same.dilation(2).padding(2)),
        case(1, [23, 21], 3, 64, 1, Window::square(7).stride(2).padding(3)),
        case(2, [8, 8], 1, 20, 1, Window::square(5).padding(2)),
        case(3, [6, 6], 33, 17, 1, Window::square(1)),
        case(3, [6, 7], 20, 36, 1, Window::square(1).stride(2)),
        case(2, [9, 9], 32, 64, 4, same.stride(2)),
        case(1, [5, 5], 12, 12, 6, same),
        case(2, [11, 9], 70, 70, 70, same),
        case(2, [11, 9], 19, 19, 19, Window::square(5).padding(2).stride(2)),
        case(1, [8, 8], 6, 12, 6, same),
        case(2, [9, 17], 128, 128, 32, same),
        case(1, [17, 9], 64, 64, 8, same.stride(2)),
        case(1, [9, 10], 72, 72, 9, uneven),
        case(1, [6, 19], 64, 32, 2, same),
        case(1, [7, 7], 64, 128, 2, same.stride(2)),
        case(1, [12, 11], 40, 40, 10, same.dilation(2).padding(2)),
        case(1, [5, 6], 8, 8, 2, same),
        case(1, [9, 9], 48, 48, 12, Window::square(5).padding(2)),
        case(1, [7, 9], 32, 32, 4, Window::square(1)),
        case(2, [20, 19], 24, 24, 24, same),
        case(1, [30, 27], 43, 43, 43, same.stride(2)),
        case(1, [7, 7], 300, 300, 300, Window::square(5).padding(2)),
        case(1, [14, 15], 36, 36, 36, Window::square(7).padding(3)),
        case(1, [33, 36], 20, 20, 20, Window::square(7).padding(3).stride(2)),
        case(1, [12, 13], 16, 16, 16, same.dilation(2).padding(2)),
        case(1, [13, 12], 17, 17, 17, uneven),
        case(2, [2, 3], 16, 16, 16, Window::square(7).padding(3)),
        case(2, [9, 9], 5, 5, 5, Window::square(3).stride(4)),
        case(0, [4, 4], 32, 32, 32, same),
        case(1, [1, 1], 8, 8, 1, same),
        case(0, [4, 4], 8, 8, 1, same),
        case(1, [4, 4], 520, 18, 1, Window::square(2)),
        case(3, [30, 29], 40, 33, 1, same),
        case(2, [12, 13], 66, 20, 1, Window::square(3).padding(2)),
        case(2, [12, 13], 3, 20, 1, Window::square(3)),
    ] {
        check::<f32>(&case, 5e-7);
        check::<f64>(&case, 1e-15);
    }
}

/// Rows of as many outputs as make wide tiles, whole ones and such that the last begins in the one before, within images and
/// at their borders.
#[test]
fn depthwise_rows_of_wide_tiles_match_the_reference() {
    for width in [14, 26, 42] {
        for kernel in [3, 5, 7] {
            for (stride, padding) in [(1, 0), (1, kernel / 2), (2, 0), (2, kernel / 2)] {
                let window = Window::square(kernel).stride(stride).padding(padding);
                let input = [kernel + stride, (width - 1) * stride + kernel - 2 * padding];
                let case = case(1, input, 32, 32, 32, window);
                assert_eq!(case.dy::<f32>().shape()[2], width);
                check::<f32>(&case, 5e-7);
                check::<f64>(&case, 1e-15);
            }
        }
    }
}

/// Images from 2²⁰ elements on, of which tiles ask for more than they read: several images, whole and half lines, wide groups.
#[test]
fn narrow_groups_of_large_images_match_the_reference() {
    let size = [63, 133];
    for (size, channels, groups, kernel, stride) in [
        (size, 64, 64, 3, 1),
        (size, 72, 72, 3, 2),
        (size, 64, 64, 5, 2),
        (size, 64, 16, 3, 1),
        (size, 64, 2, 3, 2),
        // So large that the strided output is, too.
        ([127, 233], 72, 72, 3, 2),
    ] {
        let window = Window::square(kernel).stride(stride).padding(kernel / 2);
        let case = case(2, size, channels, channels, groups, window);
        let larger = if size[0] < 127 { case.x::<f32>() } else { case.dy() };
        assert!(larger.len() >= 1 << 20);
        check::<f32>(&case, 5e-7);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn random_geometries_match_the_reference(
        batch in 0..3usize,
        size in prop::array::uniform2(1..12usize),
        channels in prop::array::uniform2(1..40usize),
        groups in 1..4usize,
        depthwise in prop::bool::weighted(0.25),
        kernel_size in prop::array::uniform2(1..5usize),
        stride in prop::array::uniform2(1..4usize),
        dilation in prop::array::uniform2(1..3usize),
        padding in prop::array::uniform4(0..4usize),
    ) {
        let [top, bottom, left, right] = padding;
        let window = Window { kernel_size, stride, dilation, padding: Padding { top, bottom, left, right } };
        prop_assume!(window.output_size("test", size).is_ok());
        let [cin, cout] = if depthwise { [channels[0]; 2] } else { channels.map(|c| c * groups) };
        let case = case(batch, size, cin, cout, if depthwise { cin } else { groups }, window);
        check::<f32>(&case, 5e-7);
        check::<f64>(&case, 1e-15);
    }
}

#[test]
fn packed_convolutions_fuse_what_follows() {
    for algorithm in [Algorithm::Direct, Algorithm::Winograd] {
        with_algorithm(algorithm, check_packed);
    }
}

fn check_packed() {
    for (groups, cin, cout) in [(1, 20, 36), (1, 9, 116), (2, 8, 12), (50, 50, 50), (7, 7, 7), (8, 32, 32)] {
        let window = Window::square(3).padding(1);
        let case = case(2, [7, 13], cin, cout, groups, window);
        let (x, w, residual) = (case.x::<f32>(), case.w::<f32>(), case.dy::<f32>());
        let bias = Tensor::from_fn([cout], |i| i as f32 / cout as f32 - 0.5);
        let plain = conv2d(&x, &w, &window, groups).unwrap();
        type Curve = fn(f32) -> f32;
        let curves: [(Option<Activation>, Curve); 5] = [
            (None, |x| x),
            (Some(Activation::Relu), |x| x.max(0.0)),
            (Some(Activation::Relu6), |x| x.clamp(0.0, 6.0)),
            (Some(Activation::Sigmoid), |x| 1.0 / (1.0 + (-x).exp())),
            (Some(Activation::Silu), |x| x / (1.0 + (-x).exp())),
        ];
        for (activation, curve) in curves {
            let packed = PackedConv::new(&w, Some(&bias), activation, window, groups, x.shape()).unwrap();
            let expected = Tensor::from_fn(*plain.shape(), |i| {
                curve(plain.data()[i] + bias.data()[i % cout] + residual.data()[i])
            });
            assert!(packed.run(&x, Some(&residual)).unwrap().relative_error(&expected) < 1e-6, "{activation:?}");
            let expected = Tensor::from_fn(*plain.shape(), |i| curve(plain.data()[i] + bias.data()[i % cout]));
            assert!(packed.run(&x, None).unwrap().relative_error(&expected) < 1e-6, "{activation:?}");
        }
    }
}

#[test]
fn packed_convolutions_take_weights_of_channels() {
    for (batch, size, cin, cout) in [(1, [9, 8], 20, 36), (3, [5, 5], 33, 7), (2, [1, 1], 4, 64), (0, [3, 3], 4, 8)] {
        let window = Window::square(1);
        let case = case(batch, size, cin, cout, 1, window);
        let (x, w, residual) = (case.x::<f32>(), case.w::<f32>(), case.dy::<f32>());
        let scale = Tensor::from_fn([batch, 1, 1, cin], |i| (i % 7) as f32 - 2.5);
        let packed = PackedConv::new(&w, None, Some(Activation::Relu), window, 1, x.shape()).unwrap().scaled().unwrap();
        let product = conv2d(&crate::ops::mul(&x, &scale).unwrap(), &w, &window, 1).unwrap();
        let expected = Tensor::from_fn(*product.shape(), |i| (product.data()[i] + residual.data()[i]).max(0.0));
        let mut y = Tensor::default();
        packed.run_into(&x, Some(&scale), Some(&residual), &mut Tensor::default(), &mut y).unwrap();
        assert!(y.relative_error(&expected) < 1e-6);
        let error = packed.run(&x, None).unwrap_err();
        assert_eq!(error.to_string(), format!("conv2d: expected scale of shape [{batch}, 1, 1, {cin}], got none"));
    }
    let (x, w) = (Tensor::<f32>::zeros([1, 4, 4, 2]), Tensor::zeros([3, 3, 2, 2]));
    let packed = PackedConv::new(&w, None, None, Window::square(3), 1, x.shape()).unwrap();
    let [scale, mut workspace, mut y] = [(); 3].map(|()| Tensor::zeros([1, 1, 1, 2]));
    let error = packed.run_into(&x, Some(&scale), None, &mut workspace, &mut y).unwrap_err();
    assert_eq!(error.to_string(), "conv2d: expected input without scale, got [1, 1, 1, 2]");
    assert!(packed.scaled().is_err());
}

/// Statistics that were taken along, against those of the very output; whether there were any.
fn check_stats<T: Element>(case: &Case, tolerance: f64) -> bool {
    let Case { cout, groups, window, .. } = *case;
    let w = case.w::<T>();
    // Means far from zero, beside which the deviations are small.
    let x = case.x::<T>().map(|x| x + T::from_f64(4.0));
    let mut taken = false;
    for &isa in simd::available() {
        let (y, stats) = simd::with_isa(isa, || conv2d_with_stats(&x, &w, &window, groups).unwrap());
        assert_eq!(y, simd::with_isa(isa, || conv2d(&x, &w, &window, groups).unwrap()));
        let Some(ColumnStats { mean, var }) = stats else { continue };
        taken = true;
        let rows = y.shape().rows();
        for c in 0..cout {
            let column = || (0..rows).map(|row| y.data()[row * cout + c].to_f64());
            let expected = column().sum::<f64>() / rows as f64;
            let expected_var = column().map(|y| (y - expected).powi(2)).sum::<f64>() / rows as f64;
            let (mean, var) = (mean.data()[c].to_f64(), var.data()[c].to_f64());
            let largest = column().fold(0.0f64, |largest, y| largest.max(y.abs()));
            assert!(
                (mean - expected).abs() <= tolerance * largest,
                "{isa:?}: mean of {case:?}: {mean}, not {expected}"
            );
            // Squares are taken of differences from some row of the output, which may be the one farthest from the mean.
            let farthest = column().fold(0.0f64, |farthest, y| farthest.max((y - expected).powi(2)));
            let error = (var - expected_var).abs();
            assert!(error <= tolerance * farthest, "{isa:?}: variance of {case:?}: {var}, not {expected_var}");
        }
    }
    taken
}

#[test]
fn statistics_of_the_output_are_taken_along() {
    for case in [
        case(2, [14, 14], 16, 32, 1, Window::square(1)),
        case(3, [6, 6], 33, 17, 1, Window::square(1)),
        case(2, [14, 14], 16, 116, 1, Window::square(1)),
        case(2, [9, 11], 5, 7, 1, Window::square(3).stride(2)),
        case(1, [23, 21], 3, 64, 1, Window::square(7).stride(2).padding(3)),
        // Several blocks of the common dimension, and several parts of the rows.
        case(2, [30, 31], 600, 40, 1, Window::square(1)),
        case(1, [7, 7], 160, 136, 2, Window::square(3).stride(2)),
        case(1, [1, 1], 8, 8, 1, Window::square(1)),
    ] {
        assert!(check_stats::<f32>(&case, 5e-7) && check_stats::<f64>(&case, 2e-15), "{case:?}");
    }
    // Whose kernels do not.
    let depthwise = case(2, [9, 9], 16, 16, 16, Window::square(3));
    let empty = case(0, [4, 4], 8, 8, 1, Window::square(1));
    assert!(!check_stats::<f32>(&depthwise, 0.0) && !check_stats::<f32>(&empty, 0.0));
}

#[test]
fn wrong_shapes_are_errors() {
    let x = Tensor::<f32>::zeros([1, 4, 4, 6]);
    let window = Window::square(3);
    let error = |w: [usize; 4], groups| conv2d(&x, &Tensor::zeros(w), &window, groups).unwrap_err().to_string();
    assert_eq!(error([3, 3, 5, 8], 1), "conv2d: expected weight of shape [3, 3, 6, Cout], got [3, 3, 5, 8]");
    assert_eq!(
        error([3, 3, 3, 7], 2),
        "conv2d: expected weight of shape [3, 3, 3, Cout] with Cout divisible by 2, got [3, 3, 3, 7]"
    );
    assert_eq!(error([3, 3, 1, 8], 4), "conv2d: expected groups that divide the 6 input channels, got 4");
    let w = Tensor::zeros([3, 3, 6, 8]);
    let dy = Tensor::zeros([1, 2, 2, 7]);
    assert_eq!(
        conv2d_backward_weight(&x, &dy, w.shape(), &window, 1).unwrap_err().to_string(),
        "conv2d_backward_weight: expected gradient of shape [1, 2, 2, 8], got [1, 2, 2, 7]"
    );
    let error = conv2d(&Tensor::<f32>::zeros([4, 4, 6]), &w, &window, 1).unwrap_err();
    assert_eq!(error.to_string(), "conv2d: expected input of shape [N, H, W, C], got [4, 4, 6]");
}

#[test]
fn same_bits_for_any_number_of_threads() {
    let case = case(4, [28, 28], 64, 64, 1, Window::square(3).padding(1));
    let depthwise = Case { groups: 64, ..case };
    let grouped = Case { groups: 16, ..case };
    // An odd number of panels, which threads cut.
    let pointwise = Case { window: Window::square(1), cout: 224, ..case };
    // More channels than are multiplied at a time, of some taps.
    let deep = self::case(1, [14, 14], 2048, 32, 1, Window::square(3).stride(2).padding(1));
    let results: Vec<_> = [1, 2, 3, 8]
        .map(|threads| {
            threads::set(threads);
            let (y, stats) = conv2d_with_stats(&pointwise.x::<f32>(), &pointwise.w(), &pointwise.window, 1).unwrap();
            let ColumnStats { mean, var } = stats.unwrap();
            let passes = [case, depthwise, grouped].map(|case| {
                let (x, w, dy) = (case.x::<f32>(), case.w::<f32>(), case.dy::<f32>());
                [
                    conv2d(&x, &w, &case.window, case.groups).unwrap(),
                    conv2d_backward_input(&dy, &w, x.shape(), &case.window, case.groups).unwrap(),
                    conv2d_backward_weight(&x, &dy, w.shape(), &case.window, case.groups).unwrap(),
                ]
            });
            let deep = conv2d(&deep.x::<f32>(), &deep.w(), &deep.window, 1).unwrap();
            (passes, [y, mean, var, deep])
        })
        .into();
    threads::set(0);
    assert!(results.iter().all(|r| *r == results[0]));
}
