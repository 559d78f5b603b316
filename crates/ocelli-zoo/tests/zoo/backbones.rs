//! Maps, embeddings and freezing, of every family.

use ocelli_zoo::nn::Mode;
use ocelli_zoo::nn::autograd::{Var, no_grad};
use ocelli_zoo::nn::tensor::Tensor;
use ocelli_zoo::{Model, Options, variant, variants};

/// A small variant of each way in which the networks are written.
const WRITTEN: [&str; 10] = [
    "alexnet",
    "googlenet",
    "inception_v3",
    "resnet18",
    "resnet8",
    "preact_resnet110",
    "densenet_bc100_k12",
    "legacy_seresnet18",
    "efficientnet_b0",
    "tf_efficientnet_lite0",
];

fn image(side: usize) -> Var<f32> {
    Var::constant(Tensor::from_fn([2, side, side + 5, 3], |i| (i * 7919 % 2003) as f32 / 1001.5 - 1.0))
}

fn parts(model: &Model) -> Vec<(String, usize, usize)> {
    model.stages().unwrap().into_iter().map(|stage| (stage.name, stage.stride, stage.channels)).collect()
}

/// Names, strides and channels.
type Stages = &'static [(&'static str, usize, usize)];

fn named(expected: Stages) -> Vec<(String, usize, usize)> {
    expected.iter().map(|&(name, stride, channels)| (name.into(), stride, channels)).collect()
}

/// As `timm.create_model(name, features_only=True).feature_info` says it.
#[test]
fn stages_are_those_of_timm() {
    let cases: [(&str, Stages); 9] = [
        (
            "resnet18",
            &[("stem", 2, 64), ("layer1", 4, 64), ("layer2", 8, 128), ("layer3", 16, 256), ("layer4", 32, 512)],
        ),
        (
            "resnet50",
            &[("stem", 2, 64), ("layer1", 4, 256), ("layer2", 8, 512), ("layer3", 16, 1024), ("layer4", 32, 2048)],
        ),
        (
            "vgg11_bn",
            &[
                ("features.2", 1, 64),
                ("features.6", 2, 128),
                ("features.13", 4, 256),
                ("features.20", 8, 512),
                ("features.27", 16, 512),
                ("features.28", 32, 512),
            ],
        ),
        (
            "densenet121",
            &[
                ("features.relu0", 2, 64),
                ("features.denseblock1", 4, 256),
                ("features.denseblock2", 8, 512),
                ("features.denseblock3", 16, 1024),
                ("features.relu5", 32, 1024),
            ],
        ),
        (
            "inception_v3",
            &[
                ("Conv2d_2b_3x3", 2, 64),
                ("Conv2d_4a_3x3", 4, 192),
                ("Mixed_5d", 8, 288),
                ("Mixed_6e", 16, 768),
                ("Mixed_7c", 32, 2048),
            ],
        ),
        (
            "legacy_seresnet18",
            &[("layer0", 2, 64), ("layer1", 4, 64), ("layer2", 8, 128), ("layer3", 16, 256), ("layer4", 32, 512)],
        ),
        (
            "efficientnet_b0",
            &[
                ("features.1", 2, 16),
                ("features.2", 4, 24),
                ("features.3", 8, 40),
                ("features.5", 16, 112),
                ("features.7", 32, 320),
            ],
        ),
        (
            "efficientnet_v2_s",
            &[
                ("features.1", 2, 24),
                ("features.2", 4, 48),
                ("features.3", 8, 64),
                ("features.5", 16, 160),
                ("features.6", 32, 256),
            ],
        ),
        (
            "tf_efficientnet_lite0",
            &[
                ("blocks.0", 2, 16),
                ("blocks.1", 4, 24),
                ("blocks.2", 8, 40),
                ("blocks.4", 16, 112),
                ("blocks.6", 32, 320),
            ],
        ),
    ];
    for (name, expected) in cases {
        let model = Model::zeroed(name, Options { classes: 0, in_channels: 3 }).unwrap();
        assert_eq!(parts(&model), named(expected), "{name}");
    }
}

