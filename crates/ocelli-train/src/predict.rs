//! What a network sees in a picture.

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

/// The `top` most probable classes of each picture, the most probable first.
pub fn predict(
    network: &dyn Network,
    preprocessing: &Preprocessing,
    classes: &[String],
    pictures: &[Picture],
    top: usize,
) -> Result<Vec<Vec<Prediction>>> {
    let mut transform = Transform::new(preprocessing, None)?;
    let (side, row_len) = (preprocessing.crop, preprocessing.row_len());
    let mut images = Tensor::zeros([pictures.len(), side, side, preprocessing.channels()]);
    let mut unused = stream(0, Purpose::Augment, 0, 0);
    for (picture, row) in pictures.iter().zip(images.data_mut().chunks_exact_mut(row_len)) {
        transform.apply(picture, &mut unused, row)?;
    }
    let logits = network::logits(network, images)?;
    if logits.shape().columns() != classes.len() {
        let reason = format!("{} outputs for {} classes", logits.shape().columns(), classes.len());
        return Err(Error::setting("network", reason));
    }
    Ok(logits.data().chunks_exact(classes.len()).map(|row| most_probable(row, classes, top)).collect())
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
