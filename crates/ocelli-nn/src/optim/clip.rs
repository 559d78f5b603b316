//! Limits to gradients, against steps that are too long: Pascanu et al. 2012, <https://arxiv.org/abs/1211.5063>.

use crate::{Error, Result};

/// How an [`Optimizer`](super::Optimizer) limits gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Clip {
    /// All gradients together, by min(1, limit / (‖g‖₂ + 10⁻⁶)), as PyTorch's `clip_grad_norm_`.
    Norm(f64),
    /// Each number by itself, to [−limit, limit], as `clip_grad_value_`.
    Value(f64),
}

impl Clip {
    pub(super) fn validate(self) -> Result<()> {
        let (item, limit) = match self {
            Clip::Norm(limit) => ("Clip norm", limit),
            Clip::Value(limit) => ("Clip value", limit),
        };
        if limit > 0.0 { Ok(()) } else { Err(Error::argument(item, "more than 0", limit)) }
    }
}
