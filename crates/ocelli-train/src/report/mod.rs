//! What a training run leaves for people: a table of its epochs and a picture of its curves.

mod axis;
mod curves;

use std::fmt::Write;

use serde::{Deserialize, Serialize};

pub use curves::curves_png;

/// One epoch of training, as it is logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// Counted from 1.
    pub epoch: usize,
    /// The learning rate of the epoch's last step.
    pub lr: f64,
    /// The mean loss over the epoch's training pictures, with augmentation and label smoothing, as they were seen.
    pub train_loss: f64,
    /// The share of the training pictures that were classified right as they were seen, 0..1.
    pub train_accuracy: f64,
    /// The mean cross-entropy over the validation pictures after the epoch.
    pub val_loss: f64,
    /// The share of the validation pictures that are classified right after the epoch, 0..1.
    pub val_accuracy: f64,
    /// Training pictures per second.
    pub images_per_second: f64,
    /// Time of the epoch, validation included.
    pub seconds: f64,
}

/// The epoch with the highest validation accuracy; of equal ones that with the lowest loss, then the first.
pub fn best_epoch(history: &[EpochMetrics]) -> Option<&EpochMetrics> {
    history.iter().reduce(|best, epoch| if epoch.is_better_than(best) { epoch } else { best })
}

impl EpochMetrics {
    /// Whether the network of this epoch is to be kept rather than that of `other`.
    pub fn is_better_than(&self, other: &EpochMetrics) -> bool {
        let (a, b) = (self.val_accuracy, other.val_accuracy);
        a > b || (a == b && self.val_loss < other.val_loss)
    }
}

/// The content of `metrics.csv`: a header, then a line an epoch.
pub fn metrics_csv(history: &[EpochMetrics]) -> String {
    let mut csv = String::from("epoch,lr,train_loss,train_accuracy,val_loss,val_accuracy,images_per_second,seconds\n");
    for m in history {
        let _ = writeln!(
            csv,
            "{},{:.8},{:.6},{:.6},{:.6},{:.6},{:.1},{:.2}",
            m.epoch, m.lr, m.train_loss, m.train_accuracy, m.val_loss, m.val_accuracy, m.images_per_second, m.seconds
        );
    }
    csv
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn epoch(epoch: usize, loss: f64, accuracy: f64) -> EpochMetrics {
        EpochMetrics {
            epoch,
            lr: 0.1 / epoch as f64,
            train_loss: loss * 1.1,
            train_accuracy: accuracy * 0.99,
            val_loss: loss,
            val_accuracy: accuracy,
            images_per_second: 1000.0,
            seconds: 4.0,
        }
    }

    #[test]
    fn csv_has_a_line_an_epoch() {
        let csv = metrics_csv(&[epoch(1, 0.5, 0.9), epoch(2, 0.25, 0.95)]);
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[1], "1,0.10000000,0.550000,0.891000,0.500000,0.900000,1000.0,4.00");
    }

    #[test]
    fn the_best_epoch_has_the_highest_accuracy_then_the_lowest_loss() {
        let history =
            [epoch(1, 0.5, 0.9), epoch(2, 0.4, 0.95), epoch(3, 0.3, 0.95), epoch(4, 0.3, 0.95), epoch(5, 0.2, 0.9)];
        assert_eq!(best_epoch(&history).unwrap().epoch, 3);
        assert!(best_epoch(&[]).is_none());
    }
}
