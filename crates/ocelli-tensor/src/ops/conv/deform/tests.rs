//! Deformable convolution against a naive reference in `f64`, over geometries and on every instruction set.

use proptest::prelude::*;

use super::*;
use crate::ops::Storage;
use crate::ops::testing::{Rng, Sum, on_every_isa};
use crate::ops::{Activation, Padding, activation, add, conv2d, conv2d_backward_input, conv2d_backward_weight};

#[derive(Debug, Clone, Copy)]
struct Case {
    batch: usize,
    input: [usize; 2],
    /// Channels in and out.
    channels: [usize; 2],
    attributes: DeformConv2d,
    masked: bool,
    /// Offsets reach so many pixels.
    reach: f64,
}

struct Operands<T: Element> {
    x: Tensor<T>,
    offset: Tensor<T>,
    mask: Option<Tensor<T>>,
    w: Tensor<T>,
    dy: Tensor<T>,
}

impl Case {
    fn operands<T: Element>(&self) -> Operands<T> {
        let Case { batch, input, channels: [cin, cout], attributes, masked, reach } = *self;
        let DeformConv2d { window, groups, offset_groups } = attributes;
        let [height, width] = window.output_size("test", input).unwrap();
        let [kh, kw] = window.kernel_size;
        let samples = offset_groups * kh * kw;
        let mut rng = Rng::new(1);
        let x = rng.tensor([batch, input[0], input[1], cin]);
        let offset: Tensor<f32> = rng.tensor([batch, height, width, 2 * samples]);
        let mask: Tensor<f32> = rng.tensor([batch, height, width, samples]);
        Operands {
            x,
            offset: offset.map(|offset| offset * reach as f32).cast(),
            mask: masked.then(|| mask.cast()),
            w: rng.tensor([kh, kw, cin / groups, cout]),
            dy: rng.tensor([batch, height, width, cout]),
        }
    }
}

/// All results: y, dx, doffset, dmask if there is a mask, dw.
fn run<T: Element>(o: &Operands<T>, attributes: &DeformConv2d) -> Vec<Tensor<T>> {
    let Operands { x, offset, mask, w, dy } = o;
    let mask = mask.as_ref();
    let y = deform_conv2d(x, offset, mask, w, attributes).unwrap();
    let InputGradients { dx, doffset, dmask } =
        deform_conv2d_backward_input(dy, x, offset, mask, w, attributes).unwrap();
    let dw = deform_conv2d_backward_weight(dy, x, offset, mask, w.shape(), attributes).unwrap();
    [y, dx, doffset].into_iter().chain(dmask).chain([dw]).collect()
}

/// The definition in plain loops; the results are those of [`run`].
fn reference(o: &Operands<f64>, attributes: &DeformConv2d) -> Vec<Sum> {
    let Operands { x, offset, mask, w, dy } = o;
    let DeformConv2d { window, groups, offset_groups } = *attributes;
    let [[batch, height, width, cin], [_, out_height, out_width, cout]] =
        [x, dy].map(|t| <[usize; 4]>::try_from(&**t.shape()).unwrap());
    let [kh, kw] = window.kernel_size;
    let (taps, stride, dilation) = (kh * kw, window.stride, window.dilation);
    let padding = [window.padding.top, window.padding.left];
    let (mut y, mut dx, mut doffset, mut dw) = (Sum::zeros(dy), Sum::zeros(x), Sum::zeros(offset), Sum::zeros(w));
    let mut dmask = mask.as_ref().map(Sum::zeros);
    for (pixel, group, tap) in (0..batch * out_height * out_width)
        .flat_map(|p| (0..offset_groups).flat_map(move |g| (0..taps).map(move |t| (p, g, t))))
    {
        let (n, out) = (pixel / (out_height * out_width), [pixel / out_width % out_height, pixel % out_width]);
        let sample = (pixel * offset_groups + group) * taps + tap;
        let m = mask.as_ref().map_or(1.0, |mask| mask.data()[sample]);
        let at = [0, 1].map(|d| {
            let regular = out[d] * stride[d] + [tap / kw, tap % kw][d] * dilation[d];
            regular as f64 - padding[d] as f64 + offset.data()[2 * sample + d]
        });
        for corner in 0..4 {
            let (low, far) = (at.map(f64::floor), [corner / 2, corner % 2]);
            let pixel_at = [0, 1].map(|d| low[d] + far[d] as f64);
            if pixel_at[0] < 0.0 || pixel_at[1] < 0.0 || pixel_at[0] >= height as f64 || pixel_at[1] >= width as f64 {
                continue;
            }
            let near = [0, 1].map(|d| if far[d] == 1 { at[d] - low[d] } else { 1.0 - (at[d] - low[d]) });
            let sign = far.map(|far| if far == 1 { 1.0 } else { -1.0 });
            let (share, slopes) = (near[0] * near[1], [sign[0] * near[1], sign[1] * near[0]]);
            for c in 0..cin / offset_groups {
                let channel = group * (cin / offset_groups) + c;
                let (cin, cout_group) = (cin / groups, cout / groups);
                let i = ((n * height + pixel_at[0] as usize) * width + pixel_at[1] as usize) * cin * groups + channel;
                let v = x.data()[i];
                for co in channel / cin * cout_group..(channel / cin + 1) * cout_group {
                    let (j, k) = ((tap * cin + channel % cin) * cout + co, pixel * cout + co);
                    let (w, dy) = (w.data()[j], dy.data()[k]);
                    y.add(k, share, m * v * w);
                    dx.add(i, share, m * w * dy);
                    dw.add(j, share, m * v * dy);
                    for (d, slope) in slopes.into_iter().enumerate() {
                        doffset.add(2 * sample + d, slope, m * v * w * dy);
                    }
                    if let Some(dmask) = &mut dmask {
                        dmask.add(sample, share, v * w * dy);
                    }
                }
            }
        }
    }
    [y, dx, doffset].into_iter().chain(dmask).chain([dw]).collect()
}

