//! GoogLeNet: C. Szegedy et al., *Going Deeper with Convolutions*, 2014 (arXiv 1409.4842); with batch norms, and as
//! torchvision writes it.
//!
//! An Inception module looks at its input through 1×1, 3×3 and 5×5 convolutions and a pooling at once, behind 1×1
//! convolutions that keep the cost down. Two auxiliary classifiers on inner modules feed gradients into the middle of the
//! network; they exist in training alone. Table 1 of the paper (#3×3 and #5×5 with their reductions):
//!
//! | module | #1×1 | #3×3 | #5×5 | pool |
//! | --- | --- | --- | --- | --- |
//! | 7×7, stride 2: 64; max; 1×1: 64; 3×3: 192; max | | | | |
//! | 3a | 64 | 96, 128 | 16, 32 | 32 |
//! | 3b; max | 128 | 128, 192 | 32, 96 | 64 |
//! | 4a; auxiliary 1 | 192 | 96, 208 | 16, 48 | 64 |
//! | 4b | 160 | 112, 224 | 24, 64 | 64 |
//! | 4c | 128 | 128, 256 | 24, 64 | 64 |
//! | 4d; auxiliary 2 | 112 | 144, 288 | 32, 64 | 64 |
//! | 4e; max | 256 | 160, 320 | 32, 128 | 128 |
//! | 5a | 256 | 160, 320 | 32, 128 | 128 |
//! | 5b; average, dropout, classifier | 384 | 192, 384 | 48, 128 | 128 |
//!
//! torchvision's weights come from TensorFlow, where the branch called 5×5 has a 3×3 kernel; so has it here. They take
//! pictures scaled to −1..1, which torchvision hides in an option of the model, `transform_input`.

use crate::nn::autograd::Var;
use crate::nn::tensor::Element;
use crate::nn::tensor::ops::{Activation, Window};
use crate::nn::{
    AdaptiveAvgPool2d, BatchNormOptions, Branches, Builder, Conv2dOptions, ConvNorm, Dropout, Flatten, GlobalAvgPool,
    Init, Layer, Layout, Linear, LinearOptions, MaxPool2d, Mode, Result, Sequential,
};
use crate::{Architecture, Auxiliary, Chain, Options, Outputs, Variant};

/// The weight of each auxiliary loss (section 5 of the paper).
const AUXILIARY_WEIGHT: f64 = 0.3;
/// Height and width of what an auxiliary classifier sees.
const GRID: usize = 4;

/// The numbers of the table that make a module.
struct Row {
    name: &'static str,
    ones: usize,
    threes: [usize; 2],
    fives: [usize; 2],
    pool: usize,
}

const fn row(name: &'static str, ones: usize, threes: [usize; 2], fives: [usize; 2], pool: usize) -> Row {
    Row { name, ones, threes, fives, pool }
}

const TABLE: [Row; 9] = [
    row("inception3a", 64, [96, 128], [16, 32], 32),
    row("inception3b", 128, [128, 192], [32, 96], 64),
    row("inception4a", 192, [96, 208], [16, 48], 64),
    row("inception4b", 160, [112, 224], [24, 64], 64),
    row("inception4c", 128, [128, 256], [24, 64], 64),
    row("inception4d", 112, [144, 288], [32, 64], 64),
    row("inception4e", 256, [160, 320], [32, 128], 128),
    row("inception5a", 256, [160, 320], [32, 128], 128),
    row("inception5b", 384, [192, 384], [48, 128], 128),
];

/// What is not in the table.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// What all widths are divided by: 1, or up to 8 for a smaller network.
    pub divisor: usize,
    /// The probability of dropout before the classifier.
    pub dropout: f64,
    /// That in the auxiliary classifiers.
    pub auxiliary_dropout: f64,
}

/// torchvision's. (The paper drops 40 % before the classifier.)
pub const GOOGLENET: Config = Config { divisor: 1, dropout: 0.2, auxiliary_dropout: 0.7 };

