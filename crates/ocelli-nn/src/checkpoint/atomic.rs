//! Files that are there whole or not at all.

use std::io::Write;
use std::path::Path;

use crate::{Error, Result};

/// Replaces `path` by a file with this content: written beside it, synchronised to the disk, then renamed, so that
/// neither a crash nor another reader ever sees half a file.
pub fn write_atomically(path: impl AsRef<Path>, content: &[u8]) -> Result<()> {
    let path = path.as_ref();
    replace(path, content).map_err(|e| Error::Io(e).in_file(path))
}

fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    // Temporary files are private by default; this one becomes an ordinary file, so it gets the permissions of one.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.prefix(".ocelli-").tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    // The rename itself lives in the folder; where folders can't be opened for that, the rename is durable later.
    if let Ok(folder) = std::fs::File::open(folder) {
        folder.sync_all().ok();
    }
    Ok(())
}
