//! What a whole network is beyond a layer.

use crate::Chain;
use crate::nn::autograd::Var;
use crate::nn::checkpoint::Checkpoint;
use crate::nn::tensor::Element;
use crate::nn::{Layer, Mode, Result};

/// A network of the zoo: a layer from images `[N, H, W, C]` to logits `[N, classes]`.
pub trait Architecture<T: Element = f32>: Layer<T> {
    /// The layers in their order, with the ends of the stages: from which [`forward`](Layer::forward) makes the logits,
    /// and backbones their maps.
    fn chain(&self) -> Chain<'_, T>;

    /// The logits, and in training those of the auxiliary classifiers, if the network has any.
    fn outputs(&self, x: &Var<T>, mode: &Mode) -> Result<Outputs<T>> {
        Ok(Outputs { logits: self.forward(x, mode)?, auxiliary: Vec::new() })
    }

    /// The paths of the auxiliary classifiers, such as `aux1`. Nothing under them is needed but in training.
    fn auxiliary_classifiers(&self) -> &'static [&'static str] {
        &[]
    }

    /// The checkpoint by this network's names and shapes, if it has those of another library or an older version.
    fn translated(&self, _checkpoint: &Checkpoint) -> Result<Option<Checkpoint>> {
        Ok(None)
    }

    /// Whether the tensor of that name belongs to what this network adds to an older one, whose weights can initialise
    /// all the rest.
    fn is_addition(&self, _name: &str) -> bool {
        false
    }
}

/// What a network makes of a batch.
#[derive(Debug)]
pub struct Outputs<T: Element = f32> {
    /// `[N, classes]`.
    pub logits: Var<T>,
    /// In training, what the auxiliary classifiers make of inner layers, in their order.
    pub auxiliary: Vec<Auxiliary<T>>,
}

/// What an auxiliary classifier makes of a batch.
#[derive(Debug)]
pub struct Auxiliary<T: Element = f32> {
    /// `[N, classes]`.
    pub logits: Var<T>,
    /// The weight of its loss in the sum, where that of the main classifier has 1.
    pub weight: f64,
}

impl<T: Element> Outputs<T> {
    /// The weighted sum of what `loss` makes of all the logits.
    pub fn loss(&self, loss: impl Fn(&Var<T>) -> Result<Var<T>>) -> Result<Var<T>> {
        let mut sum = loss(&self.logits)?;
        for Auxiliary { logits, weight } in &self.auxiliary {
            sum = sum.add(&loss(logits)?.scale(*weight)?)?;
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::loss::cross_entropy;
    use crate::nn::tensor::Tensor;

    #[test]
    fn auxiliary_losses_are_weighed() {
        let logits = |a: f64| Var::constant(Tensor::from_slice([1, 2], &[a, 0.0]).unwrap());
        let of = |logits: &Var<f64>| cross_entropy(logits, &[0], 0.0).unwrap().value().item().unwrap();
        let auxiliary = [1.0, -2.0].map(|a| Auxiliary { logits: logits(a), weight: 0.3 });
        let outputs = Outputs { logits: logits(3.0), auxiliary: auxiliary.into() };
        let sum = outputs.loss(|logits| cross_entropy(logits, &[0], 0.0)).unwrap().value().item().unwrap();
        let expected = of(&logits(3.0)) + 0.3 * of(&logits(1.0)) + 0.3 * of(&logits(-2.0));
        assert!((sum - expected).abs() < 1e-12, "{sum} {expected}");
    }
}
