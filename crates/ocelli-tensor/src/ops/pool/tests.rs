//! Against plain loops in f64 that follow PyTorch's `max_pool2d`, `avg_pool2d` and `adaptive_avg_pool2d`.

use proptest::prelude::*;

use super::*;
use crate::ops::testing::{Rng, Sum, dot, on_every_isa, same_bits};
use crate::ops::window::Padding;

/// The input positions of output `o` along an axis, tap by tap: `None` where the tap is on padding or beyond.
fn positions(window: &Window, axis: usize, o: usize, size: usize) -> Vec<Option<usize>> {
    let before = if axis == 0 { window.padding.top } else { window.padding.left };
    let tap =
        |t: usize| (o * window.stride[axis] + t * window.dilation[axis]).checked_sub(before).filter(|&i| i < size);
    (0..window.kernel_size[axis]).map(tap).collect()
}

/// An output pixel and the indices in x of its window's elements of one channel.
type OutputWindow = ([usize; 2], Vec<usize>);

/// The windows of every output element, in order.
fn windows(x: &Shape, output: [usize; 2], window: &Window) -> Vec<OutputWindow> {
    let [n, h, w, channels] = x.nhwc("test", "x").unwrap();
    let mut all = Vec::new();
    for (image, oy, ox) in
        (0..n * output[0] * output[1]).map(|p| (p / output[1] / output[0], p / output[1] % output[0], p % output[1]))
    {
        let (ys, xs) = (positions(window, 0, oy, h), positions(window, 1, ox, w));
        for c in 0..channels {
            let at = |y, x| ((image * h + y) * w + x) * channels + c;
            let elements = ys.iter().flatten().flat_map(|y| xs.iter().flatten().map(move |x| at(y, x)));
            all.push(([oy, ox], elements.collect()));
        }
    }
    all
}

/// The maxima, and the index in x of each (none for a window without elements).
fn reference_max(x: &Tensor<f64>, output: [usize; 2], window: &Window) -> (Tensor<f64>, Vec<Option<usize>>) {
    let all = windows(x.shape(), output, window);
    let places: Vec<Option<usize>> = all
        .iter()
        .map(|(_, elements)| {
            let mut best = *elements.first()?;
            for &at in elements {
                let (v, max) = (x.data()[at], x.data()[best]);
                if v > max || v.is_nan() {
                    best = at;
                }
            }
            Some(best)
        })
        .collect();
    let [n, _, _, c] = x.shape().nhwc("test", "x").unwrap();
    let y = Tensor::from_fn([n, output[0], output[1], c], |i| places[i].map_or(f64::NEG_INFINITY, |at| x.data()[at]));
    (y, places)
}

fn reference_avg(x: &Tensor<f64>, output: [usize; 2], window: &Window, include_pad: bool) -> Tensor<f64> {
    let [n, h, w, c] = x.shape().nhwc("test", "x").unwrap();
    let all = windows(x.shape(), output, window);
    let padded = [h + window.padding.top + window.padding.bottom, w + window.padding.left + window.padding.right];
    Tensor::from_fn([n, output[0], output[1], c], |i| {
        let (pixel, elements) = &all[i];
        let on_padded = |axis: usize| {
            let position = |t| pixel[axis] * window.stride[axis] + t * window.dilation[axis];
            (0..window.kernel_size[axis]).filter(|&t| position(t) < padded[axis]).count()
        };
        let count = if include_pad { on_padded(0) * on_padded(1) } else { elements.len() };
        elements.iter().map(|&at| x.data()[at]).sum::<f64>() / count.max(1) as f64
    })
}

prop_compose! {
    fn any_window()(
        kernel_size in [1usize..5, 1usize..5],
        stride in [1usize..4, 1usize..4],
        dilation in prop_oneof![3 => Just([1, 1]), 1 => [1usize..4, 1usize..4]],
        padding in [0usize..4, 0usize..4, 0usize..4, 0usize..4],
    ) -> Window {
        let half = [0, 1].map(|axis| (dilation[axis] * (kernel_size[axis] - 1)).div_ceil(2));
        let [top, bottom, left, right] = padding;
        let padding = Padding {
            top: top.min(half[0]),
            bottom: bottom.min(half[0]),
            left: left.min(half[1]),
            right: right.min(half[1]),
        };
        Window { kernel_size, stride, padding, dilation }
    }
}

