//! Deformable convolution as a layer: names, how it begins, gradients through it, and its inference plan.

use ocelli_nn::autograd::gradcheck::GradCheck;
use ocelli_nn::autograd::{Parameter, Plan, Var, trace};
use ocelli_nn::tensor::{Element, Tensor};
use ocelli_nn::{
    Builder, Conv2d, Conv2dOptions, DeformConv2d, DeformConv2dPack, DeformOptions, Init, Layer, Layout, Mode,
};

const V1: DeformOptions = DeformOptions { offset_groups: 2, modulated: false };
const V2: DeformOptions = DeformOptions { offset_groups: 1, modulated: true };

fn image<T: Element>(shape: [usize; 4]) -> Tensor<T> {
    Init::Normal { std: 1.0 }.tensor(shape, Layout::Vector, 5)
}

fn options() -> Conv2dOptions {
    Conv2dOptions::new(3).padding(1).stride(2).bias(true)
}

/// A unit, its parameters in order.
fn pack<T: Element>(deform: DeformOptions) -> (DeformConv2dPack<T>, Vec<(String, Parameter<T>)>) {
    let b = Builder::new(3);
    let unit = DeformConv2dPack::new(&b.enter("conv2"), 4, 6, options(), deform).unwrap();
    let state = b.state();
    (unit, state.parameters().map(|(name, parameter)| (name.to_owned(), parameter.clone())).collect())
}

/// Gives `conv_offset` weights that displace by about a pixel.
fn displace<T: Element>(parameters: &[(String, Parameter<T>)]) {
    for (seed, (_, parameter)) in parameters.iter().enumerate().filter(|(_, (name, _))| name.contains("conv_offset")) {
        let value = Init::Normal { std: 0.2 }.tensor(parameter.shape(), Layout::Vector, seed as u64);
        parameter.set_value(value).unwrap();
    }
}

#[test]
fn names_and_shapes_are_those_of_published_ones() {
    for (deform, offset_channels) in [(V1, 36), (V2, 27)] {
        let (_, parameters) = pack::<f32>(deform);
        let got: Vec<_> =
            parameters.iter().map(|(name, parameter)| (name.as_str(), parameter.shape().to_vec())).collect();
        let expected = [
            ("conv2.weight", vec![3, 3, 4, 6]),
            ("conv2.bias", vec![6]),
            ("conv2.conv_offset.weight", vec![3, 3, 4, offset_channels]),
            ("conv2.conv_offset.bias", vec![offset_channels]),
        ];
        assert_eq!(got, expected);
    }
}

#[test]
fn it_begins_as_the_plain_convolution_or_half_of_it() {
    let plain = Conv2d::new(&Builder::<f64>::new(3).enter("conv2"), 4, 6, options()).unwrap();
    let x = Var::constant(image([2, 7, 6, 4]));
    let expected = plain.forward(&x, &Mode::Eval).unwrap().into_value();
    for (deform, share) in [(V1, 1.0), (V2, 0.5)] {
        let (unit, _) = pack::<f64>(deform);
        let y = unit.forward(&x, &Mode::Eval).unwrap().into_value();
        assert!(y.relative_error(&expected.map(|y| y * share)) < 1e-12, "{deform:?}");
    }
}

#[test]
fn gradients_pass_to_all_parameters() {
    for deform in [V1, V2] {
        let (unit, parameters) = pack::<f64>(deform);
        displace(&parameters);
        let x = Parameter::new(image([2, 5, 4, 4]));
        let all: Vec<_> = parameters.into_iter().map(|(_, parameter)| parameter).chain([x.clone()]).collect();
        GradCheck::default().check_parameters(&all, || unit.forward(&x.var(), &Mode::train(0))).unwrap();
    }
}

#[test]
fn a_plan_computes_what_the_layer_does() {
    for deform in [V1, V2] {
        let (unit, parameters) = pack::<f32>(deform);
        displace(&parameters);
        let x = Var::constant(image([1, 9, 8, 4]));
        let (y, trace) = trace::<f32, _>(|| unit.forward(&x, &Mode::Eval)?.relu().map_err(ocelli_nn::Error::from));
        let y = y.unwrap();
        let plan = Plan::compile(&trace, &x, &y).unwrap();
        assert!(plan.to_string().contains("conv_offset: conv2d + add"), "{plan}");
        assert!(plan.to_string().contains("deform_conv2d + add + relu"), "{plan}");
        assert!(plan.run(x.value()).unwrap().relative_error(y.value()) < 1e-6, "{deform:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let b = Builder::<f32>::new(0);
    let error = DeformConv2d::new(&b, 4, 6, options(), 3).unwrap_err();
    assert_eq!(error.to_string(), "DeformConv2d offset_groups: expected to divide 4 input channels, got 3");
    let deform = DeformConv2d::new(&b, 4, 6, options(), 2).unwrap();
    let (x, offset) = (Var::constant(image([1, 5, 5, 4])), Var::constant(Tensor::zeros([1, 3, 3, 18])));
    let error = deform.forward(&x, &offset, None).unwrap_err();
    assert_eq!(error.to_string(), "deform_conv2d: expected offset of shape [1, 3, 3, 36], got [1, 3, 3, 18]");
}
