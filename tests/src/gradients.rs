//! Readers of `gradients.json` and `gradients.safetensors`: the gradients that PyTorch computed, in f64, for one batch.

use std::sync::OnceLock;

use serde::Deserialize;

use crate::fixtures::{read, read_json, stored_values};
use crate::max_abs;
use crate::seeded::{Entry, positions};

/// Of gradients with more elements than this, so many values at [`positions`] are stored.
const SAMPLES: usize = 24;

/// A network and its batch: the pictures `input/{seed}` and the labels `labels/{seed}` below 1000 (modulo its classes).
/// The loss is the mean of the cross-entropies, plus 0.3 times those of auxiliary classifiers, without dropout.
#[derive(Clone, Debug, Deserialize)]
pub struct GradientCase {
    /// As in the registry.
    pub model: String,
    /// `[N, 3, H, W]`
    pub input: [usize; 4],
    /// Of the weights.
    pub gain: f64,
    /// Whether batch norms take the batch's statistics. Networks whose dropout can't be left out run in evaluation mode.
    pub training: bool,
    /// Part of the names of the batch.
    pub seed: u64,
    /// Whether noise several times that of f32's rounding leaves the gradients as they are. Where it does not, some ReLU's
    /// input or two values of a pooling window are so near each other that only f64 can be compared.
    pub robust: bool,
}

/// Reads all cases.
pub fn cases() -> Vec<GradientCase> {
    read_json("gradients.json")
}

impl GradientCase {
    /// How far each gradient is from the reference, of all parameters in their order: max |a − b| / max |b| over the
    /// sampled values, or the sum's error over the sum of magnitudes if that is more. `gradients` are values in the
    /// checkpoint's layout.
    ///
    /// # Panics
    /// If there are more or fewer values than those stored.
    pub fn compare<'a>(&self, gradients: impl IntoIterator<Item = (&'a Entry, &'a [f64])>) -> Vec<(String, f64)> {
        static FILE: OnceLock<Vec<u8>> = OnceLock::new();
        let stored = stored_values(FILE.get_or_init(|| read("gradients.safetensors")), &self.model);
        let mut rest = stored.as_slice();
        let mut take = |count: usize| {
            let (taken, left) = rest.split_at(count);
            rest = left;
            taken
        };
        let mut errors = Vec::new();
        for (entry, values) in gradients {
            let [largest, sum] = *take(2) else { unreachable!("two were taken") };
            let at: Vec<usize> = match values.len() {
                len @ ..=SAMPLES => (0..len).collect(),
                len => positions(&entry.name, SAMPLES, len),
            };
            let difference = max_abs(at.iter().zip(take(at.len())).map(|(&i, b)| values[i] - b));
            let difference = difference.max(max_abs(values.iter().copied()) - largest);
            let of_sum = (values.iter().sum::<f64>() - sum).abs() / values.iter().map(|v| v.abs()).sum::<f64>();
            errors.push((entry.name.clone(), max_abs([difference / largest, of_sum].into_iter())));
        }
        assert!(rest.is_empty(), "{}: {} stored values are left", self.model, rest.len());
        errors
    }
}
