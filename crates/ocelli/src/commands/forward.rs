//! `ocelli forward`: logits of given tensors, for comparison with other engines.

use std::path::{Path, PathBuf};

use clap::Args;
use ocelli_train::zoo::nn::checkpoint::Checkpoint;
use ocelli_train::zoo::nn::tensor::Tensor;
use ocelli_train::zoo::{Model, Options, variant};

use crate::arguments::Threads;
use crate::error::{Error, Result};
use crate::weights::{self, Weights};

/// Run a model on a tensor in a file, to compare with other engines
#[derive(Debug, Args)]
#[command(after_help = "\
X.safetensors holds `input`, [N, channels, height, width] (as other engines lay it out), normalised as the weights need \
it. Y.safetensors gets `logits`, f32 [N, classes]. The weights have the names and layouts of torchvision's (or timm's) \
state dict; the number of classes is theirs. Without --weights they are drawn by --seed, for an input of any number of \
channels.

Examples:
  ocelli forward --model resnet50 --weights resnet50.pth --input x.safetensors --output y.safetensors
  ocelli forward --model resnet20 --input x.safetensors --output y.safetensors --threads 1")]
pub struct Forward {
    /// A model of `ocelli models`; published weights know theirs
    #[arg(long, value_name = "NAME", required_unless_present = "weights")]
    model: Option<String>,
    /// Its weights: safetensors, a PyTorch checkpoint, or a name of `ocelli models --weights` [default: random ones]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// The file that holds `input`
    #[arg(long, value_name = "X.safetensors")]
    input: PathBuf,
    /// The file to write `logits` to
    #[arg(long, value_name = "Y.safetensors")]
    output: PathBuf,
    /// What random weights are drawn from
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "weights")]
    seed: u64,
    #[command(flatten)]
    threads: Threads,
}

impl Forward {
    pub fn run(&self) -> Result<()> {
        self.threads.apply();
        if let Some(name) = &self.model {
            variant(name)?;
        }
        let input = read_input(&self.input)?;
        let model = match &self.weights {
            Some(given) => {
                let weights = Weights::choose(given)?;
                weights::load(weights.model(self.model.as_deref())?, &Checkpoint::read(&weights.path)?, &weights.path)?
            }
            None => {
                let name = self.model.as_deref().unwrap_or_default();
                let options = Options { in_channels: input.shape()[3], ..variant(name)?.options() };
                Model::new(name, options, self.seed)?
            }
        };
        let plan = model.plan(*input.shape())?;
        // The plan has packed the weights: the model's own copy makes room for the activations.
        drop(model);
        let mut output = Checkpoint::new();
        output.insert("logits", plan.run(&input)?);
        Ok(output.write(&self.output)?)
    }
}

/// `input` of the file, as `[N, H, W, C]`.
fn read_input(path: &Path) -> Result<Tensor> {
    let file = Checkpoint::read(path)?;
    let Some(entry) = file.get("input") else {
        let names: Vec<&str> = file.iter().map(|(name, _)| name).take(5).collect();
        return Err(Error::file(path, format!("no tensor `input` (found: {})", names.join(", "))));
    };
    let shape = entry.tensor.shape();
    if shape.rank() != 4 || shape.is_empty() {
        return Err(Error::file(path, format!("`input` has shape {shape}, not [N, channels, height, width]")));
    }
    Ok(entry.tensor.permute(&[0, 2, 3, 1])?)
}
