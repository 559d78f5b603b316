//! Wide residual networks: S. Zagoruyko, N. Komodakis, *Wide Residual Networks*, 2016 (arXiv 1605.07146).
//!
//! Blocks with more channels in place of more blocks: as accurate as far deeper networks, and faster. The paper's
//! networks for ImageNet, as torchvision writes them, are ResNets whose bottlenecks are twice as wide inside:
//!
//! | stage | ResNet-50 | Wide ResNet-50-2 |
//! | --- | --- | --- |
//! | layer1 | 64, 64, 256 | 128, 128, 256 |
//! | layer2 | 128, 128, 512 | 256, 256, 512 |
//! | layer3 | 256, 256, 1024 | 512, 512, 1024 |
//! | layer4 | 512, 512, 2048 | 1024, 1024, 2048 |

use crate::nn::tensor::Element;
use crate::nn::{Builder, Result};
use crate::resnet::{Config, Kind, ResNet, variant};
use crate::{Options, Variant};

const fn config(depths: [usize; 4]) -> Config {
    Config { group_width: 2 * 64, ..Config::new(Kind::Bottleneck, depths) }
}

/// Wide ResNet-50-2.
pub fn wide_resnet50_2<T: Element>(b: &Builder<T>, options: Options) -> Result<ResNet<T>> {
    ResNet::new(b, &config([3, 4, 6, 3]), options)
}

/// Wide ResNet-101-2.
pub fn wide_resnet101_2<T: Element>(b: &Builder<T>, options: Options) -> Result<ResNet<T>> {
    ResNet::new(b, &config([3, 4, 23, 3]), options)
}

/// The variants for ImageNet.
pub const VARIANTS: &[Variant] = &[
    variant("Wide ResNet", "wide_resnet50_2", 68_883_240, 11_398_021_120, |b, o| Ok(Box::new(wide_resnet50_2(b, o)?))),
    variant("Wide ResNet", "wide_resnet101_2", 126_886_696, 22_753_050_624, |b, o| {
        Ok(Box::new(wide_resnet101_2(b, o)?))
    }),
];
