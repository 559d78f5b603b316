//! EfficientNet: M. Tan, Q. Le, *EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks*, 2019 (arXiv
//! 1905.11946).
//!
//! A mobile inverted bottleneck widens its input with a 1×1 convolution, filters it depthwise, weighs the channels by
//! squeeze-and-excitation, and projects them back without an activation; the shortcut joins the narrow ends. Table 1 of
//! the paper, B0:
//!
//! | stage | operator | channels | blocks | stride |
//! | --- | --- | --- | --- | --- |
//! | stem | 3×3 | 32 | 1 | 2 |
//! | 1 | MBConv1, 3×3 | 16 | 1 | 1 |
//! | 2 | MBConv6, 3×3 | 24 | 2 | 2 |
//! | 3 | MBConv6, 5×5 | 40 | 2 | 2 |
//! | 4 | MBConv6, 3×3 | 80 | 3 | 2 |
//! | 5 | MBConv6, 5×5 | 112 | 3 | 1 |
//! | 6 | MBConv6, 5×5 | 192 | 4 | 2 |
//! | 7 | MBConv6, 3×3 | 320 | 1 | 1 |
//! | head | 1×1, pooling, dropout, classifier | 1280 | 1 | 1 |
//!
//! All others are B0 [scaled](Scale): deeper, wider, and for larger images at once. The Lite networks leave out the
//! squeeze-and-excitation, have ReLU6 for SiLU, and keep stem, head and the depths of the first and last stage as they are.

mod block;
mod config;
mod network;
mod scale;
mod timm;

use crate::nn::tensor::Element;
use crate::nn::{Builder, Result};
use crate::{Build, Options, Variant};

pub use config::{Config, Library, Operator, Stage};
pub use network::EfficientNet;
pub use scale::{B, LITE, Scale};

/// B0 scaled by a compound coefficient of one's own; see [`Scale::compound`]. Errors unless −10 ≤ φ ≤ 10.
pub fn efficientnet<T: Element>(b: &Builder<T>, phi: f64, options: Options) -> Result<EfficientNet<T>> {
    EfficientNet::new(b, &Config::new(Library::Torchvision, &Scale::compound(phi)?), options)
}

/// B0 … B7 as torchvision builds them.
fn torchvision(b: &Builder<f32>, n: usize, options: Options) -> Result<Box<EfficientNet<f32>>> {
    let mut config = Config::new(Library::Torchvision, &B[n]);
    if n >= 5 {
        config.norm = config::TENSORFLOW_NORM;
    }
    Ok(Box::new(EfficientNet::new(b, &config, options)?))
}

/// B0 … B7 as the authors trained them.
fn tensorflow(b: &Builder<f32>, n: usize, options: Options) -> Result<Box<EfficientNet<f32>>> {
    Ok(Box::new(EfficientNet::new(b, &Config::new(Library::TensorFlow, &B[n]), options)?))
}

/// Lite0 … Lite4.
fn lite(b: &Builder<f32>, n: usize, options: Options) -> Result<Box<EfficientNet<f32>>> {
    Ok(Box::new(EfficientNet::new(b, &Config::lite(&LITE[n]), options)?))
}

const fn variant(name: &'static str, input_size: usize, parameters: usize, macs: u64, build: Build) -> Variant {
    let classifier = if let [b't', b'f', ..] = name.as_bytes() { "classifier" } else { "classifier.1" };
    let (family, least_size, classes) = ("EfficientNet", 1, 1000);
    Variant { name, family, input_size, least_size, classes, parameters, macs, classifier, build }
}

/// The variants for ImageNet: torchvision's, and timm's with the weights of the authors.
pub const VARIANTS: &[Variant] = &[
    variant("efficientnet_b0", 224, 5_288_548, 385_814_752, |b, o| Ok(torchvision(b, 0, o)?)),
    variant("efficientnet_b1", 240, 7_794_184, 686_802_832, |b, o| Ok(torchvision(b, 1, o)?)),
    variant("efficientnet_b2", 288, 9_109_994, 1_087_529_456, |b, o| Ok(torchvision(b, 2, o)?)),
    variant("efficientnet_b3", 300, 12_233_232, 1_827_141_392, |b, o| Ok(torchvision(b, 3, o)?)),
    variant("efficientnet_b4", 380, 19_341_616, 4_393_771_024, |b, o| Ok(torchvision(b, 4, o)?)),
    variant("efficientnet_b5", 456, 30_389_784, 10_266_384_752, |b, o| Ok(torchvision(b, 5, o)?)),
    variant("efficientnet_b6", 528, 43_040_704, 19_067_593_536, |b, o| Ok(torchvision(b, 6, o)?)),
    variant("efficientnet_b7", 600, 66_347_960, 37_745_884_192, |b, o| Ok(torchvision(b, 7, o)?)),
    variant("tf_efficientnet_b0", 224, 5_288_548, 385_814_752, |b, o| Ok(tensorflow(b, 0, o)?)),
    variant("tf_efficientnet_b1", 240, 7_794_184, 686_802_832, |b, o| Ok(tensorflow(b, 1, o)?)),
    variant("tf_efficientnet_b2", 260, 9_109_994, 993_561_872, |b, o| Ok(tensorflow(b, 2, o)?)),
    variant("tf_efficientnet_b3", 300, 12_233_232, 1_827_141_392, |b, o| Ok(tensorflow(b, 3, o)?)),
    variant("tf_efficientnet_b4", 380, 19_341_616, 4_393_771_024, |b, o| Ok(tensorflow(b, 4, o)?)),
    variant("tf_efficientnet_b5", 456, 30_389_784, 10_266_384_752, |b, o| Ok(tensorflow(b, 5, o)?)),
    variant("tf_efficientnet_b6", 528, 43_040_704, 19_067_593_536, |b, o| Ok(tensorflow(b, 6, o)?)),
    variant("tf_efficientnet_b7", 600, 66_347_960, 37_745_884_192, |b, o| Ok(tensorflow(b, 7, o)?)),
    variant("tf_efficientnet_lite0", 224, 4_652_008, 385_187_552, |b, o| Ok(lite(b, 0, o)?)),
    variant("tf_efficientnet_lite1", 240, 5_416_680, 600_185_232, |b, o| Ok(lite(b, 1, o)?)),
    variant("tf_efficientnet_lite2", 260, 6_092_072, 859_736_272, |b, o| Ok(lite(b, 2, o)?)),
    variant("tf_efficientnet_lite3", 300, 8_197_096, 1_607_554_544, |b, o| Ok(lite(b, 3, o)?)),
    variant("tf_efficientnet_lite4", 380, 13_006_568, 3_943_564_112, |b, o| Ok(lite(b, 4, o)?)),
];
