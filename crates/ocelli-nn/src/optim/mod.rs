//! Optimizers: from gradients to better parameters.
//!
//! | method | paper | as in |
//! | --- | --- | --- |
//! | [`SgdOptions`] | Polyak 1964, Nesterov 1983 | `torch.optim.SGD` |
//! | [`RmsPropOptions`] | Tieleman and Hinton 2012 | TensorFlow's, timm's `RMSpropTF` |
//! | [`AdamOptions`] | Kingma and Ba 2014, Loshchilov and Hutter 2017 | `torch.optim.Adam`, `AdamW` |
//! | [`LambOptions`] | You et al. 2019 | timm's `Lamb` |
//!
//! All of them are an [`Optimizer`], which clips gradients, knows which parameters weight decay spares, walks over all
//! parameters with all threads in one pass over memory, and goes into checkpoints and back. An [`Ema`] follows the
//! parameters behind it.

mod adam;
mod clip;
mod ema;
mod lamb;
mod method;
mod optimizer;
mod pass;
mod rmsprop;
mod sgd;
mod slot;

pub use adam::AdamOptions;
pub use clip::Clip;
pub use ema::Ema;
pub use lamb::LambOptions;
pub use method::Method;
pub use optimizer::Optimizer;
pub use rmsprop::RmsPropOptions;
pub use sgd::SgdOptions;
