//! Inception-v3: C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna, *Rethinking the Inception Architecture for
//! Computer Vision*, 2015 (arXiv 1512.00567), as torchvision writes it.
//!
//! GoogLeNet's modules, with large kernels taken apart: a 5×5 convolution becomes two 3×3 ones, a 7×7 one a 1×7 and a 7×1.
//! Table 1 of the paper, whose pictures have 299 pixels:
//!
//! | layer | output | channels |
//! | --- | --- | --- |
//! | Conv2d_1a, 3×3, stride 2 | 149 | 32 |
//! | Conv2d_2a, 3×3 | 147 | 32 |
//! | Conv2d_2b, 3×3, padded; max | 73 | 64 |
//! | Conv2d_3b, 1×1; Conv2d_4a, 3×3; max | 35 | 80, 192 |
//! | Mixed_5b, 5c, 5d: module A | 35 | 256, 288, 288 |
//! | Mixed_6a: module B, stride 2 | 17 | 768 |
//! | Mixed_6b … 6e: module C, of inner width 128, 160, 160, 192 | 17 | 768 |
//! | AuxLogits | | |
//! | Mixed_7a: module D, stride 2 | 8 | 1280 |
//! | Mixed_7b, 7c: module E | 8 | 2048 |
//! | average, dropout, classifier | 1 | |
//!
//! The auxiliary classifier works on maps of 17×17 or more, that is on pictures of at least 299 pixels; on smaller ones
//! the network trains without it. torchvision's weights take pictures scaled to −1..1, which it hides in an option of the
//! model, `transform_input`.

use crate::nn::autograd::Var;
use crate::nn::tensor::Element;
use crate::nn::tensor::ops::{Activation, Padding, Window};
use crate::nn::{
    AvgPool2d, BatchNormOptions, Branches, Builder, Conv2dOptions, ConvNorm, ConvPadding, Dropout, GlobalAvgPool, Init,
    Layer, Linear, LinearOptions, MaxPool2d, Mode, Result, Sequential,
};
use crate::{Architecture, Auxiliary, Chain, Options, Outputs, Variant};

/// The weight of the auxiliary loss in torchvision's training. (The paper gives none.)
const AUXILIARY_WEIGHT: f64 = 0.4;
/// The least height and width of what the auxiliary classifier sees.
const AUXILIARY_LEAST: usize = 17;

/// What is not in the table.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// What all widths are divided by: 1, or up to 16 for a smaller network.
    pub divisor: usize,
    /// The probability of dropout before the classifier.
    pub dropout: f64,
}

/// torchvision's.
pub const INCEPTION_V3: Config = Config { divisor: 1, dropout: 0.5 };

/// A kernel `[height, width]` that keeps the image's size.
fn same(kernel_size: [usize; 2]) -> Conv2dOptions {
    let [v, h] = kernel_size.map(|k| k / 2);
    let padding = ConvPadding::Explicit(Padding { top: v, bottom: v, left: h, right: h });
    Conv2dOptions { kernel_size, padding, ..Conv2dOptions::new(1) }
}

/// Convolutions in a row, each with its batch norm and ReLU.
struct Row<'b, T: Element> {
    b: &'b Builder<T>,
    divisor: usize,
    channels: usize,
    layers: Sequential<T>,
}

impl<'b, T: Element> Row<'b, T> {
    fn new(b: &'b Builder<T>, divisor: usize, channels: usize) -> Self {
        Row { b, divisor, channels, layers: Sequential::new() }
    }

    fn conv(self, name: &str, out_channels: usize, options: Conv2dOptions) -> Result<Self> {
        self.conv_of(name, out_channels, options, 0.1)
    }

