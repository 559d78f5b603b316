//! Every family's smallest network against PyTorch: the gradients of all its parameters for one batch, those of the
//! auxiliary classifiers' losses included; in f64, and in f32 where rounding decides nothing (see
//! `fixtures/gradients.py`).

use std::collections::BTreeSet;

use ocelli_tests::gradients::{GradientCase, cases};
use ocelli_tests::nhwc;
use ocelli_tests::seeded::{self, Entry};
use ocelli_train::zoo::nn::loss::cross_entropy;
use ocelli_train::zoo::nn::tensor::Element;
use ocelli_train::zoo::nn::{Builder, Mode, Result, autograd::Var};
use ocelli_train::zoo::resnet::Kind;
use ocelli_train::zoo::{
    Architecture, Options, alexnet, cifar_resnet, deformable_resnet, densenet, efficientnet, efficientnet_v2,
    googlenet, inception, preact_resnet, resnet, resnext, senet, variant, variants, vgg, wide_resnet,
};

/// The networks, without dropout and stochastic depth where the case is one in training mode.
fn network<T: Element>(model: &str, b: &Builder<T>, o: Options) -> Result<Box<dyn Architecture<T>>> {
    Ok(match model {
        "alexnet" => Box::new(alexnet::AlexNet::new(b, &alexnet::ALEXNET, o)?),
        "alexnet_2012" => Box::new(alexnet::AlexNet::new(b, &alexnet::ALEXNET_2012, o)?),
        "vgg11" => Box::new(vgg::Vgg::new(b, &vgg::Config::new(vgg::VGG11, false), o)?),
        "googlenet" => {
            let config = googlenet::Config { dropout: 0.0, auxiliary_dropout: 0.0, ..googlenet::GOOGLENET };
            Box::new(googlenet::GoogLeNet::new(b, &config, o)?)
        }
        "inception_v3" => {
            let config = inception::Config { dropout: 0.0, ..inception::INCEPTION_V3 };
            Box::new(inception::Inception::new(b, &config, o)?)
        }
        "resnet18" => Box::new(resnet::resnet18(b, o)?),
        "plain18" => Box::new(resnet::plain18(b, o)?),
        "resnet8" => Box::new(cifar_resnet::residual(b, 1, o)?),
        "plain8" => Box::new(cifar_resnet::plain(b, 1, o)?),
        "preact_resnet164" => {
            let config = preact_resnet::Config::new(Kind::Bottleneck, 18);
            Box::new(preact_resnet::PreActResNet::new(b, &config, o)?)
        }
        "wide_resnet50_2" => Box::new(wide_resnet::wide_resnet50_2(b, o)?),
        "resnext50_32x4d" => Box::new(resnext::resnext50_32x4d(b, o)?),
        "deformable_resnet50" => Box::new(deformable_resnet::deformable_resnet50(b, deformable_resnet::V1, o)?),
        "deformable_resnet50_v2" => Box::new(deformable_resnet::deformable_resnet50(b, deformable_resnet::V2, o)?),
        "densenet121" => Box::new(densenet::densenet(b, 32, [6, 12, 24, 16], o)?),
        "densenet_bc100_k12" => Box::new(densenet::cifar_bc(b, 100, 12, o)?),
        "efficientnet_b0" => {
            let config = efficientnet::Config::new(efficientnet::Library::Torchvision, &efficientnet::B[0]);
            Box::new(efficient(b, config, o)?)
        }
        "tf_efficientnet_lite0" => Box::new(efficient(b, efficientnet::Config::lite(&efficientnet::LITE[0]), o)?),
        "efficientnet_v2_s" => Box::new(efficient(b, efficientnet_v2::Size::S.config(), o)?),
        "legacy_seresnet18" => Box::new(senet::se_resnet_basic(b, [2, 2, 2, 2], o)?),
        _ => panic!("no gradients of {model}"),
    })
}

fn efficient<T: Element>(
    b: &Builder<T>,
    config: efficientnet::Config,
    o: Options,
) -> Result<efficientnet::EfficientNet<T>> {
    efficientnet::EfficientNet::new(b, &efficientnet::Config { dropout: 0.0, stochastic_depth: 0.0, ..config }, o)
}

