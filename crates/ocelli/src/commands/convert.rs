//! `ocelli convert`: checkpoints to safetensors.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ocelli_train::zoo::Model;
use ocelli_train::zoo::nn::checkpoint::{Checkpoint, Dtype};

use crate::error::{Error, Result};
use crate::output::{count, print_line, size};
use crate::weights;

/// Convert a PyTorch checkpoint or safetensors file to safetensors
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing in a PyTorch checkpoint is executed: it is read by an unpickler that can build tensors and nothing else.

With --model, the result is known to fit: every tensor of the model is there with its shape, and no other. A checkpoint \
that names its tensors otherwise is renamed, if it has as many, of the same shapes, in the same order.

Examples:
  ocelli convert resnet50.pth resnet50.safetensors --model resnet50
  ocelli convert resnet50.pth resnet50.f16.safetensors --dtype f16 --meta license=BSD-3-Clause")]
pub struct Convert {
    /// The checkpoint to read
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The safetensors file to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// The type of the stored weights [default: as they are]
    #[arg(long, value_enum)]
    dtype: Option<Type>,
    /// The model of `ocelli models` that the result must fit
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// A text to store beside the tensors, such as license=Apache-2.0; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    meta: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Type {
    F32,
    F16,
    Bf16,
}

impl From<Type> for Dtype {
    fn from(of: Type) -> Self {
        match of {
            Type::F32 => Dtype::F32,
            Type::F16 => Dtype::F16,
            Type::Bf16 => Dtype::Bf16,
        }
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

impl Convert {
    pub fn run(&self) -> Result<()> {
        let mut checkpoint = Checkpoint::read(&self.input)?;
        if checkpoint.is_empty() {
            return Err(Error::file(&self.input, "no tensor in it"));
        }
        let mut remark = String::new();
        if let Some(name) = &self.model {
            let model = weights::shaped(name, &checkpoint)?;
            if !model.state().compare(&checkpoint).is_empty() {
                checkpoint = self.renamed(&model, checkpoint)?;
                remark = format!(", named as {name}'s by their order");
            }
        }
        if let Some(dtype) = self.dtype {
            checkpoint.store_floats_as(dtype.into());
        }
        checkpoint.metadata.extend(self.meta.iter().cloned());
        checkpoint.write(&self.output)?;
        let numbers: usize = checkpoint.iter().map(|(_, entry)| entry.tensor.len()).sum();
        let bytes: usize = checkpoint.iter().map(|(_, entry)| entry.tensor.len() * entry.dtype.size()).sum();
        let (tensors, numbers, bytes) = (count(checkpoint.len()), count(numbers), size(bytes as u64));
        print_line(&format!("{}: {tensors} tensors, {numbers} numbers, {bytes}B{remark}", self.output.display()))
    }

    /// The checkpoint with the names of the model, if only the names differ.
    fn renamed(&self, model: &Model, checkpoint: Checkpoint) -> Result<Checkpoint> {
        let mismatch = model.state().compare(&checkpoint);
        let own = model.state().to_checkpoint()?;
        let same = own.len() == checkpoint.len()
            && own.iter().zip(checkpoint.iter()).all(|((_, a), (_, b))| a.tensor.shape() == b.tensor.shape());
        if !same {
            return Err(Error::file(&self.input, mismatch));
        }
        let names: Vec<String> = model.state().names().map(String::from).collect();
        Ok(checkpoint.renamed(|i, _| names[i].clone())?)
    }
}
