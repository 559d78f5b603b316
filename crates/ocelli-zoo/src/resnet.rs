//! ResNet: K. He, X. Zhang, S. Ren, J. Sun, *Deep Residual Learning for Image Recognition*, 2015 (arXiv 1512.03385).
//!
//! A block adds its input to what its convolutions make of it, so that a deep network starts near the identity. Table 1
//! of the paper, as torchvision writes it (the stride of a bottleneck in its 3×3 convolution):
//!
//! | stage | output | 18 | 34 | 50 | 101 | 152 |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | conv1, maxpool | 56×56 | 7×7, 64, stride 2; 3×3 max, stride 2 | | | | |
//! | layer1 | 56×56 | 2 basic | 3 basic | 3 bottleneck | 3 | 3 |
//! | layer2 | 28×28 | 2 | 4 | 4 | 4 | 8 |
//! | layer3 | 14×14 | 2 | 6 | 6 | 23 | 36 |
//! | layer4 | 7×7 | 2 | 3 | 3 | 3 | 3 |
//! | avgpool, fc | 1×1 | | | | | |
//!
//! The plain networks, which the paper compares with, are those of 18 and 34 layers without shortcuts.

use crate::nn::autograd::{Var, scope};
use crate::nn::tensor::Element;
use crate::nn::tensor::ops::{Activation, Window};
use crate::nn::{
    BatchNorm2d, BatchNormOptions, Builder, Conv2dOptions, ConvNorm, DeformConv2dPack, DeformOptions, Fan,
    GlobalAvgPool, Init, Layer, Linear, LinearOptions, MaxPool2d, Mode, Result, Sequential,
};
use crate::{Architecture, Build, Chain, Options, Variant};

/// The two kinds of residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Two 3×3 convolutions.
    Basic,
    /// 1×1 down to a quarter, 3×3, 1×1 up again.
    Bottleneck,
}

impl Kind {
    /// Output channels of a block over its width.
    pub(crate) const fn expansion(self) -> usize {
        match self {
            Kind::Basic => 1,
            Kind::Bottleneck => 4,
        }
    }
}

/// The numbers that tell these networks and their successors apart.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// The kind of block.
    pub kind: Kind,
    /// Whether blocks have shortcuts.
    pub residual: bool,
    /// Blocks of each stage.
    pub depths: [usize; 4],
    /// Channels of the stem, and the width of the first stage's blocks; it doubles from stage to stage.
    pub width: usize,
    /// Groups of a bottleneck's 3×3 convolution: 1, or ResNeXt's cardinality.
    pub groups: usize,
    /// Channels of each group where a block's width is 64: 64, or as ResNeXt and wide networks have it.
    pub group_width: usize,
    /// For each stage, the deformable convolutions in place of the 3×3 ones of its blocks, if there are any.
    pub deformable: [Option<DeformOptions>; 4],
}

impl Config {
    /// The paper's networks of these depths.
    pub const fn new(kind: Kind, depths: [usize; 4]) -> Self {
        Config { kind, residual: true, depths, width: 64, groups: 1, group_width: 64, deformable: [None; 4] }
    }

    /// Channels of a bottleneck's inner convolutions.
    fn inner(&self, width: usize) -> usize {
        width * self.group_width * self.groups / 64
    }
}

/// A convolution as the paper initialises it: normal with variance 2 / (outputs of a weight).
pub(crate) fn conv(kernel_size: usize) -> Conv2dOptions {
    let init = Init::KaimingNormal { fan: Fan::Out, gain: std::f64::consts::SQRT_2 };
    Conv2dOptions::new(kernel_size).padding(kernel_size / 2).init(init)
}

/// A residual block: `relu(convolutions(x) + shortcut(x))`.
#[derive(Debug)]
struct Block<T: Element> {
    /// Convolutions before the last, each with a ReLU.
    inner: Vec<ConvNorm<T>>,
    /// The last, which the shortcut joins before the ReLU.
    last: ConvNorm<T>,
    shortcut: Shortcut<T>,
}

/// What is added to a block's convolutions.
#[derive(Debug)]
enum Shortcut<T: Element> {
    /// Nothing: a plain network.
    None,
    Identity,
    /// 1×1, where the shape changes.
    Projection(Box<ConvNorm<T>>),
}