    /// As `conv`, whose weights begin with that standard deviation.
    fn conv_of(mut self, name: &str, out_channels: usize, options: Conv2dOptions, std: f64) -> Result<Self> {
        let channels = [self.channels, out_channels / self.divisor];
        let (norm, relu) = (BatchNormOptions { eps: 1e-3, ..BatchNormOptions::default() }, Some(Activation::Relu));
        let options = options.init(Init::Normal { std });
        let unit = ConvNorm::new(&self.b.enter(name), ("conv", "bn"), channels, options, norm, relu)?;
        self.layers.push(name, unit);
        self.channels = channels[1];
        Ok(self)
    }

    fn then(mut self, name: &str, layer: impl Layer<T> + 'static) -> Self {
        self.layers.push(name, layer);
        self
    }
}

/// A branch that parts at its end.
#[derive(Debug)]
struct Parting<T: Element> {
    trunk: Sequential<T>,
    ends: Branches<T>,
}

impl<T: Element> Layer<T> for Parting<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        self.ends.forward(&self.trunk.forward(x, mode)?, mode)
    }
}

fn average() -> AvgPool2d {
    AvgPool2d::new(Window::square(3).padding(1))
}

fn maximum() -> MaxPool2d {
    MaxPool2d::new(Window::square(3).stride(2))
}

fn conv(kernel_size: usize) -> Conv2dOptions {
    Conv2dOptions::new(kernel_size)
}

/// A module under construction.
struct Module<'b, T: Element> {
    b: &'b Builder<T>,
    divisor: usize,
    in_channels: usize,
    channels: usize,
    branches: Vec<Box<dyn Layer<T>>>,
}

impl<'b, T: Element> Module<'b, T> {
    fn new(b: &'b Builder<T>, divisor: usize, in_channels: usize) -> Self {
        Module { b, divisor, in_channels, channels: 0, branches: Vec::new() }
    }