prop_compose! {
    fn any_input()(
        n in 0usize..3, h in 1usize..9, w in 1usize..9, c in prop::sample::select(vec![1, 3, 8, 17, 24, 72]), seed: u64,
    ) -> Tensor<f64> {
        // Few values, so that windows hold equal ones.
        Rng::new(seed).tensor::<f64>([n, h, w, c]).map(|x| (8.0 * x).round() / 8.0)
    }
}

fn output_size(x: &Tensor<f64>, window: &Window, ceil_mode: bool) -> Option<[usize; 2]> {
    let input = [x.shape()[1], x.shape()[2]];
    if ceil_mode { window.output_size_ceil("test", input) } else { window.output_size("test", input) }.ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn max_pool_matches_reference(x in any_input(), window in any_window(), ceil_mode: bool) {
        let Some(output) = output_size(&x, &window, ceil_mode) else { return Ok(()) };
        let (expected, places) = reference_max(&x, output, &window);
        let dy = Rng::new(1).tensor::<f64>(expected.shape());
        let mut expected_dx = Tensor::<f64>::zeros(x.shape());
        for (at, dy) in places.iter().zip(dy.data()) {
            at.iter().for_each(|&at| expected_dx.data_mut()[at] += dy);
        }
        on_every_isa(|| {
            let (y, argmax) = max_pool2d(&x, &window, ceil_mode).unwrap();
            assert_eq!((&y, argmax.bytes()), (&expected, y.len()));
            assert_eq!(max_pool2d_values(&x, &window, ceil_mode).unwrap(), expected);
            let dx = max_pool2d_backward(&dy, &argmax, x.shape(), &window).unwrap();
            assert!(dx.relative_error(&expected_dx) < 1e-14);

            let (y, argmax) = max_pool2d(&x.cast::<f32>(), &window, ceil_mode).unwrap();
            assert_eq!(y, expected.cast());
            let dx = max_pool2d_backward(&dy.cast::<f32>(), &argmax, x.shape(), &window).unwrap();
            assert!(dx.relative_error(&expected_dx.cast()) < 1e-6);
        });
    }

    #[test]
    fn avg_pool_matches_reference(x in any_input(), window in any_window(), ceil_mode: bool, include_pad: bool) {
        let Some(output) = output_size(&x, &window, ceil_mode) else { return Ok(()) };
        let expected = reference_avg(&x, output, &window, include_pad);
        let dy = Rng::new(1).tensor::<f64>(expected.shape());
        on_every_isa(|| {
            let y = avg_pool2d(&x, &window, ceil_mode, include_pad).unwrap();
            assert!(y.relative_error(&expected) < 1e-13);
            let dx = avg_pool2d_backward(&dy, x.shape(), &window, ceil_mode, include_pad).unwrap();
            assert!((dot(&y, &dy) - dot(&x, &dx)).abs() < 1e-11);

            let single = avg_pool2d(&x.cast::<f32>(), &window, ceil_mode, include_pad).unwrap();
            assert!(single.relative_error(&expected.cast()) < 1e-6);
            let single = avg_pool2d_backward(&dy.cast::<f32>(), x.shape(), &window, ceil_mode, include_pad).unwrap();
            assert!(single.relative_error(&dx.cast()) < 1e-6);
        });
    }

    #[test]
    fn adaptive_pool_matches_reference(x in any_input(), oh in 1usize..11, ow in 1usize..11) {
        let [n, h, w, c] = x.shape().nhwc("test", "x").unwrap();
        let region = |o: usize, size: usize, outputs: usize| {
            let start = (o as f64 * size as f64 / outputs as f64).floor() as usize;
            start..((o + 1) as f64 * size as f64 / outputs as f64).ceil() as usize
        };
        let dy = Rng::new(1).tensor::<f64>([n, oh, ow, c]);
        let mut expected = Sum::zeros(&dy);
        for i in 0..dy.len() {
            let (ys, xs) = (region(i / c / ow % oh, h, oh), region(i / c % ow, w, ow));
            for (y, column) in ys.clone().flat_map(|y| xs.clone().map(move |x| (y, x))) {
                let at = ((i / c / ow / oh * h + y) * w + column) * c + i % c;
                expected.add(i, 1.0, x.data()[at] / (ys.len() * xs.len()) as f64);
            }
        }
        on_every_isa(|| {
            let y = adaptive_avg_pool2d(&x, [oh, ow]).unwrap();
            assert!(expected.error(&y) < 1e-13);
            let dx = adaptive_avg_pool2d_backward(&dy, x.shape()).unwrap();
            assert!((dot(&y, &dy) - dot(&x, &dx)).abs() < 1e-11);

            let single = adaptive_avg_pool2d(&x.cast::<f32>(), [oh, ow]).unwrap();
            assert!(expected.error(&single) < 1e-6);
            let single = adaptive_avg_pool2d_backward(&dy.cast::<f32>(), x.shape()).unwrap();
            assert!(single.relative_error(&dx.cast()) < 1e-6);
        });
    }
}

