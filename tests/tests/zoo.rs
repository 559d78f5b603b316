//! Every model of the zoo against PyTorch (torchvision, timm): names and shapes of the state, counts, logits.

use std::collections::BTreeSet;

use ocelli_tests::fixtures::{self, ZooModel};
use ocelli_tests::{nhwc, relative_error, seeded};
use ocelli_train::zoo::nn::Mode;
use ocelli_train::zoo::nn::autograd::{Var, no_grad};
use ocelli_train::zoo::nn::tensor::Tensor;
use ocelli_train::zoo::{Model, variant, variants};

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

#[test]
fn resnet_logits() {
    check_logits("ResNet");
}

#[test]
fn cifar_resnet_logits() {
    check_logits("CIFAR ResNet");
}

#[test]
fn cifar_plain_logits() {
    check_logits("CIFAR plain");
}

#[test]
fn efficientnet_logits() {
    check_logits("EfficientNet");
}

#[test]
fn every_variant_has_a_reference_and_a_logits_test() {
    let zoo: BTreeSet<_> = variants().map(|v| v.name.to_owned()).collect();
    let references: BTreeSet<_> = fixtures::zoo().into_iter().map(|m| m.name).collect();
    assert_eq!(zoo, references, "tests/fixtures/make.py makes the references");
    let families: BTreeSet<_> = variants().map(|v| v.family).collect();
    assert_eq!(families, BTreeSet::from(["CIFAR ResNet", "CIFAR plain", "EfficientNet", "ResNet"]));
}

#[test]
fn states_have_the_names_shapes_and_order_of_the_published_ones() {
    for reference in fixtures::zoo() {
        let model = load(&reference);
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
        assert_eq!([variant.input_size; 2], reference.input_sizes[0], "{}", reference.name);
        assert_eq!((variant.parameters, variant.macs), (reference.parameters, macs), "{}: as listed", reference.name);
        let trace = model.trace([1, variant.input_size, variant.input_size, 3]).unwrap();
        let counted = (model.state().parameter_count(), trace.cost().macs as u64);
        assert_eq!(counted, (reference.parameters, macs), "{}: as built", reference.name);
    }
}
