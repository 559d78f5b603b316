//! Safetensors: a JSON header with names, types, shapes and offsets, then the bytes.

use std::borrow::Cow;
use std::collections::HashMap;

use safetensors::tensor::{Metadata, SafeTensors, View};

use super::{Checkpoint, Dtype, decode};
use crate::{Error, Result};

type FileDtype = safetensors::Dtype;

const TYPES: [(Dtype, FileDtype); 10] = [
    (Dtype::F64, FileDtype::F64),
    (Dtype::F32, FileDtype::F32),
    (Dtype::F16, FileDtype::F16),
    (Dtype::Bf16, FileDtype::BF16),
    (Dtype::I64, FileDtype::I64),
    (Dtype::I32, FileDtype::I32),
    (Dtype::I16, FileDtype::I16),
    (Dtype::I8, FileDtype::I8),
    (Dtype::U8, FileDtype::U8),
    (Dtype::Bool, FileDtype::BOOL),
];

/// Where the header's JSON object begins, behind its length.
const HEADER: usize = size_of::<u64>();

/// Reads the tensors in the order of their bytes.
pub(super) fn read(bytes: &[u8]) -> Result<Checkpoint> {
    if bytes.get(HEADER) != Some(&b'{') {
        return Err(Error::checkpoint(
            "it is neither a safetensors file nor a PyTorch checkpoint (a zip archive or PyTorch's pickle stream)",
        ));
    }
    let (header, metadata): (usize, Metadata) = SafeTensors::read_metadata(bytes).map_err(malformed)?;
    let content = &bytes[HEADER + header..];
    let mut checkpoint = Checkpoint::new();
    for name in metadata.offset_keys() {
        let Some(info) = metadata.info(&name) else { continue };
        let dtype = TYPES.iter().find(|(_, file)| *file == info.dtype).map(|(dtype, _)| *dtype).ok_or_else(|| {
            Error::checkpoint(format!("tensor {name:?} has elements of type {}, which is not supported", info.dtype))
        })?;
        let (start, end) = info.data_offsets;
        let tensor = decode(&name, dtype, &info.shape, &content[start..end])?;
        checkpoint.insert_as(name, dtype, tensor);
    }
    checkpoint.metadata = metadata.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    Ok(checkpoint)
}

pub(super) fn write(checkpoint: &Checkpoint) -> Result<Vec<u8>> {
    let tensors = checkpoint.iter().map(|(name, entry)| {
        let bytes = entry.dtype.encode(entry.tensor.data());
        (name, Encoded { dtype: entry.dtype, shape: entry.tensor.shape(), bytes })
    });
    let metadata: HashMap<String, String> = checkpoint.metadata.clone().into_iter().collect();
    safetensors::serialize(tensors, (!metadata.is_empty()).then_some(metadata)).map_err(malformed)
}

struct Encoded<'a> {
    dtype: Dtype,
    shape: &'a [usize],
    bytes: Vec<u8>,
}

impl View for Encoded<'_> {
    fn dtype(&self) -> FileDtype {
        let known = TYPES.iter().find(|(dtype, _)| *dtype == self.dtype);
        known.map_or(FileDtype::F32, |(_, file)| *file)
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

fn malformed(error: safetensors::SafeTensorError) -> Error {
    Error::checkpoint(format!("as a safetensors file: {error}"))
}
