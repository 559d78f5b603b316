//! SENet: J. Hu, L. Shen, S. Albanie, G. Sun, E. Wu, *Squeeze-and-Excitation Networks*, 2017 (arXiv 1709.01507), as timm
//! publishes it (`legacy_…`).
//!
//! Each residual block weighs the channels of what its convolutions made by two fully connected layers on their global
//! averages, with a sixteenth of the channels between them, before the shortcut is added. Table 1 of the paper, and its
//! SENet-154:
//!
//! | stage | output | SE-ResNet-50 | SE-ResNeXt-50 (32×4d) | SENet-154 |
//! | --- | --- | --- | --- | --- |
//! | layer0 | 112×112 | 7×7, 64, stride 2 | 7×7, 64, stride 2 | three 3×3: 64, 64, 128, the first with stride 2 |
//! | pool0 | 56×56 | 3×3 max, stride 2 | | |
//! | layer1 | 56×56 | 3 × (64, 64, 256) | 3 × (128, 128 in 32 groups, 256) | 3 × (128, 256 in 64 groups, 256) |
//! | layer2 | 28×28 | 4 × (128, 128, 512) | 4 × (256, 256, 512) | 8 × (256, 512, 512) |
//! | layer3 | 14×14 | 6 × (256, 256, 1024) | 6 × (512, 512, 1024) | 36 × (512, 1024, 1024) |
//! | layer4 | 7×7 | 3 × (512, 512, 2048) | 3 × (1024, 1024, 2048) | 3 × (1024, 2048, 2048) |

use crate::nn::autograd::{Var, scope};
use crate::nn::tensor::Element;
use crate::nn::tensor::ops::{Activation, Window};
use crate::nn::{
    BatchNormOptions, Builder, Conv2dOptions, ConvNorm, Dropout, GlobalAvgPool, Layer, Linear, LinearOptions,
    MaxPool2d, Mode, Result, Sequential, SqueezeExcitation, SqueezeOptions,
};
use crate::resnet::conv;
use crate::{Architecture, Build, Chain, Options, Variant};

const REDUCTION: usize = 16;

/// The kinds of block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Two 3×3 convolutions.
    Basic,
    /// ResNet's, with the stride in its first convolution, as in the authors' Caffe networks.
    Bottleneck,
    /// ResNeXt's, in 32 groups of 4.
    ResNext,
    /// SENet-154's, in 64 groups, with half as many channels before the 3×3 convolution as behind it.
    Senet154,
}

impl Kind {
    /// Output channels of a block over its width.
    fn expansion(self) -> usize {
        if self == Kind::Basic { 1 } else { 4 }
    }
}

/// `relu(squeeze_excite(convolutions(x)) + shortcut(x))`
#[derive(Debug)]
struct Block<T: Element> {
    units: Vec<ConvNorm<T>>,
    squeeze: SqueezeExcitation<T>,
    downsample: Option<ConvNorm<T>>,
}

impl<T: Element> Block<T> {
    fn new(b: &Builder<T>, kind: Kind, in_channels: usize, width: usize, stride: usize) -> Result<Self> {
        let out_channels = width * kind.expansion();
        let relu = Some(Activation::Relu);
        let norm = BatchNormOptions::default();
        let unit = |n: usize, cin, cout, options: Conv2dOptions, activation| {
            let names = (&*format!("conv{n}"), &*format!("bn{n}"));
            ConvNorm::new(b, names, [cin, cout], options, norm, activation)
        };
        let units = match kind {
            // timm's and the published weights' second convolution has a ReLU, too.
            Kind::Basic => {
                vec![unit(1, in_channels, width, conv(3).stride(stride), relu)?, unit(2, width, width, conv(3), relu)?]
            }
            Kind::Bottleneck => vec![
                unit(1, in_channels, width, conv(1).stride(stride), relu)?,
                unit(2, width, width, conv(3), relu)?,
                unit(3, width, out_channels, conv(1), None)?,
            ],
            Kind::ResNext => vec![
                unit(1, in_channels, 2 * width, conv(1), relu)?,
                unit(2, 2 * width, 2 * width, conv(3).stride(stride).groups(32), relu)?,
                unit(3, 2 * width, out_channels, conv(1), None)?,
            ],
            Kind::Senet154 => vec![
                unit(1, in_channels, 2 * width, conv(1), relu)?,
                unit(2, 2 * width, 4 * width, conv(3).stride(stride).groups(64), relu)?,
                unit(3, 4 * width, out_channels, conv(1), None)?,
            ],
        };
        let squeeze =
            SqueezeOptions { init: conv(1).init, bias_init: None, ..SqueezeOptions::new(out_channels / REDUCTION) };
        let squeeze = SqueezeExcitation::new(&b.enter("se_module"), ("fc1", "fc2"), out_channels, squeeze)?;
        let projects = stride != 1 || in_channels != out_channels;
        let project = || {
            let kernel_size = if kind == Kind::Senet154 && stride != 1 { 3 } else { 1 };
            let options = conv(kernel_size).stride(stride);
            ConvNorm::new(&b.enter("downsample"), ("0", "1"), [in_channels, out_channels], options, norm, None)
        };
        Ok(Block { units, squeeze, downsample: projects.then(project).transpose()? })
    }
}

