//! Checkpoints of every family's smallest network: they load from files unchanged, into inference and into training, and
//! those that don't fit are refused with the list of everything that doesn't.

use std::collections::BTreeMap;

use ocelli_zoo::nn::checkpoint::Checkpoint;
use ocelli_zoo::nn::tensor::{Shape, Tensor};
use ocelli_zoo::{Model, Options, Variant, adapted_to_channels, variants};

/// The variant of each family with the fewest parameters.
fn smallest() -> impl Iterator<Item = &'static Variant> {
    let mut smallest = BTreeMap::<&str, &Variant>::new();
    for variant in variants() {
        let least = smallest.entry(variant.family).or_insert(variant);
        if variant.parameters < least.parameters {
            *least = variant;
        }
    }
    smallest.into_values()
}

/// A checkpoint of the variant, with numbers that tell tensors apart.
fn published(variant: &Variant) -> Checkpoint {
    let mut checkpoint = Model::zeroed(variant.name, variant.options()).unwrap().state().to_checkpoint().unwrap();
    let tensors: Vec<_> = checkpoint.iter().map(|(name, e)| (name.to_owned(), e.dtype, *e.tensor.shape())).collect();
    for (i, (name, dtype, shape)) in tensors.into_iter().enumerate() {
        checkpoint.insert_as(name, dtype, Tensor::full(shape, (i % 1000) as f32));
    }
    checkpoint
}

fn assert_equal(a: &Checkpoint, b: &Checkpoint, but: impl Fn(&str) -> bool) {
    assert_eq!(a.len(), b.len());
    for (name, entry) in a.iter().filter(|(name, _)| !but(name)) {
        assert!(b.get(name) == Some(entry), "{name}");
    }
}

