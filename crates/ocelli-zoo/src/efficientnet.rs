//! EfficientNet: M. Tan, Q. Le, *EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks*, 2019 (arXiv
//! 1905.11946); here its Lite form, without squeeze-and-excitation and with ReLU6, as timm's `tf_efficientnet_lite0`.
//!
//! An inverted residual block widens its input with a 1×1 convolution, filters it depthwise, and projects it back
//! without an activation. Table 1 of the paper, with Lite's stem and head:
//!
//! | stage | operator | channels | blocks | stride |
//! | --- | --- | --- | --- | --- |
//! | stem | 3×3 | 32 | 1 | 2 |
//! | 0 | separable 3×3 | 16 | 1 | 1 |
//! | 1 | inverted ×6, 3×3 | 24 | 2 | 2 |
//! | 2 | inverted ×6, 5×5 | 40 | 2 | 2 |
//! | 3 | inverted ×6, 3×3 | 80 | 3 | 2 |
//! | 4 | inverted ×6, 5×5 | 112 | 3 | 1 |
//! | 5 | inverted ×6, 5×5 | 192 | 4 | 2 |
//! | 6 | inverted ×6, 3×3 | 320 | 1 | 1 |
//! | head | 1×1, pooling, dropout 0.2, classifier | 1280 | 1 | 1 |

use crate::nn::autograd::Var;
use crate::nn::tensor::Element;
use crate::nn::tensor::ops::Activation;
use crate::nn::{
    BatchNormOptions, Builder, Conv2dOptions, ConvNorm, Dropout, Fan, GlobalAvgPool, Init, Layer, Linear,
    LinearOptions, Mode, Result, Sequential,
};
use crate::{Architecture, Chain, Options, Variant};

/// A stage of the table.
struct Stage {
    expansion: usize,
    kernel_size: usize,
    channels: usize,
    blocks: usize,
    stride: usize,
}

const fn stage(expansion: usize, kernel_size: usize, channels: usize, blocks: usize, stride: usize) -> Stage {
    Stage { expansion, kernel_size, channels, blocks, stride }
}

const STAGES: [Stage; 7] = [
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
const DROPOUT: f64 = 0.2;

/// TensorFlow's batch-norm settings. (Its momentum 0.99 is 0.01 in the convention of this crate.)
fn norm() -> BatchNormOptions {
    BatchNormOptions { eps: 1e-3, momentum: 0.01, ..BatchNormOptions::default() }
}

fn conv(kernel_size: usize) -> Conv2dOptions {
    let init = Init::KaimingNormal { fan: Fan::Out, gain: std::f64::consts::SQRT_2 };
    Conv2dOptions::new(kernel_size).same().init(init)
}

/// A depthwise separable block (expansion 1) or an inverted residual one.
#[derive(Debug)]
struct Block<T: Element> {
    units: Vec<ConvNorm<T>>,
    residual: bool,
}

impl<T: Element> Block<T> {
    fn new(b: &Builder<T>, in_channels: usize, stage: &Stage, stride: usize) -> Result<Self> {
        let wide = in_channels * stage.expansion;
        let relu6 = Some(Activation::Relu6);
        let unit =
            |names, cin, cout, options, activation| ConvNorm::new(b, names, [cin, cout], options, norm(), activation);
        let depthwise = conv(stage.kernel_size).stride(stride).groups(wide);
        let units = if stage.expansion == 1 {
            vec![
                unit(("conv_dw", "bn1"), wide, wide, depthwise, relu6)?,
                unit(("conv_pw", "bn2"), wide, stage.channels, conv(1), None)?,
            ]
        } else {
            vec![
                unit(("conv_pw", "bn1"), in_channels, wide, conv(1), relu6)?,
                unit(("conv_dw", "bn2"), wide, wide, depthwise, relu6)?,
                unit(("conv_pwl", "bn3"), wide, stage.channels, conv(1), None)?,
            ]
        };
        Ok(Block { units, residual: stride == 1 && in_channels == stage.channels })
    }
}

impl<T: Element> Layer<T> for Block<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        let Some((last, inner)) = self.units.split_last() else { return Ok(x.clone()) };
        let mut y = x.clone();
        for unit in inner {
            y = unit.forward(&y, mode)?;
        }
        if self.residual { last.forward_residual(&y, x, mode) } else { last.forward(&y, mode) }
    }
}

/// The whole network.
#[derive(Debug)]
pub struct EfficientNet<T: Element> {
    stem: ConvNorm<T>,
    blocks: Sequential<T>,
    head: ConvNorm<T>,
    dropout: Dropout,
    classifier: Linear<T>,
}

/// EfficientNet-Lite0.
pub fn lite0<T: Element>(b: &Builder<T>, options: Options) -> Result<EfficientNet<T>> {
    let Options { classes, in_channels } = options;
    let relu6 = Some(Activation::Relu6);
    let stem = ConvNorm::new(b, ("conv_stem", "bn1"), [in_channels, STEM], conv(3).stride(2), norm(), relu6)?;
    let mut blocks = Sequential::new();
    let mut channels = STEM;
    for (s, stage) in STAGES.iter().enumerate() {
        let mut layers = Sequential::new();
        for i in 0..stage.blocks {
            let b = b.enter("blocks").enter(s.to_string()).enter(i.to_string());
            let stride = if i == 0 { stage.stride } else { 1 };
            layers.push(i.to_string(), Block::new(&b, channels, stage, stride)?);
            channels = stage.channels;
        }
        blocks.push(s.to_string(), layers);
    }
    let head = ConvNorm::new(b, ("conv_head", "bn2"), [channels, HEAD], conv(1), norm(), relu6)?;
    let classifier = Linear::new(&b.enter("classifier"), HEAD, classes, LinearOptions::default())?;
    Ok(EfficientNet { stem, blocks, head, dropout: Dropout::new(DROPOUT)?, classifier })
}

impl<T: Element> Architecture<T> for EfficientNet<T> {
    fn chain(&self) -> Chain<'_, T> {
        Chain::new()
            .unit(&self.stem)
            .each("blocks", &self.blocks, &[("0", 2), ("1", 4), ("2", 8), ("4", 16), ("6", 32)])
            .unit(&self.head)
            .then("global_pool", &GlobalAvgPool)
            .then("dropout", &self.dropout)
            .then("classifier", &self.classifier)
    }
}

impl<T: Element> Layer<T> for EfficientNet<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        self.chain().forward(x, mode)
    }
}

/// The variants for ImageNet.
pub const VARIANTS: &[Variant] = &[Variant {
    name: "tf_efficientnet_lite0",
    family: "EfficientNet",
    input_size: 224,
    least_size: 1,
    classes: 1000,
    parameters: 4_652_008,
    macs: 385_187_552,
    classifier: "classifier",
    build: |b, options| Ok(Box::new(lite0(b, options)?)),
}];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::check_block;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn gradients_of_blocks(
            inverted: bool,
            five: bool,
            keeps_channels: bool,
            batch in 2..4usize,
            size in prop::array::uniform2(3..8usize),
            channels in 2..4usize,
            stride in 1..3usize,
        ) {
            let (expansion, kernel_size) = (if inverted { 3 } else { 1 }, if five { 5 } else { 3 });
            let stage = stage(expansion, kernel_size, if keeps_channels { channels } else { channels + 1 }, 1, stride);
            let b = Builder::new(10);
            let block = Block::new(&b, channels, &stage, stride)?;
            prop_assert_eq!(block.residual, keeps_channels && stride == 1);
            check_block(&block, &b, [batch, size[0], size[1], channels])?;
        }
    }
}
