//! Readers of `tests/fixtures/`: what PyTorch computed, in f64, for the seeded weights and inputs.
//!
//! A fixture that is missing or damaged is a broken checkout, so these functions panic with the file's name.

use std::path::PathBuf;
use std::sync::OnceLock;

use safetensors::SafeTensors;
use serde::Deserialize;

use crate::max_abs;
use crate::seeded::{Entry, positions, weights};

/// Of trained tensors with more elements than this, [`SAMPLES`] values at [`positions`] are stored.
pub const SAMPLED_ABOVE: usize = 4096;
/// See [`SAMPLED_ABOVE`].
pub const SAMPLES: usize = 1024;

/// One model of the zoo and its reference figures.
#[derive(Clone, Debug, Deserialize)]
pub struct ZooModel {
    /// As in the registry.
    pub name: String,
    /// Trainable values: weights and biases without running statistics.
    pub parameters: usize,
    /// Multiply-accumulates of all convolutions for one image of `input_size`, taps on padding included.
    pub conv_macs: u64,
    /// Multiply-accumulates of the linear layers.
    pub linear_macs: u64,
    /// Of the seeded weights.
    pub gain: f64,
    /// Height and width of the pictures that the model is made for.
    pub input_size: usize,
    /// `[height, width]` of the inputs with stored logits.
    pub input_sizes: Vec<[usize; 2]>,
    /// `[height, width]` of the input with stored logits in training mode, if there are any.
    #[serde(default)]
    pub training_size: Option<[usize; 2]>,
}

/// The files of `zoo/`, a family each.
struct Family {
    models: Vec<ZooModel>,
    /// The states' names and shapes.
    states: String,
    logits: Vec<u8>,
}

fn families() -> &'static [Family] {
    static FAMILIES: OnceLock<Vec<Family>> = OnceLock::new();
    FAMILIES.get_or_init(|| {
        let files = std::fs::read_dir(path("zoo")).unwrap_or_else(|error| panic!("zoo: {error}"));
        let names = files.map(|file| file.expect("a folder can be listed").file_name());
        let names = names.map(|name| name.into_string().expect("fixtures have plain names"));
        let mut stems: Vec<_> = names.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect();
        stems.sort_unstable();
        let family = |stem: String| Family {
            models: read_json(&format!("zoo/{stem}.json")),
            states: read_text(&format!("zoo/{stem}.txt")),
            logits: read(&format!("zoo/{stem}.safetensors")),
        };
        stems.into_iter().map(family).collect()
    })
}

/// All models of `zoo/`.
pub fn zoo() -> Vec<ZooModel> {
    families().iter().flat_map(|family| family.models.clone()).collect()
}

impl ZooModel {
    fn family(&self) -> &'static Family {
        let has = |family: &&Family| family.models.iter().any(|model| model.name == self.name);
        families().iter().find(has).unwrap_or_else(|| panic!("the fixtures have no {}", self.name))
    }

    /// The state dict's names and shapes, in its order, batch counters included.
    pub fn state_dict(&self) -> Vec<Entry> {
        let heading = format!("# {}", self.name);
        let entries: Vec<Entry> = self
            .family()
            .states
            .lines()
            .skip_while(|line| *line != heading)
            .skip(1)
            .take_while(|line| !line.starts_with('#'))
            .map(|line| parse_entry(line).unwrap_or_else(|| panic!("{}: {line:?}", self.name)))
            .collect();
        assert!(!entries.is_empty(), "the fixtures have no state of {}", self.name);
        entries
    }

    /// Evaluation-mode logits `[2, classes]` of the seeded pictures `input` of shape `[2, 3, height, width]`.
    pub fn logits(&self, [height, width]: [usize; 2]) -> Vec<f64> {
        stored_values(&self.family().logits, &format!("{}/{height}x{width}", self.name))
    }

    /// Training-mode logits `[2, classes]` of the seeded pictures `input` of shape `[2, 3, training_size…]`, without
    /// dropout: of the classifier (`training`) or of an auxiliary one (`auxiliary0` and so on).
    pub fn training_logits(&self, which: &str) -> Vec<f64> {
        stored_values(&self.family().logits, &format!("{}/{which}", self.name))
    }
}

