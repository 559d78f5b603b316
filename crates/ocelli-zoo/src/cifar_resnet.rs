//! The CIFAR networks of the ResNet paper (arXiv 1512.03385, section 4.2), residual and plain.
//!
//! A 3×3 convolution, then three stages of n blocks of two 3×3 convolutions with 16, 32 and 64 channels on maps of 32,
//! 16 and 8 pixels; global average pooling and a fully connected layer: 6n + 2 layers. Shortcuts have no parameters:
//! where the shape changes every second pixel is taken and channels of zeros are added on both sides (option A). The
//! plain networks are the same without shortcuts.
//!
//! | n | 3 | 5 | 7 | 9 | 18 | 200 |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | layers | 20 | 32 | 44 | 56 | 110 | 1202 |
//! | error, residual | 8.75 % | 7.51 % | 7.17 % | 6.97 % | 6.43 % | 7.93 % |

use crate::nn::autograd::Var;
use crate::nn::tensor::Element;
use crate::nn::tensor::ops::Activation;
use crate::nn::{
    BatchNormOptions, Builder, ConvNorm, GlobalAvgPool, Layer, Linear, LinearOptions, Mode, Result, Sequential,
};
use crate::resnet::conv;
use crate::{Architecture, Build, Chain, Options, Variant};

/// Two 3×3 convolutions, with or without a shortcut around them.
#[derive(Debug)]
struct Block<T: Element> {
    conv1: ConvNorm<T>,
    conv2: ConvNorm<T>,
    stride: usize,
    channels: usize,
    residual: bool,
}

impl<T: Element> Block<T> {
    fn new(b: &Builder<T>, in_channels: usize, channels: usize, stride: usize, residual: bool) -> Result<Self> {
        let (norm, relu) = (BatchNormOptions::default(), Some(Activation::Relu));
        let conv1 = ConvNorm::new(b, ("conv1", "bn1"), [in_channels, channels], conv(3).stride(stride), norm, relu)?;
        let conv2 = ConvNorm::new(b, ("conv2", "bn2"), [channels, channels], conv(3), norm, relu)?;
        Ok(Block { conv1, conv2, stride, channels, residual })
    }
}

impl<T: Element> Layer<T> for Block<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        let y = self.conv1.forward(x, mode)?;
        if !self.residual {
            return self.conv2.forward(&y, mode);
        }
        let shortcut = match self.stride {
            1 => x.clone(),
            stride => x.subsample_pad(stride, self.channels)?,
        };
        self.conv2.forward_residual(&y, &shortcut, mode)
    }
}

/// The whole network.
#[derive(Debug)]
pub struct CifarResNet<T: Element> {
    stem: ConvNorm<T>,
    stages: Sequential<T>,
    fc: Linear<T>,
}

impl<T: Element> CifarResNet<T> {
    fn new(b: &Builder<T>, blocks: usize, residual: bool, options: Options) -> Result<Self> {
        let Options { classes, in_channels } = options;
        let norm = BatchNormOptions::default();
        let stem = ConvNorm::new(b, ("conv1", "bn1"), [in_channels, 16], conv(3), norm, Some(Activation::Relu))?;
        let mut stages = Sequential::new();
        let mut channels = 16;
        for stage in 0..3 {
            let name = format!("layer{}", stage + 1);
            let mut layers = Sequential::new();
            for i in 0..blocks {
                let (width, stride) = (16 << stage, if stage > 0 && i == 0 { 2 } else { 1 });
                let b = b.enter(&name).enter(i.to_string());
                layers.push(i.to_string(), Block::new(&b, channels, width, stride, residual)?);
                channels = width;
            }
            stages.push(&name, layers);
        }
        let fc = Linear::new(&b.enter("fc"), channels, classes, LinearOptions::default())?;
        Ok(CifarResNet { stem, stages, fc })
    }
}

impl<T: Element> Architecture<T> for CifarResNet<T> {
    fn chain(&self) -> Chain<'_, T> {
        Chain::new()
            .unit(&self.stem)
            .stage("stem", 1)
            .each("", &self.stages, &[("layer1", 1), ("layer2", 2), ("layer3", 4)])
            .then("avgpool", &GlobalAvgPool)
            .then("fc", &self.fc)
    }
}

impl<T: Element> Layer<T> for CifarResNet<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        self.chain().forward(x, mode)
    }
}

/// The residual network with `blocks` blocks a stage: 6 · `blocks` + 2 layers.
pub fn residual<T: Element>(b: &Builder<T>, blocks: usize, options: Options) -> Result<CifarResNet<T>> {
    CifarResNet::new(b, blocks, true, options)
}

/// The same network without shortcuts.
pub fn plain<T: Element>(b: &Builder<T>, blocks: usize, options: Options) -> Result<CifarResNet<T>> {
    CifarResNet::new(b, blocks, false, options)
}

macro_rules! variants {
    ($($residual:literal $plain:literal $blocks:literal $parameters:literal $macs:literal;)*) => {
        /// The variants for CIFAR-10. ResNet-8 (n = 1) is not in the paper; it suits small images of digits.
        pub const VARIANTS: &[Variant] = &[
            $(
                variant($residual, "CIFAR ResNet", $parameters, $macs, |b, o| Ok(Box::new(residual(b, $blocks, o)?))),
                variant($plain, "CIFAR plain", $parameters, $macs, |b, o| Ok(Box::new(plain(b, $blocks, o)?))),
            )*
            variant("resnet1202", "CIFAR ResNet", 19_421_274, 2_829_238_912, |b, o| Ok(Box::new(residual(b, 200, o)?))),
        ];
    };
}

variants! {
    "resnet8" "plain8" 1 75_290 12_239_488;
    "resnet20" "plain20" 3 269_722 40_551_040;
    "resnet32" "plain32" 5 464_154 68_862_592;
    "resnet44" "plain44" 7 658_586 97_174_144;
    "resnet56" "plain56" 9 853_018 125_485_696;
    "resnet110" "plain110" 18 1_727_962 252_887_680;
}

const fn variant(name: &'static str, family: &'static str, parameters: usize, macs: u64, build: Build) -> Variant {
    let (input_size, least_size, classes) = (32, 1, 10);
    Variant { name, family, input_size, least_size, classes, parameters, macs, classifier: "fc", build }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::check_block;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn gradients_of_blocks(
            residual: bool,
            downsamples: bool,
            batch in 2..4usize,
            size in prop::array::uniform2(3..8usize),
            half in 1..4usize,
        ) {
            let (channels, stride) = if downsamples { (4 * half, 2) } else { (2 * half, 1) };
            let b = Builder::new(9);
            let block = Block::new(&b, 2 * half, channels, stride, residual)?;
            check_block(&block, &b, [batch, size[0], size[1], 2 * half])?;
        }
    }
}