/// The worst parameter's error.
fn worst<T: Element>(case: &GradientCase) -> (String, f64) {
    let options = variant(&case.model).unwrap().options();
    let builder = Builder::<T>::zeroed();
    let network = network(&case.model, &builder, options).unwrap();
    let state = builder.state();
    let shapes = state.to_checkpoint().unwrap();
    let entries = shapes.iter().map(|(name, entry)| (name, entry.tensor.shape()));
    let entries: Vec<_> = entries.map(|(name, shape)| Entry { name: name.into(), shape: shape.to_vec() }).collect();
    drop(shapes);
    state.load(&seeded::checkpoint(&entries, case.gain), true).unwrap();

    let mode = if case.training { Mode::train(0) } else { Mode::Eval };
    let x = nhwc(seeded::images(&format!("input/{}", case.seed), case.input), case.input);
    let labels = seeded::labels(&format!("labels/{}", case.seed), case.input[0], 1000);
    let labels: Vec<usize> = labels.into_iter().map(|label| label % options.classes).collect();
    let outputs = network.outputs(&Var::constant(x.cast()), &mode).unwrap();
    outputs.loss(|logits| cross_entropy(logits, &labels, 0.0)).unwrap().backward().unwrap();

    // A state that holds the gradients turns them into the checkpoint's layout. Evaluation leaves out the auxiliary heads.
    let mut with_gradient = BTreeSet::new();
    for (name, parameter) in state.parameters() {
        if let Some(gradient) = parameter.take_grad() {
            parameter.set_value(gradient).unwrap();
            with_gradient.insert(name);
        }
    }
    let gradients = state.to_checkpoint().unwrap();
    let learned = entries.iter().filter(|entry| with_gradient.contains(entry.name.as_str()));
    let values: Vec<(&Entry, Vec<f64>)> = learned
        .map(|entry| (entry, gradients.get(&entry.name).unwrap().tensor.data().iter().map(|&v| v.into()).collect()))
        .collect();
    case.compare(&values).into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
}

/// In f64 values are rounded to f32 where they are stored and compared.
fn check(model: &str) {
    let cases: Vec<_> = cases().into_iter().filter(|case| case.model == model).collect();
    for case in &cases {
        let (name, error) = worst::<f64>(case);
        println!("{} f64: {error:.1e} at {name}", case.name());
        assert!(error < 1e-6, "{} in f64: {name} is off by {error:.1e}", case.name());
    }
    let robust: Vec<_> = cases.iter().filter(|case| case.robust).collect();
    assert!(!robust.is_empty(), "{model} is not compared in f32");
    for case in robust {
        let (name, error) = worst::<f32>(case);
        println!("{} f32: {error:.1e} at {name}", case.name());
        assert!(error < 1e-3, "{} in f32: {name} is off by {error:.1e}", case.name());
    }
}

macro_rules! gradients {
    ($($model:ident)*) => {
        const TESTED: &[&str] = &[$(stringify!($model)),*];
        $(
            #[test]
            fn $model() {
                check(stringify!($model));
            }
        )*
    };
}

gradients! {
    alexnet alexnet_2012 vgg11 googlenet inception_v3 resnet18 plain18 resnet8 plain8 preact_resnet164 wide_resnet50_2
    resnext50_32x4d deformable_resnet50 deformable_resnet50_v2 densenet121 densenet_bc100_k12 legacy_seresnet18
    efficientnet_b0 tf_efficientnet_lite0 efficientnet_v2_s
}

#[test]
fn every_family_is_tested() {
    let families: BTreeSet<_> = variants().map(|v| v.family).collect();
    assert_eq!(TESTED.iter().map(|model| variant(model).unwrap().family).collect::<BTreeSet<_>>(), families);
    assert_eq!(
        TESTED.iter().copied().collect::<BTreeSet<_>>(),
        cases().iter().map(|case| case.model.as_str()).collect::<BTreeSet<_>>()
    );
}