    fn branch(mut self, build: impl FnOnce(Row<'b, T>) -> Result<Row<'b, T>>) -> Result<Self> {
        let row = build(Row::new(self.b, self.divisor, self.in_channels))?;
        self.channels += row.channels;
        self.branches.push(Box::new(row.layers));
        Ok(self)
    }

    /// A branch that ends in a 1×3 and a 3×1 convolution side by side.
    fn parting(
        mut self,
        [wide, high]: [&str; 2],
        build: impl FnOnce(Row<'b, T>) -> Result<Row<'b, T>>,
    ) -> Result<Self> {
        let row = build(Row::new(self.b, self.divisor, self.in_channels))?;
        let end = |name, kernel| Row::new(self.b, self.divisor, row.channels).conv(name, 384, same(kernel));
        let ends = [end(wide, [1, 3])?, end(high, [3, 1])?];
        self.channels += ends.iter().map(|end| end.channels).sum::<usize>();
        let ends = ends.into_iter().map(|end| Box::new(end.layers) as Box<dyn Layer<T>>).collect();
        self.branches.push(Box::new(Parting { trunk: row.layers, ends: Branches::new(ends) }));
        Ok(self)
    }
}

/// Figure 5 of the paper: 1×1, 5×5, two 3×3, average.
fn a<T: Element>(module: Module<'_, T>, pool: usize) -> Result<Module<'_, T>> {
    module
        .branch(|row| row.conv("branch1x1", 64, conv(1)))?
        .branch(|row| row.conv("branch5x5_1", 48, conv(1))?.conv("branch5x5_2", 64, same([5, 5])))?
        .branch(|row| {
            row.conv("branch3x3dbl_1", 64, conv(1))?.conv("branch3x3dbl_2", 96, same([3, 3]))?.conv(
                "branch3x3dbl_3",
                96,
                same([3, 3]),
            )
        })?
        .branch(|row| row.then("avg_pool", average()).conv("branch_pool", pool, conv(1)))
}

/// Figure 10: half the size.
fn b<T: Element>(module: Module<'_, T>) -> Result<Module<'_, T>> {
    module
        .branch(|row| row.conv("branch3x3", 384, conv(3).stride(2)))?
        .branch(|row| {
            row.conv("branch3x3dbl_1", 64, conv(1))?.conv("branch3x3dbl_2", 96, same([3, 3]))?.conv(
                "branch3x3dbl_3",
                96,
                conv(3).stride(2),
            )
        })?
        .branch(|row| Ok(row.then("max_pool", maximum())))
}

/// Figure 6: 1×1, 7×7 and two 7×7 taken apart, average.
fn c<T: Element>(module: Module<'_, T>, inner: usize) -> Result<Module<'_, T>> {
    module
        .branch(|row| row.conv("branch1x1", 192, conv(1)))?
        .branch(|row| {
            row.conv("branch7x7_1", inner, conv(1))?.conv("branch7x7_2", inner, same([1, 7]))?.conv(
                "branch7x7_3",
                192,
                same([7, 1]),
            )
        })?
        .branch(|row| {
            row.conv("branch7x7dbl_1", inner, conv(1))?
                .conv("branch7x7dbl_2", inner, same([7, 1]))?
                .conv("branch7x7dbl_3", inner, same([1, 7]))?
                .conv("branch7x7dbl_4", inner, same([7, 1]))?
                .conv("branch7x7dbl_5", 192, same([1, 7]))
        })?
        .branch(|row| row.then("avg_pool", average()).conv("branch_pool", 192, conv(1)))
}

/// Half the size again.
fn d<T: Element>(module: Module<'_, T>) -> Result<Module<'_, T>> {
    module
        .branch(|row| row.conv("branch3x3_1", 192, conv(1))?.conv("branch3x3_2", 320, conv(3).stride(2)))?
        .branch(|row| {
            row.conv("branch7x7x3_1", 192, conv(1))?
                .conv("branch7x7x3_2", 192, same([1, 7]))?
                .conv("branch7x7x3_3", 192, same([7, 1]))?
                .conv("branch7x7x3_4", 192, conv(3).stride(2))
        })?
        .branch(|row| Ok(row.then("max_pool", maximum())))
}

/// Figure 7: 1×1, a 3×3 and two 3×3 that part into 1×3 and 3×1, average.
fn e<T: Element>(module: Module<'_, T>) -> Result<Module<'_, T>> {
    module
        .branch(|row| row.conv("branch1x1", 320, conv(1)))?
        .parting(["branch3x3_2a", "branch3x3_2b"], |row| row.conv("branch3x3_1", 384, conv(1)))?
        .parting(["branch3x3dbl_3a", "branch3x3dbl_3b"], |row| {
            row.conv("branch3x3dbl_1", 448, conv(1))?.conv("branch3x3dbl_2", 384, same([3, 3]))
        })?
        .branch(|row| row.then("avg_pool", average()).conv("branch_pool", 192, conv(1)))
}

impl<'b, T: Element> Row<'b, T> {
    fn module(
        mut self,
        name: &str,
        build: impl for<'m> FnOnce(Module<'m, T>) -> Result<Module<'m, T>>,
    ) -> Result<Self> {
        let b = self.b.enter(name);
        let module = build(Module::new(&b, self.divisor, self.channels))?;
        self.layers.push(name, Branches::new(module.branches));
        self.channels = module.channels;
        Ok(self)
    }
}

/// The whole network.
#[derive(Debug)]
pub struct Inception<T: Element> {
    /// To Mixed_6e.
    first: Sequential<T>,
    auxiliary: Sequential<T>,
    /// Mixed_7.
    last: Sequential<T>,
    dropout: Dropout,
    fc: Linear<T>,
}

impl<T: Element> Inception<T> {
    /// The network of these numbers.
    pub fn new(builder: &Builder<T>, config: &Config, options: Options) -> Result<Self> {
        let Options { classes, in_channels } = options;
        let first = Row::new(builder, config.divisor, in_channels)
            .conv("Conv2d_1a_3x3", 32, conv(3).stride(2))?
            .conv("Conv2d_2a_3x3", 32, conv(3))?
            .conv("Conv2d_2b_3x3", 64, same([3, 3]))?
            .then("maxpool1", maximum())
            .conv("Conv2d_3b_1x1", 80, conv(1))?
            .conv("Conv2d_4a_3x3", 192, conv(3))?
            .then("maxpool2", maximum())
            .module("Mixed_5b", |module| a(module, 32))?
            .module("Mixed_5c", |module| a(module, 64))?
            .module("Mixed_5d", |module| a(module, 64))?
            .module("Mixed_6a", b)?
            .module("Mixed_6b", |module| c(module, 128))?
            .module("Mixed_6c", |module| c(module, 160))?
            .module("Mixed_6d", |module| c(module, 160))?
            .module("Mixed_6e", |module| c(module, 192))?;
        let auxiliary = auxiliary(&builder.enter("AuxLogits"), config, first.channels, classes)?;
        let last = Row::new(builder, config.divisor, first.channels)
            .module("Mixed_7a", d)?
            .module("Mixed_7b", e)?
            .module("Mixed_7c", e)?;
        let fc = Linear::new(&builder.enter("fc"), last.channels, classes, linear(0.1))?;
        let dropout = Dropout::new(config.dropout)?;
        Ok(Inception { first: first.layers, auxiliary, last: last.layers, dropout, fc })
    }
}

fn linear(std: f64) -> LinearOptions {
    LinearOptions { init: Some(Init::Normal { std }), ..LinearOptions::default() }
}

fn auxiliary<T: Element>(b: &Builder<T>, config: &Config, channels: usize, classes: usize) -> Result<Sequential<T>> {
    let row = Row::new(b, config.divisor, channels)
        .then("avg_pool", AvgPool2d::new(Window::square(5).stride(3)))
        .conv("conv0", 128, conv(1))?
        .conv_of("conv1", 768, conv(5), 0.01)?
        .then("global_pool", GlobalAvgPool);
    let fc = Linear::new(&b.enter("fc"), row.channels, classes, linear(0.001))?;
    Ok(row.then("fc", fc).layers)
}

impl<T: Element> Layer<T> for Inception<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        Ok(self.outputs(x, mode)?.logits)
    }
}

impl<T: Element> Architecture<T> for Inception<T> {
    fn chain(&self) -> Chain<'_, T> {
        let first = [("Conv2d_2b_3x3", 2), ("Conv2d_4a_3x3", 4), ("Mixed_5d", 8), ("Mixed_6e", 16)];
        Chain::new()
            .each("", &self.first, &first)
            .each("", &self.last, &[("Mixed_7c", 32)])
            .then("avgpool", &GlobalAvgPool)
            .then("dropout", &self.dropout)
            .then("fc", &self.fc)
    }

    fn outputs(&self, x: &Var<T>, mode: &Mode) -> Result<Outputs<T>> {
        let (logits, inner) = self.chain().forward_with(x, mode, &["Mixed_6e"])?;
        let inner = &inner[0];
        let mut auxiliary = Vec::new();
        if mode.is_training() && inner.shape()[1..3].iter().all(|&side| side >= AUXILIARY_LEAST) {
            auxiliary.push(Auxiliary { logits: self.auxiliary.forward(inner, mode)?, weight: AUXILIARY_WEIGHT });
        }
        Ok(Outputs { logits, auxiliary })
    }

    fn auxiliary_classifiers(&self) -> &'static [&'static str] {
        &["AuxLogits"]
    }
}

/// The variants for ImageNet. The parameters are counted as torchvision does, with the auxiliary classifier.
pub const VARIANTS: &[Variant] = &[Variant {
    name: "inception_v3",
    family: "Inception",
    input_size: 299,
    least_size: 75,
    classes: 1000,
    parameters: 27_161_264,
    macs: 5_713_216_096,
    classifier: "fc",
    build: |b, options| Ok(Box::new(Inception::new(b, &INCEPTION_V3, options)?)),
}];
