//! What the table of variants says is true of the networks.

use ocelli_zoo::nn::autograd::Var;
use ocelli_zoo::nn::tensor::Tensor;
use ocelli_zoo::nn::{Mode, checkpoint::Checkpoint};
use ocelli_zoo::{Model, Options, variant, variants};

#[test]
fn parameters_are_as_stated() {
    for variant in variants() {
        let model = Model::zeroed(variant.name, variant.options()).unwrap();
        // torchvision counts GoogLeNet's without its auxiliary classifiers.
        let counted = model.state().parameters().filter(|(name, _)| !name.starts_with("aux"));
        let counted: usize = counted.map(|(_, parameter)| parameter.shape().len()).sum();
        assert_eq!(counted, variant.parameters, "{}", variant.name);
    }
}

#[test]
fn the_least_size_is_taken_and_one_pixel_less_refused() {
    for name in ["alexnet", "vgg11_bn", "googlenet", "inception_v3"] {
        let variant = variant(name).unwrap();
        let model = Model::zeroed(name, Options { classes: 2, in_channels: 1 }).unwrap();
        let least = variant.least_size;
        let plan = |height, width| model.plan([1, height, width, 1]);
        plan(least, least + 1).unwrap();
        let error = plan(least, least - 1).unwrap_err().to_string();
        let expected = format!("{name} takes images of at least {least}×{least} pixels and 1 channels");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn plans_agree_with_the_recorded_network() {
    for name in [
        "alexnet",
        "vgg11_bn",
        "googlenet",
        "resnet18",
        "resnet50",
        "resnext50_32x4d",
        "deformable_resnet50_v2",
        "densenet121",
        "legacy_seresnet18",
        "resnet20",
        "plain20",
        "preact_resnet110",
        "efficientnet_b0",
        "tf_efficientnet_lite0",
        "efficientnet_v2_s",
    ] {
        let model = Model::new(name, Options { classes: 7, in_channels: 3 }, 1).unwrap();
        for shape in [[2, 64, 64, 3], [1, 67, 71, 3]] {
            let x = Tensor::from_fn(shape, |i| (i * 7919 % 2003) as f32 / 1001.5 - 1.0);
            let recorded = model.forward(&Var::constant(x.clone()), &Mode::Eval).unwrap();
            let planned = model.plan(shape).unwrap().run(&x).unwrap();
            let error = planned.relative_error(recorded.value());
            assert!(error < 2e-5, "{name} at {shape:?}: off by {error:e}");
        }
    }
}

#[test]
fn a_pretrained_backbone_takes_another_number_of_classes() {
    let teacher = Model::new("resnet20", Options { classes: 10, in_channels: 3 }, 1).unwrap();
    let weights = teacher.state().to_checkpoint().unwrap();
    let student = Model::new("resnet20", Options { classes: 4, in_channels: 3 }, 2).unwrap();
    let own = student.state().to_checkpoint().unwrap();
    assert!(student.load(&weights).unwrap_err().to_string().contains("fc.weight"));
    student.load_pretrained(&weights).unwrap();
    let now = student.state().to_checkpoint().unwrap();
    let value = |c: &Checkpoint, name: &str| c.get(name).unwrap().tensor.clone();
    assert_eq!(value(&now, "layer3.2.conv2.weight"), value(&weights, "layer3.2.conv2.weight"));
    assert_eq!(value(&now, "fc.weight"), value(&own, "fc.weight"));
}

#[test]
fn a_wrong_input_is_an_error() {
    let model = Model::new("resnet8", Options { classes: 10, in_channels: 1 }, 0).unwrap();
    let error = model.forward(&Var::constant(Tensor::zeros([1, 28, 28, 3])), &Mode::Eval).unwrap_err();
    assert_eq!(
        error.to_string(),
        "resnet8 takes images of at least 1×1 pixels and 1 channels, got shape [1, 28, 28, 3]"
    );
}