#[test]
fn files_load_into_inference_and_into_training() {
    for variant in smallest() {
        let file = published(variant).to_bytes().unwrap();
        let checkpoint = Checkpoint::from_bytes(&file).unwrap();
        drop(file);
        let model = Model::zeroed(variant.name, variant.options()).unwrap();
        model.load(&checkpoint).unwrap();
        assert_equal(&checkpoint, &model.state().to_checkpoint().unwrap(), |_| false);
        drop(model);

        let student = Model::zeroed(variant.name, Options { classes: 7, in_channels: 1 }).unwrap();
        let own = student.state().to_checkpoint().unwrap();
        student.load_pretrained(&checkpoint).unwrap();
        let now = student.state().to_checkpoint().unwrap();
        let (first, _) = own.iter().next().unwrap();
        let is_new =
            |name: &str| name.starts_with(variant.classifier) || name.starts_with("aux") || name.starts_with("Aux");
        assert_equal(&checkpoint, &now, |name| name == first || is_new(name));
        let classifier = format!("{}.weight", variant.classifier);
        assert!(now.get(&classifier) == own.get(&classifier), "{}", variant.name);
        let adapted = adapted_to_channels(&checkpoint.get(first).unwrap().tensor, 1).unwrap();
        assert!(now.get(first).unwrap().tensor == adapted, "{}", variant.name);
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_list() {
    for variant in smallest() {
        let model = Model::zeroed(variant.name, variant.options()).unwrap();
        let whole = published(variant);
        let names: Vec<String> = whole.iter().map(|(name, _)| name.to_owned()).collect();
        // Counters may be missing.
        let needed: Vec<&String> = names.iter().filter(|name| !name.ends_with("num_batches_tracked")).collect();
        let [first, middle, last] = [needed[0], needed[needed.len() / 2], needed[needed.len() - 1]];
        let refusal = |checkpoint: &Checkpoint| model.load(checkpoint).unwrap_err().to_string();
        let prefix = "the checkpoint does not fit the model: ";

        let mut truncated = whole.clone();
        truncated.retain(|name| name != middle && name != last);
        assert_eq!(refusal(&truncated), format!("{prefix}2 missing ({middle}, {last})"), "{}", variant.name);

        let renamed = whole.clone().renamed(|_, name| if name == middle { "other.name".into() } else { name.into() });
        let expected = format!("{prefix}1 missing ({middle}); 1 unexpected (other.name)");
        assert_eq!(refusal(&renamed.unwrap()), expected, "{}", variant.name);

        let mut reshaped = whole.clone();
        let shape = |name: &String| whole.get(name).unwrap().tensor.shape().to_vec();
        let longer = |name: &String| {
            let mut shape = shape(name);
            shape[0] += 1;
            shape
        };
        for name in [first, last] {
            reshaped.insert(name, Tensor::zeros(Shape::new(&longer(name)).unwrap()));
        }
        let [a, b] = [first, last].map(|name| format!("{name} {:?} instead of {:?}", longer(name), shape(name)));
        assert_eq!(refusal(&reshaped), format!("{prefix}2 misshaped ({a}, {b})"), "{}", variant.name);

        let untouched = model.state().parameters().all(|(_, p)| p.value().data().iter().all(|&v| v == 0.0));
        assert!(untouched, "{}: a refused checkpoint changed the model", variant.name);
    }
}

#[test]
fn a_classifier_may_be_absent_or_of_other_classes_but_not_damaged() {
    let options = Options { classes: 10, in_channels: 3 };
    let whole = Model::new("resnet8", options, 1).unwrap().state().to_checkpoint().unwrap();
    let student = Model::new("resnet8", Options { classes: 4, ..options }, 2).unwrap();
    let mut backbone = whole.clone();
    backbone.retain(|name| !name.starts_with("fc."));
    student.load_pretrained(&backbone).unwrap();

    let mut truncated = whole.clone();
    truncated.retain(|name| name != "fc.bias");
    let error = student.load_pretrained(&truncated).unwrap_err().to_string();
    assert!(error.contains("1 missing (fc.bias); 1 misshaped (fc.weight [10, 64] instead of [4, 64])"), "{error}");
    let mut wide = whole.clone();
    wide.insert("fc.weight", Tensor::zeros([10, 65]));
    let error = student.load_pretrained(&wide).unwrap_err().to_string();
    assert!(
        error.contains("2 misshaped (fc.weight [10, 65] instead of [4, 64], fc.bias [10] instead of [4])"),
        "{error}"
    );
}

#[test]
fn timms_names_of_vgg_are_understood() {
    let variant = ocelli_zoo::variant("vgg11").unwrap();
    let options = Options { classes: 5, ..variant.options() };
    let model = Model::new("vgg11", options, 1).unwrap();
    let ours = model.state().to_checkpoint().unwrap();
    let mut timm = Checkpoint::new();
    for (name, entry) in ours.iter() {
        let (name, shape) = match name {
            "classifier.0.weight" => ("pre_logits.fc1.weight", Some([4096, 512, 7, 7])),
            "classifier.0.bias" => ("pre_logits.fc1.bias", None),
            "classifier.3.weight" => ("pre_logits.fc2.weight", Some([4096, 4096, 1, 1])),
            "classifier.3.bias" => ("pre_logits.fc2.bias", None),
            "classifier.6.weight" => ("head.fc.weight", None),
            "classifier.6.bias" => ("head.fc.bias", None),
            name => (name, None),
        };
        let tensor = shape.map_or_else(|| entry.tensor.clone(), |shape| entry.tensor.reshape(shape).unwrap());
        timm.insert(name, tensor);
    }
    let loaded = Model::zeroed("vgg11", options).unwrap();
    loaded.load(&timm).unwrap();
    assert_equal(&ours, &loaded.state().to_checkpoint().unwrap(), |_| false);
    timm.retain(|name| name != "head.fc.bias");
    let error = loaded.load(&timm).unwrap_err().to_string();
    assert_eq!(error, "the checkpoint does not fit the model: 1 missing (classifier.6.bias)");
}

/// Both libraries build B0 of the same layers in the same order; timm's own are named as `tf_efficientnet_b0`'s.
#[test]
fn timms_names_of_efficientnets_are_understood() {
    for (name, timm) in [("efficientnet_b0", "tf_efficientnet_b0"), ("efficientnet_b1", "tf_efficientnet_b1")] {
        let options = Options { classes: 5, ..ocelli_zoo::variant(name).unwrap().options() };
        let ours = Model::new(name, options, 1).unwrap().state().to_checkpoint().unwrap();
        let theirs = Model::zeroed(timm, options).unwrap().state().to_checkpoint().unwrap();
        let names: Vec<&str> = theirs.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), ours.iter().count());
        let mut renamed = ours.clone().renamed(|i, _| names[i].to_owned()).unwrap();

        let loaded = Model::zeroed(name, options).unwrap();
        loaded.load(&renamed).unwrap();
        assert_equal(&ours, &loaded.state().to_checkpoint().unwrap(), |_| false);
        renamed.retain(|name| name != "blocks.1.0.conv_dw.weight");
        let error = loaded.load(&renamed).unwrap_err().to_string();
        let expected = "the checkpoint does not fit the model: 1 missing (features.2.0.block.1.0.weight)";
        assert_eq!(error, expected);
    }
}

#[test]
fn a_first_convolution_is_adapted_to_other_channels() {
    let weight = Tensor::from_slice([1, 3, 1, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    assert!(adapted_to_channels(&weight, 3).is_none());
    assert_eq!(adapted_to_channels(&weight, 1).unwrap().data(), [9.0, 12.0]);
    let five = adapted_to_channels(&weight, 5).unwrap();
    assert_eq!(**five.shape(), [1, 5, 1, 2]);
    let expected = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1.0, 2.0, 3.0, 4.0].map(|v: f32| v * 0.6);
    assert!(five.data().iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{five:?}");
}