fn check(case: &Case) {
    let exact = case.operands::<f64>();
    let expected = reference(&exact, &case.attributes);
    let names = ["y", "dx", "doffset", if case.masked { "dmask" } else { "dw" }, "dw"];
    let compare = |got: &[Tensor<f64>], tolerance: f64| {
        for ((got, expected), name) in got.iter().zip(&expected).zip(names) {
            let error = expected.error(got);
            assert!(error < tolerance, "{name} of {case:?} is off by {error:e}");
        }
    };
    compare(&run(&exact, &case.attributes), 1e-14);
    let rounded = case.operands::<f32>();
    on_every_isa(|| {
        let got: Vec<_> = run(&rounded, &case.attributes).iter().map(Tensor::cast).collect();
        compare(&got, 2e-6);
    });
}

fn case(batch: usize, input: [usize; 2], channels: [usize; 2], window: Window) -> Case {
    let attributes = DeformConv2d { window, groups: 1, offset_groups: 1 };
    Case { batch, input, channels, attributes, masked: true, reach: 2.5 }
}

impl Case {
    fn groups(mut self, groups: usize, offset_groups: usize) -> Self {
        self.attributes = DeformConv2d { groups, offset_groups, ..self.attributes };
        self
    }
}

/// The packed form of the same, with everything that can be fused into it.
fn check_packed(case: &Case) {
    let exact = case.operands::<f64>();
    let rounded = case.operands::<f32>();
    let (bias, residual) = {
        let mut rng = Rng::new(2);
        (rng.tensor::<f64>([case.channels[1]]), rng.tensor::<f64>(exact.dy.shape()))
    };
    let y = add(&reference(&exact, &case.attributes)[0].value, &bias).unwrap();
    for (residual, curve) in [
        (None, None),
        (Some(&residual), Some(Activation::Relu)),
        (None, Some(Activation::Relu6)),
        (Some(&residual), Some(Activation::Silu)),
    ] {
        let mut expected = residual.map_or_else(|| y.clone(), |residual| add(&y, residual).unwrap());
        if let Some(curve) = curve {
            expected = activation(&expected, curve);
        }
        let residual = residual.map(Tensor::cast);
        on_every_isa(|| {
            let Operands { x, offset, mask, w, .. } = &rounded;
            let bias = bias.cast();
            let packed = PackedDeformConv::new(w, Some(&bias), curve, case.attributes, x.shape()).unwrap();
            let got = packed.run(x, offset, mask.as_ref(), residual.as_ref()).unwrap();
            let error = got.cast::<f64>().relative_error(&expected);
            assert!(error < 3e-6, "{case:?} with {curve:?} is off by {error:e}");
        });
    }
}

