//! VGG: K. Simonyan, A. Zisserman, *Very Deep Convolutional Networks for Large-Scale Image Recognition*, 2014 (arXiv
//! 1409.1556).
//!
//! Nothing but 3×3 convolutions and 2×2 pooling, and more of them than anybody had used before: two 3×3 convolutions see
//! as much as a 5×5 one, three as much as a 7×7 one, with fewer weights and more ReLUs. Table 1 of the paper, whose A, B,
//! D and E these are; with a batch norm behind each convolution as torchvision's `_bn`:
//!
//! | stage | channels | 11 (A) | 13 (B) | 16 (D) | 19 (E) |
//! | --- | --- | --- | --- | --- | --- |
//! | 1, maxpool | 64 | 1 | 2 | 2 | 2 |
//! | 2, maxpool | 128 | 1 | 2 | 2 | 2 |
//! | 3, maxpool | 256 | 2 | 2 | 3 | 4 |
//! | 4, maxpool | 512 | 2 | 2 | 3 | 4 |
//! | 5, maxpool | 512 | 2 | 2 | 3 | 4 |
//! | classifier | 4096, 4096, classes | | | | |
//!
//! Images of another size than 224 are averaged to 7×7 before the classifier, as in torchvision.

use crate::nn::autograd::Var;
use crate::nn::checkpoint::Checkpoint;
use crate::nn::tensor::Element;
use crate::nn::tensor::ops::{Activation, Window};
use crate::nn::{
    AdaptiveAvgPool2d, BatchNorm2d, BatchNormOptions, Builder, Conv2d, Conv2dOptions, Dropout, Flatten, Init, Layer,
    Layout, Linear, LinearOptions, MaxPool2d, Mode, Result, Sequential,
};
use crate::{Architecture, Build, Chain, Options, Variant};

/// Height and width of what the classifier sees.
const GRID: usize = 7;
/// Channels of the stages over those of the first.
const WIDTHS: [usize; 5] = [1, 2, 4, 8, 8];

/// The numbers that tell the networks apart.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Convolutions of each stage.
    pub depths: [usize; 5],
    /// Channels of the first stage.
    pub width: usize,
    /// Outputs of the classifier's two hidden layers.
    pub hidden: usize,
    /// Whether each convolution has a batch norm.
    pub batch_norm: bool,
    /// Of what the hidden layers give.
    pub dropout: f64,
}

impl Config {
    /// The paper's networks of these depths.
    pub const fn new(depths: [usize; 5], batch_norm: bool) -> Self {
        Config { depths, width: 64, hidden: 4096, batch_norm, dropout: 0.5 }
    }
}

/// A of the paper's Table 1.
pub const VGG11: [usize; 5] = [1, 1, 2, 2, 2];
/// B.
pub const VGG13: [usize; 5] = [2, 2, 2, 2, 2];
/// D.
pub const VGG16: [usize; 5] = [2, 2, 3, 3, 3];
/// E.
pub const VGG19: [usize; 5] = [2, 2, 4, 4, 4];

/// The whole network.
#[derive(Debug)]
pub struct Vgg<T: Element> {
    features: Sequential<T>,
    /// The layers before each pooling and the last pooling, with the strides of their maps.
    ends: Ends,
    avgpool: AdaptiveAvgPool2d,
    classifier: Sequential<T>,
}

impl<T: Element> Vgg<T> {
    /// The network of these numbers.
    pub fn new(b: &Builder<T>, config: &Config, options: Options) -> Result<Self> {
        let (features, ends) = features(&b.enter("features"), config, options.in_channels)?;
        let channels = config.width * WIDTHS[4];
        let classifier = classifier(&b.enter("classifier"), channels, config, options.classes)?;
        Ok(Vgg { features, ends, avgpool: AdaptiveAvgPool2d { size: [GRID; 2] }, classifier })
    }
}

type Ends = [(String, usize); 6];

fn features<T: Element>(b: &Builder<T>, config: &Config, in_channels: usize) -> Result<(Sequential<T>, Ends)> {
    let (mut features, mut ends) = (Sequential::new(), Ends::default());
    let mut channels = in_channels;
    for (stage, (depth, width)) in config.depths.into_iter().zip(WIDTHS).enumerate() {
        for _ in 0..depth {
            let name = features.len().to_string();
            let conv = Conv2dOptions::new(3).padding(1).bias(true);
            features.push(&name, Conv2d::new(&b.enter(&name), channels, width * config.width, conv)?);
            channels = width * config.width;
            if config.batch_norm {
                let name = features.len().to_string();
                features.push(&name, BatchNorm2d::new(&b.enter(&name), channels, BatchNormOptions::default())?);
            }
            features.push(features.len().to_string(), Activation::Relu);
        }
        ends[stage] = ((features.len() - 1).to_string(), 1 << stage);
        features.push(features.len().to_string(), MaxPool2d::new(Window::square(2).stride(2)));
    }
    ends[5] = ((features.len() - 1).to_string(), 32);
    Ok((features, ends))
}

