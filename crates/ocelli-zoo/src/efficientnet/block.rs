//! The blocks: MBConv, with or without squeeze-and-excitation, and FusedMBConv.

use std::f64::consts::SQRT_2;

use crate::nn::autograd::{Var, scope};
use crate::nn::tensor::Element;
use crate::nn::{
    Builder, Conv2dOptions, ConvNorm, Init, Layer, Mode, Result, SqueezeExcitation, SqueezeOptions, StochasticDepth,
};

use super::{Config, Library, Operator, Stage};

/// Channels that come into a block over those between its squeeze's two layers.
const REDUCTION: usize = 4;

/// `x + branch(x)`, or the branch alone where it changes the shape.
#[derive(Debug)]
pub(super) struct Block<T: Element> {
    /// In the order in which they are applied; the last one projects.
    units: Vec<ConvNorm<T>>,
    /// Before the last unit.
    squeeze: Option<Squeeze<T>>,
    /// Of the branch, if there is a shortcut.
    depth: Option<StochasticDepth>,
}

impl<T: Element> Block<T> {
    /// A block of `stage` whose branch is left out with a probability of `drop`.
    pub fn new(b: &Builder<T>, config: &Config, stage: &Stage, in_channels: usize, drop: f64) -> Result<Self> {
        let Stage { operator, expansion, kernel_size, stride, channels, .. } = *stage;
        let Config { library, norm, .. } = *config;
        let wide = in_channels * expansion;
        let dense = conv(library, kernel_size, 1).stride(stride);
        let depthwise = conv(library, kernel_size, wide).stride(stride);
        let point = conv(library, 1, 1);
        let active = Some(config.activation);
        let rows = match (operator, expansion) {
            (Operator::MbConv, 1) => {
                vec![("conv_dw", [wide, wide], depthwise, active), ("conv_pw", [wide, channels], point, None)]
            }
            (Operator::MbConv, _) => vec![
                ("conv_pw", [in_channels, wide], point, active),
                ("conv_dw", [wide, wide], depthwise, active),
                ("conv_pwl", [wide, channels], point, None),
            ],
            (Operator::FusedMbConv, 1) => vec![("conv", [in_channels, channels], dense, active)],
            (Operator::FusedMbConv, _) => {
                vec![("conv_exp", [in_channels, wide], dense, active), ("conv_pwl", [wide, channels], point, None)]
            }
        };
        let squeezes = config.squeezes && operator == Operator::MbConv;
        let (mut units, mut squeeze) = (Vec::new(), None);
        let last = rows.len() - 1;
        for (i, (name, channels, conv, activation)) in rows.into_iter().enumerate() {
            if squeezes && i == last {
                squeeze = Some(Squeeze::new(b, config, i, wide, (in_channels / REDUCTION).max(1))?);
            }
            let names = match library {
                Library::Torchvision => {
                    let position = i + usize::from(squeeze.is_some());
                    (format!("block.{position}.0"), format!("block.{position}.1"))
                }
                Library::TensorFlow => (name.to_owned(), format!("bn{}", i + 1)),
            };
            units.push(ConvNorm::new(b, (&names.0, &names.1), channels, conv, norm, activation)?);
        }
        let residual = stride == 1 && in_channels == channels;
        let depth = residual.then(|| StochasticDepth::new(drop)).transpose()?;
        Ok(Block { units, squeeze, depth })
    }
}

impl<T: Element> Layer<T> for Block<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        let Some((last, inner)) = self.units.split_last() else { return Ok(x.clone()) };
        let mut y = x.clone();
        for unit in inner {
            y = unit.forward(&y, mode)?;
        }
        if let Some(Squeeze { name, layer }) = &self.squeeze {
            y = scope(name, || layer.forward(&y, mode))?;
        }
        let y = last.forward(&y, mode)?;
        match &self.depth {
            Some(depth) => Ok(depth.forward(&y, mode)?.add(x)?),
            None => Ok(y),
        }
    }
}

/// The squeeze-and-excitation of a block, with its name in it.
#[derive(Debug)]
struct Squeeze<T: Element> {
    name: String,
    layer: SqueezeExcitation<T>,
}

impl<T: Element> Squeeze<T> {
    /// Behind so many convolutions.
    fn new(b: &Builder<T>, config: &Config, position: usize, channels: usize, squeezed: usize) -> Result<Self> {
        let (name, layers) = match config.library {
            Library::Torchvision => (format!("block.{position}"), ("fc1", "fc2")),
            Library::TensorFlow => ("se".to_owned(), ("conv_reduce", "conv_expand")),
        };
        let options = SqueezeOptions { activation: config.activation, ..SqueezeOptions::new(squeezed) };
        let layer = SqueezeExcitation::new(&b.enter(&name), layers, channels, options)?;
        Ok(Squeeze { name, layer })
    }
}

/// A padded convolution, initialised as in that library: both take Kaiming's normal, by outputs, but torchvision counts
/// a depthwise convolution's as if it were dense.
pub(super) fn conv(library: Library, kernel_size: usize, groups: usize) -> Conv2dOptions {
    let conv = Conv2dOptions::new(kernel_size).groups(groups);
    match library {
        Library::Torchvision => conv.padding(kernel_size / 2),
        Library::TensorFlow if groups == 1 => conv.same(),
        Library::TensorFlow => conv.same().init(Init::Normal { std: SQRT_2 / kernel_size as f64 }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::B;
    use super::*;
    use crate::testing::check_block;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn gradients_of_blocks(
            library in prop::sample::select(vec![Library::Torchvision, Library::TensorFlow]),
            operator in prop::sample::select(vec![Operator::MbConv, Operator::FusedMbConv]),
            [squeezes, wide, five, keeps_channels] in prop::array::uniform4(prop::bool::ANY),
            batch in 2..4usize,
            size in prop::array::uniform2(3..8usize),
            in_channels in 2..5usize,
            stride in 1..3usize,
        ) {
            let (expansion, kernel_size) = (if wide { 3 } else { 1 }, if five { 5 } else { 3 });
            let channels = if keeps_channels { in_channels } else { in_channels + 1 };
            let config = Config { squeezes, ..Config::new(library, &B[0]) };
            let stage = Stage { operator, expansion, kernel_size, stride, channels, blocks: 1 };
            let b = Builder::new(10);
            let block = Block::new(&b, &config, &stage, in_channels, 0.4)?;
            prop_assert_eq!(block.depth.is_some(), keeps_channels && stride == 1);
            prop_assert_eq!(block.squeeze.is_some(), squeezes && operator == Operator::MbConv);
            check_block(&block, &b, [batch, size[0], size[1], in_channels])?;
        }
    }
}