/// A convolution with its batch norm and ReLU.
fn unit<T: Element>(b: &Builder<T>, [cin, cout]: [usize; 2], conv: Conv2dOptions) -> Result<ConvNorm<T>> {
    let norm = BatchNormOptions { eps: 1e-3, ..BatchNormOptions::default() };
    let conv = conv.init(Init::Normal { std: 0.01 });
    ConvNorm::new(b, ("conv", "bn"), [cin, cout], conv, norm, Some(Activation::Relu))
}

fn conv(kernel_size: usize) -> Conv2dOptions {
    Conv2dOptions::new(kernel_size).padding(kernel_size / 2)
}

fn max_pool(kernel_size: usize, stride: usize) -> MaxPool2d {
    let window = Window::square(kernel_size).stride(stride);
    MaxPool2d { window, ceil_mode: true }
}

/// A network under construction, row by row.
struct Rows<'b, T: Element> {
    b: &'b Builder<T>,
    divisor: usize,
    channels: usize,
    layers: Sequential<T>,
}

impl<T: Element> Rows<'_, T> {
    fn unit(&mut self, name: &str, channels: usize, conv: Conv2dOptions) -> Result<()> {
        let channels = channels / self.divisor;
        self.layers.push(name, unit(&self.b.enter(name), [self.channels, channels], conv)?);
        self.channels = channels;
        Ok(())
    }

    fn module(&mut self, row: &Row) -> Result<()> {
        let (b, cin) = (self.b.enter(row.name), self.channels);
        let [ones, pool] = [row.ones, row.pool].map(|n| n / self.divisor);
        let [threes, fives] = [row.threes, row.fives].map(|pair| pair.map(|n| n / self.divisor));
        let reduced = |name: &str, [reduce, out]: [usize; 2]| -> Result<Sequential<T>> {
            let (b, mut layers) = (b.enter(name), Sequential::new());
            layers.push("0", unit(&b.enter("0"), [cin, reduce], conv(1))?);
            layers.push("1", unit(&b.enter("1"), [reduce, out], conv(3))?);
            Ok(layers)
        };
        let pooled = |name: &str| -> Result<Sequential<T>> {
            let (b, mut layers) = (b.enter(name), Sequential::new());
            layers.push("0", MaxPool2d { window: Window::square(3).padding(1), ceil_mode: true });
            layers.push("1", unit(&b.enter("1"), [cin, pool], conv(1))?);
            Ok(layers)
        };
        let branches: Vec<Box<dyn Layer<T>>> = vec![
            named("branch1", unit(&b.enter("branch1"), [cin, ones], conv(1))?),
            named("branch2", reduced("branch2", threes)?),
            named("branch3", reduced("branch3", fives)?),
            named("branch4", pooled("branch4")?),
        ];
        self.layers.push(row.name, Branches::new(branches));
        self.channels = ones + threes[1] + fives[1] + pool;
        Ok(())
    }
}

fn named<T: Element>(name: &str, layer: impl Layer<T> + 'static) -> Box<dyn Layer<T>> {
    let mut row = Sequential::new();
    row.push(name, layer);
    Box::new(row)
}

/// A classifier of an inner module's output.
#[derive(Debug)]
struct AuxiliaryClassifier<T: Element> {
    layers: Sequential<T>,
}

impl<T: Element> AuxiliaryClassifier<T> {
    fn new(b: &Builder<T>, config: &Config, in_channels: usize, classes: usize) -> Result<Self> {
        let (channels, hidden) = (128 / config.divisor, 1024 / config.divisor);
        let layout = Layout::LinearAfterFlatten { height: GRID, width: GRID, channels };
        let first = LinearOptions { layout, ..linear() };
        let mut layers = Sequential::new();
        layers.push("avgpool", AdaptiveAvgPool2d { size: [GRID; 2] });
        layers.push("conv", unit(&b.enter("conv"), [in_channels, channels], conv(1))?);
        layers.push("flatten", Flatten);
        layers.push("fc1", Linear::new(&b.enter("fc1"), GRID * GRID * channels, hidden, first)?);
        layers.push("relu", Activation::Relu);
        layers.push("dropout", Dropout::new(config.auxiliary_dropout)?);
        layers.push("fc2", Linear::new(&b.enter("fc2"), hidden, classes, linear())?);
        Ok(AuxiliaryClassifier { layers })
    }
}

