//! The files of PyTorch before 1.6, which many published weights still are: five pickles in a row (a magic number,
//! a version, the writer's properties, the object, the keys of its storages), then each storage's length and bytes.

use std::borrow::Cow;
use std::collections::HashMap;

use super::value::{Heap, Value};
use super::{machine, state_dict, tensors};
use crate::checkpoint::{Checkpoint, Dtype};
use crate::{Error, Result};

/// The first pickle: protocol 2, the number 0x1950a86a20f9469cfc6c, end.
pub(super) const MAGIC: [u8; 15] =
    [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];

const VERSION: i64 = 1001;

pub(super) fn read(bytes: &[u8]) -> Result<Checkpoint> {
    let mut rest = &bytes[MAGIC.len()..];
    let (version, _) = next(&mut rest)?;
    if version != Value::Int(VERSION) {
        return Err(Error::checkpoint(format!("its version is not {VERSION}")));
    }
    let (properties, heap) = next(&mut rest)?;
    let little_endian = (Value::Str("little_endian"), Value::Bool(true));
    if !matches!(properties, Value::Dict(dict) if heap.dicts[dict].contains(&little_endian)) {
        return Err(Error::checkpoint("its byte order is not little-endian"));
    }
    let (root, heap) = next(&mut rest)?;
    let named = state_dict::find(root, &heap)?;
    let (keys, key_heap) = next(&mut rest)?;
    let Value::List(keys) = keys else { return Err(Error::checkpoint("it does not list its storages")) };
    let storages = storages(&key_heap.sequences[keys], &heap, rest)?;
    tensors::assemble(&named, &heap, bytes.len(), |storage| {
        let missing = || Error::checkpoint(format!("its storage {} is missing", storage.key));
        storages.get(storage.key).map(|&bytes| Cow::Borrowed(bytes)).ok_or_else(missing)
    })
}

/// Runs the pickle at the front of `rest` and steps behind it.
fn next<'a>(rest: &mut &'a [u8]) -> Result<(Value<'a>, Heap<'a>)> {
    let (value, heap, length) = machine::unpickle(rest)?;
    *rest = &rest[length..];
    Ok((value, heap))
}

/// The bytes of each storage. Its element type, from which its length in bytes follows, stands in the object only.
fn storages<'a>(keys: &[Value<'a>], heap: &Heap<'a>, mut rest: &'a [u8]) -> Result<HashMap<&'a str, &'a [u8]>> {
    let dtypes: HashMap<&str, Dtype> = heap.storages.iter().map(|storage| (storage.key, storage.dtype)).collect();
    let mut found = HashMap::new();
    for key in keys {
        let dtype = match key {
            Value::Str(key) => dtypes.get(key).map(|&dtype| (*key, dtype)),
            _ => None,
        };
        let (key, dtype) = dtype.ok_or_else(|| Error::checkpoint("it lists a storage that it does not use"))?;
        let cut = || Error::checkpoint(format!("it ends in its storage {key}"));
        let (length, behind) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok().and_then(|n| n.checked_mul(dtype.size()));
        let (content, behind) = length.and_then(|n| behind.split_at_checked(n)).ok_or_else(cut)?;
        found.insert(key, content);
        rest = behind;
    }
    Ok(found)
}
