//! Readers of `ops.json` and `ops.safetensors`: what PyTorch computed, in f64, of seeded operands of single operations.

use std::sync::OnceLock;

use serde::Deserialize;

use crate::fixtures::{read, read_json, stored_values};

/// The cases of every operation.
#[derive(Clone, Debug, Deserialize)]
pub struct Ops {
    /// Of `torchvision.ops.deform_conv2d`.
    pub deform_conv2d: Vec<DeformConv2dCase>,
    /// Of `torch.nn.LocalResponseNorm`.
    pub local_response_norm: Vec<LocalResponseNormCase>,
}

/// A deformable convolution. Its operands are the streams `x`, `offset`, `mask`, `weight` and `dy`.
#[derive(Clone, Debug, Deserialize)]
pub struct DeformConv2dCase {
    /// Names the case.
    pub name: String,
    /// `[N, C, H, W]`
    pub input: [usize; 4],
    /// Output channels.
    pub out_channels: usize,
    /// `[height, width]`
    pub kernel_size: [usize; 2],
    /// On both axes.
    pub stride: usize,
    /// On all edges.
    pub padding: usize,
    /// On both axes.
    pub dilation: usize,
    /// Of the weights.
    pub groups: usize,
    /// Of the offsets.
    pub offset_groups: usize,
    /// Whether there are masks, (u + 1) / 2 of the stream's u.
    pub modulated: bool,
    /// Times which the offsets' stream is taken, in pixels.
    pub reach: f64,
}

/// A local response normalisation. Its operands are the streams `x` and `dy`.
#[derive(Clone, Debug, Deserialize)]
pub struct LocalResponseNormCase {
    /// Names the case.
    pub name: String,
    /// `[N, C, H, W]`
    pub input: [usize; 4],
    /// Channels in a sum.
    pub size: usize,
    /// The factor of the mean of squares.
    pub alpha: f64,
    /// The power.
    pub beta: f64,
    /// What is added to the mean.
    pub k: f64,
}

/// Reads all cases.
pub fn cases() -> Ops {
    read_json("ops.json")
}

/// The value `y` or a gradient `dx`, … of a case, in PyTorch's layout.
pub fn result(op: &str, case: &str, name: &str) -> Vec<f64> {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    stored_values(FILE.get_or_init(|| read("ops.safetensors")), &format!("{op}/{case}/{name}"))
}
