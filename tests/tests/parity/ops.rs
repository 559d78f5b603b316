//! Single operations against PyTorch and torchvision: values, and the gradients of all operands.

use ocelli_tests::{ops, relative_error, seeded};
use ocelli_train::zoo::nn::Layout;
use ocelli_train::zoo::nn::autograd::ops::{DeformConv2d, LocalResponseNorm, Window};
use ocelli_train::zoo::nn::autograd::{Parameter, Var};
use ocelli_train::zoo::nn::tensor::{Element, Shape, Tensor};

const F64_TOLERANCE: f64 = 1e-6;
const F32_TOLERANCE: f64 = 1e-4;

/// The seeded `[N, C, H, W]` called `name`, times `scale`, plus `shift`, as `[N, H, W, C]`.
fn image<T: Element>(name: &str, shape: [usize; 4], [scale, shift]: [f64; 2]) -> Parameter<T> {
    let values = seeded::uniform(name, shape.iter().product());
    let values = values.iter().map(|&u| T::from_f64(f64::from(u) * scale + shift)).collect();
    let tensor = Tensor::from_vec(shape, values).unwrap();
    Parameter::new(tensor.permute(&[0, 2, 3, 1]).unwrap())
}

/// The values of `[N, H, W, C]` in the order of `[N, C, H, W]`.
fn nchw<T: Element>(x: &Tensor<T>) -> Vec<f64> {
    x.permute(&[0, 3, 1, 2]).unwrap().data().iter().map(|x| x.to_f64()).collect()
}

/// The shape `[N, C, H, W]` of a value `[N, H, W, C]`.
fn nchw_shape(shape: &Shape) -> [usize; 4] {
    [shape[0], shape[3], shape[1], shape[2]]
}

/// Runs backward from the seeded `dy`, and compares the value and the gradients of images with the stored ones.
fn compare<T: Element>(op: &str, case: &str, y: &Var<T>, images: &[(&str, &Parameter<T>)], tolerance: f64) {
    let dy = image("dy", nchw_shape(y.shape()), [1.0, 0.0]).value();
    y.backward_with(dy).unwrap();
    let gradients = images.iter().map(|(name, x)| (*name, nchw(&x.take_grad().unwrap())));
    for (name, got) in [("y", nchw(y.value()))].into_iter().chain(gradients) {
        let error = relative_error(&got, &ops::result(op, case, name));
        assert!(error < tolerance, "{op} {case} in {}: {name} is off by {error:.1e}", T::NAME);
    }
}

fn deform_conv2d<T: Element>(tolerance: f64) {
    for case in ops::cases().deform_conv2d {
        let window = Window::new(case.kernel_size).stride(case.stride).padding(case.padding).dilation(case.dilation);
        let attributes = DeformConv2d { window, groups: case.groups, offset_groups: case.offset_groups };
        let [batch, channels, height, width] = case.input;
        let [out_height, out_width] = window.output_size("test", [height, width]).unwrap();
        let samples = case.offset_groups * window.taps();

        let x = image::<T>("x", case.input, [1.0, 0.0]);
        let offset = image("offset", [batch, 2 * samples, out_height, out_width], [case.reach, 0.0]);
        let mask = case.modulated.then(|| image("mask", [batch, samples, out_height, out_width], [0.5, 0.5]));
        let [kh, kw] = case.kernel_size;
        let stored = [case.out_channels, channels / case.groups, kh, kw];
        let weight = Tensor::from_vec(stored, seeded::uniform("weight", stored.iter().product())).unwrap();
        let weight = Parameter::new(Layout::Conv.from_checkpoint(&weight.cast::<T>()).unwrap());

        let mask_var = mask.as_ref().map(Parameter::var);
        let y = x.var().deform_conv2d(&offset.var(), mask_var.as_ref(), &weight.var(), &attributes).unwrap();
        let images = [("dx", &x), ("doffset", &offset)].into_iter().chain(mask.iter().map(|mask| ("dmask", mask)));
        compare("deform_conv2d", &case.name, &y, &images.collect::<Vec<_>>(), tolerance);

        let dw = Layout::Conv.to_checkpoint(&weight.take_grad().unwrap()).unwrap();
        let dw: Vec<f64> = dw.data().iter().map(|x| x.to_f64()).collect();
        let error = relative_error(&dw, &ops::result("deform_conv2d", &case.name, "dweight"));
        assert!(error < tolerance, "{} in {}: dweight is off by {error:.1e}", case.name, T::NAME);
    }
}

fn local_response_norm<T: Element>(tolerance: f64) {
    for case in ops::cases().local_response_norm {
        let attributes = LocalResponseNorm { size: case.size, alpha: case.alpha, beta: case.beta, k: case.k };
        let x = image::<T>("x", case.input, [1.0, 0.0]);
        let y = x.var().local_response_norm(&attributes).unwrap();
        compare("local_response_norm", &case.name, &y, &[("dx", &x)], tolerance);
    }
}

#[test]
fn deformable_convolution_is_torchvisions() {
    deform_conv2d::<f64>(F64_TOLERANCE);
    deform_conv2d::<f32>(F32_TOLERANCE);
}

#[test]
fn local_response_normalisation_is_pytorchs() {
    local_response_norm::<f64>(F64_TOLERANCE);
    local_response_norm::<f32>(F32_TOLERANCE);
}

#[test]
fn every_kind_of_deformable_convolution_has_a_case() {
    let cases = ops::cases();
    let kinds = |f: fn(&ops::DeformConv2dCase) -> bool| cases.deform_conv2d.iter().filter(|case| f(case)).count();
    assert!(kinds(|case| case.modulated) > 0 && kinds(|case| !case.modulated) > 0);
    assert!(kinds(|case| case.groups > 1) > 0 && kinds(|case| case.offset_groups > 1) > 0);
    assert!(kinds(|case| case.stride > 1) > 0 && kinds(|case| case.dilation > 1) > 0);
    assert!(!cases.local_response_norm.is_empty());
}
