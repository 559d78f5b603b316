//! ResNet and ResNeXt, as torchvision has them (the stride is in the 3×3), and the first paper's network for CIFAR.

use super::{Layer, grouped, layer};

/// ResNet-20 for images of 32×32, whose shortcuts have no weights.
pub const RESNET20: &[Layer] = &[
    layer(32, 3, 16, 3, 1, 1),
    layer(32, 16, 16, 3, 1, 6),
    layer(32, 16, 32, 3, 2, 1),
    layer(16, 32, 32, 3, 1, 5),
    layer(16, 32, 64, 3, 2, 1),
    layer(8, 64, 64, 3, 1, 5),
];

/// ResNet-18.
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

/// ResNet-50.
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

/// ResNeXt-50, 32 groups of 4 channels in its first stage.
pub const RESNEXT50: &[Layer] = &[
    layer(224, 3, 64, 7, 2, 1),
    layer(56, 64, 128, 1, 1, 1),
    grouped(56, 128, 128, 3, 1, 32, 3),
    layer(56, 128, 256, 1, 1, 3),
    layer(56, 64, 256, 1, 1, 1),
    layer(56, 256, 128, 1, 1, 2),
    layer(56, 256, 256, 1, 1, 1),
    grouped(56, 256, 256, 3, 2, 32, 1),
    layer(28, 256, 512, 1, 1, 4),
    layer(56, 256, 512, 1, 2, 1),
    layer(28, 512, 256, 1, 1, 3),
    grouped(28, 256, 256, 3, 1, 32, 3),
    layer(28, 512, 512, 1, 1, 1),
    grouped(28, 512, 512, 3, 2, 32, 1),
    layer(14, 512, 1024, 1, 1, 6),
    layer(28, 512, 1024, 1, 2, 1),
    layer(14, 1024, 512, 1, 1, 5),
    grouped(14, 512, 512, 3, 1, 32, 5),
    layer(14, 1024, 1024, 1, 1, 1),
    grouped(14, 1024, 1024, 3, 2, 32, 1),
    layer(7, 1024, 2048, 1, 1, 3),
    layer(14, 1024, 2048, 1, 2, 1),
    layer(7, 2048, 1024, 1, 1, 2),
    grouped(7, 1024, 1024, 3, 1, 32, 2),
];
