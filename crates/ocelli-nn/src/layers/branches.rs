//! Layers side by side.

use ocelli_autograd::Var;
use ocelli_autograd::tensor::Element;

use super::Layer;
use crate::{Mode, Result};

/// Layers which all get the same input, and whose images' channels are joined in their order, as in an Inception module.
#[derive(Debug)]
pub struct Branches<T: Element = f32> {
    branches: Vec<Box<dyn Layer<T>>>,
}

impl<T: Element> Branches<T> {
    /// These layers. They name themselves in traces.
    pub fn new(branches: Vec<Box<dyn Layer<T>>>) -> Self {
        Branches { branches }
    }
}

impl<T: Element> Layer<T> for Branches<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        let outputs = self.branches.iter().map(|branch| branch.forward(x, mode)).collect::<Result<Vec<_>>>()?;
        Ok(Var::concat(&outputs.iter().collect::<Vec<_>>())?)
    }
}
