//! Pre-activation ResNet: K. He, X. Zhang, S. Ren, J. Sun, *Identity Mappings in Deep Residual Networks*, 2016 (arXiv
//! 1603.05027): the networks for CIFAR.
//!
//! Batch norm and ReLU come before each convolution, and nothing behind the sum: the shortcuts are then one clean path
//! from the first block to the last, and a thousand layers can be trained. Three stages of n blocks on maps of 32, 16 and
//! 8 pixels:
//!
//! | | 110 | 164 | 1001 |
//! | --- | --- | --- | --- |
//! | n | 18 | 18 | 111 |
//! | block | 3×3, 3×3 | 1×1, 3×3, 1×1 | 1×1, 3×3, 1×1 |
//! | channels of the stages | 16, 32, 64 | 64, 128, 256 | 64, 128, 256 |
//! | error, CIFAR-10 | 6.37 % | 5.46 % | 4.92 % |
//!
//! The first block's activation comes before the paths part, since conv1 has none of its own, and so does that of a
//! block with a projection (appendix of the paper). As in the authors' code, bottlenecks project and have the stride in
//! their first convolution; the blocks of 110 have shortcuts without parameters.

use crate::nn::autograd::{Var, scope};
use crate::nn::tensor::Element;
use crate::nn::tensor::ops::Activation;
use crate::nn::{
    BatchNorm2d, BatchNormOptions, Builder, Conv2d, Conv2dOptions, GlobalAvgPool, Layer, Linear, LinearOptions, Mode,
    Result, Sequential,
};
use crate::resnet::{Kind, conv};
use crate::{Architecture, Build, Chain, Options, Variant};

/// Batch norm, ReLU, convolution.
#[derive(Debug)]
struct Unit<T: Element> {
    names: [String; 2],
    norm: BatchNorm2d<T>,
    conv: Conv2d<T>,
}

impl<T: Element> Unit<T> {
    /// The block's `n`th.
    fn new(b: &Builder<T>, n: usize, [cin, cout]: [usize; 2], options: Conv2dOptions) -> Result<Self> {
        let names = [format!("bn{n}"), format!("conv{n}")];
        let norm = BatchNorm2d::new(&b.enter(&names[0]), cin, BatchNormOptions::default())?;
        let conv = Conv2d::new(&b.enter(&names[1]), cin, cout, options)?;
        Ok(Unit { names, norm, conv })
    }

    fn activate(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        scope(&self.names[0], || match self.norm.forward_activated(x, Activation::Relu, mode)? {
            Some(y) => Ok(y),
            None => Ok(self.norm.forward(x, mode)?.relu()?),
        })
    }

    fn convolve(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        scope(&self.names[1], || self.conv.forward(x, mode))
    }
}

/// What is added to a block's convolutions.
#[derive(Debug)]
enum Shortcut<T: Element> {
    Identity,
    /// Every so manyth pixel, with channels of zeros up to so many.
    Pad {
        stride: usize,
        channels: usize,
    },
    Projection(Conv2d<T>),
}

#[derive(Debug)]
struct Block<T: Element> {
    units: Vec<Unit<T>>,
    shortcut: Shortcut<T>,
    /// Whether the shortcut begins behind the first activation.
    shares_activation: bool,
}

impl<T: Element> Block<T> {
    /// The network's first block, or one of those behind it.
    fn new(b: &Builder<T>, kind: Kind, [cin, cout]: [usize; 2], stride: usize, is_first: bool) -> Result<Self> {
        let units = match kind {
            Kind::Basic => {
                vec![Unit::new(b, 1, [cin, cout], conv(3).stride(stride))?, Unit::new(b, 2, [cout, cout], conv(3))?]
            }
            Kind::Bottleneck => {
                let inner = cout / 4;
                vec![
                    Unit::new(b, 1, [cin, inner], conv(1).stride(stride))?,
                    Unit::new(b, 2, [inner, inner], conv(3))?,
                    Unit::new(b, 3, [inner, cout], conv(1))?,
                ]
            }
        };
        let shortcut = match kind {
            _ if cin == cout && stride == 1 => Shortcut::Identity,
            Kind::Basic => Shortcut::Pad { stride, channels: cout },
            Kind::Bottleneck => {
                Shortcut::Projection(Conv2d::new(&b.enter("downsample"), cin, cout, conv(1).stride(stride))?)
            }
        };
        let shares_activation = is_first || matches!(shortcut, Shortcut::Projection(_));
        Ok(Block { units, shortcut, shares_activation })
    }
}

