//! Readers of `steps.json` and `steps.safetensors`: what PyTorch made of networks in ten steps of SGD, in f64.

use std::sync::OnceLock;

use serde::Deserialize;

use crate::fixtures::{TrainedError, read, read_json, stored_values};
use crate::max_abs;
use crate::seeded::{Entry, positions, weights};

/// Of tensors with more elements than this, the changes of so many values at [`positions`] are stored.
const SAMPLES: usize = 24;
/// Stored before the changes: the largest magnitude, the largest change, the sum, the sum of magnitudes.
const FIGURES: usize = 4;

/// Ten steps of SGD with a momentum of 0.9 and a weight decay of 1e-4 in training mode, without dropout and stochastic
/// depth, from the seeded weights. Step k takes the seeded pictures `input{k}/{seed}` and labels `labels{k}/{seed}` of ten
/// classes. Its loss is the mean of the cross-entropies, plus those of auxiliary classifiers with their weights.
#[derive(Clone, Debug, Deserialize)]
pub struct Steps {
    /// As in the registry; VGG's classifier has hidden layers of 256.
    pub model: String,
    /// `[N, 3, H, W]`.
    pub input: [usize; 4],
    /// Of the weights.
    pub gain: f64,
    /// Learning rate.
    pub lr: f64,
    /// Whether the seed was searched so that f32 can be compared.
    pub single: bool,
    /// Part of the names of the batches.
    pub seed: u64,
    /// Before each step's update.
    pub losses: Vec<f64>,
    /// The worst relative error of a loss when PyTorch itself runs this in f32, over its layouts and algorithms.
    pub f32_deviation: f64,
    tensors: Vec<(String, Vec<usize>)>,
}

/// Reads all of them.
pub fn all() -> Vec<Steps> {
    read_json("steps.json")
}

impl Steps {
    /// Names and shapes of every parameter and running statistic, in the checkpoint's layout.
    pub fn entries(&self) -> Vec<Entry> {
        self.tensors.iter().map(|(name, shape)| Entry { name: name.clone(), shape: shape.clone() }).collect()
    }

    /// How far each tensor is from the reference after the ten steps, `values` giving those of a name in the checkpoint's
    /// layout.
    ///
    /// # Panics
    /// If there are more or fewer values than a tensor's shape has.
    pub fn compare(&self, values: impl Fn(&str) -> Vec<f64>) -> Vec<(String, TrainedError)> {
        static FILE: OnceLock<Vec<u8>> = OnceLock::new();
        let precision = if self.single { "f32" } else { "f64" };
        let stored =
            stored_values(FILE.get_or_init(|| read("steps.safetensors")), &format!("{}/{precision}", self.model));
        let mut rest = stored.as_slice();
        let errors = self.entries().into_iter().map(|Entry { name, shape }| {
            let values = values(&name);
            let len: usize = shape.iter().product();
            assert_eq!(values.len(), len, "values of {name}");
            let (stored, left) = rest.split_at(FIGURES + len.min(SAMPLES));
            rest = left;
            let error = error(&name, &values, &weights(&name, &shape, self.gain), stored);
            (name, error)
        });
        let errors = errors.collect();
        assert!(rest.is_empty(), "{}: {} stored values are left", self.model, rest.len());
        errors
    }
}

fn error(name: &str, values: &[f64], start: &[f32], stored: &[f64]) -> TrainedError {
    let (figures, samples) = stored.split_at(FIGURES);
    let [max_abs_value, max_abs_change, sum, sum_abs] = *figures else { unreachable!("four were taken") };
    let at = match values.len() {
        len @ ..=SAMPLES => (0..len).collect(),
        len => positions(name, SAMPLES, len),
    };
    let change = |i: usize| values[i] - f64::from(start[i]);
    let of_samples = max_abs(at.iter().zip(samples).map(|(&i, b)| change(i) - b));
    let of_largest = (max_abs((0..values.len()).map(change)) - max_abs_change).abs();
    let of_sum = (values.iter().sum::<f64>() - sum).abs() / sum_abs;
    let difference = of_samples.max(of_largest);
    // A checkpoint's values are f32, whatever the network computes with.
    let rounding = f64::from(f32::EPSILON) * max_abs_value;
    let change = (difference - rounding).max(0.0) / max_abs_change;
    TrainedError { value: of_sum.max(difference / max_abs_value), change }
}
