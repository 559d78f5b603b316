//! Deformable ResNet: J. Dai et al., *Deformable Convolutional Networks*, 2017 (arXiv 1703.06211), and X. Zhu, H. Hu, S.
//! Lin, J. Dai, *Deformable ConvNets v2: More Deformable, Better Results*, 2018 (arXiv 1811.11168).
//!
//! The 3×3 convolutions of a ResNet's last stages sample their input where a convolution beside them says: `conv_offset`
//! makes 2 · 9 offsets for each pixel, and in version 2 also 9 weights of the samples. Both versions here have them in
//! the stages conv3 to conv5 (`layer2` to `layer4`), 12 layers of ResNet-50, as the second paper; the first had them in
//! the last three layers only:
//!
//! | stage | ResNet-50 | deformable ResNet-50 | conv2 of its blocks |
//! | --- | --- | --- | --- |
//! | layer1 | 3 × (64, 64, 256) | 3 | 3×3 |
//! | layer2 | 4 × (128, 128, 512) | 4 | deformable 3×3 |
//! | layer3 | 6 × (256, 256, 1024) | 6 | deformable 3×3 |
//! | layer4 | 3 × (512, 512, 2048) | 3 | deformable 3×3 |
//!
//! Names are those of MMDetection's networks (`layer2.0.conv2.conv_offset.weight`), whose others are torchvision's.
//! [`Model::load_pretrained`](crate::Model::load_pretrained) also takes the weights of the ResNet without them: then
//! offsets begin at zero, with which version 1 computes what the ResNet does.

use crate::nn::tensor::Element;
use crate::nn::{Builder, DeformOptions, Result};
use crate::resnet::{Config, Kind, ResNet, variant};
use crate::{Options, Variant};

/// Version 1: offsets.
pub const V1: DeformOptions = DeformOptions { offset_groups: 1, modulated: false };
/// Version 2: offsets and masks.
pub const V2: DeformOptions = DeformOptions { offset_groups: 1, modulated: true };

/// Deformable from the second stage on.
const fn config(depths: [usize; 4], deform: DeformOptions) -> Config {
    let deformable = [None, Some(deform), Some(deform), Some(deform)];
    Config { deformable, ..Config::new(Kind::Bottleneck, depths) }
}

/// Deformable ResNet-50.
pub fn deformable_resnet50<T: Element>(b: &Builder<T>, deform: DeformOptions, options: Options) -> Result<ResNet<T>> {
    ResNet::new(b, &config([3, 4, 6, 3], deform), options)
}

/// Deformable ResNet-101.
pub fn deformable_resnet101<T: Element>(b: &Builder<T>, deform: DeformOptions, options: Options) -> Result<ResNet<T>> {
    ResNet::new(b, &config([3, 4, 23, 3], deform), options)
}

const FAMILY: &str = "deformable ResNet";

/// The variants for ImageNet.
pub const VARIANTS: &[Variant] = &[
    variant(FAMILY, "deformable_resnet50", 26_137_874, 4_215_176_192, |b, o| {
        Ok(Box::new(deformable_resnet50(b, V1, o)?))
    }),
    variant(FAMILY, "deformable_resnet50_v2", 26_428_295, 4_278_172_160, |b, o| {
        Ok(Box::new(deformable_resnet50(b, V2, o)?))
    }),
    variant(FAMILY, "deformable_resnet101", 45_835_332, 8_065_582_080, |b, o| {
        Ok(Box::new(deformable_resnet101(b, V1, o)?))
    }),
    variant(FAMILY, "deformable_resnet101_v2", 46_478_418, 8_197_670_400, |b, o| {
        Ok(Box::new(deformable_resnet101(b, V2, o)?))
    }),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;
    use crate::nn::Mode;
    use crate::nn::autograd::Var;
    use crate::nn::tensor::Tensor;

    fn logits(model: &Model) -> Tensor {
        let x = Tensor::from_fn([1, 64, 49, 3], |i| (i * 7919 % 2003) as f32 / 1001.5 - 1.0);
        model.forward(&Var::constant(x), &Mode::Eval).unwrap().into_value()
    }

    #[test]
    fn with_the_weights_of_a_resnet_it_computes_what_that_does() {
        let options = Options { classes: 5, in_channels: 3 };
        let resnet = Model::new("resnet50", options, 1).unwrap();
        let weights = resnet.state().to_checkpoint().unwrap();
        for name in ["deformable_resnet50", "deformable_resnet50_v2"] {
            let deformable = Model::new(name, options, 2).unwrap();
            let error = deformable.load(&weights).unwrap_err().to_string();
            assert!(error.contains("missing (layer2.0.conv2.conv_offset.weight, "), "{error}");
            deformable.load_pretrained(&weights).unwrap();
            // The masks of version 2 begin at a half.
            let agrees = logits(&deformable).relative_error(&logits(&resnet)) < 1e-5;
            assert_eq!(agrees, name == "deformable_resnet50");
        }
    }

    #[test]
    fn offsets_are_missing_together_or_not_at_all() {
        let options = Options { classes: 5, in_channels: 3 };
        let model = Model::new("deformable_resnet50", options, 1).unwrap();
        let mut weights = model.state().to_checkpoint().unwrap();
        weights.retain(|name| name != "layer3.1.conv2.conv_offset.bias");
        let error = model.load_pretrained(&weights).unwrap_err().to_string();
        assert_eq!(error, "the checkpoint does not fit the model: 1 missing (layer3.1.conv2.conv_offset.bias)");
    }
}
