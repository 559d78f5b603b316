//! AlexNet: A. Krizhevsky, I. Sutskever, G. Hinton, *ImageNet Classification with Deep Convolutional Neural Networks*,
//! 2012; as torchvision writes it, after A. Krizhevsky, *One weird trick for parallelizing convolutional neural
//! networks*, 2014 (arXiv 1404.5997): on one device, with other widths and without response normalisation.
//!
//! | layer | kernel | channels | then |
//! | --- | --- | --- | --- |
//! | features.0 | 11×11, stride 4 | 64 | ReLU, 3×3 max with stride 2 |
//! | features.3 | 5×5 | 192 | ReLU, 3×3 max with stride 2 |
//! | features.6 | 3×3 | 384 | ReLU |
//! | features.8 | 3×3 | 256 | ReLU |
//! | features.10 | 3×3 | 256 | ReLU, 3×3 max with stride 2 |
//! | classifier | | dropout, 4096, dropout, 4096, classes | |
//!
//! Images of another size than 224 are averaged to 6×6 before the classifier.

use crate::nn::autograd::Var;
use crate::nn::tensor::Element;
use crate::nn::tensor::ops::{Activation, Window};
use crate::nn::{
    AdaptiveAvgPool2d, Builder, Conv2d, Conv2dOptions, Dropout, Flatten, Init, Layer, Layout, Linear, LinearOptions,
    MaxPool2d, Mode, Result, Sequential,
};
use crate::{Architecture, Chain, Options, Variant};

/// Height and width of what the classifier sees.
const GRID: usize = 6;

/// The widths of the layers.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Channels of the convolutions.
    pub channels: [usize; 5],
    /// Outputs of the classifier's two hidden layers.
    pub hidden: usize,
}

/// torchvision's.
pub const ALEXNET: Config = Config { channels: [64, 192, 384, 256, 256], hidden: 4096 };

/// The whole network.
#[derive(Debug)]
pub struct AlexNet<T: Element> {
    features: Sequential<T>,
    avgpool: AdaptiveAvgPool2d,
    classifier: Sequential<T>,
}

impl<T: Element> AlexNet<T> {
    /// The network of these widths.
    pub fn new(b: &Builder<T>, config: &Config, options: Options) -> Result<Self> {
        let features = features(&b.enter("features"), config, options.in_channels)?;
        let classifier = classifier(&b.enter("classifier"), config, options.classes)?;
        Ok(AlexNet { features, avgpool: AdaptiveAvgPool2d { size: [GRID; 2] }, classifier })
    }
}

/// A convolution of `inputs` numbers a value, with PyTorch's default initialisation: uniform within ±1/√inputs.
fn conv(kernel_size: usize, in_channels: usize) -> Conv2dOptions {
    let bound = 1.0 / ((kernel_size * kernel_size * in_channels) as f64).sqrt();
    let init = Init::Uniform { bound };
    Conv2dOptions::new(kernel_size).padding(kernel_size / 2).bias(true).init(init).bias_init(init)
}

fn features<T: Element>(b: &Builder<T>, config: &Config, in_channels: usize) -> Result<Sequential<T>> {
    let [c1, c2, c3, c4, c5] = config.channels;
    let pool = MaxPool2d::new(Window::square(3).stride(2));
    let mut features = Sequential::new();
    let stem = conv(11, in_channels).stride(4).padding(2);
    features.push("0", Conv2d::new(&b.enter("0"), in_channels, c1, stem)?);
    features.push("1", Activation::Relu);
    features.push("2", pool);
    features.push("3", Conv2d::new(&b.enter("3"), c1, c2, conv(5, c1))?);
    features.push("4", Activation::Relu);
    features.push("5", pool);
    features.push("6", Conv2d::new(&b.enter("6"), c2, c3, conv(3, c2))?);
    features.push("7", Activation::Relu);
    features.push("8", Conv2d::new(&b.enter("8"), c3, c4, conv(3, c3))?);
    features.push("9", Activation::Relu);
    features.push("10", Conv2d::new(&b.enter("10"), c4, c5, conv(3, c4))?);
    features.push("11", Activation::Relu);
    features.push("12", pool);
    Ok(features)
}

fn classifier<T: Element>(b: &Builder<T>, config: &Config, classes: usize) -> Result<Sequential<T>> {
    let &Config { channels: [.., channels], hidden } = config;
    let layout = Layout::LinearAfterFlatten { height: GRID, width: GRID, channels };
    let first = LinearOptions { layout, ..LinearOptions::default() };
    let mut classifier = Sequential::new();
    classifier.push("0", Dropout::new(0.5)?);
    classifier.push("1", Linear::new(&b.enter("1"), GRID * GRID * channels, hidden, first)?);
    classifier.push("2", Activation::Relu);
    classifier.push("3", Dropout::new(0.5)?);
    classifier.push("4", Linear::new(&b.enter("4"), hidden, hidden, LinearOptions::default())?);
    classifier.push("5", Activation::Relu);
    classifier.push("6", Linear::new(&b.enter("6"), hidden, classes, LinearOptions::default())?);
    Ok(classifier)
}

impl<T: Element> Layer<T> for AlexNet<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        self.chain().forward(x, mode)
    }
}

impl<T: Element> Architecture<T> for AlexNet<T> {
    fn chain(&self) -> Chain<'_, T> {
        let ends = [("1", 4), ("4", 8), ("11", 16), ("12", 32)];
        Chain::new()
            .each("features", &self.features, &ends)
            .then("avgpool", &self.avgpool)
            .then("flatten", &Flatten)
            .each("classifier", &self.classifier, &[])
    }
}

/// The variants for ImageNet.
pub const VARIANTS: &[Variant] = &[Variant {
    name: "alexnet",
    family: "AlexNet",
    input_size: 224,
    least_size: 63,
    classes: 1000,
    parameters: 61_100_840,
    macs: 714_188_480,
    classifier: "classifier.6",
    build: |b, options| Ok(Box::new(AlexNet::new(b, &ALEXNET, options)?)),
}];