/// Three steps of SGD in training mode from the seeded weights (of gain 1). Step k takes the seeded pictures
/// `input{k}/{seed}` and labels `labels{k}/{seed}`, and the mean of the cross-entropies as its loss.
#[derive(Clone, Debug, Deserialize)]
pub struct TrainingRun {
    /// Names the run.
    pub name: String,
    /// As in the registry.
    pub model: String,
    /// Part of the names of the inputs.
    pub seed: u64,
    /// `[N, 3, H, W]`.
    pub input: [usize; 4],
    /// Labels are below this.
    pub classes: usize,
    /// Learning rate.
    pub lr: f64,
    /// Momentum, without dampening.
    pub momentum: f64,
    /// Added to every gradient, times the parameter.
    pub weight_decay: f64,
    /// Whether the momentum is Nesterov's.
    pub nesterov: bool,
    /// Before each step's update.
    pub losses: [f64; 3],
    /// The worst relative error of any tensor when PyTorch itself runs this in f32, over its layouts and convolution
    /// algorithms. Where a ReLU's input comes within rounding of zero this is 1e-3 and more, whoever computes it, and
    /// only f64 can be compared.
    pub f32_deviation: f64,
    /// The same in f64 when the weights start elsewhere by up to three millionths of themselves, of several draws: where
    /// it is small, no ReLU's input comes within any convolution algorithm's rounding of zero.
    pub perturbed_deviation: f64,
    /// The same for a millionth, more than the direct algorithm's rounding does.
    pub slightly_perturbed_deviation: f64,
    /// Every parameter and running statistic, after the three steps.
    pub tensors: Vec<TrainedTensor>,
}

/// What is known of a tensor after training.
#[derive(Clone, Debug, Deserialize)]
pub struct TrainedTensor {
    /// As in the state dict.
    pub name: String,
    /// In the checkpoint's layout.
    pub shape: Vec<usize>,
    /// Largest magnitude.
    pub max_abs: f64,
    /// Of all values.
    pub sum: f64,
    /// Of all magnitudes.
    pub sum_abs: f64,
    /// Largest distance of a value from its seeded start.
    pub max_abs_change: f64,
}

/// How far a trained tensor is from the reference.
#[derive(Clone, Copy, Debug)]
pub struct TrainedError {
    /// max |a − b| / max |b|, at all stored positions and for the sum (against the sum of magnitudes).
    pub value: f64,
    /// The same for the stored positions alone, relative to how far training moved the tensor at all. Much stricter:
    /// a forgotten weight decay shows here, where the values still agree.
    pub change: f64,
}

/// Reads all runs of `training.json`.
pub fn training_runs() -> Vec<TrainingRun> {
    read_json("training.json")
}

impl TrainingRun {
    /// Compares the values of `tensor` after training, all of them in the checkpoint's layout.
    ///
    /// # Panics
    /// If there are more or fewer values than the tensor's shape has.
    pub fn compare(&self, tensor: &TrainedTensor, values: &[f64]) -> TrainedError {
        static FILE: OnceLock<Vec<u8>> = OnceLock::new();
        let file = FILE.get_or_init(|| read("training.safetensors"));
        let stored = stored_values(file, &format!("{}/{}", self.name, tensor.name));
        assert_eq!(values.len(), tensor.shape.iter().product::<usize>(), "values of {}", tensor.name);
        let at: Vec<usize> = if values.len() > SAMPLED_ABOVE {
            positions(&tensor.name, SAMPLES, values.len())
        } else {
            (0..values.len()).collect()
        };
        assert_eq!(at.len(), stored.len(), "stored values of {}", tensor.name);
        let start = weights(&tensor.name, &tensor.shape, 1.0);
        let difference = max_abs(at.iter().zip(&stored).map(|(&i, change)| values[i] - f64::from(start[i]) - change));
        let of_sum = max_abs(std::iter::once(values.iter().sum::<f64>() - tensor.sum)) / tensor.sum_abs;
        TrainedError { value: of_sum.max(difference / tensor.max_abs), change: difference / tensor.max_abs_change }
    }
}