impl<T: Element> Block<T> {
    /// A block of the stage of that number, from 0.
    fn new(b: &Builder<T>, config: &Config, stage: usize, in_channels: usize, stride: usize) -> Result<Self> {
        let width = config.width << stage;
        let (inner, out_channels) = (config.inner(width), width * config.kind.expansion());
        let unit = |n: usize, cin, cout, options: Conv2dOptions| {
            let names = (&*format!("conv{n}"), &*format!("bn{n}"));
            let (norm, relu) = (BatchNormOptions::default(), Some(Activation::Relu));
            match config.deformable[stage].filter(|_| options.kernel_size == [3; 2]) {
                None => ConvNorm::new(b, names, [cin, cout], options, norm, relu),
                Some(deform) => {
                    let conv = DeformConv2dPack::new(&b.enter(names.0), cin, cout, options, deform)?;
                    Ok(ConvNorm::of(names, conv, BatchNorm2d::new(&b.enter(names.1), cout, norm)?, relu))
                }
            }
        };
        let (units, last) = match config.kind {
            Kind::Basic => {
                let first = unit(1, in_channels, width, conv(3).stride(stride))?;
                (vec![first], unit(2, width, width, conv(3))?)
            }
            Kind::Bottleneck => {
                let reduce = unit(1, in_channels, inner, conv(1))?;
                let spatial = unit(2, inner, inner, conv(3).stride(stride).groups(config.groups))?;
                (vec![reduce, spatial], unit(3, inner, out_channels, conv(1))?)
            }
        };
        let project = || {
            let options = conv(1).stride(stride);
            let b = b.enter("downsample");
            ConvNorm::new(&b, ("0", "1"), [in_channels, out_channels], options, BatchNormOptions::default(), None)
        };
        let shortcut = match config.residual {
            false => Shortcut::None,
            true if stride != 1 || in_channels != out_channels => Shortcut::Projection(Box::new(project()?)),
            true => Shortcut::Identity,
        };
        Ok(Block { inner: units, last, shortcut })
    }
}

impl<T: Element> Layer<T> for Block<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        // A projection comes first, so that its gradient comes last: with a stride it changes few pixels of x's, which
        // the convolutions' fills.
        let shortcut = match &self.shortcut {
            Shortcut::None => None,
            Shortcut::Identity => Some(x.clone()),
            Shortcut::Projection(project) => Some(scope("downsample", || project.forward(x, mode))?),
        };
        let mut y = x.clone();
        for unit in &self.inner {
            y = unit.forward(&y, mode)?;
        }
        match shortcut {
            None => self.last.forward(&y, mode),
            Some(shortcut) => self.last.forward_residual(&y, &shortcut, mode),
        }
    }
}

/// The whole network.
#[derive(Debug)]
pub struct ResNet<T: Element> {
    stem: ConvNorm<T>,
    maxpool: MaxPool2d,
    stages: Sequential<T>,
    fc: Linear<T>,
}

impl<T: Element> ResNet<T> {
    /// The network of these numbers.
    pub fn new(b: &Builder<T>, config: &Config, options: Options) -> Result<Self> {
        let Options { classes, in_channels } = options;
        let Config { kind, depths, width: base, .. } = *config;
        let norm = BatchNormOptions::default();
        let relu = Some(Activation::Relu);
        let stem = ConvNorm::new(b, ("conv1", "bn1"), [in_channels, base], conv(7).stride(2), norm, relu)?;
        let mut stages = Sequential::new();
        let mut channels = base;
        for (stage, depth) in depths.into_iter().enumerate() {
            let name = format!("layer{}", stage + 1);
            let mut blocks = Sequential::new();
            for i in 0..depth {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let b = b.enter(&name).enter(i.to_string());
                blocks.push(i.to_string(), Block::new(&b, config, stage, channels, stride)?);
                channels = (base << stage) * kind.expansion();
            }
            stages.push(&name, blocks);
        }
        let fc = Linear::new(&b.enter("fc"), channels, classes, LinearOptions::default())?;
        Ok(ResNet {
            stem,
            maxpool: MaxPool2d { window: Window::square(3).stride(2).padding(1), ceil_mode: false },
            stages,
            fc,
        })
    }
}

impl<T: Element> Architecture<T> for ResNet<T> {
    fn chain(&self) -> Chain<'_, T> {
        Chain::new()
            .unit(&self.stem)
            .stage("stem", 2)
            .then("maxpool", &self.maxpool)
            .each("", &self.stages, &[("layer1", 4), ("layer2", 8), ("layer3", 16), ("layer4", 32)])
            .then("avgpool", &GlobalAvgPool)
            .then("fc", &self.fc)
    }

    /// The convolutions beside deformable ones, which a plain ResNet lacks.
    fn is_addition(&self, name: &str) -> bool {
        name.contains(".conv_offset.")
    }
}

impl<T: Element> Layer<T> for ResNet<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        self.chain().forward(x, mode)
    }
}

