//! EfficientNetV2: M. Tan, Q. Le, *EfficientNetV2: Smaller Models and Faster Training*, 2021 (arXiv 2104.00298), as
//! torchvision publishes it.
//!
//! Depthwise convolutions of large maps cost more time than their few multiply-adds suggest, so the early stages have
//! dense 3×3 convolutions instead (Fused-MBConv), without squeeze-and-excitation; kernels are 3×3 throughout, and most of
//! the depth is late. Table 4 of the paper is S; M and L are the authors' code's. In a cell: blocks of channels.
//!
//! | stage | operator | stride | S | M | L |
//! | --- | --- | --- | --- | --- | --- |
//! | stem | 3×3 | 2 | 24 | 24 | 32 |
//! | 1 | Fused-MBConv1 | 1 | 2 of 24 | 3 of 24 | 4 of 32 |
//! | 2 | Fused-MBConv4 | 2 | 4 of 48 | 5 of 48 | 7 of 64 |
//! | 3 | Fused-MBConv4 | 2 | 4 of 64 | 5 of 80 | 7 of 96 |
//! | 4 | MBConv4 | 2 | 6 of 128 | 7 of 160 | 10 of 192 |
//! | 5 | MBConv6 | 1 | 9 of 160 | 14 of 176 | 19 of 224 |
//! | 6 | MBConv6 | 2 | 15 of 256 | 18 of 304 | 25 of 384 |
//! | 7 | MBConv6 | 1 | | 5 of 512 | 7 of 640 |
//! | head | 1×1, pooling, dropout, classifier | 1 | 1280 | 1280 | 1280 |

use crate::efficientnet::{Config, EfficientNet, Library, Operator, Stage};
use crate::nn::tensor::ops::Activation;
use crate::nn::{BatchNormOptions, Builder, Result};
use crate::{Build, Options, Variant};

/// The sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Small.
    S,
    /// Medium.
    M,
    /// Large.
    L,
}

/// Operator, expansion and stride of the stages. S has no seventh.
const STAGES: [(Operator, usize, usize); 7] = [
    (Operator::FusedMbConv, 1, 1),
    (Operator::FusedMbConv, 4, 2),
    (Operator::FusedMbConv, 4, 2),
    (Operator::MbConv, 4, 2),
    (Operator::MbConv, 6, 1),
    (Operator::MbConv, 6, 2),
    (Operator::MbConv, 6, 1),
];

/// Blocks and channels of the stages.
const S: &[(usize, usize)] = &[(2, 24), (4, 48), (4, 64), (6, 128), (9, 160), (15, 256)];
const M: &[(usize, usize)] = &[(3, 24), (5, 48), (5, 80), (7, 160), (14, 176), (18, 304), (5, 512)];
const L: &[(usize, usize)] = &[(4, 32), (7, 64), (7, 96), (10, 192), (19, 224), (25, 384), (7, 640)];

impl Size {
    /// The table of this size.
    pub fn config(self) -> Config {
        let (sizes, dropout) = match self {
            Size::S => (S, 0.2),
            Size::M => (M, 0.3),
            Size::L => (L, 0.4),
        };
        let stage = |((operator, expansion, stride), (blocks, channels))| Stage {
            operator,
            expansion,
            kernel_size: 3,
            stride,
            channels,
            blocks,
        };
        Config {
            library: Library::Torchvision,
            stem: sizes[0].1,
            stages: STAGES.into_iter().zip(sizes.iter().copied()).map(stage).collect(),
            head: 1280,
            activation: Activation::Silu,
            squeezes: true,
            norm: BatchNormOptions { eps: 1e-3, ..BatchNormOptions::default() },
            dropout,
            stochastic_depth: 0.2,
        }
    }
}

fn network(b: &Builder<f32>, size: Size, options: Options) -> Result<Box<EfficientNet<f32>>> {
    Ok(Box::new(EfficientNet::new(b, &size.config(), options)?))
}

const fn variant(name: &'static str, input_size: usize, parameters: usize, macs: u64, build: Build) -> Variant {
    let (family, least_size, classes, classifier) = ("EfficientNetV2", 1, 1000, "classifier.1");
    Variant { name, family, input_size, least_size, classes, parameters, macs, classifier, build }
}

/// The variants for ImageNet.
pub const VARIANTS: &[Variant] = &[
    variant("efficientnet_v2_s", 384, 21_458_488, 8_365_617_152, |b, o| Ok(network(b, Size::S, o)?)),
    variant("efficientnet_v2_m", 480, 54_139_356, 24_582_460_384, |b, o| Ok(network(b, Size::M, o)?)),
    variant("efficientnet_v2_l", 480, 118_515_272, 56_079_699_008, |b, o| Ok(network(b, Size::L, o)?)),
];
