//! Loss, accuracies and confusions from logits.

use ocelli_zoo::nn::loss::top_k_correct;
use ocelli_zoo::nn::tensor::Tensor;

use crate::{Error, Result};

/// Sums over the pictures seen so far.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scores {
    classes: usize,
    /// The cross-entropies, in double precision.
    pub loss_sum: f64,
    /// Pictures.
    pub seen: usize,
    /// Pictures whose class has the highest logit.
    pub top1: usize,
    /// Pictures whose class is among the five highest logits.
    pub top5: usize,
    /// `[true class, predicted class]`.
    pub confusion: Vec<u32>,
}

impl Scores {
    pub fn new(classes: usize) -> Self {
        Scores { classes, loss_sum: 0.0, seen: 0, top1: 0, top5: 0, confusion: vec![0; classes * classes] }
    }

    /// Adds the pictures of a batch: logits `[N, classes]` and N labels.
    pub fn add(&mut self, logits: &Tensor, labels: &[usize]) -> Result<()> {
        check(logits, labels, self.classes)?;
        self.seen += labels.len();
        self.top1 += top_k_correct(logits, labels, 1)?;
        self.top5 += top_k_correct(logits, labels, 5)?;
        for (row, &label) in logits.data().chunks_exact(self.classes).zip(labels) {
            self.loss_sum += cross_entropy(row, label);
            self.confusion[label * self.classes + best(row)] += 1;
        }
        Ok(())
    }

    /// The mean cross-entropy.
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.seen.max(1) as f64
    }

    /// The share of `count` among the pictures.
    pub fn share(&self, count: usize) -> f64 {
        count as f64 / self.seen.max(1) as f64
    }
}

/// The probabilities of a row of logits, in double precision.
pub(crate) fn probabilities(row: &[f32]) -> Vec<f64> {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
    let powers: Vec<f64> = row.iter().map(|&v| (v as f64 - highest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The index of the highest logit; of equal ones the first.
fn best(row: &[f32]) -> usize {
    (0..row.len()).reduce(|best, i| if row[i] > row[best] { i } else { best }).unwrap_or(0)
}

fn cross_entropy(row: &[f32], label: usize) -> f64 {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
    let sum: f64 = row.iter().map(|&v| (v as f64 - highest).exp()).sum();
    highest + sum.ln() - row[label] as f64
}

fn check(logits: &Tensor, labels: &[usize], classes: usize) -> Result<()> {
    if **logits.shape() != [labels.len(), classes] {
        let reason = format!("gives {} where [{}, {classes}] is expected", logits.shape(), labels.len());
        return Err(Error::setting("network", reason));
    }
    if let Some(label) = labels.iter().find(|&&label| label >= classes) {
        return Err(Error::setting("data", format!("class {label} of a network with {classes} classes")));
    }
    if logits.data().iter().any(|v| !v.is_finite()) {
        return Err(Error::NotFinite { what: "a network's output".into() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_definition() {
        let rows = [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [9.0, 1.0, 0.0, 0.0, 0.0, 0.0]];
        let logits = Tensor::from_vec([3, 6], rows.concat()).unwrap();
        let labels = [0, 2, 0];
        let mut scores = Scores::new(6);
        scores.add(&logits, &labels).unwrap();
        let expected: f64 = rows
            .iter()
            .zip(labels)
            .map(|(row, label)| {
                -(row[label] as f64).exp().ln() + row.iter().map(|&v| (v as f64).exp()).sum::<f64>().ln()
            })
            .sum();
        assert!((scores.loss_sum - expected).abs() < 1e-12);
        assert_eq!((scores.seen, scores.top1, scores.top5), (3, 1, 2));
        assert_eq!((scores.confusion[5], scores.confusion[12], scores.confusion[0]), (1, 1, 1));
        assert!((probabilities(&rows[0]).iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn wrong_outputs_are_errors() {
        let mut scores = Scores::new(2);
        assert!(scores.add(&Tensor::zeros([1, 3]), &[0]).is_err());
        assert!(scores.add(&Tensor::zeros([1, 2]), &[2]).is_err());
        assert!(scores.add(&Tensor::full([1, 2], f32::NAN), &[0]).is_err());
    }
}