/// ResNet-18.
pub fn resnet18<T: Element>(b: &Builder<T>, options: Options) -> Result<ResNet<T>> {
    ResNet::new(b, &Config::new(Kind::Basic, [2, 2, 2, 2]), options)
}

/// ResNet-34.
pub fn resnet34<T: Element>(b: &Builder<T>, options: Options) -> Result<ResNet<T>> {
    ResNet::new(b, &Config::new(Kind::Basic, [3, 4, 6, 3]), options)
}

/// ResNet-50.
pub fn resnet50<T: Element>(b: &Builder<T>, options: Options) -> Result<ResNet<T>> {
    ResNet::new(b, &Config::new(Kind::Bottleneck, [3, 4, 6, 3]), options)
}

/// ResNet-101.
pub fn resnet101<T: Element>(b: &Builder<T>, options: Options) -> Result<ResNet<T>> {
    ResNet::new(b, &Config::new(Kind::Bottleneck, [3, 4, 23, 3]), options)
}

/// ResNet-152.
pub fn resnet152<T: Element>(b: &Builder<T>, options: Options) -> Result<ResNet<T>> {
    ResNet::new(b, &Config::new(Kind::Bottleneck, [3, 8, 36, 3]), options)
}

/// The plain network of 18 layers.
pub fn plain18<T: Element>(b: &Builder<T>, options: Options) -> Result<ResNet<T>> {
    ResNet::new(b, &Config { residual: false, ..Config::new(Kind::Basic, [2, 2, 2, 2]) }, options)
}

/// The plain network of 34 layers.
pub fn plain34<T: Element>(b: &Builder<T>, options: Options) -> Result<ResNet<T>> {
    ResNet::new(b, &Config { residual: false, ..Config::new(Kind::Basic, [3, 4, 6, 3]) }, options)
}

pub(crate) const fn variant(
    family: &'static str,
    name: &'static str,
    parameters: usize,
    macs: u64,
    build: Build,
) -> Variant {
    let (input_size, least_size, classes) = (224, 1, 1000);
    Variant { name, family, input_size, least_size, classes, parameters, macs, classifier: "fc", build }
}

/// The variants for ImageNet.
pub const VARIANTS: &[Variant] = &[
    variant("ResNet", "resnet18", 11_689_512, 1_814_073_344, |b, o| Ok(Box::new(resnet18(b, o)?))),
    variant("ResNet", "resnet34", 21_797_672, 3_663_761_408, |b, o| Ok(Box::new(resnet34(b, o)?))),
    variant("ResNet", "resnet50", 25_557_032, 4_089_184_256, |b, o| Ok(Box::new(resnet50(b, o)?))),
    variant("ResNet", "resnet101", 44_549_160, 7_801_405_440, |b, o| Ok(Box::new(resnet101(b, o)?))),
    variant("ResNet", "resnet152", 60_192_808, 11_513_626_624, |b, o| Ok(Box::new(resnet152(b, o)?))),
    variant("plain", "plain18", 11_515_688, 1_794_805_760, |b, o| Ok(Box::new(plain18(b, o)?))),
    variant("plain", "plain34", 21_623_848, 3_644_493_824, |b, o| Ok(Box::new(plain34(b, o)?))),
];

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
            residual: bool,
            batch in 2..4usize,
            size in prop::array::uniform2(3..7usize),
            channels in 1..5usize,
            width in 1..4usize,
            stride in 1..3usize,
        ) {
            let b = Builder::new(7);
            let config = Config { residual, width, ..config(bottleneck) };
            let block = Block::new(&b, &config, 0, channels, stride)?;
            check_block(&block, &b, [batch, size[0], size[1], channels])?;
        }

        #[test]
        fn gradients_of_blocks_without_a_projection(
            bottleneck: bool,
            size in prop::array::uniform2(3..7usize),
            width in 1..4usize,
        ) {
            let (b, config) = (Builder::new(8), Config { width, ..config(bottleneck) });
            let channels = width * config.kind.expansion();
            let block = Block::new(&b, &config, 0, channels, 1)?;
            prop_assert!(matches!(block.shortcut, Shortcut::Identity));
            check_block(&block, &b, [2, size[0], size[1], channels])?;
        }

        #[test]
        fn gradients_of_grouped_blocks(size in prop::array::uniform2(3..6usize), groups in 1..4usize) {
            let b = Builder::new(8);
            let config = Config { width: 4, groups, group_width: 32, ..config(true) };
            let block = Block::new(&b, &config, 0, 3, 2)?;
            check_block(&block, &b, [2, size[0], size[1], 3])?;
        }
    }

    fn config(bottleneck: bool) -> Config {
        Config::new(if bottleneck { Kind::Bottleneck } else { Kind::Basic }, [1; 4])
    }
}
