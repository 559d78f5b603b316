//! What belongs to published weights: how they want pictures prepared, what their classes are called, and one set of
//! them, built in.

use ocelli_zoo::Variant;
use ocelli_zoo::nn::checkpoint::Checkpoint;
use serde::{Deserialize, Serialize};

use crate::{Interpolation, Preprocessing};

/// The names of ImageNet's classes (ILSVRC 2012), in the order of all published weights.
static IMAGENET_CLASSES: &str = include_str!("../weights/imagenet_classes.txt");

/// The names of ImageNet's 1,000 classes, in the order of all published weights.
pub fn imagenet_classes() -> Vec<String> {
    IMAGENET_CLASSES.lines().map(String::from).collect()
}

/// How the published weights of a variant want pictures prepared; with one input channel, the same in grey.
pub fn preprocessing(variant: &Variant, in_channels: usize) -> Preprocessing {
    let crop = variant.input_size;
    let colour = match (variant.name, variant.family) {
        (name, "EfficientNet" | "EfficientNetV2") => efficientnet(name, crop),
        // To −1..1: what torchvision does inside of the model, in `transform_input`.
        (_, family @ ("GoogLeNet" | "Inception")) => Preprocessing {
            resize: if family == "Inception" { 342 } else { 256 },
            crop,
            mean: vec![0.5; 3],
            std: vec![0.5; 3],
            ..Preprocessing::imagenet()
        },
        // The statistics of CIFAR-10's training images.
        (_, family) if family.starts_with("CIFAR ") => Preprocessing {
            resize: crop,
            crop,
            interpolation: Interpolation::Bilinear,
            mean: vec![0.4914, 0.4822, 0.4465],
            std: vec![0.2470, 0.2435, 0.2616],
        },
        _ => Preprocessing { resize: crop * 256 / 224, crop, ..Preprocessing::imagenet() },
    };
    match in_channels {
        1 => Preprocessing { mean: vec![mean(&colour.mean)], std: vec![mean(&colour.std)], ..colour },
        _ => colour,
    }
}

/// As torchvision publishes its EfficientNets, and timm the authors' (`tf_…`).
fn efficientnet(name: &str, crop: usize) -> Preprocessing {
    let resize = match name {
        "efficientnet_b0" | "efficientnet_b1" | "tf_efficientnet_b0" | "tf_efficientnet_lite0" => 256,
        "efficientnet_b3" => 320,
        "efficientnet_b4" => 384,
        "tf_efficientnet_b1" | "tf_efficientnet_lite1" => 272,
        "tf_efficientnet_b2" | "tf_efficientnet_lite2" => 292,
        "tf_efficientnet_b3" | "tf_efficientnet_lite3" => 331,
        "tf_efficientnet_b4" => 412,
        "tf_efficientnet_b5" => 488,
        "tf_efficientnet_b6" => 560,
        "tf_efficientnet_b7" => 632,
        "tf_efficientnet_lite4" => 413,
        _ => crop,
    };
    let interpolation = match name {
        "efficientnet_v2_s" | "efficientnet_v2_m" | "tf_efficientnet_lite3" | "tf_efficientnet_lite4" => {
            Interpolation::Bilinear
        }
        _ => Interpolation::Bicubic,
    };
    let statistics = Preprocessing::imagenet();
    let (mean, std) = match name {
        "efficientnet_v2_l" => (vec![0.5; 3], vec![0.5; 3]),
        // (255 x − 127) / 128
        _ if name.starts_with("tf_efficientnet_lite") => (vec![127.0 / 255.0; 3], vec![128.0 / 255.0; 3]),
        _ => (statistics.mean, statistics.std),
    };
    Preprocessing { resize, crop, interpolation, mean, std }
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len() as f32
}

/// What a file of weights says about itself in its metadata, if a training run wrote it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The architecture.
    pub model: String,
    /// The names of the classes.
    pub classes: Vec<String>,
    /// How pictures are prepared.
    pub preprocessing: Preprocessing,
}

impl About {
    /// The key of the metadata that holds it, as JSON.
    pub const KEY: &str = "ocelli.weights";

    /// What `checkpoint` says about itself.
    pub fn of(checkpoint: &Checkpoint) -> Option<About> {
        serde_json::from_str(checkpoint.metadata.get(Self::KEY)?).ok()
    }
}

#[cfg(feature = "pretrained")]
pub use embedded::{MODEL, checkpoint};

#[cfg(feature = "pretrained")]
mod embedded {
    use ocelli_zoo::nn::checkpoint::Checkpoint;

    use crate::Result;

    static WEIGHTS: &[u8] = include_bytes!("../weights/tf_efficientnet_lite0.f16.safetensors");

    /// The model whose weights are built in.
    pub const MODEL: &str = "tf_efficientnet_lite0";

    /// The built-in weights: EfficientNet-Lite0, trained on ImageNet by Google. Their licence is in `weights/NOTICE`
    /// of this crate.
    pub fn checkpoint() -> Result<Checkpoint> {
        Ok(Checkpoint::from_bytes(WEIGHTS)?)
    }
}

#[cfg(test)]
mod tests {
    use ocelli_zoo::variants;

    use super::*;

    #[test]
    fn there_are_a_thousand_names() {
        let classes = imagenet_classes();
        assert_eq!(classes.len(), 1000);
        assert_eq!((&*classes[0], &*classes[282], &*classes[999]), ("tench", "tiger cat", "toilet tissue"));
    }

    #[test]
    fn every_variant_has_a_preprocessing() {
        for variant in variants() {
            for channels in [1, 3] {
                let preprocessing = preprocessing(variant, channels);
                preprocessing.validate().unwrap();
                assert_eq!((preprocessing.crop, preprocessing.channels()), (variant.input_size, channels));
            }
        }
    }

    #[cfg(feature = "pretrained")]
    #[test]
    fn the_built_in_weights_fit_their_model() {
        let variant = ocelli_zoo::variant(MODEL).unwrap();
        let model = ocelli_zoo::Model::zeroed(MODEL, variant.options()).unwrap();
        model.load(&checkpoint().unwrap()).unwrap();
    }
}