#[test]
fn typical_layers_match_the_reference() {
    let same = Window::square(3).padding(1);
    let uneven = Window { padding: Padding { top: 0, bottom: 1, left: 2, right: 0 }, ..Window::new([3, 2]).stride(2) };
    for case in [
        case(1, [14, 14], [32, 40], same),
        Case { masked: false, ..case(2, [14, 15], [16, 16], same) },
        case(2, [9, 8], [24, 36], same.stride(2)).groups(2, 4),
        case(1, [10, 10], [12, 16], Window::square(3).padding(2).dilation(2)).groups(1, 3),
        case(3, [9, 11], [6, 9], uneven).groups(3, 2),
        Case { reach: 40.0, ..case(1, [7, 9], [20, 5], same) },
        case(1, [5, 5], [300, 70], same),
        // All rows are sampled first.
        case(2, [3, 4], [64, 460], same).groups(1, 2),
        case(2, [6, 6], [33, 17], Window::square(1)),
        case(9, [4, 4], [5, 7], Window::square(2)),
        case(1, [1, 1], [8, 8], same),
        case(0, [4, 4], [8, 8], same),
        case(2, [4, 4], [8, 8], same).groups(8, 8),
        // On the pixels, where interpolation has its kinks, and around the edges of a pixel.
        Case { reach: 0.0, ..case(1, [6, 5], [8, 8], same) },
    ] {
        check(&case);
        check_packed(&case);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_geometries_match_the_reference(
        batch in 0..3usize,
        input in prop::array::uniform2(1..10usize),
        channels in prop::array::uniform2(1..9usize),
        [groups, offset_groups] in prop::array::uniform2(1..4usize),
        kernel_size in prop::array::uniform2(1..4usize),
        stride in prop::array::uniform2(1..3usize),
        dilation in prop::array::uniform2(1..3usize),
        padding in prop::array::uniform4(0..3usize),
        masked in prop::bool::ANY,
        reach in 0.0..12.0f64,
    ) {
        let [top, bottom, left, right] = padding;
        let window = Window { kernel_size, stride, dilation, padding: Padding { top, bottom, left, right } };
        prop_assume!(window.output_size("test", input).is_ok());
        let channels = [channels[0] * groups * offset_groups, channels[1] * groups];
        check(&Case { masked, reach, ..case(batch, input, channels, window).groups(groups, offset_groups) });
    }
}

#[test]
fn without_displacement_it_is_the_plain_convolution() {
    let window = Window::square(3).padding(1).stride(2);
    let case = Case { reach: 0.0, ..case(2, [9, 12], [12, 20], window).groups(2, 3) };
    let mut o = case.operands::<f64>();
    o.mask = o.mask.map(|mask| Tensor::full(mask.shape(), 1.0));
    let got = run(&o, &case.attributes);
    for (got, expected) in [
        (&got[0], conv2d(&o.x, &o.w, &window, 2)),
        (&got[1], conv2d_backward_input(&o.dy, &o.w, o.x.shape(), &window, 2)),
        (&got[4], conv2d_backward_weight(&o.x, &o.dy, o.w.shape(), &window, 2)),
    ] {
        assert!(got.relative_error(&expected.unwrap()) < 1e-13);
    }
}

#[test]
fn positions_without_bound_sample_nothing_and_nan_is_not_lost() {
    let case = case(1, [4, 4], [3, 3], Window::square(1));
    let mut o = case.operands::<f32>();
    let far = [f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1e20, 1e10, -1.5];
    for (i, offset) in o.offset.data_mut().iter_mut().enumerate() {
        *offset = far[i % far.len()];
    }
    let [y, dx, doffset, dmask, dw] = <[_; 5]>::try_from(run(&o, &case.attributes)).unwrap();
    for zeros in [y, dx, doffset, dmask, dw] {
        assert!(zeros.data().iter().all(|&x| x == 0.0));
    }
    o.offset = o.offset.map(|_| 0.0);
    o.offset.data_mut()[7] = f32::NAN;
    let y = deform_conv2d(&o.x, &o.offset, None, &o.w, &case.attributes).unwrap();
    let nan: Vec<usize> = (0..y.len()).filter(|&i| y.data()[i].is_nan()).collect();
    assert_eq!(nan, [9, 10, 11], "the channels of the fourth pixel");
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for case in [
        case(1, [28, 28], [64, 64], Window::square(3).padding(1)),
        case(3, [13, 17], [24, 16], Window::square(3).padding(1)).groups(2, 2),
    ] {
        let o = case.operands::<f32>();
        let results = [1, 2, 3, 8].map(|threads| {
            threads::set(threads);
            run(&o, &case.attributes)
        });
        threads::set(0);
        assert!(results.iter().all(|result| *result == results[0]));
    }
}

#[test]
fn wrong_shapes_are_errors() {
    let (x, w) = (Tensor::<f32>::zeros([1, 4, 4, 6]), Tensor::zeros([3, 3, 6, 8]));
    let (offset, mask) = (Tensor::zeros([1, 2, 2, 36]), Tensor::zeros([1, 2, 2, 18]));
    let attributes = DeformConv2d { window: Window::square(3), groups: 1, offset_groups: 2 };
    let error = |offset, mask, offset_groups| {
        deform_conv2d(&x, offset, Some(mask), &w, &DeformConv2d { offset_groups, ..attributes })
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error(&offset, &mask, 4),
        "deform_conv2d: expected offset_groups that divide the 6 input channels, got 4"
    );
    assert_eq!(
        error(&offset, &mask, 0),
        "deform_conv2d: expected offset_groups that divide the 6 input channels, got 0"
    );
    assert_eq!(error(&mask, &mask, 2), "deform_conv2d: expected offset of shape [1, 2, 2, 36], got [1, 2, 2, 18]");
    assert_eq!(error(&offset, &offset, 2), "deform_conv2d: expected mask of shape [1, 2, 2, 18], got [1, 2, 2, 36]");
    let dy = Tensor::zeros([1, 2, 2, 7]);
    let error = deform_conv2d_backward_input(&dy, &x, &offset, None, &w, &attributes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "deform_conv2d_backward_input: expected gradient of shape [1, 2, 2, 8], got [1, 2, 2, 7]"
    );
    let error = deform_conv2d_backward_weight(&dy, &x, &offset, None, w.shape(), &attributes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "deform_conv2d_backward_weight: expected gradient of shape [1, 2, 2, 8], got [1, 2, 2, 7]"
    );
    let bias = Tensor::zeros([7]);
    let packed = |w, bias| PackedDeformConv::new(w, bias, None, attributes, x.shape()).map(|_| ()).unwrap_err();
    assert_eq!(packed(&w, Some(&bias)).to_string(), "packed_deform_conv: expected bias of shape [8], got [7]");
    let empty = Tensor::zeros([3, 3, 6, 0]);
    let error = packed(&empty, None).to_string();
    assert_eq!(
        error,
        "packed_deform_conv: expected weight of shape [Kh, Kw, Cin / groups, Cout] above 0, got [3, 3, 6, 0]"
    );
    let packed = PackedDeformConv::new(&w, None, None, attributes, x.shape()).unwrap();
    let error = packed.run(&x, &offset, Some(&mask), Some(&dy)).unwrap_err().to_string();
    assert_eq!(error, "deform_conv2d: expected residual of shape [1, 2, 2, 8], got [1, 2, 2, 7]");
}

#[test]
fn weights_in_16_bits_give_what_they_give_in_32() {
    let same = Window::square(3).padding(1);
    // Sampled before the product, and block by block.
    for (case, is_half) in [
        (case(2, [3, 4], [64, 460], same).groups(1, 2), true),
        (case(1, [8, 8], [512, 64], same), true),
        (case(1, [8, 9], [512, 64], same), false),
    ] {
        let Operands { x, offset, mask, w, .. } = &case.operands::<f32>();
        let rounded = Tensor::from_fn(*w.shape(), |i| half::f16::from_f32(w.data()[i]).to_f32());
        on_every_isa(|| {
            let [half, exact] = [(Storage::Half, w), (Storage::Exact, &rounded)].map(|(storage, w)| {
                PackedDeformConv::with_storage(storage, w, None, None, case.attributes, x.shape()).unwrap()
            });
            assert_eq!(
                [half.algorithm(), exact.algorithm()],
                [["gathered", "gathered f16"][usize::from(is_half)], "gathered"]
            );
            if is_half {
                let [y, expected] = [half, exact].map(|conv| conv.run(x, offset, mask.as_ref(), None).unwrap());
                assert_eq!(y.data(), expected.data());
            }
        });
    }
}