#[test]
fn every_variant_has_stages_to_its_last_map() {
    for variant in variants() {
        let model = Model::zeroed(variant.name, Options { classes: 0, in_channels: 1 }).unwrap();
        let stages = model.stages().unwrap();
        assert!(stages.len() >= 4, "{}: {stages:?}", variant.name);
        assert!(stages.is_sorted_by_key(|stage| stage.stride), "{}: {stages:?}", variant.name);
        let deepest = if variant.input_size <= 32 { 4 } else { 32 };
        assert_eq!(stages.last().unwrap().stride, deepest, "{}", variant.name);
        // AlexNet loses a pixel or two at the edges; Inception loses more, and is measured below.
        let side = if deepest == 4 { 32 } else { 96 };
        let x = Var::constant(Tensor::zeros([1, side, side, 1]));
        let all: Vec<usize> = (0..stages.len()).collect();
        let features = no_grad(|| model.features(&x, &all, &Mode::Eval)).unwrap();
        for feature in features.iter().filter(|_| variant.family != "Inception") {
            let (made, exact) = (feature.map.shape()[1] as f64, side as f64 / feature.stage.stride as f64);
            let slack = if variant.family == "AlexNet" { 1.0 } else { 0.0 };
            assert!((made - exact).abs() <= slack, "{} {}: {made}", variant.name, feature.stage.name);
        }
    }
}

#[test]
fn maps_are_those_of_the_whole_network() {
    for name in WRITTEN {
        let variant = variant(name).unwrap();
        let side = variant.least_size.max(40);
        let model = Model::new(name, Options { classes: 7, in_channels: 3 }, 1).unwrap();
        let x = image(side);
        let forward = |mode: &Mode| no_grad(|| model.forward(&x, mode)).unwrap();
        let (_, trace) = no_grad(|| ocelli_zoo::nn::autograd::trace::<f32, _>(|| forward(&Mode::Eval)));
        let stages: Vec<usize> = (0..model.stages().unwrap().len()).collect();
        let features = no_grad(|| model.features(&x, &stages, &Mode::Eval)).unwrap();
        for feature in &features {
            let shape = feature.map.shape();
            assert_eq!(shape[3], feature.stage.channels, "{name}");
            for (map, image) in [(shape[1], side), (shape[2], side + 5)] {
                // Some do not pad, or less than others.
                let slack = if matches!(name, "alexnet" | "inception_v3") { 4.0 } else { 0.999 };
                let exact = image as f64 / feature.stage.stride as f64;
                assert!((map as f64 - exact).abs() <= slack, "{name} {}: {map} of {image}", feature.stage.name);
            }
            // Where the stage's name is a layer's, its map is what that layer made last.
            let inside =
                |scope: &str| scope == feature.stage.name || scope.starts_with(&format!("{}.", feature.stage.name));
            if let Some(last) = trace.entries().iter().rfind(|entry| inside(entry.scope())) {
                let channels = last.output_shape()[3];
                assert_eq!(channels, feature.stage.channels, "{name} {}", feature.stage.name);
            }
        }
        // From the last map on, the rest of the network is what it was: so is the embedding, and so are the logits.
        let logits = forward(&Mode::Eval);
        let embedding = no_grad(|| model.embedding(&x, &Mode::Eval)).unwrap();
        let of = |suffix: &str| {
            let name = format!("{}{suffix}", model.classifier_prefix());
            model.state().parameters().find(|(n, _)| *n == name).unwrap().1.var()
        };
        let again = embedding.linear(&of("weight"), Some(&of("bias"))).unwrap();
        assert!(again.value().relative_error(logits.value()) < 1e-6, "{name}");
        // One stage alone has the same bits as among all, in any order.
        let reversed: Vec<usize> = stages.iter().rev().copied().collect();
        let again = no_grad(|| model.features(&x, &reversed, &Mode::Eval)).unwrap();
        for (a, b) in again.iter().rev().zip(&features) {
            assert_eq!(a.map.value(), b.map.value(), "{name} {}", b.stage.name);
        }
    }
}

