//! The distinct convolutions of networks, for images of 224×224 (ResNet-20: 32×32), in the order in which the networks first use them.

mod densenet;
mod efficientnet;
mod googlenet;
mod resnet;
mod vgg;

pub use densenet::DENSENET121;
pub use efficientnet::EFFICIENTNET_B0;
pub use googlenet::GOOGLENET;
pub use resnet::{RESNET18, RESNET20, RESNET50, RESNEXT50};
pub use vgg::VGG16;

use std::fmt;

use ocelli_tensor::ops::Window;
use ocelli_tensor::{Shape, Tensor};

use crate::random;

/// The networks by name.
pub const NETWORKS: &[(&str, &[Layer])] = &[
    ("resnet18", RESNET18),
    ("resnet20", RESNET20),
    ("resnet50", RESNET50),
    ("resnext50", RESNEXT50),
    ("vgg16", VGG16),
    ("googlenet", GOOGLENET),
    ("densenet121", DENSENET121),
    ("efficientnet_b0", EFFICIENTNET_B0),
];

/// A square convolution whose padding is half of its kernel, and how often the network has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Input height and width.
    pub size: usize,
    /// Input channels.
    pub cin: usize,
    /// Output channels.
    pub cout: usize,
    /// Kernel height and width.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Groups.
    pub groups: usize,
    /// Layers of this shape in the network.
    pub count: usize,
}

const fn layer(size: usize, cin: usize, cout: usize, kernel: usize, stride: usize, count: usize) -> Layer {
    Layer { size, cin, cout, kernel, stride, groups: 1, count }
}

const fn grouped(
    size: usize,
    cin: usize,
    cout: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
    count: usize,
) -> Layer {
    Layer { size, cin, cout, kernel, stride, groups, count }
}

pub(crate) const fn depthwise(size: usize, channels: usize, kernel: usize, stride: usize, count: usize) -> Layer {
    Layer { size, cin: channels, cout: channels, kernel, stride, groups: channels, count }
}

impl Layer {
    /// Kernel, stride and padding.
    pub fn window(&self) -> Window {
        Window::square(self.kernel).stride(self.stride).padding(self.kernel / 2)
    }

    /// Output height and width.
    pub fn output(&self) -> usize {
        self.size.div_ceil(self.stride)
    }

    /// Whether each channel is filtered alone.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.cin && self.groups == self.cout
    }

    /// Floating-point operations of one pass over a batch, as the direct algorithm does them.
    pub fn flops(&self, batch: usize) -> f64 {
        let macs = batch * self.output().pow(2) * self.cout * self.kernel.pow(2) * (self.cin / self.groups);
        2.0 * macs as f64
    }

    /// Bytes of one pass over a batch if each operand is read once and the result written once.
    pub fn bytes(&self, batch: usize) -> f64 {
        let weight = self.kernel.pow(2) * self.cin / self.groups * self.cout;
        let pixels = batch * (self.size.pow(2) * self.cin + self.output().pow(2) * self.cout);
        (size_of::<f32>() * (pixels + weight)) as f64
    }

    /// The shapes of the input, the weights and the output.
    pub fn shapes(&self, batch: usize) -> [Shape; 3] {
        let Layer { size, cin, cout, kernel, groups, .. } = *self;
        let x = [batch, size, size, cin];
        let w = [kernel, kernel, cin / groups, cout];
        [x, w, [batch, self.output(), self.output(), cout]].map(Shape::from)
    }

    /// An input, weights, and an output's gradient.
    pub fn operands(&self, batch: usize) -> [Tensor; 3] {
        self.shapes(batch).map(random)
    }

    /// What kind of convolution this is: `stem` (of an image), `depthwise`, `grouped`, `1×1`, `3×3`, …
    pub fn class(&self) -> String {
        match self.kernel {
            _ if self.cin == 3 => "stem".into(),
            _ if self.is_depthwise() => "depthwise".into(),
            _ if self.groups > 1 => "grouped".into(),
            kernel => format!("{kernel}×{kernel}"),
        }
    }
}

impl fmt::Display for Layer {
    /// `56×56×64 → 64, 3×3 / 2, 32 groups`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Layer { size, cin, cout, kernel, stride, groups, .. } = *self;
        write!(f, "{size}×{size}×{cin} → {cout}, {kernel}×{kernel}")?;
        if stride > 1 {
            write!(f, " / {stride}")?;
        }
        match groups {
            1 => Ok(()),
            _ if self.is_depthwise() => f.write_str(", depthwise"),
            _ => write!(f, ", {groups} groups"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layers and multiply-adds that torchvision's networks have, and the paper's for CIFAR.
    #[test]
    fn the_lists_are_whole() {
        for (name, layers, macs) in [
            ("resnet18", 20, 1_813_561_344),
            ("resnet20", 19, 40_550_400),
            ("resnet50", 53, 4_087_136_256),
            ("resnext50", 53, 4_228_431_872),
            ("vgg16", 13, 15_346_630_656),
            ("googlenet", 57, 1_497_352_192),
            ("densenet121", 120, 2_833_137_664),
            ("efficientnet_b0", 81, 384_534_752u64),
        ] {
            let (_, list) = NETWORKS.iter().find(|(network, _)| *network == name).unwrap();
            assert_eq!(list.iter().map(|layer| layer.count).sum::<usize>(), layers, "{name}");
            let total: f64 = list.iter().map(|layer| layer.count as f64 * layer.flops(1) / 2.0).sum();
            assert_eq!(total as u64, macs, "{name}");
        }
    }
}