#[test]
fn global_pool_is_adaptive_pool_to_one_pixel() {
    for shape in [[2, 7, 7, 17], [1, 1, 1, 3], [3, 20, 30, 24], [2, 7, 7, 1152], [0, 2, 2, 8]] {
        let x = Rng::new(2).tensor::<f64>(shape);
        on_every_isa(|| {
            let y = global_avg_pool2d(&x).unwrap();
            assert_eq!(**y.shape(), [shape[0], shape[3]]);
            let window = Window::new([shape[1], shape[2]]);
            let expected = avg_pool2d(&x, &window, false, true).unwrap().reshape(y.shape()).unwrap();
            assert!(y.relative_error(&expected) < 1e-13);
            let dx = global_avg_pool2d_backward(&y, x.shape()).unwrap();
            assert!((dot(&y, &y) - dot(&x, &dx)).abs() < 1e-12);
        });
    }
}

#[test]
fn nan_and_infinities_are_pooled_as_in_pytorch() {
    // torch.nn.functional.max_pool2d(x, (1, 2), return_indices=True)
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let rows = [[nan, 1.0], [1.0, nan], [inf, nan], [nan, inf], [-inf, -inf], [inf, inf], [nan, nan], [2.0, -inf]];
    let expected = [(nan, 0), (nan, 1), (nan, 1), (nan, 0), (-inf, 0), (inf, 0), (nan, 1), (2.0, 0)];
    let x = Tensor::from_slice([1, 8, 2, 1], rows.as_flattened()).unwrap();
    on_every_isa(|| {
        let (y, argmax) = max_pool2d(&x, &Window::new([1, 2]), false).unwrap();
        let dx = max_pool2d_backward(&Tensor::full(y.shape(), 1.0), &argmax, x.shape(), &Window::new([1, 2])).unwrap();
        for (i, &(value, tap)) in expected.iter().enumerate() {
            assert!(y.data()[i] == value || value.is_nan() && y.data()[i].is_nan(), "row {i}");
            assert_eq!(dx.data()[2 * i + tap], 1.0, "row {i}");
        }
    });
}

