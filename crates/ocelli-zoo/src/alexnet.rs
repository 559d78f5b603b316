//! AlexNet: A. Krizhevsky, I. Sutskever, G. Hinton, *ImageNet Classification with Deep Convolutional Neural Networks*,
//! 2012; and as torchvision writes it, after A. Krizhevsky, *One weird trick for parallelizing convolutional neural
//! networks*, 2014 (arXiv 1404.5997): on one device, with other widths and without response normalisation.
//!
//! | layer | kernel | 2012 | torchvision | then |
//! | --- | --- | --- | --- | --- |
//! | conv1 | 11×11, stride 4 | 96 | 64 | ReLU, normalisation (2012), 3×3 max with stride 2 |
//! | conv2 | 5×5 | 256 in 2 groups | 192 | ReLU, normalisation (2012), 3×3 max with stride 2 |
//! | conv3 | 3×3 | 384 | 384 | ReLU |
//! | conv4 | 3×3 | 384 in 2 groups | 256 | ReLU |
//! | conv5 | 3×3 | 256 in 2 groups | 256 | ReLU, 3×3 max with stride 2 |
//! | classifier | | 4096, 4096, classes | 4096, 4096, classes | ReLU and dropout twice |
//!
//! The groups are the two graphics cards of 2012, which exchange what they made before the third convolution and the
//! classifier only. Windows of 3×3 with stride 2 overlap, which the paper recommends. Layers are numbered as
//! torchvision's; images of another size than 224 are averaged to 6×6 before the classifier.

use crate::nn::autograd::Var;
use crate::nn::tensor::Element;
use crate::nn::tensor::ops::{Activation, LocalResponseNorm, Window};
use crate::nn::{
    AdaptiveAvgPool2d, Builder, Conv2d, Conv2dOptions, Dropout, Flatten, Init, Layer, Layout, Linear, LinearOptions,
    MaxPool2d, Mode, Result, Sequential,
};
use crate::{Architecture, Build, Chain, Options, Variant};

/// Height and width of what the classifier sees.
const GRID: usize = 6;

/// Kernel size, stride and padding of the convolutions. The paper's 224 pixels make its 55 when padded by 2.
const CONVOLUTIONS: [(usize, usize, usize); 5] = [(11, 4, 2), (5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1)];

/// Section 3.3 of the paper: n = 5, α = 10⁻⁴ of the sum, not of the mean, β = 0.75, k = 2.
const RESPONSE_NORM: LocalResponseNorm = LocalResponseNorm { size: 5, alpha: 5.0 * 1e-4, beta: 0.75, k: 2.0 };

/// The two ways in which the network is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The paper's: local response normalisation, groups, dropout behind the hidden layers, and initialised as section 5
    /// says.
    Paper,
    /// torchvision's: none of these, dropout before the hidden layers, and PyTorch's default initialisation.
    Torchvision,
}

/// The numbers that tell the networks apart.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// How it is written.
    pub form: Form,
    /// Channels of the convolutions.
    pub channels: [usize; 5],
    /// Outputs of the classifier's two hidden layers.
    pub hidden: usize,
}

/// The paper's.
pub const ALEXNET_2012: Config = Config { form: Form::Paper, channels: [96, 256, 384, 384, 256], hidden: 4096 };

/// torchvision's.
pub const ALEXNET: Config = Config { form: Form::Torchvision, channels: [64, 192, 384, 256, 256], hidden: 4096 };

impl Config {
    /// The convolution at `layer`, from 0.
    fn convolution(&self, layer: usize, in_channels: usize) -> Conv2dOptions {
        let (kernel_size, stride, padding) = CONVOLUTIONS[layer];
        let options = Conv2dOptions::new(kernel_size).stride(stride).padding(padding).bias(true);
        match self.form {
            Form::Paper => {
                let split = matches!(layer, 1 | 3 | 4);
                // "the second, fourth, and fifth convolutional layers, as well as … the fully-connected hidden layers"
                // begin with biases of 1, so that their ReLUs have positive inputs.
                let bias = if split { Init::ONES } else { Init::ZEROS };
                options.groups(if split { 2 } else { 1 }).init(PAPER_INIT).bias_init(bias)
            }
            Form::Torchvision => {
                let bound = 1.0 / ((kernel_size * kernel_size * in_channels) as f64).sqrt();
                let init = Init::Uniform { bound };
                options.init(init).bias_init(init)
            }
        }
    }

