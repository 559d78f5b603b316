//! Stochastic depth (Huang et al. 2016, <https://arxiv.org/abs/1603.09382>): in training, what a residual block adds to
//! its shortcut is left out for each image with probability p, and grows by 1 / (1 − p) for the others.

use ocelli_autograd::Var;
use ocelli_autograd::tensor::{Element, ops};

use super::Layer;
use crate::{Error, Mode, Result};

/// Stochastic depth, by images: to be applied before the shortcut is added. Does nothing but in training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StochasticDepth {
    p: f64,
}

impl StochasticDepth {
    /// Errors unless 0 ≤ p < 1.
    pub fn new(p: f64) -> Result<Self> {
        if !(0.0..1.0).contains(&p) {
            return Err(Error::argument("StochasticDepth probability", "at least 0 and below 1", p));
        }
        Ok(StochasticDepth { p })
    }
}

impl<T: Element> Layer<T> for StochasticDepth {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        match mode {
            Mode::Train(randomness) if self.p > 0.0 => {
                let [batch, ..] = x.shape().nhwc("stochastic_depth", "input")?;
                let mask = ops::dropout_mask(&[batch, 1, 1, 1].into(), self.p, randomness.next_seed())?;
                Ok(x.mul(&Var::constant(mask))?)
            }
            _ => Ok(x.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use ocelli_autograd::Tensor;

    use super::*;

    #[test]
    fn images_are_left_out_or_grow() {
        let layer = StochasticDepth::new(0.25).unwrap();
        let x = Var::constant(Tensor::<f64>::full([4000, 1, 1, 3], 3.0));
        let y = layer.forward(&x, &Mode::train(5)).unwrap();
        let images: Vec<&[f64]> = y.value().data().chunks(3).collect();
        assert!(images.iter().all(|image| [[0.0; 3], [4.0; 3]].iter().any(|whole| image == whole)));
        let dropped = images.iter().filter(|image| image[0] == 0.0).count();
        assert!((900..1100).contains(&dropped), "{dropped} of 4000");
        assert_eq!(y.value(), layer.forward(&x, &Mode::train(5)).unwrap().value());
        assert_ne!(y.value(), layer.forward(&x, &Mode::train(6)).unwrap().value());
        assert_eq!(x.value(), layer.forward(&x, &Mode::Eval).unwrap().value());
    }

    #[test]
    fn a_probability_is_below_one() {
        assert!(StochasticDepth::new(1.0).is_err() && StochasticDepth::new(-0.1).is_err());
    }
}
