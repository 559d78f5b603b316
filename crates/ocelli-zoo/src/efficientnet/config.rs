//! What tells one network of the family from another.

use crate::nn::tensor::ops::Activation;
use crate::nn::{BatchNormOptions, Init};

use super::Scale;

/// Whose network it is: how its convolutions are padded, what its parameters are called, and how they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// torchvision: padded by the same on all sides.
    Torchvision,
    /// The authors' TensorFlow, with the names that timm gave it in its `tf_` networks: `SAME` padding.
    TensorFlow,
}

/// What a stage's blocks are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// The mobile inverted bottleneck: 1×1 wider, depthwise, squeeze-and-excitation, 1×1 narrower.
    MbConv,
    /// EfficientNetV2's, with one dense convolution in place of the first two.
    FusedMbConv,
}

/// A row of the paper's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// The kind of block.
    pub operator: Operator,
    /// The channels within a block over those that come in.
    pub expansion: usize,
    /// Of the depthwise or the fused convolution.
    pub kernel_size: usize,
    /// Of the first block; 1 in the others.
    pub stride: usize,
    /// The channels behind each block.
    pub channels: usize,
    /// How many there are.
    pub blocks: usize,
}

/// A network's table.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whose padding and names.
    pub library: Library,
    /// Channels of the first convolution.
    pub stem: usize,
    /// The stages.
    pub stages: Vec<Stage>,
    /// Channels of the last convolution.
    pub head: usize,
    /// Behind every convolution but the projections.
    pub activation: Activation,
    /// Whether the depthwise convolutions are followed by squeeze-and-excitation.
    pub squeezes: bool,
    /// The batch norms.
    pub norm: BatchNormOptions,
    /// The probability of dropout before the classifier.
    pub dropout: f64,
    /// The probability of leaving out a residual branch, towards which it grows linearly from the first block's 0.
    pub stochastic_depth: f64,
}

/// The authors' batch norms. (TensorFlow's momentum 0.99 is 0.01 in the convention of this crate.)
pub(super) const TENSORFLOW_NORM: BatchNormOptions =
    BatchNormOptions { eps: 1e-3, momentum: 0.01, affine: true, gamma: Init::ONES };

const fn stage(expansion: usize, kernel_size: usize, channels: usize, blocks: usize, stride: usize) -> Stage {
    Stage { operator: Operator::MbConv, expansion, kernel_size, stride, channels, blocks }
}

/// Table 1.
const B0: [Stage; 7] = [
    stage(1, 3, 16, 1, 1),
    stage(6, 3, 24, 2, 2),
    stage(6, 5, 40, 2, 2),
    stage(6, 3, 80, 3, 2),
    stage(6, 5, 112, 3, 1),
    stage(6, 5, 192, 4, 2),
    stage(6, 3, 320, 1, 1),
];
const STEM: usize = 32;
const HEAD: usize = 1280;

impl Config {
    /// B0 at this scale.
    pub fn new(library: Library, scale: &Scale) -> Self {
        let scaled = |stage: Stage| Stage {
            channels: scale.channels(stage.channels),
            blocks: scale.blocks(stage.blocks),
            ..stage
        };
        Config {
            library,
            stem: scale.channels(STEM),
            stages: B0.map(scaled).to_vec(),
            head: scale.channels(HEAD),
            activation: Activation::Silu,
            squeezes: true,
            norm: match library {
                Library::Torchvision => BatchNormOptions::default(),
                Library::TensorFlow => TENSORFLOW_NORM,
            },
            dropout: scale.dropout,
            stochastic_depth: 0.2,
        }
    }

    /// Lite0 at this scale.
    pub fn lite(scale: &Scale) -> Self {
        let mut config = Config::new(Library::TensorFlow, scale);
        for end in [0, B0.len() - 1] {
            config.stages[end].blocks = B0[end].blocks;
        }
        Config { stem: STEM, head: HEAD, activation: Activation::Relu6, squeezes: false, ..config }
    }
}
