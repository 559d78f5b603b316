//! Convolutions of bytes against a naive reference in integers, over geometries and on every instruction set.

use proptest::prelude::*;

use super::*;
use crate::ops::testing::{Rng, on_every_isa, same_bits};
use crate::ops::{Padding, conv2d};
use crate::simd;

struct Case {
    x: Tensor,
    conv: FloatConv,
    residual: Tensor,
    input: Quantization,
    output: Quantization,
}

fn case(x: [usize; 4], cout: usize, window: Window, activation: Option<Activation>) -> Case {
    let mut rng = Rng::new(5);
    let [kh, kw] = window.kernel_size;
    let weight = rng.tensor([kh, kw, x[3], cout]);
    let [h, w] = window.output_size("test", [x[1], x[2]]).unwrap();
    let conv = FloatConv { weight, bias: Some(rng.tensor([cout])), input_mean: None, activation, window };
    let input = Quantization::of_range(-0.6, 1.0);
    let output = Quantization::of_range(-1.0, 3.0);
    Case { x: rng.tensor(x), conv, residual: rng.tensor([x[0], h, w, cout]), input, output }
}

/// Σ q v − z Σ v, which a convolution of integers in f64 gives exactly, and from it the output; and what its rounding errors
/// are proportional to, the largest sum of the addends' magnitudes. (All outputs may be next to nothing.)
fn reference(case: &Case, residual: Option<&Values>) -> (Tensor, f64) {
    let q = QuantizedTensor::quantize(&case.x, case.input);
    let conv = QuantizedConv::new(&case.conv, case.input, None).unwrap();
    let columns = case.conv.weight.shape().columns();
    let scale = |i: usize| f64::from(conv.weights.scales[i % columns]);
    let v = Tensor::<f64>::from_fn(*case.conv.weight.shape(), |i| {
        let (rows, row) = (case.conv.weight.shape().rows() / conv.weights.taps, i / columns);
        f64::from(conv.weights.get([row / rows, row % rows], i % columns))
    });
    let x = Tensor::<f64>::from_fn(*case.x.shape(), |i| {
        let channels = case.x.shape().columns();
        f64::from(q.get(i / channels, i % channels)) - f64::from(case.input.zero_point)
    });
    let sums = conv2d(&x, &v, &case.conv.window, 1).unwrap();
    let residual = residual.map(|residual| match residual {
        Values::Floats(x) => x.clone(),
        Values::Bytes(x) => x.dequantize(),
    });
    let mut magnitude = 0.0f64;
    let y = Tensor::from_fn(*sums.shape(), |i| {
        let unit = f64::from(case.input.scale) * scale(i);
        let weights: f64 = v.data().iter().skip(i % columns).step_by(columns).sum();
        let zeros = f64::from(case.input.zero_point) * weights;
        let addends = [
            (sums.data()[i] + zeros) * unit,
            -zeros * unit,
            f64::from(case.conv.bias.as_ref().unwrap().data()[i % columns]),
            residual.as_ref().map_or(0.0, |residual| f64::from(residual.data()[i])),
        ];
        magnitude = magnitude.max(addends.iter().map(|x| x.abs()).sum());
        let y: f64 = addends.iter().sum();
        (match case.conv.activation {
            None => y,
            Some(Activation::Relu) => y.max(0.0),
            Some(Activation::Relu6) => y.clamp(0.0, 6.0),
            Some(Activation::Sigmoid) => 1.0 / (1.0 + (-y).exp()),
            Some(Activation::Silu) => y / (1.0 + (-y).exp()),
        }) as f32
    });
    (y, magnitude)
}

/// The bytes, or the bits of the numbers, of the rows without their padding.
fn bits(values: &Values) -> Vec<u32> {
    match values {
        Values::Floats(x) => x.data().iter().map(|x| x.to_bits()).collect(),
        Values::Bytes(x) => {
            let columns = x.shape().columns();
            (0..x.shape().len()).map(|i| x.get(i / columns, i % columns).into()).collect()
        }
    }
}

