//! Readers of `gradients.json` and `gradients.safetensors`: the gradients that PyTorch computed, in f64, for one batch.

use std::sync::OnceLock;

use serde::Deserialize;

use crate::fixtures::{read, read_json, stored_values};
use crate::max_abs;
use crate::seeded::{Entry, positions};

/// Of gradients with more elements than this, so many values at [`positions`] are stored.
const SAMPLES: usize = 24;

/// A network and its batch: the pictures `input/{seed}` and the labels `labels/{seed}` below 1000 (modulo its classes).
/// The loss is the mean of the cross-entropies, plus those of auxiliary classifiers with their weights, without dropout
/// and stochastic depth.
#[derive(Clone, Debug, Deserialize)]
pub struct GradientCase {
    /// As in the registry.
    pub model: String,
    /// `[N, 3, H, W]`
    pub input: [usize; 4],
    /// Of the weights.
    pub gain: f64,
    /// Whether batch norms take the batch's statistics.
    pub training: bool,
    /// Part of the names of the batch.
    pub seed: u64,
    /// Whether noise several times that of f32's rounding leaves the gradients as they are, so that f32 can be compared.
    /// Where it does not, some ReLU's input is too near to 0, or two values of a pooling window to each other.
    pub robust: bool,
}

/// Reads all cases.
pub fn cases() -> Vec<GradientCase> {
    read_json("gradients.json")
}

impl GradientCase {
    /// The network and its mode.
    pub fn name(&self) -> String {
        format!("{}/{}", self.model, if self.training { "training" } else { "evaluation" })
    }

    /// How far each gradient is from the reference, of all parameters in their order: max |a − b| / max |b| over the
    /// sampled values, or the sum's error over the sum of magnitudes if that is more. Where b is 0, as a bias's gradient
    /// is that only batch norms see, the network's largest gradient is in its place. `gradients` are values in the
    /// checkpoint's layout.
    ///
    /// # Panics
    /// If there are more or fewer values than those stored.
    pub fn compare(&self, gradients: &[(&Entry, Vec<f64>)]) -> Vec<(String, f64)> {
        static FILE: OnceLock<Vec<u8>> = OnceLock::new();
        let stored = stored_values(FILE.get_or_init(|| read("gradients.safetensors")), &self.name());
        let mut rest = stored.as_slice();
        let mut take = |count: usize| {
            let (taken, left) = rest.split_at(count);
            rest = left;
            taken
        };
        let stored: Vec<Stored<'_>> = gradients
            .iter()
            .map(|(_, values)| {
                let [largest, sum] = *take(2) else { unreachable!("two were taken") };
                Stored { largest, sum, samples: take(values.len().min(SAMPLES)) }
            })
            .collect();
        assert!(rest.is_empty(), "{}: {} stored values are left", self.name(), rest.len());
        let largest = max_abs(stored.iter().map(|stored| stored.largest));
        let pairs = gradients.iter().zip(&stored);
        pairs
            .map(|((entry, values), stored)| (entry.name.clone(), stored.error(&entry.name, values, largest)))
            .collect()
    }
}

/// Of one parameter.
struct Stored<'a> {
    /// The largest magnitude.
    largest: f64,
    sum: f64,
    samples: &'a [f64],
}

impl Stored<'_> {
    fn error(&self, name: &str, values: &[f64], of_network: f64) -> f64 {
        let at = match values.len() {
            len @ ..=SAMPLES => (0..len).collect(),
            len => positions(name, SAMPLES, len),
        };
        let of_samples = max_abs(at.iter().zip(self.samples).map(|(&i, b)| values[i] - b));
        let difference = of_samples.max((max_abs(values.iter().copied()) - self.largest).abs());
        if self.largest == 0.0 {
            return difference / of_network;
        }
        let of_sum = (values.iter().sum::<f64>() - self.sum).abs() / values.iter().map(|v| v.abs()).sum::<f64>();
        (difference / self.largest).max(of_sum)
    }
}
