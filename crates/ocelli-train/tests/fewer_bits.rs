//! EfficientNet-Lite0 in eight bits, or with weights in 16, sees in photos what it sees in 32.

#![cfg(feature = "pretrained")]

use std::path::Path;
use std::sync::Arc;

use ocelli_train::loader::LoaderOptions;
use ocelli_train::zoo::nn::tensor::{Tensor, simd};
use ocelli_train::zoo::{Model, variant};
use ocelli_train::{Augment, Dataset, Loader, Picture, Result, evaluate, evaluate_half, pretrained, read_image};

const PHOTOS: [&str; 4] = ["camera.png", "chelsea.png", "coffee.png", "rocket.jpg"];

struct Photos;

impl Dataset for Photos {
    fn len(&self) -> usize {
        PHOTOS.len()
    }

    fn label(&self, _: usize) -> usize {
        0
    }

    fn picture(&self, index: usize) -> Result<Picture> {
        read_image(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/photos").join(PHOTOS[index]))
    }

    fn name(&self, index: usize) -> String {
        PHOTOS[index].into()
    }
}

/// The photos as the network sees them, `[4, 224, 224, 3]`; with an augmentation, random parts of them.
fn photos(augment: Option<Augment>) -> Tensor {
    let preprocessing = pretrained::preprocessing(variant(pretrained::MODEL).unwrap(), 3);
    let options = LoaderOptions { augment, ..LoaderOptions::in_order(PHOTOS.len()) };
    let loader = Loader::new(Arc::new(Photos), preprocessing, options).unwrap();
    loader.epoch(0, 0).next().expect("one batch").images
}

fn first(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("logits")
}

fn model() -> Model {
    let variant = variant(pretrained::MODEL).unwrap();
    let model = Model::new(variant.name, variant.options(), 0).unwrap();
    model.load(&pretrained::checkpoint().unwrap()).unwrap();
    model
}

fn assert_same_choices(logits: &Tensor, expected: &Tensor) {
    let classes = expected.shape().columns();
    for (i, name) in PHOTOS.iter().enumerate() {
        let [a, b] = [logits, expected].map(|logits| first(&logits.data()[i * classes..][..classes]));
        assert_eq!(a, b, "{name} on {:?}", simd::current());
    }
}

#[test]
fn the_first_choice_is_the_same_in_eight_bits() {
    let (model, images) = (model(), photos(None));
    let expected = model.plan(*images.shape()).unwrap().run(&images).unwrap();
    // With ranges of these photos, and of other parts of them.
    for (calibration, largest) in [(images.clone(), 0.06), (photos(Some(Augment::photos())), 0.08)] {
        for &isa in simd::available() {
            simd::with_isa(isa, || {
                let plan = model.quantized_plan(*images.shape(), std::slice::from_ref(&calibration)).unwrap();
                let logits = plan.run(&images).unwrap();
                assert_same_choices(&logits, &expected);
                let error = logits.relative_error(&expected);
                assert!(error < largest, "{error} on {isa:?}");
            });
        }
    }
}

#[test]
fn the_first_choice_is_the_same_with_weights_in_16_bits() {
    let (model, images) = (model(), photos(None));
    let [exact, half] = [Model::plan, Model::half_plan].map(|plan| plan(&model, [1, 224, 224, 3]).unwrap());
    let [expected, logits] = [exact, half].map(|plan| plan.run(&images).unwrap());
    assert_same_choices(&logits, &expected);
    let error = logits.relative_error(&expected);
    assert!((1e-6..1e-3).contains(&error), "{error}");
}

#[test]
fn evaluation_in_16_bits_is_that_of_the_plan_for_one_image() {
    let (model, images) = (model(), photos(None));
    let preprocessing = pretrained::preprocessing(variant(pretrained::MODEL).unwrap(), 3);
    let classes: Vec<String> = (0..1000).map(|class| class.to_string()).collect();
    let [exact, half] = [
        evaluate(&model, Arc::new(Photos), &classes, &preprocessing, PHOTOS.len(), |_, _| ()).unwrap(),
        evaluate_half(&model, Arc::new(Photos), &classes, &preprocessing, PHOTOS.len(), |_, _| ()).unwrap(),
    ];
    // Of the true label, 0, which all photos have.
    let logits = model.half_plan([1, 224, 224, 3]).unwrap().run(&images).unwrap();
    let loss = |logits: &[f32]| logits.iter().map(|x| f64::from(*x - logits[0]).exp()).sum::<f64>().ln();
    let expected = logits.data().chunks_exact(1000).map(loss).sum::<f64>() / PHOTOS.len() as f64;
    assert!((half.loss - expected).abs() < 1e-5 * expected, "{} rather than {expected}", half.loss);
    assert!((half.loss - exact.loss).abs() > 1e-5 * expected, "{} with and without", half.loss);
}
