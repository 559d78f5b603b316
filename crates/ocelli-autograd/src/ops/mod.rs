//! The operations, one file each: its struct, forward, backward, the method of [`Var`](crate::Var) that applies it, and
//! its gradient check.
//!
//! A new operation is a new file and its lines here: the module, its struct, its name and its check.

mod activation;
mod adaptive_avg_pool2d;
mod add;
mod avg_pool2d;
mod batch_norm;
mod batch_norm_eval;
mod batch_norm_joined;
mod binary_cross_entropy;
mod columns;
mod concat;
mod conv2d;
mod cross_entropy;
mod deform_conv2d;
mod dropout;
mod global_avg_pool2d;
mod linear;
mod local_response_norm;
mod log_softmax;
mod matmul;
mod max_pool2d;
mod mean;
mod mean_squared_error;
mod mul;
mod reshape;
mod scale;
mod soft_cross_entropy;
mod softmax;
mod subsample_pad;
mod sum;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use ocelli_tensor::ops::{Activation, DeformConv2d, LocalResponseNorm, Padding, Window};

pub use adaptive_avg_pool2d::AdaptiveAvgPool2d;
pub use add::Add;
pub use avg_pool2d::AvgPool2d;
pub use batch_norm::{BatchNorm, BatchStats};
pub use batch_norm_eval::BatchNormEval;
pub use batch_norm_joined::BatchNormJoined;
pub use binary_cross_entropy::BinaryCrossEntropy;
pub use columns::Columns;
pub use concat::Concat;
pub use conv2d::Conv2d;
pub use cross_entropy::CrossEntropy;
pub use dropout::Dropout;
pub use global_avg_pool2d::GlobalAvgPool2d;
pub use linear::Linear;
pub use log_softmax::LogSoftmax;
pub use matmul::Matmul;
pub use max_pool2d::MaxPool2d;
pub use mean::Mean;
pub use mean_squared_error::MeanSquaredError;
pub use mul::Mul;
pub use reshape::Reshape;
pub use scale::Scale;
pub use soft_cross_entropy::SoftCrossEntropy;
pub use softmax::Softmax;
pub use subsample_pad::SubsamplePad;
pub use sum::Sum;
#[cfg(test)]
pub(crate) use testing::random;

/// The names of all operations.
pub const ALL: &[&str] = &[
    "adaptive_avg_pool2d",
    "add",
    "avg_pool2d",
    "batch_norm",
    "batch_norm_eval",
    "batch_norm_joined",
    "binary_cross_entropy",
    "columns",
    "concat",
    "conv2d",
    "cross_entropy",
    "deform_conv2d",
    "dropout",
    "global_avg_pool2d",
    "linear",
    "local_response_norm",
    "log_softmax",
    "matmul",
    "max_pool2d",
    "mean",
    "mean_squared_error",
    "mul",
    "relu",
    "relu6",
    "reshape",
    "scale",
    "sigmoid",
    "silu",
    "soft_cross_entropy",
    "softmax",
    "subsample_pad",
    "sum",
];

/// The gradient check of each operation of [`ALL`].
#[cfg(test)]
const CHECKS: &[(&str, testing::Check)] = &[
    ("adaptive_avg_pool2d", adaptive_avg_pool2d::tests::gradients),
    ("add", add::tests::gradients),
    ("avg_pool2d", avg_pool2d::tests::gradients),
    ("batch_norm", batch_norm::tests::gradients),
    ("batch_norm_eval", batch_norm_eval::tests::gradients),
    ("batch_norm_joined", batch_norm_joined::tests::gradients),
    ("binary_cross_entropy", binary_cross_entropy::tests::gradients),
    ("columns", columns::tests::gradients),
    ("concat", concat::tests::gradients),
    ("conv2d", conv2d::tests::gradients),
    ("cross_entropy", cross_entropy::tests::gradients),
    ("deform_conv2d", deform_conv2d::tests::gradients),
    ("dropout", dropout::tests::gradients),
    ("global_avg_pool2d", global_avg_pool2d::tests::gradients),
    ("linear", linear::tests::gradients),
    ("local_response_norm", local_response_norm::tests::gradients),
    ("log_softmax", log_softmax::tests::gradients),
    ("matmul", matmul::tests::gradients),
    ("max_pool2d", max_pool2d::tests::gradients),
    ("mean", mean::tests::gradients),
    ("mean_squared_error", mean_squared_error::tests::gradients),
    ("mul", mul::tests::gradients),
    ("relu", activation::tests::relu),
    ("relu6", activation::tests::relu6),
    ("reshape", reshape::tests::gradients),
    ("scale", scale::tests::gradients),
    ("sigmoid", activation::tests::sigmoid),
    ("silu", activation::tests::silu),
    ("soft_cross_entropy", soft_cross_entropy::tests::gradients),
    ("softmax", softmax::tests::gradients),
    ("subsample_pad", subsample_pad::tests::gradients),
    ("sum", sum::tests::gradients),
];