impl<T: Element> Layer<T> for Block<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        let shortcut = match &self.downsample {
            Some(project) => scope("downsample", || project.forward(x, mode))?,
            None => x.clone(),
        };
        let mut y = x.clone();
        for unit in &self.units {
            y = unit.forward(&y, mode)?;
        }
        let y = scope("se_module", || self.squeeze.forward(&y, mode))?;
        Ok(y.add(&shortcut)?.relu()?)
    }
}

/// The whole network.
#[derive(Debug)]
pub struct SeNet<T: Element> {
    stem: Sequential<T>,
    pool: MaxPool2d,
    stages: Sequential<T>,
    dropout: Option<Dropout>,
    last_linear: Linear<T>,
}

impl<T: Element> SeNet<T> {
    fn new(b: &Builder<T>, kind: Kind, depths: [usize; 4], options: Options) -> Result<Self> {
        let deep_stem = kind == Kind::Senet154;
        let stem = stem(&b.enter("layer0"), options.in_channels, deep_stem)?;
        let mut stages = Sequential::new();
        let mut channels = if deep_stem { 128 } else { 64 };
        for (stage, depth) in depths.into_iter().enumerate() {
            let width = 64 << stage;
            let name = format!("layer{}", stage + 1);
            let mut blocks = Sequential::new();
            for i in 0..depth {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let b = b.enter(&name).enter(i.to_string());
                blocks.push(i.to_string(), Block::new(&b, kind, channels, width, stride)?);
                channels = width * kind.expansion();
            }
            stages.push(&name, blocks);
        }
        // As large as padding by 1 would make it but for where the windows lie, as in Caffe.
        let pool = MaxPool2d { window: Window::square(3).stride(2), ceil_mode: true };
        let dropout = deep_stem.then(|| Dropout::new(0.2)).transpose()?;
        let last_linear = Linear::new(&b.enter("last_linear"), channels, options.classes, LinearOptions::default())?;
        Ok(SeNet { stem, pool, stages, dropout, last_linear })
    }
}

/// One 7×7 convolution, or three 3×3 ones.
fn stem<T: Element>(b: &Builder<T>, in_channels: usize, deep: bool) -> Result<Sequential<T>> {
    let norm = BatchNormOptions::default();
    let unit = |n: usize, channels, options| {
        let names = (&*format!("conv{n}"), &*format!("bn{n}"));
        ConvNorm::new(b, names, channels, options, norm, Some(Activation::Relu))
    };
    let mut layers = Sequential::new();
    if deep {
        layers.push("", unit(1, [in_channels, 64], conv(3).stride(2))?);
        layers.push("", unit(2, [64, 64], conv(3))?);
        layers.push("", unit(3, [64, 128], conv(3))?);
    } else {
        layers.push("", unit(1, [in_channels, 64], conv(7).stride(2))?);
    }
    Ok(layers)
}

impl<T: Element> Architecture<T> for SeNet<T> {
    fn chain(&self) -> Chain<'_, T> {
        let chain = Chain::new()
            .then("layer0", &self.stem)
            .stage("layer0", 2)
            .then("pool0", &self.pool)
            .each("", &self.stages, &[("layer1", 4), ("layer2", 8), ("layer3", 16), ("layer4", 32)])
            .then("global_pool", &GlobalAvgPool);
        let chain = match &self.dropout {
            Some(dropout) => chain.then("dropout", dropout),
            None => chain,
        };
        chain.then("last_linear", &self.last_linear)
    }
}

