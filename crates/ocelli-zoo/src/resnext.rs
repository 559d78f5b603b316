//! ResNeXt: S. Xie, R. Girshick, P. Dollár, Z. Tu, K. He, *Aggregated Residual Transformations for Deep Neural
//! Networks*, 2016 (arXiv 1611.05431).
//!
//! A bottleneck whose 3×3 convolution is divided into groups, many paths of few channels each: their number, the
//! cardinality, is worth more than depth or width at the same cost. In `32x4d`, 32 groups have 4 channels each in the
//! first stage. Table 1 of the paper; all else is ResNet's:
//!
//! | stage | ResNet-50 | ResNeXt-50 32×4d |
//! | --- | --- | --- |
//! | layer1 | 64, 64, 256 | 128, 128 in 32 groups, 256 |
//! | layer2 | 128, 128, 512 | 256, 256 in 32 groups, 512 |
//! | layer3 | 256, 256, 1024 | 512, 512 in 32 groups, 1024 |
//! | layer4 | 512, 512, 2048 | 1024, 1024 in 32 groups, 2048 |

use crate::nn::tensor::Element;
use crate::nn::{Builder, Result};
use crate::resnet::{Config, Kind, ResNet, variant};
use crate::{Options, Variant};

/// `groups` paths, each of `group_width` channels in the first stage.
const fn config(depths: [usize; 4], groups: usize, group_width: usize) -> Config {
    Config { groups, group_width, ..Config::new(Kind::Bottleneck, depths) }
}

/// ResNeXt-50, 32×4d.
pub fn resnext50_32x4d<T: Element>(b: &Builder<T>, options: Options) -> Result<ResNet<T>> {
    ResNet::new(b, &config([3, 4, 6, 3], 32, 4), options)
}

/// ResNeXt-101, 32×8d.
pub fn resnext101_32x8d<T: Element>(b: &Builder<T>, options: Options) -> Result<ResNet<T>> {
    ResNet::new(b, &config([3, 4, 23, 3], 32, 8), options)
}

/// ResNeXt-101, 64×4d.
pub fn resnext101_64x4d<T: Element>(b: &Builder<T>, options: Options) -> Result<ResNet<T>> {
    ResNet::new(b, &config([3, 4, 23, 3], 64, 4), options)
}

/// The variants for ImageNet.
pub const VARIANTS: &[Variant] = &[
    variant("ResNeXt", "resnext50_32x4d", 25_028_904, 4_230_479_872, |b, o| Ok(Box::new(resnext50_32x4d(b, o)?))),
    variant("ResNeXt", "resnext101_32x8d", 88_791_336, 16_414_015_488, |b, o| Ok(Box::new(resnext101_32x8d(b, o)?))),
    variant("ResNeXt", "resnext101_64x4d", 83_455_272, 15_460_270_080, |b, o| Ok(Box::new(resnext101_64x4d(b, o)?))),
];
