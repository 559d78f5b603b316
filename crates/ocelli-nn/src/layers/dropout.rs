//! Dropout (Srivastava et al. 2014): in training, each number becomes 0 with probability p and the others grow by
//! 1 / (1 − p).

use ocelli_autograd::Var;
use ocelli_autograd::tensor::Element;

use super::Layer;
use crate::{Error, Mode, Result};

/// Dropout. Does nothing but in training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    p: f64,
}

impl Dropout {
    /// Errors unless 0 ≤ p < 1.
    pub fn new(p: f64) -> Result<Self> {
        if !(0.0..1.0).contains(&p) {
            return Err(Error::argument("Dropout probability", "at least 0 and below 1", p));
        }
        Ok(Dropout { p })
    }
}

impl<T: Element> Layer<T> for Dropout {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        match mode {
            Mode::Train(randomness) if self.p > 0.0 => Ok(x.dropout(self.p, randomness.next_seed())?),
            _ => Ok(x.clone()),
        }
    }
}
