//! The zip archives of PyTorch since 1.6: `NAME/data.pkl`, and a file `NAME/data/KEY` for each storage.

use std::borrow::Cow;
use std::io::{Cursor, Read};

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::{machine, state_dict, tensors};
use crate::checkpoint::Checkpoint;
use crate::{Error, Result};

/// How a zip archive begins.
pub(super) const MAGIC: [u8; 4] = *b"PK\x03\x04";

pub(super) fn read(bytes: &[u8]) -> Result<Checkpoint> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(malformed)?;
    let names: Vec<String> = archive.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect();
    let folder = names
        .iter()
        .filter_map(|name| name.strip_suffix("data.pkl").filter(|folder| folder.is_empty() || folder.ends_with('/')))
        .min_by_key(|folder| folder.len())
        .ok_or_else(|| Error::checkpoint("it is a zip archive without a data.pkl, thus not one of PyTorch's"))?;
    if names.iter().any(|name| *name == format!("{folder}byteorder")) {
        let order = entry(&mut archive, bytes.len(), &format!("{folder}byteorder"))?;
        if order != b"little" {
            let order = String::from_utf8_lossy(&order).into_owned();
            return Err(Error::checkpoint(format!("its byte order is {order:?}, and only \"little\" is supported")));
        }
    }
    let pickle = entry(&mut archive, bytes.len(), &format!("{folder}data.pkl"))?;
    let (root, heap, _) = machine::unpickle(&pickle)?;
    let named = state_dict::find(root, &heap)?;
    tensors::assemble(&named, &heap, bytes.len(), |storage| {
        entry(&mut archive, bytes.len(), &format!("{folder}data/{}", storage.key)).map(Cow::Owned)
    })
}

/// The content of one file of the archive, its checksum verified. Only uncompressed ones are read, as PyTorch writes
/// them, so that none can be larger than the archive.
fn entry(archive: &mut ZipArchive<Cursor<&[u8]>>, length: usize, name: &str) -> Result<Vec<u8>> {
    let mut file = archive.by_name(name).map_err(|e| match e {
        ZipError::FileNotFound => Error::checkpoint(format!("its {name} is missing")),
        other => malformed(other),
    })?;
    if file.compression() != CompressionMethod::Stored {
        return Err(Error::checkpoint(format!("its {name} is compressed, which PyTorch's own archives are not")));
    }
    let size = usize::try_from(file.size()).ok().filter(|&size| size <= length);
    let size = size.ok_or_else(|| Error::checkpoint(format!("its {name} is larger than the archive")))?;
    let mut content = Vec::with_capacity(size);
    // One byte more than it has: the checksum is verified where the file ends.
    let read = file.by_ref().take(size as u64 + 1).read_to_end(&mut content);
    read.map_err(|e| Error::checkpoint(format!("its {name}: {e}")))?;
    if content.len() != size {
        return Err(Error::checkpoint(format!("its {name} is cut short")));
    }
    Ok(content)
}

fn malformed(error: ZipError) -> Error {
    Error::checkpoint(format!("as a zip archive: {error}"))
}