fn check(case: &Case) {
    let residual_bytes = Values::Bytes(QuantizedTensor::quantize(&case.residual, Quantization::of_range(-0.9, 0.7)));
    for residual in [None, Some(Values::Floats(case.residual.clone())), Some(residual_bytes)] {
        let (expected, magnitude) = reference(case, residual.as_ref());
        for output in [None, Some(case.output)] {
            let run = || {
                let conv = QuantizedConv::new(&case.conv, case.input, output).unwrap();
                let y = conv.run(&Values::Floats(case.x.clone()), residual.as_ref()).unwrap();
                let x = Values::Bytes(QuantizedTensor::quantize(&case.x, case.input));
                assert_eq!(bits(&conv.run(&x, residual.as_ref()).unwrap()), bits(&y));
                y
            };
            on_every_isa(|| match run() {
                Values::Floats(y) => {
                    for (&y, &expected) in y.data().iter().zip(expected.data()) {
                        let error = f64::from(y - expected).abs();
                        assert!(error <= 3e-7 * magnitude, "{error:e} of {magnitude} in {:?}", case.conv.window);
                    }
                }
                Values::Bytes(y) => {
                    let columns = y.shape().columns();
                    for (i, &x) in expected.data().iter().enumerate() {
                        // Where the number lies between two bytes, either will do.
                        let exact = (f64::from(x) / f64::from(case.output.scale) + f64::from(case.output.zero_point))
                            .clamp(0.0, 255.0);
                        let error = (f64::from(y.get(i / columns, i % columns)) - exact).abs();
                        assert!(error < 0.501, "{error} in {:?}", case.conv.window);
                    }
                }
            });
            let curved = matches!(case.conv.activation, Some(Activation::Sigmoid | Activation::Silu));
            let all: Vec<_> = simd::available().iter().map(|&isa| bits(&simd::with_isa(isa, run))).collect();
            assert!(curved || all.iter().all(|bits| *bits == all[0]), "ISAs differ in {:?}", case.conv.window);
        }
    }
}

