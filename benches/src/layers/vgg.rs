//! VGG.

use super::{Layer, layer};

/// VGG-16.
pub const VGG16: &[Layer] = &[
    layer(224, 3, 64, 3, 1, 1),
    layer(224, 64, 64, 3, 1, 1),
    layer(112, 64, 128, 3, 1, 1),
    layer(112, 128, 128, 3, 1, 1),
    layer(56, 128, 256, 3, 1, 1),
    layer(56, 256, 256, 3, 1, 2),
    layer(28, 256, 512, 3, 1, 1),
    layer(28, 512, 512, 3, 1, 2),
    layer(14, 512, 512, 3, 1, 3),
];