#[test]
fn windows_of_more_than_256_taps_take_two_bytes() {
    let x = Rng::new(3).tensor::<f64>([1, 20, 21, 72]);
    for (kernel, output, bytes) in [([17, 18], [2, 2], 2), ([16, 16], [2, 2], 1)] {
        let window = Window::new(kernel).stride(3);
        let (expected, places) = reference_max(&x, output, &window);
        let dy = Rng::new(1).tensor::<f64>(expected.shape());
        let mut expected_dx = Tensor::<f64>::zeros(x.shape());
        places.iter().zip(dy.data()).for_each(|(at, dy)| expected_dx.data_mut()[at.unwrap()] += dy);
        on_every_isa(|| {
            let (y, argmax) = max_pool2d(&x, &window, false).unwrap();
            assert_eq!((&y, argmax.bytes()), (&expected, bytes * y.len()));
            let dx = max_pool2d_backward(&dy, &argmax, x.shape(), &window).unwrap();
            assert!(dx.relative_error(&expected_dx) < 1e-14);

            let (_, argmax) = max_pool2d(&x.cast::<f32>(), &window, false).unwrap();
            let dx = max_pool2d_backward(&dy.cast::<f32>(), &argmax, x.shape(), &window).unwrap();
            assert!(dx.relative_error(&expected_dx.cast()) < 1e-6);
        });
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let x = Rng::new(7).tensor::<f32>([3, 41, 50, 19]);
    let window = Window::square(3).stride(2).padding(1);
    same_bits(|| {
        let (max, argmax) = max_pool2d(&x, &window, true).unwrap();
        let dmax = max_pool2d_backward(&max, &argmax, x.shape(), &window).unwrap();
        let avg = avg_pool2d(&x, &window, true, true).unwrap();
        let davg = avg_pool2d_backward(&avg, x.shape(), &window, true, true).unwrap();
        let adaptive = adaptive_avg_pool2d(&x, [6, 7]).unwrap();
        let dadaptive = adaptive_avg_pool2d_backward(&adaptive, x.shape()).unwrap();
        let global = global_avg_pool2d(&x).unwrap();
        let dglobal = global_avg_pool2d_backward(&global, x.shape()).unwrap();
        vec![max, dmax, avg, davg, adaptive, dadaptive, global, dglobal]
    });
}

#[test]
fn wrong_shapes_are_errors() {
    let x = Tensor::<f32>::zeros([2, 5, 5, 3]);
    let window = Window::square(3);
    let error = max_pool2d(&Tensor::<f32>::zeros([5, 5]), &window, false).unwrap_err();
    assert_eq!(error.to_string(), "max_pool2d: expected input of shape [N, H, W, C], got [5, 5]");
    let error = avg_pool2d(&x, &Window::square(6), false, true).unwrap_err();
    assert_eq!(error.to_string(), "avg_pool2d: expected padded input of at least [6, 6], got [5, 5]");
    let error = max_pool2d(&x, &window.padding(2), false).unwrap_err();
    let padding = "Padding { top: 2, bottom: 2, left: 2, right: 2 }";
    assert_eq!(
        error.to_string(),
        format!("max_pool2d: expected padding of at most half of the window, [1, 1], got {padding}")
    );
    let error = max_pool2d(&Tensor::<f32>::zeros([1, 300, 300, 1]), &Window::square(257), false).unwrap_err();
    assert_eq!(error.to_string(), "max_pool2d: expected kernel_size of at most 65536 taps, got 66049");

    let (y, argmax) = max_pool2d(&x, &window, false).unwrap();
    let error = max_pool2d_backward(&x, &argmax, x.shape(), &window).unwrap_err();
    assert_eq!(error.to_string(), "max_pool2d_backward: expected argmax of shape [2, 5, 5, 3], got [2, 3, 3, 3]");
    let error = max_pool2d_backward(&y, &argmax, &Shape::from([2, 6, 5, 3]), &window).unwrap_err();
    assert_eq!(error.to_string(), "max_pool2d_backward: expected dy of shape [2, 4, 3, 3], got [2, 3, 3, 3]");
    let error = avg_pool2d_backward(&x, x.shape(), &window, false, true).unwrap_err();
    assert_eq!(error.to_string(), "avg_pool2d_backward: expected dy of shape [2, 3, 3, 3], got [2, 5, 5, 3]");
    let error = adaptive_avg_pool2d(&x, [0, 1]).unwrap_err();
    assert_eq!(error.to_string(), "adaptive_avg_pool2d: expected output size of at least 1, got [0, 1]");
    let error = adaptive_avg_pool2d_backward(&Tensor::<f32>::zeros([1, 5, 5, 3]), x.shape()).unwrap_err();
    assert_eq!(error.to_string(), "adaptive_avg_pool2d_backward: expected dy of shape [2, 5, 5, 3], got [1, 5, 5, 3]");
    let error = global_avg_pool2d(&Tensor::<f32>::zeros([2, 0, 5, 3])).unwrap_err();
    let expected = "expected input of shape [N, H, W, C] with at least one pixel, got [2, 0, 5, 3]";
    assert_eq!(error.to_string(), format!("global_avg_pool2d: {expected}"));
    let error = global_avg_pool2d_backward(&x, x.shape()).unwrap_err();
    assert_eq!(error.to_string(), "global_avg_pool2d_backward: expected dy of shape [2, 3], got [2, 5, 5, 3]");
}
