//! Files that are whole at any time, whatever happens while they are written.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::{Error, Result};

/// Replaces `path` by `bytes` at once: written under another name, flushed to the disk, then renamed. After a crash
/// the file has its old or its new content.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let mut file = File::create(&temporary).map_err(Error::io(&temporary, "write"))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io(&temporary, "write"))?;
    drop(file);
    fs::rename(&temporary, path).map_err(Error::io(path, "replace"))?;
    sync_folder(path);
    Ok(())
}

/// Makes the renaming itself durable where the system can; elsewhere the content is safe all the same.
fn sync_folder(path: &Path) {
    if let Some(folder) = path.parent().and_then(|folder| File::open(folder).ok()) {
        let _ = folder.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = replace(&folder.path().join("no/such.txt"), b"").unwrap_err().to_string();
        assert!(error.contains("such.txt.tmp: cannot write"), "{error}");
    }
}