fn parse_entry(line: &str) -> Option<Entry> {
    let (name, shape) = line.split_once(' ')?;
    let shape = match shape {
        "scalar" => Vec::new(),
        sizes => sizes.split('x').map(|size| size.parse().ok()).collect::<Option<_>>()?,
    };
    Some(Entry { name: name.to_owned(), shape })
}

pub(crate) fn stored_values(file: &[u8], name: &str) -> Vec<f64> {
    let file = SafeTensors::deserialize(file).expect("a fixture is a safetensors file");
    let tensor = file.tensor(name).unwrap_or_else(|error| panic!("no fixture for {name}: {error}"));
    assert_eq!(tensor.dtype(), safetensors::Dtype::F32, "{name}");
    let (values, _) = tensor.data().as_chunks::<4>();
    values.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect()
}

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fixtures", name].iter().collect()
}

pub(crate) fn read(name: &str) -> Vec<u8> {
    let path = path(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read_text(name: &str) -> String {
    String::from_utf8(read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A file of JSON.
pub fn read_json<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zoo_is_complete_and_consistent() {
        let models = zoo();
        assert!(models.len() >= 18, "{} models", models.len());
        for model in &models {
            let entries = model.state_dict();
            let parameters: usize = entries
                .iter()
                .filter(|e| e.name.ends_with("weight") || e.name.ends_with("bias"))
                // torchvision counts GoogLeNet's parameters without its auxiliary classifiers.
                .filter(|e| !e.name.starts_with("aux"))
                .map(|e| e.shape.iter().product::<usize>())
                .sum();
            assert_eq!(parameters, model.parameters, "{}", model.name);
            let classes = entries.last().unwrap().shape[0];
            for &size in &model.input_sizes {
                assert_eq!(model.logits(size).len(), 2 * classes, "{} {size:?}", model.name);
            }
        }
        let resnet50 = models.iter().find(|m| m.name == "resnet50").unwrap();
        assert_eq!((resnet50.parameters, resnet50.conv_macs + resnet50.linear_macs), (25_557_032, 4_089_184_256));
        let first = &resnet50.state_dict()[0];
        assert_eq!((first.name.as_str(), first.shape.as_slice()), ("conv1.weight", &[64, 3, 7, 7][..]));
    }

    #[test]
    fn training_moves_every_tensor_from_its_seeded_start() {
        for run in training_runs() {
            for tensor in &run.tensors {
                let start = weights(&tensor.name, &tensor.shape, 1.0);
                let start: Vec<f64> = start.iter().map(|&v| f64::from(v)).collect();
                let error = run.compare(tensor, &start);
                assert!(error.change > 0.1 && error.change < 1.0001, "{}: {} {error:?}", run.name, tensor.name);
            }
        }
    }

    #[test]
    fn a_wrong_value_anywhere_shows() {
        let run = training_runs().into_iter().find(|r| r.model == "resnet18").unwrap();
        let tensor = run.tensors.iter().find(|t| t.name == "fc.weight").unwrap();
        let start = weights(&tensor.name, &tensor.shape, 1.0);
        let mut values: Vec<f64> = start.iter().map(|&v| f64::from(v)).collect();
        let unsampled =
            (0..values.len()).find(|i| !positions(&tensor.name, SAMPLES, values.len()).contains(i)).unwrap();
        values[unsampled] = f64::NAN;
        assert_eq!(run.compare(tensor, &values).value, f64::INFINITY);
    }
}