fn linear() -> LinearOptions {
    LinearOptions { init: Some(Init::Normal { std: 0.01 }), ..LinearOptions::default() }
}

/// The whole network.
#[derive(Debug)]
pub struct GoogLeNet<T: Element> {
    /// From the image to 5b.
    layers: Sequential<T>,
    aux1: AuxiliaryClassifier<T>,
    aux2: AuxiliaryClassifier<T>,
    dropout: Dropout,
    fc: Linear<T>,
}

impl<T: Element> GoogLeNet<T> {
    /// The network of these numbers.
    pub fn new(b: &Builder<T>, config: &Config, options: Options) -> Result<Self> {
        let Options { classes, in_channels } = options;
        let [m3a, m3b, m4a, m4b, m4c, m4d, m4e, m5a, m5b] = &TABLE;
        let mut rows = Rows { b, divisor: config.divisor, channels: in_channels, layers: Sequential::new() };
        rows.unit("conv1", 64, conv(7).stride(2))?;
        rows.layers.push("maxpool1", max_pool(3, 2));
        rows.unit("conv2", 64, conv(1))?;
        rows.unit("conv3", 192, conv(3))?;
        rows.layers.push("maxpool2", max_pool(3, 2));
        rows.module(m3a)?;
        rows.module(m3b)?;
        rows.layers.push("maxpool3", max_pool(3, 2));
        rows.module(m4a)?;
        let first_channels = rows.channels;
        rows.module(m4b)?;
        rows.module(m4c)?;
        rows.module(m4d)?;
        let second_channels = rows.channels;
        rows.module(m4e)?;
        rows.layers.push("maxpool4", max_pool(2, 2));
        rows.module(m5a)?;
        rows.module(m5b)?;
        Ok(GoogLeNet {
            layers: rows.layers,
            aux1: AuxiliaryClassifier::new(&b.enter("aux1"), config, first_channels, classes)?,
            aux2: AuxiliaryClassifier::new(&b.enter("aux2"), config, second_channels, classes)?,
            dropout: Dropout::new(config.dropout)?,
            fc: Linear::new(&b.enter("fc"), rows.channels, classes, linear())?,
        })
    }
}

impl<T: Element> Layer<T> for GoogLeNet<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        Ok(self.outputs(x, mode)?.logits)
    }
}

impl<T: Element> Architecture<T> for GoogLeNet<T> {
    fn chain(&self) -> Chain<'_, T> {
        let ends = [("conv1", 2), ("conv3", 4), ("inception3b", 8), ("inception4e", 16), ("inception5b", 32)];
        Chain::new()
            .each("", &self.layers, &ends)
            .then("avgpool", &GlobalAvgPool)
            .then("dropout", &self.dropout)
            .then("fc", &self.fc)
    }

    fn outputs(&self, x: &Var<T>, mode: &Mode) -> Result<Outputs<T>> {
        let (logits, inner) = self.chain().forward_with(x, mode, &["inception4a", "inception4d"])?;
        let auxiliary = |(classifier, x): (&AuxiliaryClassifier<T>, &Var<T>)| -> Result<Auxiliary<T>> {
            Ok(Auxiliary { logits: classifier.layers.forward(x, mode)?, weight: AUXILIARY_WEIGHT })
        };
        let classifiers = [&self.aux1, &self.aux2].into_iter().zip(&inner).filter(|_| mode.is_training());
        Ok(Outputs { logits, auxiliary: classifiers.map(auxiliary).collect::<Result<_>>()? })
    }

    fn auxiliary_classifiers(&self) -> &'static [&'static str] {
        &["aux1", "aux2"]
    }
}

/// The variants for ImageNet. The parameters are counted as torchvision's published weights have them, without the
/// auxiliary classifiers' 6,379,984.
pub const VARIANTS: &[Variant] = &[Variant {
    name: "googlenet",
    family: "GoogLeNet",
    input_size: 224,
    least_size: 15,
    classes: 1000,
    parameters: 6_624_904,
    macs: 1_498_376_192,
    classifier: "fc",
    build: |b, options| Ok(Box::new(GoogLeNet::new(b, &GOOGLENET, options)?)),
}];