fn classifier<T: Element>(b: &Builder<T>, channels: usize, config: &Config, classes: usize) -> Result<Sequential<T>> {
    let &Config { hidden, dropout, .. } = config;
    let options = |layout| LinearOptions {
        init: Some(Init::Normal { std: 0.01 }),
        bias_init: Some(Init::ZEROS),
        layout,
        ..LinearOptions::default()
    };
    let grid = Layout::LinearAfterFlatten { height: GRID, width: GRID, channels };
    let mut classifier = Sequential::new();
    classifier.push("0", Linear::new(&b.enter("0"), GRID * GRID * channels, hidden, options(grid))?);
    classifier.push("1", Activation::Relu);
    classifier.push("2", Dropout::new(dropout)?);
    classifier.push("3", Linear::new(&b.enter("3"), hidden, hidden, options(Layout::Linear))?);
    classifier.push("4", Activation::Relu);
    classifier.push("5", Dropout::new(dropout)?);
    classifier.push("6", Linear::new(&b.enter("6"), hidden, classes, options(Layout::Linear))?);
    Ok(classifier)
}

impl<T: Element> Layer<T> for Vgg<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        self.chain().forward(x, mode)
    }
}

/// timm's names of the classifier's layers, whose weights are kernels of convolutions there, and ours.
const TIMM: [(&str, &str); 3] =
    [("pre_logits.fc1.", "classifier.0."), ("pre_logits.fc2.", "classifier.3."), ("head.fc.", "classifier.6.")];

impl<T: Element> Architecture<T> for Vgg<T> {
    fn chain(&self) -> Chain<'_, T> {
        Chain::new()
            .each("features", &self.features, &self.ends.each_ref().map(|(name, stride)| (&**name, *stride)))
            .then("avgpool", &self.avgpool)
            .then("flatten", &Flatten)
            .each("classifier", &self.classifier, &[])
    }

    fn translated(&self, checkpoint: &Checkpoint) -> Result<Option<Checkpoint>> {
        let current =
            |name: &str| TIMM.iter().find_map(|(timm, ours)| Some(format!("{ours}{}", name.strip_prefix(timm)?)));
        if !checkpoint.iter().any(|(name, _)| current(name).is_some()) {
            return Ok(None);
        }
        let mut translated = checkpoint.clone().renamed(|_, name| current(name).unwrap_or_else(|| name.into()))?;
        for name in ["classifier.0.weight", "classifier.3.weight"] {
            if let Some(entry) = translated.get(name).cloned()
                && let [outputs, channels, height, width] = **entry.tensor.shape()
            {
                let matrix = entry.tensor.reshape([outputs, channels * height * width])?;
                translated.insert_as(name, entry.dtype, matrix);
            }
        }
        Ok(Some(translated))
    }
}

const fn variant(name: &'static str, parameters: usize, macs: u64, build: Build) -> Variant {
    let (input_size, least_size, classes) = (224, 32, 1000);
    Variant {
        name,
        family: "VGG",
        input_size,
        least_size,
        classes,
        parameters,
        macs,
        classifier: "classifier.6",
        build,
    }
}

macro_rules! variants {
    ($($plain:literal $norm:literal $depths:ident [$parameters:literal, $with_norm:literal] $macs:literal;)*) => {
        /// The variants for ImageNet.
        pub const VARIANTS: &[Variant] = &[
            $(
                variant($plain, $parameters, $macs, |b, o| Ok(Box::new(Vgg::new(b, &Config::new($depths, false), o)?))),
                variant($norm, $with_norm, $macs, |b, o| Ok(Box::new(Vgg::new(b, &Config::new($depths, true), o)?))),
            )*
        ];
    };
}

variants! {
    "vgg11" "vgg11_bn" VGG11 [132_863_336, 132_868_840] 7_609_090_048;
    "vgg13" "vgg13_bn" VGG13 [133_047_848, 133_053_736] 11_308_466_176;
    "vgg16" "vgg16_bn" VGG16 [138_357_544, 138_365_992] 15_470_264_320;
    "vgg19" "vgg19_bn" VGG19 [143_667_240, 143_678_248] 19_632_062_464;
}
