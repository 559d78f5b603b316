//! What a network sees in a picture.

use ocelli_zoo::nn::autograd::Plan;
use ocelli_zoo::nn::tensor::Tensor;
use serde::Serialize;

use crate::rng::{Purpose, stream};
use crate::scores::probabilities;
use crate::{Error, Network, Picture, Preprocessing, Result, Transform, network};

/// A class and how sure a network is of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// The name of the class.
    pub class: String,
    /// The network's output that stands for it.
    pub index: usize,
    /// 0..1; over all classes the sum is 1.
    pub probability: f64,
}

/// Says what a network sees in pictures, one after the other.
pub struct Predictor<'a> {
    network: &'a dyn Network,
    transform: Transform,
    classes: &'a [String],
    first: bool,
    plan: Option<Plan>,
}

impl<'a> Predictor<'a> {
    /// For a network whose outputs have these names, and wants pictures prepared so.
    ///
    /// # Errors
    /// A preprocessing that makes no sense.
    pub fn new(network: &'a dyn Network, preprocessing: &Preprocessing, classes: &'a [String]) -> Result<Self> {
        Ok(Predictor { network, transform: Transform::new(preprocessing, None)?, classes, first: true, plan: None })
    }

    /// The `top` most probable classes of a picture, the most probable first.
    ///
    /// # Errors
    /// What the network says to the picture's size, or that it has not as many outputs as there are classes.
    pub fn predict(&mut self, picture: &Picture, top: usize) -> Result<Vec<Prediction>> {
        let preprocessing = self.transform.preprocessing();
        let (side, channels) = (preprocessing.crop, preprocessing.channels());
        let mut image = Tensor::zeros([1, side, side, channels]);
        self.transform.apply(picture, &mut stream(0, Purpose::Augment, 0, 0), image.data_mut())?;
        let logits = self.logits(image)?;
        if logits.len() != self.classes.len() {
            let reason = format!("{} outputs for {} classes", logits.len(), self.classes.len());
            return Err(Error::setting("network", reason));
        }
        Ok(most_probable(logits.data(), self.classes, top))
    }

    /// Compiling a plan takes as long as it saves, so it is done for the second picture.
    fn logits(&mut self, image: Tensor) -> Result<Tensor> {
        if std::mem::take(&mut self.first) {
            return network::logits(self.network, image);
        }
        let plan = match &mut self.plan {
            Some(plan) => plan,
            none => none.insert(network::compile(self.network, image.shape())?),
        };
        Ok(plan.run(&image)?)
    }
}

fn most_probable(row: &[f32], classes: &[String], top: usize) -> Vec<Prediction> {
    let probabilities = probabilities(row);
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
    let prediction =
        |index: usize| Prediction { class: classes[index].clone(), index, probability: probabilities[index] };
    order.into_iter().take(top).map(prediction).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_probable_comes_first() {
        let classes = ["a", "b", "c"].map(String::from);
        let top = most_probable(&[0.0, 2.0, 1.0], &classes, 2);
        assert_eq!(top.iter().map(|p| (p.class.as_str(), p.index)).collect::<Vec<_>>(), [("b", 1), ("c", 2)]);
        assert!((top[0].probability - 1.0 / (1.0 + (-1f64).exp() + (-2f64).exp())).abs() < 1e-12);
    }
}
