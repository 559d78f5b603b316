//! The operations, one file or folder each: its public functions, kernels, naive reference and tests together.

mod activation;
mod affine;
pub(crate) mod batch_norm;
mod broadcast;
mod columns;
pub(crate) mod concat;
pub mod conv;
pub(crate) mod cross_entropy;
pub(crate) mod dropout;
mod elementwise;
pub(crate) mod gemm;
pub(crate) mod local_response_norm;
mod matmul;
mod pointwise;
pub(crate) mod pool;
mod quantize;
mod reduce;
pub(crate) mod softmax;
#[cfg(test)]
mod testing;
mod window;

pub use activation::{Activation, activation, activation_backward, activation_into};
pub use affine::{Affine, affine, affine_into};
pub use batch_norm::{
    BatchNormGradients, BatchNormJoinedGradients, ColumnStats, Gate, GradientSums, Normalization, Recompute,
    batch_norm, batch_norm_act, batch_norm_act_backward, batch_norm_backward, batch_norm_backward_frozen,
    batch_norm_gated_backward, batch_norm_joined, batch_norm_joined_backward, batch_norm_stats,
};
pub use concat::{concat_columns, concat_columns_into, concat_shape, put_columns, split_columns};
pub use conv::{
    DeformConv2d, FloatConv, InputGradients, PackedConv, PackedDeformConv, PackedPair, QuantizedConv, Storage, Values,
    conv2d, conv2d_backward_input, conv2d_backward_input_gated, conv2d_backward_input_onto, conv2d_backward_weight,
    conv2d_with_stats, deform_conv2d, deform_conv2d_backward_input, deform_conv2d_backward_weight,
};
pub use cross_entropy::{softmax_cross_entropy, softmax_cross_entropy_backward};
pub use dropout::dropout_mask;
pub use elementwise::{add, add_assign, add_into, mul, mul_into, scale};
pub use local_response_norm::{
    LocalResponseNorm, local_response_norm, local_response_norm_backward, local_response_norm_into,
};
pub use matmul::{matmul, matmul_nt, matmul_tn};
pub use pool::{
    Argmax, adaptive_avg_pool2d, adaptive_avg_pool2d_backward, adaptive_avg_pool2d_into, avg_pool2d,
    avg_pool2d_backward, avg_pool2d_into, global_avg_pool2d, global_avg_pool2d_backward, global_avg_pool2d_into,
    max_pool2d, max_pool2d_backward, max_pool2d_bytes, max_pool2d_values, max_pool2d_values_into,
};
pub use quantize::{Quantization, QuantizedTensor};
pub use reduce::{mean_all, sum_all, sum_product_to_shape, sum_rows, sum_to_shape};
pub use softmax::{log_softmax, log_softmax_backward, softmax, softmax_backward};
pub use window::{Padding, Window};
