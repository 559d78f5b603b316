//! Layers one by one: shapes, modes, and gradients through them.

use ocelli_nn::autograd::gradcheck::gradcheck;
use ocelli_nn::autograd::ops::{Activation, LocalResponseNorm, Window};
use ocelli_nn::autograd::{Error as AutogradError, Var};
use ocelli_nn::tensor::{Element, Tensor};
use ocelli_nn::{
    AdaptiveAvgPool2d, AvgPool2d, BatchNorm2d, BatchNormOptions, Builder, Conv2d, Conv2dOptions, ConvNorm, Dropout,
    Error, Flatten, GlobalAvgPool, Init, Layer, Layout, Linear, LinearOptions, MaxPool2d, Mode, Sequential,
};

fn image<T: Element>(shape: [usize; 4]) -> Tensor<T> {
    Init::Normal { std: 1.0 }.tensor(shape, Layout::Vector, 5)
}

#[test]
fn shapes() {
    let b = Builder::<f32>::new(0);
    let conv = |name: &str, options| Conv2d::new(&b.enter(name), 4, 6, options).unwrap();
    let window = Window::square(3).stride(2);
    let flat = Linear::new(&b.enter("fc"), 4 * 7 * 6, 5, LinearOptions { bias: false, ..LinearOptions::default() });
    let mut flattened = Sequential::new();
    flattened.push("flatten", Flatten);
    flattened.push("fc", flat.unwrap());
    let layers: [(Box<dyn Layer>, &[usize]); 14] = [
        (Box::new(conv("plain", Conv2dOptions::new(3))), &[2, 5, 4, 6]),
        (Box::new(conv("strided", Conv2dOptions::new(3).stride(2).padding(1).bias(true))), &[2, 4, 3, 6]),
        (Box::new(conv("same", Conv2dOptions::new(5).stride(2).same())), &[2, 4, 3, 6]),
        (Box::new(conv("dilated", Conv2dOptions::new(3).dilation(2).padding(2).groups(2))), &[2, 7, 6, 6]),
        (Box::new(MaxPool2d::new(window)), &[2, 3, 2, 4]),
        (Box::new(MaxPool2d { window, ceil_mode: true }), &[2, 3, 3, 4]),
        (Box::new(AvgPool2d::new(window.padding(1))), &[2, 4, 3, 4]),
        (Box::new(AdaptiveAvgPool2d { size: [3, 3] }), &[2, 3, 3, 4]),
        (Box::new(GlobalAvgPool), &[2, 4]),
        (Box::new(Activation::Relu6), &[2, 7, 6, 4]),
        (Box::new(LocalResponseNorm::new(5)), &[2, 7, 6, 4]),
        (Box::new(Sequential::new()), &[2, 7, 6, 4]),
        (Box::new(flattened), &[2, 5]),
        (Box::new(Dropout::new(0.5).unwrap()), &[2, 7, 6, 4]),
    ];
    let x = Var::constant(image([2, 7, 6, 4]));
    for (layer, shape) in layers {
        let y = layer.forward(&x, &Mode::train(0)).unwrap();
        assert_eq!(y.shape()[..], *shape, "{layer:?}");
    }
}

#[test]
fn layers_refuse_what_does_not_fit() {
    let b = Builder::<f32>::new(0);
    let conv = Conv2d::new(&b.enter("conv"), 4, 6, Conv2dOptions::new(3)).unwrap();
    let fit = |shape: &[usize], layer: &dyn Layer| {
        let x = Tensor::zeros(ocelli_nn::tensor::Shape::new(shape).unwrap());
        layer.forward(&Var::constant(x), &Mode::Eval).is_ok()
    };
    assert!(fit(&[1, 3, 3, 4], &conv));
    assert!(!fit(&[1, 3, 3, 3], &conv) && !fit(&[1, 2, 3, 4], &conv) && !fit(&[9, 4], &conv));
    let layout = Layout::LinearAfterFlatten { height: 2, width: 2, channels: 3 };
    let error = Linear::new(&b, 13, 2, LinearOptions { layout, ..LinearOptions::default() }).unwrap_err();
    assert_eq!(error.to_string(), "Linear flattened size: expected 13, got 2·2·3");
    for p in [-0.1, 1.0, f64::NAN] {
        assert!(matches!(Dropout::new(p), Err(Error::Argument { .. })));
    }
}

#[test]
fn dropout_follows_its_step() {
    let (dropout, x) = (Dropout::new(0.25).unwrap(), Var::constant(Tensor::full([100, 100], 3.0f32)));
    let run = |mode: &Mode| dropout.forward(&x, mode).unwrap().into_value();
    assert_eq!(run(&Mode::Eval), *x.value());
    let step = Mode::train(1);
    let (first, second) = (run(&step), run(&step));
    assert_ne!(first, second, "each use within a step drops others");
    assert_eq!(first, run(&Mode::train(1)), "a step can be repeated");
    assert!(first.data().iter().all(|&y| y == 0.0 || y == 4.0));
    let kept = first.data().iter().filter(|&&y| y != 0.0).count();
    assert!((7300..7700).contains(&kept), "{kept} of 10000 kept");
}

#[test]
fn a_norm_without_parameters_only_normalises() {
    let b = Builder::<f64>::new(0);
    let norm =
        BatchNorm2d::new(&b, 3, BatchNormOptions { affine: false, momentum: 1.0, ..Default::default() }).unwrap();
    assert_eq!(b.state().names().collect::<Vec<_>>(), ["running_mean", "running_var", "num_batches_tracked"]);
    let x = Var::constant(image([2, 4, 4, 3]));
    let trained = norm.forward(&x, &Mode::train(0)).unwrap();
    // With momentum 1 the running statistics are the batch's, but for the variance being unbiased: 31/32 of it.
    let evaluated = norm.forward(&x, &Mode::Eval).unwrap();
    let ratio = evaluated.value().map(|y| y * (32.0f64 / 31.0).sqrt());
    assert!(ratio.relative_error(trained.value()) < 1e-4);
}

#[test]
fn gradients_pass_through_the_units() {
    let b = Builder::<f64>::new(3);
    let options = Conv2dOptions::new(3).padding(1);
    let unit = |name: &str, activation| {
        ConvNorm::new(&b.enter(name), ("conv", "bn"), [3, 3], options, BatchNormOptions::default(), activation).unwrap()
    };
    let (first, last) = (unit("first", Some(Activation::Silu)), unit("last", Some(Activation::Sigmoid)));
    for mode in [Mode::Eval, Mode::train(0)] {
        gradcheck(&[image([2, 4, 3, 3])], |v| {
            let y = first.forward(&v[0], &mode)?;
            last.forward_residual(&y, &v[0], &mode)
        })
        .unwrap();
    }
    let wrong =
        last.forward_residual(&Var::constant(image([1, 4, 3, 3])), &Var::constant(image([1, 2, 3, 3])), &Mode::Eval);
    assert!(matches!(wrong, Err(Error::Autograd(error)) if matches!(*error, AutogradError::Tensor(_))));
}
