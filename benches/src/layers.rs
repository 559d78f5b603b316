//! The distinct convolutions of networks, at 224×224.

/// A square convolution: input size, channels in and out, kernel, stride, groups, and how often the network has it.
#[derive(Debug, Clone, Copy)]
pub struct Layer {
    /// Input height and width.
    pub size: usize,
    /// Input channels.
    pub cin: usize,
    /// Output channels.
    pub cout: usize,
    /// Kernel height and width; the padding is half of it.
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

/// ResNet-50's convolutions (torchvision: stride in the 3×3).
pub const RESNET50: &[Layer] = &[
    layer(224, 3, 64, 7, 2, 1),
    layer(56, 64, 64, 1, 1, 1),
    layer(56, 64, 64, 3, 1, 3),
    layer(56, 64, 256, 1, 1, 4),
    layer(56, 256, 64, 1, 1, 2),
    layer(56, 256, 128, 1, 1, 1),
    layer(56, 128, 128, 3, 2, 1),
    layer(28, 128, 512, 1, 1, 4),
    layer(56, 256, 512, 1, 2, 1),
    layer(28, 512, 128, 1, 1, 3),
    layer(28, 128, 128, 3, 1, 3),
    layer(28, 512, 256, 1, 1, 1),
    layer(28, 256, 256, 3, 2, 1),
    layer(14, 256, 1024, 1, 1, 6),
    layer(28, 512, 1024, 1, 2, 1),
    layer(14, 1024, 256, 1, 1, 5),
    layer(14, 256, 256, 3, 1, 5),
    layer(14, 1024, 512, 1, 1, 1),
    layer(14, 512, 512, 3, 2, 1),
    layer(7, 512, 2048, 1, 1, 3),
    layer(14, 1024, 2048, 1, 2, 1),
    layer(7, 2048, 512, 1, 1, 2),
    layer(7, 512, 512, 3, 1, 2),
];

/// ResNet-18's convolutions.
pub const RESNET18: &[Layer] = &[
    layer(224, 3, 64, 7, 2, 1),
    layer(56, 64, 64, 3, 1, 4),
    layer(56, 64, 128, 3, 2, 1),
    layer(28, 128, 128, 3, 1, 3),
    layer(56, 64, 128, 1, 2, 1),
    layer(28, 128, 256, 3, 2, 1),
    layer(14, 256, 256, 3, 1, 3),
    layer(28, 128, 256, 1, 2, 1),
    layer(14, 256, 512, 3, 2, 1),
    layer(7, 512, 512, 3, 1, 3),
    layer(14, 256, 512, 1, 2, 1),
];
