//! Every model of the zoo against PyTorch (torchvision, timm): names and shapes of the state, counts, logits.

use std::collections::BTreeSet;

use ocelli_tests::fixtures::{self, ZooModel};
use ocelli_tests::{nhwc, relative_error, seeded};
use ocelli_train::zoo::nn::autograd::{Var, no_grad};
use ocelli_train::zoo::nn::tensor::Tensor;
use ocelli_train::zoo::nn::{Builder, Mode};
use ocelli_train::zoo::{Architecture, Model, Options, googlenet, inception, variant, variants};

const TOLERANCE: f64 = 1e-4;

fn load(reference: &ZooModel) -> Model {
    let model = Model::zeroed(&reference.name, variant(&reference.name).unwrap().options()).unwrap();
    model.load(&seeded::checkpoint(&reference.state_dict(), reference.gain)).unwrap();
    model
}

fn values(tensor: &Tensor<f32>) -> Vec<f64> {
    tensor.data().iter().map(|&v| f64::from(v)).collect()
}

/// Logits of the seeded pictures, recorded op by op and as the compiled plan, against PyTorch's.
fn check_logits(family: &str) {
    let mut failures = Vec::new();
    let models = fixtures::zoo().into_iter().filter(|m| variant(&m.name).unwrap().family == family);
    for reference in models {
        let model = load(&reference);
        for [height, width] in reference.input_sizes.iter().copied() {
            let x = nhwc(seeded::images("input", [2, 3, height, width]), [2, 3, height, width]);
            let expected = reference.logits([height, width]);
            let eager = no_grad(|| model.forward(&Var::constant(x.clone()), &Mode::Eval)).unwrap();
            let planned = model.plan(*x.shape()).unwrap().run(&x).unwrap();
            for (how, logits) in [("eager", eager.value()), ("planned", &planned)] {
                assert_eq!(**logits.shape(), [2, expected.len() / 2], "{}", reference.name);
                let error = relative_error(&values(logits), &expected);
                let line = format!("{} {height}x{width} {how}: {error:.1e}", reference.name);
                println!("{line}");
                if error > TOLERANCE {
                    failures.push(line);
                }
            }
        }
    }
    assert!(failures.is_empty(), "off by more than {TOLERANCE:.0e}: {failures:#?}");
}

macro_rules! logits {
    ($($test:ident $family:literal;)*) => {
        const TESTED: &[&str] = &[$($family),*];
        $(
            #[test]
            fn $test() {
                check_logits($family);
            }
        )*
    };
}

logits! {
    alexnet_logits "AlexNet";
    vgg_logits "VGG";
    googlenet_logits "GoogLeNet";
    inception_logits "Inception";
    resnet_logits "ResNet";
    plain_logits "plain";
    cifar_resnet_logits "CIFAR ResNet";
    cifar_plain_logits "CIFAR plain";
    cifar_preactivation_logits "CIFAR pre-activation ResNet";
    wide_resnet_logits "Wide ResNet";
    resnext_logits "ResNeXt";
    deformable_resnet_logits "deformable ResNet";
    densenet_logits "DenseNet";
    cifar_densenet_logits "CIFAR DenseNet";
    senet_logits "SENet";
    efficientnet_logits "EfficientNet";
    efficientnet_v2_logits "EfficientNetV2";
}

/// Main and auxiliary logits in training mode against PyTorch's, of the network built without dropout. In f64, since
/// Inception's last auxiliary batch norm has but the two pictures' values to normalise, and magnifies what rounds them.
fn check_training_logits(
    name: &str,
    build: impl Fn(&Builder<f64>, Options) -> Box<dyn Architecture<f64>>,
    auxiliary: usize,
) {
    let reference = fixtures::zoo().into_iter().find(|m| m.name == name).unwrap();
    let [height, width] = reference.training_size.unwrap();
    let builder = Builder::zeroed();
    let network = build(&builder, variant(name).unwrap().options());
    builder.state().load(&seeded::checkpoint(&reference.state_dict(), reference.gain), true).unwrap();
    let x = nhwc(seeded::images("input", [2, 3, height, width]), [2, 3, height, width]);
    let outputs = no_grad(|| network.outputs(&Var::constant(x.cast()), &Mode::train(0))).unwrap();
    assert_eq!(outputs.auxiliary.len(), auxiliary);
    let heads = outputs.auxiliary.iter().map(|head| &head.logits).enumerate();
    let heads = heads.map(|(i, logits)| (format!("auxiliary{i}"), logits));
    for (which, logits) in heads.chain([("training".to_owned(), &outputs.logits)]) {
        let error = relative_error(logits.value().data(), &reference.training_logits(&which));
        println!("{name} {which}: {error:.1e}");
        assert!(error <= 1e-6, "{name} {which}: {error:.1e}");
    }
}