    fn linear(&self, layout: Layout, bias: Init) -> LinearOptions {
        match self.form {
            Form::Paper => LinearOptions { layout, init: Some(PAPER_INIT), bias_init: Some(bias), bias: true },
            Form::Torchvision => LinearOptions { layout, ..LinearOptions::default() },
        }
    }
}

const PAPER_INIT: Init = Init::Normal { std: 0.01 };

/// The whole network.
#[derive(Debug)]
pub struct AlexNet<T: Element> {
    form: Form,
    features: Sequential<T>,
    avgpool: AdaptiveAvgPool2d,
    classifier: Sequential<T>,
}

impl<T: Element> AlexNet<T> {
    /// The network of these numbers.
    pub fn new(b: &Builder<T>, config: &Config, options: Options) -> Result<Self> {
        let features = features(&b.enter("features"), config, options.in_channels)?;
        let classifier = classifier(&b.enter("classifier"), config, options.classes)?;
        Ok(AlexNet { form: config.form, features, avgpool: AdaptiveAvgPool2d { size: [GRID; 2] }, classifier })
    }
}

fn features<T: Element>(b: &Builder<T>, config: &Config, mut channels: usize) -> Result<Sequential<T>> {
    let mut features = Sequential::new();
    for (layer, out_channels) in config.channels.into_iter().enumerate() {
        let name = features.len().to_string();
        let conv = config.convolution(layer, channels);
        features.push(&name, Conv2d::new(&b.enter(&name), channels, out_channels, conv)?);
        features.push(features.len().to_string(), Activation::Relu);
        if config.form == Form::Paper && layer < 2 {
            features.push(features.len().to_string(), RESPONSE_NORM);
        }
        if matches!(layer, 0 | 1 | 4) {
            features.push(features.len().to_string(), MaxPool2d::new(Window::square(3).stride(2)));
        }
        channels = out_channels;
    }
    Ok(features)
}

fn classifier<T: Element>(b: &Builder<T>, config: &Config, classes: usize) -> Result<Sequential<T>> {
    let &Config { form, channels: [.., channels], hidden } = config;
    let grid = Layout::LinearAfterFlatten { height: GRID, width: GRID, channels };
    let mut classifier = Sequential::new();
    for (in_features, layout) in [(GRID * GRID * channels, grid), (hidden, Layout::Linear)] {
        if form == Form::Torchvision {
            classifier.push(classifier.len().to_string(), Dropout::new(0.5)?);
        }
        let name = classifier.len().to_string();
        let options = config.linear(layout, Init::ONES);
        classifier.push(&name, Linear::new(&b.enter(&name), in_features, hidden, options)?);
        classifier.push(classifier.len().to_string(), Activation::Relu);
        if form == Form::Paper {
            classifier.push(classifier.len().to_string(), Dropout::new(0.5)?);
        }
    }
    let last = config.linear(Layout::Linear, Init::ZEROS);
    classifier.push("6", Linear::new(&b.enter("6"), hidden, classes, last)?);
    Ok(classifier)
}

impl<T: Element> Layer<T> for AlexNet<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        self.chain().forward(x, mode)
    }
}

impl<T: Element> Architecture<T> for AlexNet<T> {
    fn chain(&self) -> Chain<'_, T> {
        let ends = match self.form {
            Form::Paper => [("1", 4), ("5", 8), ("13", 16), ("14", 32)],
            Form::Torchvision => [("1", 4), ("4", 8), ("11", 16), ("12", 32)],
        };
        Chain::new()
            .each("features", &self.features, &ends)
            .then("avgpool", &self.avgpool)
            .then("flatten", &Flatten)
            .each("classifier", &self.classifier, &[])
    }
}

const fn variant(name: &'static str, parameters: usize, macs: u64, build: Build) -> Variant {
    Variant {
        name,
        family: "AlexNet",
        input_size: 224,
        least_size: 63,
        classes: 1000,
        parameters,
        macs,
        classifier: "classifier.6",
        build,
    }
}

/// The variants for ImageNet.
pub const VARIANTS: &[Variant] = &[
    variant("alexnet", 61_100_840, 714_188_480, |b, o| Ok(Box::new(AlexNet::new(b, &ALEXNET, o)?))),
    variant("alexnet_2012", 60_965_224, 724_406_816, |b, o| Ok(Box::new(AlexNet::new(b, &ALEXNET_2012, o)?))),
];