impl<T: Element> Layer<T> for SeNet<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        self.chain().forward(x, mode)
    }
}

/// SE-ResNet of basic blocks: `[2, 2, 2, 2]` of them in SE-ResNet-18, `[3, 4, 6, 3]` in SE-ResNet-34.
pub fn se_resnet_basic<T: Element>(b: &Builder<T>, depths: [usize; 4], options: Options) -> Result<SeNet<T>> {
    SeNet::new(b, Kind::Basic, depths, options)
}

/// SE-ResNet of bottlenecks: `[3, 4, 6, 3]` of them in SE-ResNet-50.
pub fn se_resnet<T: Element>(b: &Builder<T>, depths: [usize; 4], options: Options) -> Result<SeNet<T>> {
    SeNet::new(b, Kind::Bottleneck, depths, options)
}

/// SE-ResNeXt 32×4d: `[3, 4, 6, 3]` blocks in SE-ResNeXt-50.
pub fn se_resnext<T: Element>(b: &Builder<T>, depths: [usize; 4], options: Options) -> Result<SeNet<T>> {
    SeNet::new(b, Kind::ResNext, depths, options)
}

/// SENet-154, the winner of ILSVRC 2017.
pub fn senet154<T: Element>(b: &Builder<T>, options: Options) -> Result<SeNet<T>> {
    SeNet::new(b, Kind::Senet154, [3, 8, 36, 3], options)
}

const fn variant(name: &'static str, parameters: usize, macs: u64, build: Build) -> Variant {
    // The pooling wants two pixels behind the first convolution.
    let (input_size, least_size, classes) = (224, 3, 1000);
    Variant {
        name,
        family: "SENet",
        input_size,
        least_size,
        classes,
        parameters,
        macs,
        classifier: "last_linear",
        build,
    }
}

/// The variants for ImageNet. SE-ResNeXt-26 is timm's, not the paper's.
pub const VARIANTS: &[Variant] = &[
    variant("legacy_seresnet18", 11_778_592, 1_814_160_384, |b, o| Ok(Box::new(se_resnet_basic(b, [2, 2, 2, 2], o)?))),
    variant("legacy_seresnet34", 21_958_868, 3_663_918_592, |b, o| Ok(Box::new(se_resnet_basic(b, [3, 4, 6, 3], o)?))),
    variant("legacy_seresnet50", 28_088_024, 3_860_488_192, |b, o| Ok(Box::new(se_resnet(b, [3, 4, 6, 3], o)?))),
    variant("legacy_seresnet101", 49_326_872, 7_574_937_600, |b, o| Ok(Box::new(se_resnet(b, [3, 4, 23, 3], o)?))),
    variant("legacy_seresnet152", 66_821_848, 11_288_993_792, |b, o| Ok(Box::new(se_resnet(b, [3, 8, 36, 3], o)?))),
    variant("legacy_seresnext26_32x4d", 16_790_280, 2_472_099_840, |b, o| {
        Ok(Box::new(se_resnext(b, [2, 2, 2, 2], o)?))
    }),
    variant("legacy_seresnext50_32x4d", 27_559_896, 4_232_994_816, |b, o| {
        Ok(Box::new(se_resnext(b, [3, 4, 6, 3], o)?))
    }),
    variant("legacy_seresnext101_32x4d", 48_955_416, 7_974_739_968, |b, o| {
        Ok(Box::new(se_resnext(b, [3, 4, 23, 3], o)?))
    }),
    variant("legacy_senet154", 115_088_984, 20_688_363_520, |b, o| Ok(Box::new(senet154(b, o)?))),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::check_block;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn gradients_of_blocks(
            kind in prop::sample::select(vec![Kind::Basic, Kind::Bottleneck, Kind::ResNext]),
            size in prop::array::uniform2(3..6usize),
            channels in 1..5usize,
            stride in 1..3usize,
        ) {
            let b = Builder::new(13);
            let block = Block::new(&b, kind, channels, 16, stride)?;
            prop_assert!(block.downsample.is_some());
            check_block(&block, &b, [2, size[0], size[1], channels])?;
        }
    }
}