#[test]
fn googlenet_auxiliary_logits() {
    let config = googlenet::Config { dropout: 0.0, auxiliary_dropout: 0.0, ..googlenet::GOOGLENET };
    check_training_logits("googlenet", |b, o| Box::new(googlenet::GoogLeNet::new(b, &config, o).unwrap()), 2);
}

#[test]
fn inception_auxiliary_logits() {
    let config = inception::Config { dropout: 0.0, ..inception::INCEPTION_V3 };
    check_training_logits("inception_v3", |b, o| Box::new(inception::Inception::new(b, &config, o).unwrap()), 1);
}

#[test]
fn auxiliary_classifiers_may_be_missing_from_a_checkpoint() {
    let reference = fixtures::zoo().into_iter().find(|m| m.name == "googlenet").unwrap();
    let mut checkpoint = seeded::checkpoint(&reference.state_dict(), reference.gain);
    checkpoint.retain(|name| !name.starts_with("aux2.fc2"));
    let model = Model::zeroed("googlenet", variant("googlenet").unwrap().options()).unwrap();
    let error = model.load(&checkpoint).unwrap_err().to_string();
    assert!(error.contains("aux2.fc2.weight") && !error.contains("aux1"), "{error}");
    checkpoint.retain(|name| !name.starts_with("aux"));
    model.load(&checkpoint).unwrap();
    let other = Model::new("googlenet", Options { classes: 7, in_channels: 3 }, 1).unwrap();
    other.load_pretrained(&seeded::checkpoint(&reference.state_dict(), reference.gain)).unwrap();
}

#[test]
fn every_variant_has_a_reference_and_a_logits_test() {
    let zoo: BTreeSet<_> = variants().map(|v| v.name.to_owned()).collect();
    let references: BTreeSet<_> = fixtures::zoo().into_iter().map(|m| m.name).collect();
    assert_eq!(zoo, references, "tests/fixtures/make.py makes the references");
    let families: BTreeSet<_> = variants().map(|v| v.family).collect();
    assert_eq!(families, TESTED.iter().copied().collect());
}

#[test]
fn states_have_the_names_shapes_and_order_of_the_published_ones() {
    for reference in fixtures::zoo() {
        let model = Model::zeroed(&reference.name, variant(&reference.name).unwrap().options()).unwrap();
        let published = reference.state_dict();
        let names: Vec<&str> = published.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(model.state().names().collect::<Vec<_>>(), names, "{}", reference.name);
        let written = model.state().to_checkpoint().unwrap();
        for entry in &published {
            let tensor = &written.get(&entry.name).unwrap().tensor;
            assert_eq!(tensor.shape().to_vec(), entry.shape, "{} {}", reference.name, entry.name);
        }
    }
}

#[test]
fn counts_are_those_of_the_published_models() {
    for reference in fixtures::zoo() {
        let variant = variant(&reference.name).unwrap();
        let model = Model::zeroed(&reference.name, variant.options()).unwrap();
        let macs = reference.conv_macs + reference.linear_macs;
        assert_eq!(variant.input_size, reference.input_size, "{}", reference.name);
        assert_eq!((variant.parameters, variant.macs), (reference.parameters, macs), "{}: as listed", reference.name);
        let trace = model.trace([1, variant.input_size, variant.input_size, 3]).unwrap();
        // torchvision counts GoogLeNet's parameters without its auxiliary classifiers.
        let parameters = model.state().parameters().filter(|(name, _)| !name.starts_with("aux"));
        let parameters: usize = parameters.map(|(_, parameter)| parameter.shape().len()).sum();
        let counted = (parameters, trace.cost().macs as u64);
        assert_eq!(counted, (reference.parameters, macs), "{}: as built", reference.name);
    }
}