impl<T: Element> Layer<T> for Block<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        let (mut y, mut start) = (x.clone(), x.clone());
        for (i, unit) in self.units.iter().enumerate() {
            y = unit.activate(&y, mode)?;
            if i == 0 && self.shares_activation {
                start = y.clone();
            }
            y = unit.convolve(&y, mode)?;
        }
        let shortcut = match &self.shortcut {
            Shortcut::Identity => start,
            Shortcut::Pad { stride, channels } => start.subsample_pad(*stride, *channels)?,
            Shortcut::Projection(conv) => scope("downsample", || conv.forward(&start, mode))?,
        };
        Ok(y.add(&shortcut)?)
    }
}

/// The numbers that tell the networks apart.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// The kind of block.
    pub kind: Kind,
    /// Blocks of each stage.
    pub blocks: usize,
    /// Channels of the stem, and of the first stage's blocks or of their inner convolutions.
    pub width: usize,
}

impl Config {
    /// The paper's networks of this depth.
    pub const fn new(kind: Kind, blocks: usize) -> Self {
        Config { kind, blocks, width: 16 }
    }
}

/// The whole network.
#[derive(Debug)]
pub struct PreActResNet<T: Element> {
    stem: Conv2d<T>,
    stages: Sequential<T>,
    norm: BatchNorm2d<T>,
    fc: Linear<T>,
}

impl<T: Element> PreActResNet<T> {
    /// The network of these numbers.
    pub fn new(b: &Builder<T>, config: &Config, options: Options) -> Result<Self> {
        let &Config { kind, blocks, width } = config;
        let stem = Conv2d::new(&b.enter("conv1"), options.in_channels, width, conv(3))?;
        let mut stages = Sequential::new();
        let mut channels = width;
        for stage in 0..3 {
            let (name, out_channels) = (format!("layer{}", stage + 1), (width << stage) * kind.expansion());
            let mut layers = Sequential::new();
            for i in 0..blocks {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let b = b.enter(&name).enter(i.to_string());
                let is_first = stage == 0 && i == 0;
                layers.push(i.to_string(), Block::new(&b, kind, [channels, out_channels], stride, is_first)?);
                channels = out_channels;
            }
            stages.push(&name, layers);
        }
        let norm = BatchNorm2d::new(&b.enter("bn"), channels, BatchNormOptions::default())?;
        let fc = Linear::new(&b.enter("fc"), channels, options.classes, LinearOptions::default())?;
        Ok(PreActResNet { stem, stages, norm, fc })
    }
}

impl<T: Element> Layer<T> for PreActResNet<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        self.chain().forward(x, mode)
    }
}

impl<T: Element> Architecture<T> for PreActResNet<T> {
    fn chain(&self) -> Chain<'_, T> {
        Chain::new()
            .then("conv1", &self.stem)
            .stage("conv1", 1)
            .each("", &self.stages, &[("layer1", 1), ("layer2", 2)])
            .then("bn", &self.norm)
            .then("relu", &Activation::Relu)
            .stage("layer3", 4)
            .then("avgpool", &GlobalAvgPool)
            .then("fc", &self.fc)
    }
}

const fn variant(name: &'static str, parameters: usize, macs: u64, build: Build) -> Variant {
    let (family, input_size, least_size, classes) = ("CIFAR pre-activation ResNet", 32, 1, 10);
    Variant { name, family, input_size, least_size, classes, parameters, macs, classifier: "fc", build }
}

/// The variants for CIFAR-10.
pub const VARIANTS: &[Variant] = &[
    variant("preact_resnet110", 1_727_962, 252_887_680, |b, o| Ok(Box::new(PreActResNet::new(b, &PREACT110, o)?))),
    variant("preact_resnet164", 1_703_258, 244_500_992, |b, o| Ok(Box::new(PreActResNet::new(b, &PREACT164, o)?))),
    variant("preact_resnet1001", 10_327_706, 1_487_849_984, |b, o| Ok(Box::new(PreActResNet::new(b, &PREACT1001, o)?))),
];

const PREACT110: Config = Config::new(Kind::Basic, 18);
const PREACT164: Config = Config::new(Kind::Bottleneck, 18);
const PREACT1001: Config = Config::new(Kind::Bottleneck, 111);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::check_block;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn gradients_of_blocks(
            bottleneck: bool,
            is_first: bool,
            downsamples: bool,
            size in prop::array::uniform2(3..7usize),
            half in 1..3usize,
        ) {
            let kind = if bottleneck { Kind::Bottleneck } else { Kind::Basic };
            let (cin, stride) = (4 * half, if downsamples { 2 } else { 1 });
            let b = Builder::new(7);
            let block = Block::new(&b, kind, [cin, cin * stride], stride, is_first)?;
            check_block(&block, &b, [2, size[0], size[1], cin])?;
        }
    }
}
