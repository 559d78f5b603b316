//! DenseNet: G. Huang, Z. Liu, L. van der Maaten, K. Weinberger, *Densely Connected Convolutional Networks*, 2016 (arXiv
//! 1608.06993).
//!
//! A layer adds k channels (the growth rate) to all that the layers before it made: x ↦ x ‖ H(x), where H is batch
//! norm, ReLU and a 3×3 convolution, with a 1×1 convolution to 4k channels before it where there are bottlenecks (B).
//! Between dense blocks, transitions halve the map and, with compression (C), the channels. Table 1 of the paper, as
//! torchvision writes it:
//!
//! | stage | output | 121 | 169 | 201 | 264 | 161 |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | conv0, pool0 | 56×56 | 7×7, 2k channels, stride 2; 3×3 max, stride 2 | | | | |
//! | denseblock1 | 56×56 | 6 layers | 6 | 6 | 6 | 6 |
//! | denseblock2 | 28×28 | 12 | 12 | 12 | 12 | 12 |
//! | denseblock3 | 14×14 | 24 | 32 | 48 | 64 | 36 |
//! | denseblock4 | 7×7 | 16 | 32 | 32 | 48 | 24 |
//! | k | | 32 | 32 | 32 | 32 | 48 |
//!
//! For CIFAR (Table 2): a 3×3 convolution with 16 channels (2k in DenseNet-BC), and three blocks of equal depth on maps
//! of 32, 16 and 8 pixels.

use std::sync::Arc;

use crate::nn::autograd::{Var, scope};
use crate::nn::checkpoint::Checkpoint;
use crate::nn::tensor::Element;
use crate::nn::tensor::ops::{Activation, Window};
use crate::nn::{
    AvgPool2d, BatchNorm2d, BatchNormOptions, Builder, Conv2d, Conv2dOptions, Fan, GlobalAvgPool, Init, Layer, Linear,
    LinearOptions, MaxPool2d, Mode, Result, Sequential, checkpoint,
};
use crate::{Architecture, Build, Chain, Options, Variant};

/// A convolution initialised as the authors do: normal with variance 2 / (inputs of an output).
fn conv(kernel_size: usize) -> Conv2dOptions {
    let init = Init::KaimingNormal { fan: Fan::In, gain: std::f64::consts::SQRT_2 };
    Conv2dOptions::new(kernel_size).padding(kernel_size / 2).init(init)
}

/// Appends batch norm, ReLU and a convolution, whose names end in `n`.
fn push_norm_relu_conv<T: Element>(
    layers: &mut Sequential<T>,
    b: &Builder<T>,
    n: &str,
    [in_channels, out_channels]: [usize; 2],
    kernel_size: usize,
) -> Result<()> {
    let [norm, relu, convolution] = ["norm", "relu", "conv"].map(|part| format!("{part}{n}"));
    layers.push(&norm, BatchNorm2d::new(&b.enter(&norm), in_channels, BatchNormOptions::default())?);
    layers.push(relu, Activation::Relu);
    layers.push(&convolution, Conv2d::new(&b.enter(&convolution), in_channels, out_channels, conv(kernel_size))?);
    Ok(())
}

/// `x ‖ H(x)`, H making `growth` channels.
#[derive(Debug)]
struct DenseLayer<T: Element> {
    layers: Sequential<T>,
}

impl<T: Element> DenseLayer<T> {
    fn new(b: &Builder<T>, in_channels: usize, growth: usize, bottleneck: bool) -> Result<Self> {
        let mut layers = Sequential::new();
        if bottleneck {
            push_norm_relu_conv(&mut layers, b, "1", [in_channels, 4 * growth], 1)?;
            push_norm_relu_conv(&mut layers, b, "2", [4 * growth, growth], 3)?;
        } else {
            push_norm_relu_conv(&mut layers, b, "1", [in_channels, growth], 3)?;
        }
        Ok(DenseLayer { layers })
    }
}

impl<T: Element> Layer<T> for DenseLayer<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        Ok(Var::concat(&[x, &self.layers.forward(x, mode)?])?)
    }
}

/// Layers, each of which sees what all before it made.
///
/// Where [memory is saved](Mode::saves_memory), a layer's convolutions and norms are computed again in the backward pass, so
/// that of each layer no more than its k channels are kept: G. Pleiss et al., *Memory-Efficient Implementation of
/// DenseNets*, 2017 (arXiv 1707.06990), which keep the convolutions as well.
#[derive(Debug)]
struct DenseBlock<T: Element> {
    layers: Vec<(String, Arc<DenseLayer<T>>)>,
}

impl<T: Element> Layer<T> for DenseBlock<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        self.layers.iter().try_fold(x.clone(), |x, (name, layer)| {
            scope(name, || {
                if !mode.saves_memory() {
                    return layer.forward(&x, mode);
                }
                let layer = layer.clone();
                let grow = move |parts: &[Var<T>], mode: &Mode| {
                    layer.layers.forward(&Var::concat(&parts.iter().collect::<Vec<_>>())?, mode)
                };
                Ok(Var::concat(&[&x, &checkpoint(&x.parts().iter().collect::<Vec<_>>(), mode, grow)?])?)
            })
        })
    }
}