#[test]
fn typical_layers_match_the_reference() {
    let same = Window::square(3).padding(1);
    let uneven = Window { padding: Padding { top: 0, bottom: 1, left: 2, right: 0 }, ..Window::new([3, 2]).stride(2) };
    let relu = Some(Activation::Relu);
    for case in [
        case([2, 7, 7, 64], 64, same, relu),
        case([1, 9, 8, 24], 40, same.stride(2), Some(Activation::Relu6)),
        case([1, 10, 10, 12], 16, same.dilation(2).padding(2), None),
        case([1, 23, 21, 3], 64, Window::square(7).stride(2).padding(3), relu),
        case([2, 9, 11, 5], 7, uneven, relu),
        case([2, 5, 4, 3], 70, Window::square(1), None),
        case([1, 1, 1, 300], 100, Window::square(1), None),
        case([3, 6, 7, 20], 36, Window::square(1).stride(2), Some(Activation::Silu)),
        case([2, 3, 3, 8], 16, same, Some(Activation::Sigmoid)),
        case([0, 4, 4, 8], 8, same, None),
        case([1, 30, 29, 40], 33, same, relu),
    ] {
        check(&case);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn random_geometries_match_the_reference(
        batch in 0..3usize,
        size in prop::array::uniform2(1..12usize),
        channels in prop::array::uniform2(1..40usize),
        kernel_size in prop::array::uniform2(1..5usize),
        stride in prop::array::uniform2(1..4usize),
        dilation in prop::array::uniform2(1..3usize),
        padding in prop::array::uniform4(0..4usize),
    ) {
        let [top, bottom, left, right] = padding;
        let window = Window { kernel_size, stride, dilation, padding: Padding { top, bottom, left, right } };
        prop_assume!(window.output_size("test", size).is_ok());
        check(&case([batch, size[0], size[1], channels[0]], channels[1], window, Some(Activation::Relu)));
    }
}

#[test]
fn bytes_stay_near_the_numbers() {
    let case = case([1, 14, 14, 128], 64, Window::square(3).padding(1), None);
    let exact = conv2d(&case.x, &case.conv.weight, &case.conv.window, 1).unwrap();
    let exact = crate::ops::add(&exact, case.conv.bias.as_ref().unwrap()).unwrap();
    let conv = QuantizedConv::new(&case.conv, Quantization::of_range(-1.0, 1.0), None).unwrap();
    let Values::Floats(y) = conv.run(&Values::Floats(case.x), None).unwrap() else { panic!("numbers were asked for") };
    let error = y.relative_error(&exact);
    assert!(error < 0.02, "{error}");
}

#[test]
fn the_bias_makes_up_for_the_rounding_of_weights() {
    let Case { conv, .. } = case([1, 1, 1, 200], 32, Window::square(1), None);
    let mean = Tensor::from_fn([200], |i| (i % 7) as f32 / 7.0);
    let exact = conv2d(&mean.reshape([1, 1, 1, 200]).unwrap(), &conv.weight, &conv.window, 1).unwrap();
    let exact = crate::ops::add(&exact, conv.bias.as_ref().unwrap()).unwrap();
    let error = |input_mean: Option<Tensor>| {
        let conv = FloatConv { input_mean, ..conv.clone() };
        // Bytes that mean exactly the sevenths.
        let conv = QuantizedConv::new(&conv, Quantization { scale: 1.0 / 7.0, zero_point: 0 }, None).unwrap();
        let x = Values::Floats(mean.reshape([1, 1, 1, 200]).unwrap());
        let Values::Floats(y) = conv.run(&x, None).unwrap() else { panic!("numbers were asked for") };
        y.relative_error(&exact)
    };
    assert!(error(None) > 1e-3 && error(Some(mean.clone())) < 1e-6);
}

#[test]
fn same_bits_for_any_number_of_threads() {
    let case = case([2, 28, 28, 64], 64, Window::square(3).padding(1), Some(Activation::Relu));
    same_bits(|| {
        let conv = QuantizedConv::new(&case.conv, case.input, None).unwrap();
        match conv.run(&Values::Floats(case.x.clone()), None).unwrap() {
            Values::Floats(y) => vec![y],
            Values::Bytes(_) => unreachable!("numbers were asked for"),
        }
    });
}

#[test]
fn wrong_operands_are_errors() {
    let case = case([1, 4, 4, 6], 8, Window::square(3), None);
    let conv = QuantizedConv::new(&case.conv, case.input, None).unwrap();
    let text = |x: [usize; 4], quantization| {
        let x = Values::Bytes(QuantizedTensor::quantize(&Tensor::zeros(x), quantization));
        conv.run(&x, Some(&Values::Floats(Tensor::zeros([1, 2, 2, 7])))).err().unwrap().to_string()
    };
    assert_eq!(
        text([1, 4, 4, 6], case.input),
        "quantized_conv: expected residual of shape [1, 2, 2, 8], got [1, 2, 2, 7]"
    );
    assert_eq!(
        text([1, 4, 4, 5], case.input),
        "quantized_conv: expected weight of shape [3, 3, 5, Cout], got [3, 3, 6, 8]"
    );
    assert_eq!(
        text([1, 4, 4, 6], Quantization { scale: 1.0, zero_point: 0 }),
        format!(
            "quantized_conv: expected quantization of the input {:?}, got Quantization {{ scale: 1.0, zero_point: 0 }}",
            case.input
        )
    );
    let new = |weight: [usize; 4], bias: usize| {
        let conv = FloatConv {
            weight: Tensor::zeros(weight),
            bias: Some(Tensor::zeros([bias])),
            input_mean: None,
            activation: None,
            window: Window::square(3),
        };
        QuantizedConv::new(&conv, case.input, None).err().unwrap().to_string()
    };
    assert_eq!(new([3, 3, 4, 5], 6), "quantized_conv: expected bias of shape [5], got [6]");
    assert_eq!(
        new([3, 2, 4, 5], 5),
        "quantized_conv: expected weight of shape [3, 3, Cin, Cout] above 0, got [3, 2, 4, 5]"
    );
    let error = "quantized_conv: expected weight of shape [Kh, Kw, Cin, Cout] with Kh · Kw · Cin of at most 65536, got \
                 [3, 3, 8000, 1]";
    assert_eq!(new([3, 3, 8000, 1], 1), error);
}
