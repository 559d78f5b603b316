//! Layers that only change shapes.

use ocelli_autograd::Var;
use ocelli_autograd::tensor::Element;

use super::Layer;
use crate::{Mode, Result};

/// `[N, …]` to `[N, rest]`. An image's numbers then run over height, width, channel: a linear layer behind it needs
/// [`Layout::LinearAfterFlatten`](crate::Layout::LinearAfterFlatten).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flatten;

impl<T: Element> Layer<T> for Flatten {
    fn forward(&self, x: &Var<T>, _: &Mode) -> Result<Var<T>> {
        Ok(x.flatten()?)
    }
}