fn transition<T: Element>(b: &Builder<T>, channels: [usize; 2]) -> Result<Sequential<T>> {
    let mut layers = Sequential::new();
    push_norm_relu_conv(&mut layers, b, "", channels, 1)?;
    layers.push("pool", AvgPool2d::new(Window::square(2).stride(2)));
    Ok(layers)
}

/// The first layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stem {
    /// Of large pictures: to a quarter of the size.
    ImageNet,
    /// Of small ones: a convolution alone.
    Cifar,
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
struct Table<'a> {
    stem: Stem,
    stem_channels: usize,
    growth: usize,
    /// Layers of each block.
    blocks: &'a [usize],
    /// Bottlenecks, and transitions that halve the channels: DenseNet-BC.
    bc: bool,
}

/// The whole network.
#[derive(Debug)]
pub struct DenseNet<T: Element> {
    features: Sequential<T>,
    classifier: Linear<T>,
}

impl<T: Element> DenseNet<T> {
    fn new(b: &Builder<T>, table: Table<'_>, options: Options) -> Result<Self> {
        let Table { stem, stem_channels, growth, blocks, bc } = table;
        let mut channels = stem_channels;
        let mut features = Sequential::new();
        let inner = b.enter("features");
        let norm = |name: &str, channels| BatchNorm2d::new(&inner.enter(name), channels, BatchNormOptions::default());
        let conv0 =
            |options_of_conv| Conv2d::new(&inner.enter("conv0"), options.in_channels, channels, options_of_conv);
        match stem {
            Stem::ImageNet => {
                features.push("conv0", conv0(conv(7).stride(2))?);
                features.push("norm0", norm("norm0", channels)?);
                features.push("relu0", Activation::Relu);
                features.push("pool0", MaxPool2d::new(Window::square(3).stride(2).padding(1)));
            }
            Stem::Cifar => features.push("conv0", conv0(conv(3))?),
        }
        for (i, &depth) in blocks.iter().enumerate() {
            let name = format!("denseblock{}", i + 1);
            let mut layers = Vec::with_capacity(depth);
            for layer in 1..=depth {
                let layer = format!("denselayer{layer}");
                let b = inner.enter(&name).enter(&layer);
                layers.push((layer, Arc::new(DenseLayer::new(&b, channels, growth, bc)?)));
                channels += growth;
            }
            features.push(name, DenseBlock { layers });
            if i + 1 < blocks.len() {
                let name = format!("transition{}", i + 1);
                let compressed = if bc { channels / 2 } else { channels };
                features.push(&name, transition(&inner.enter(&name), [channels, compressed])?);
                channels = compressed;
            }
        }
        // torchvision's name whatever the number of blocks.
        features.push("norm5", norm("norm5", channels)?);
        features.push("relu5", Activation::Relu);
        let linear = LinearOptions { bias_init: Some(Init::ZEROS), ..LinearOptions::default() };
        let classifier = Linear::new(&b.enter("classifier"), channels, options.classes, linear)?;
        Ok(DenseNet { features, classifier })
    }
}

impl<T: Element> Architecture<T> for DenseNet<T> {
    fn chain(&self) -> Chain<'_, T> {
        let has_pool = self.features.children().any(|(name, _)| name == "pool0");
        let ends: &[_] = if has_pool {
            &[("relu0", 2), ("denseblock1", 4), ("denseblock2", 8), ("denseblock3", 16), ("relu5", 32)]
        } else {
            &[("conv0", 1), ("denseblock1", 1), ("denseblock2", 2), ("relu5", 4)]
        };
        Chain::new()
            .each("features", &self.features, ends)
            .then("avgpool", &GlobalAvgPool)
            .then("classifier", &self.classifier)
    }

    /// torchvision's published files say `…denselayer1.norm.1.weight`.
    fn translated(&self, checkpoint: &Checkpoint) -> Result<Option<Checkpoint>> {
        let is_older = checkpoint.iter().any(|(name, _)| current_name(name) != name);
        is_older.then(|| checkpoint.clone().renamed(|_, name| current_name(name))).transpose()
    }
}

impl<T: Element> Layer<T> for DenseNet<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        self.chain().forward(x, mode)
    }
}

/// A network for ImageNet: DenseNet-BC with this growth rate and so many layers in each block.
pub fn densenet<T: Element>(
    b: &Builder<T>,
    growth: usize,
    blocks: [usize; 4],
    options: Options,
) -> Result<DenseNet<T>> {
    DenseNet::new(
        b,
        Table { stem: Stem::ImageNet, stem_channels: 2 * growth, growth, blocks: &blocks, bc: true },
        options,
    )
}