#[test]
fn a_model_without_classes_ends_with_its_embedding() {
    for name in WRITTEN {
        let variant = variant(name).unwrap();
        let side = variant.least_size.max(32);
        let whole = Model::new(name, Options { classes: 5, in_channels: 3 }, 3).unwrap();
        let backbone = Model::zeroed(name, Options { classes: 0, in_channels: 3 }).unwrap();
        let left = whole.state().names().filter(|name| !backbone.state().names().any(|n| n == *name));
        let is_classifier = |name: &str| {
            let prefixes = [&*whole.classifier_prefix(), "aux", "AuxLogits."];
            prefixes.iter().any(|prefix| name.starts_with(prefix))
        };
        let left: Vec<&str> = left.collect();
        assert!(left.len() >= 2 && left.iter().all(|name| is_classifier(name)), "{name}: {left:?}");
        backbone.load(&whole.state().to_checkpoint().unwrap()).unwrap();
        let x = image(side);
        let [made, expected] = [&backbone, &whole].map(|model| no_grad(|| model.embedding(&x, &Mode::Eval)).unwrap());
        assert_eq!(made.value(), expected.value(), "{name}");
        let forward = no_grad(|| backbone.forward(&x, &Mode::Eval)).unwrap();
        assert_eq!(forward.value(), expected.value(), "{name}");
        let planned = backbone.plan(*x.shape()).unwrap().run(x.value()).unwrap();
        assert!(planned.relative_error(expected.value()) < 2e-5, "{name}");
        let training = backbone.outputs(&x, &Mode::train(1)).unwrap();
        assert!(training.auxiliary.is_empty());
        // What it saves, it loads.
        backbone.load(&backbone.state().to_checkpoint().unwrap()).unwrap();
    }
}

#[test]
fn stages_freeze_in_order() {
    for name in WRITTEN {
        let model = Model::new(name, Options { classes: 2, in_channels: 3 }, 1).unwrap();
        let stages = model.stages().unwrap().len();
        let frozen = || model.state().parameters().filter(|(_, p)| !p.requires_grad()).count();
        assert_eq!((model.freeze_stages(0).unwrap(), frozen()), (0, 0));
        let mut before = 0;
        for count in 1..=stages {
            model.freeze_stages(count).unwrap();
            let now = frozen();
            // AlexNet's last pooling is a stage without parameters.
            assert!(now > before || name == "alexnet", "{name} {count}: {now} after {before}");
            before = now;
        }
        let rest: Vec<&str> = model.state().parameters().filter(|(_, p)| p.requires_grad()).map(|(n, _)| n).collect();
        let prefixes = ["fc.", "classifier.", "last_linear.", "aux", "AuxLogits.", "conv_head.", "bn2.", "features.8."];
        assert!(rest.iter().all(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))), "{name}: {rest:?}");
        assert!(rest.contains(&&*format!("{}weight", model.classifier_prefix())), "{name}: {rest:?}");
        model.state().unfreeze("");
        assert_eq!(frozen(), 0);
    }
}

#[test]
fn gradients_flow_through_maps_to_what_is_not_frozen() {
    let model = Model::new("resnet18", Options { classes: 0, in_channels: 3 }, 1).unwrap();
    model.freeze_stages(2).unwrap();
    let features = model.features(&image(32), &[3], &Mode::train(0)).unwrap();
    features[0].map.sum().unwrap().backward().unwrap();
    for (name, parameter) in model.state().parameters() {
        let reached = name.starts_with("layer2") || name.starts_with("layer3");
        assert_eq!(parameter.grad().is_some(), reached, "{name}");
    }
}

#[test]
fn a_stage_that_is_not_there_is_an_error() {
    let model = Model::zeroed("resnet8", Options { classes: 0, in_channels: 3 }).unwrap();
    let error = model.features(&image(8), &[0, 4], &Mode::Eval).unwrap_err().to_string();
    assert_eq!(error, "resnet8 has 4 stages, from 0: there is no stage 4");
    assert_eq!(model.freeze_stages(5).unwrap_err().to_string(), error);
    let small = Model::zeroed("vgg11", Options { classes: 0, in_channels: 3 }).unwrap();
    assert!(small.embedding(&image(31), &Mode::Eval).unwrap_err().to_string().contains("at least 32×32"));
}
