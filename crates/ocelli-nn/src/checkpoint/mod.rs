//! Checkpoints: named tensors in files, laid out as PyTorch lays them out.
//!
//! Two kinds of files are read, told apart by their content: [safetensors](https://github.com/huggingface/safetensors)
//! and PyTorch's own (`.pth`, `.pt`: the zip archives of today and the plain pickle streams before 1.6, which
//! torchvision's older weights still are). Safetensors are written. A file is input from outside: no size in it is
//! believed before it has been compared with the file's, and no file makes the reader allocate more than a small
//! multiple of its own length.

mod atomic;
mod dtype;
mod safetensors;
mod torch;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use ocelli_autograd::tensor::{Shape, Tensor};

pub use atomic::write_atomically;
pub use dtype::Dtype;

use crate::{Error, Result};

/// A stored tensor: its numbers as `f32`, and the type that they have (or will have) in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The type in the file.
    pub dtype: Dtype,
    /// The numbers, in the checkpoint's layout (convolutions are `[out, in/groups, height, width]`). Whole numbers
    /// above 2²⁴ are rounded.
    pub tensor: Tensor<f32>,
}

/// An ordered map from names to tensors, with free text beside it.
///
/// ```
/// use ocelli_nn::checkpoint::{Checkpoint, Dtype};
/// use ocelli_nn::tensor::Tensor;
///
/// let mut checkpoint = Checkpoint::new();
/// checkpoint.insert("fc.bias", Tensor::from_slice([2], &[0.5, -1.0])?);
/// checkpoint.metadata.insert("source".into(), "an example".into());
/// checkpoint.store_floats_as(Dtype::F16);
///
/// let read = Checkpoint::from_bytes(&checkpoint.to_bytes()?)?;
/// assert_eq!(read.get("fc.bias").unwrap().tensor.data(), [0.5, -1.0]);
/// # Ok::<(), ocelli_nn::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checkpoint {
    entries: Vec<(String, Entry)>,
    index: HashMap<String, usize>,
    /// Free text: `format`, `source`, …
    pub metadata: BTreeMap<String, String>,
}

impl Checkpoint {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a file of either kind.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|e| Error::Io(e).in_file(path))?;
        Self::from_bytes(&bytes).map_err(|e| e.in_file(path))
    }

    /// As [`read`](Self::read), from a file's content.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        match torch::read(bytes) {
            Some(checkpoint) => checkpoint,
            None => safetensors::read(bytes),
        }
    }

    /// Writes a safetensors file, in the place of one that may be there, which stays whole if this fails.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        write_atomically(path, &self.to_bytes().map_err(|e| e.in_file(path))?)
    }

    /// The content of the safetensors file that [`write`](Self::write) writes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        safetensors::write(self)
    }

    /// Adds or replaces an `f32` tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor<f32>) {
        self.insert_as(name, Dtype::F32, tensor);
    }

    /// Adds or replaces a tensor that is stored as `dtype`.
    pub fn insert_as(&mut self, name: impl Into<String>, dtype: Dtype, tensor: Tensor<f32>) {
        let (name, entry) = (name.into(), Entry { dtype, tensor });
        match self.index.get(&name) {
            Some(&i) => self.entries[i].1 = entry,
            None => {
                self.index.insert(name.clone(), self.entries.len());
                self.entries.push((name, entry));
            }
        }
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.index.get(name).map(|&i| &self.entries[i].1)
    }

    /// All tensors, in order: the file's for PyTorch's, by type and name for safetensors.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keeps the tensors whose names `keep` accepts; `|name| !name.starts_with("fc.")` drops a classifier.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.entries.retain(|(name, _)| keep(name));
        self.index = self.entries.iter().enumerate().map(|(i, (name, _))| (name.clone(), i)).collect();
    }

    /// Renames every tensor: `rename(i, name)` names the one at place `i` of the order. Two tensors of one name are
    /// an error.
    pub fn renamed(self, mut rename: impl FnMut(usize, &str) -> String) -> Result<Self> {
        let mut renamed = Checkpoint { metadata: self.metadata, ..Self::default() };
        for (i, (name, entry)) in self.entries.into_iter().enumerate() {
            let name = rename(i, &name);
            if renamed.get(&name).is_some() {
                return Err(Error::DuplicateName(name));
            }
            renamed.insert_as(name, entry.dtype, entry.tensor);
        }
        Ok(renamed)
    }

    /// Makes [`write`](Self::write) store all real tensors as `dtype`, rounded to nearest, except those with a
    /// number whose magnitude is beyond what `dtype` can hold, which stay as they are. Whole-number tensors do too.
    pub fn store_floats_as(&mut self, dtype: Dtype) {
        let largest = match dtype {
            Dtype::F16 => f32::from(half::f16::MAX),
            Dtype::Bf16 => f32::from(half::bf16::MAX),
            _ => f32::MAX,
        };
        let fits = |tensor: &Tensor<f32>| tensor.data().iter().all(|x| !x.is_finite() || x.abs() <= largest);
        for (_, entry) in &mut self.entries {
            if entry.dtype.is_float() && fits(&entry.tensor) {
                entry.dtype = dtype;
            }
        }
    }
}

/// The tensor that little-endian `bytes` hold; their length must be the shape's.
fn decode(name: &str, dtype: Dtype, dims: &[usize], bytes: &[u8]) -> Result<Tensor<f32>> {
    let shape = Shape::new(dims).map_err(|e| Error::checkpoint(format!("tensor {name:?}: {e}")))?;
    if shape.len().checked_mul(dtype.size()) != Some(bytes.len()) {
        let bytes = bytes.len();
        return Err(Error::checkpoint(format!("tensor {name:?} of shape {shape} and type {dtype} has {bytes} bytes")));
    }
    Ok(Tensor::from_vec(shape, dtype.decode(bytes))?)
}