/// A network for CIFAR with `depth` layers in all, without bottlenecks: 3 · n + 4 of them.
pub fn cifar<T: Element>(b: &Builder<T>, depth: usize, growth: usize, options: Options) -> Result<DenseNet<T>> {
    let blocks = &[depth.saturating_sub(4) / 3; 3];
    DenseNet::new(b, Table { stem: Stem::Cifar, stem_channels: 16, growth, blocks, bc: false }, options)
}

/// A DenseNet-BC for CIFAR with `depth` layers in all: 6 · n + 4 of them.
pub fn cifar_bc<T: Element>(b: &Builder<T>, depth: usize, growth: usize, options: Options) -> Result<DenseNet<T>> {
    let blocks = &[depth.saturating_sub(4) / 6; 3];
    DenseNet::new(b, Table { stem: Stem::Cifar, stem_channels: 2 * growth, growth, blocks, bc: true }, options)
}

fn current_name(name: &str) -> String {
    ["norm", "conv"]
        .into_iter()
        .flat_map(|part| ["1", "2"].map(|n| (format!(".{part}.{n}."), format!(".{part}{n}."))))
        .fold(name.to_owned(), |name, (old, new)| name.replace(&old, &new))
}

const fn imagenet(name: &'static str, parameters: usize, macs: u64, build: Build) -> Variant {
    // 29 pixels are 8 behind the stem, and one behind three transitions.
    let (input_size, least_size, classes) = (224, 29, 1000);
    Variant {
        name,
        family: "DenseNet",
        input_size,
        least_size,
        classes,
        parameters,
        macs,
        classifier: "classifier",
        build,
    }
}

const fn small(name: &'static str, parameters: usize, macs: u64, build: Build) -> Variant {
    let (family, input_size, least_size, classes) = ("CIFAR DenseNet", 32, 4, 10);
    Variant { name, family, input_size, least_size, classes, parameters, macs, classifier: "classifier", build }
}

/// The variants for ImageNet and, behind them, for CIFAR-10.
pub const VARIANTS: &[Variant] = &[
    imagenet("densenet121", 7_978_856, 2_834_161_664, |b, o| Ok(Box::new(densenet(b, 32, [6, 12, 24, 16], o)?))),
    imagenet("densenet161", 28_681_000, 7_727_907_072, |b, o| Ok(Box::new(densenet(b, 48, [6, 12, 36, 24], o)?))),
    imagenet("densenet169", 14_149_480, 3_359_843_328, |b, o| Ok(Box::new(densenet(b, 32, [6, 12, 32, 32], o)?))),
    imagenet("densenet201", 20_013_928, 4_291_365_888, |b, o| Ok(Box::new(densenet(b, 32, [6, 12, 48, 32], o)?))),
    imagenet("densenet264", 33_337_704, 5_751_653_376, |b, o| Ok(Box::new(densenet(b, 32, [6, 12, 64, 48], o)?))),
    small("densenet40_k12", 1_019_722, 264_812_928, |b, o| Ok(Box::new(cifar(b, 40, 12, o)?))),
    small("densenet100_k12", 6_979_642, 1_769_516_448, |b, o| Ok(Box::new(cifar(b, 100, 12, o)?))),
    small("densenet100_k24", 27_249_082, 6_889_347_744, |b, o| Ok(Box::new(cifar(b, 100, 24, o)?))),
    small("densenet_bc100_k12", 769_162, 287_929_692, |b, o| Ok(Box::new(cifar_bc(b, 100, 12, o)?))),
    small("densenet_bc250_k24", 15_324_406, 5_418_785_724, |b, o| Ok(Box::new(cifar_bc(b, 250, 24, o)?))),
    small("densenet_bc190_k40", 25_624_430, 9_301_945_740, |b, o| Ok(Box::new(cifar_bc(b, 190, 40, o)?))),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::check_block;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn gradients_of_layers(
            bottleneck: bool,
            batch in 2..4usize,
            size in prop::array::uniform2(3..7usize),
            channels in 1..5usize,
            growth in 1..4usize,
        ) {
            let b = Builder::new(11);
            let layer = DenseLayer::new(&b, channels, growth, bottleneck)?;
            check_block(&layer, &b, [batch, size[0], size[1], channels])?;
        }

        #[test]
        fn gradients_of_transitions(size in prop::array::uniform2(2..7usize), channels in 2..5usize) {
            let b = Builder::new(12);
            let layers = transition(&b, [channels, channels / 2])?;
            check_block(&layers, &b, [2, size[0], size[1], channels])?;
        }
    }

    #[test]
    fn names_of_older_files_are_understood() {
        let old = "features.denseblock1.denselayer6.norm.1.running_mean";
        assert_eq!(current_name(old), "features.denseblock1.denselayer6.norm1.running_mean");
        assert_eq!(
            current_name("features.denseblock4.denselayer16.conv.2.weight"),
            "features.denseblock4.denselayer16.conv2.weight"
        );
        for name in ["features.transition1.norm.weight", "features.norm0.bias", "classifier.weight"] {
            assert_eq!(current_name(name), name);
        }
    }
}
