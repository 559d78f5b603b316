//! From a server to a file that is whole or not there.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::client::{Client, Remote};

/// How often in a row a connection may break before it has brought anything.
const ATTEMPTS: usize = 3;
const BUFFER: usize = 1 << 18;

/// Downloads a file to `path`, continuing a part of it that is there. `progress` is told bytes of bytes.
pub(super) fn download(
    client: &Client,
    remote: &Remote,
    path: &Path,
    mut progress: impl FnMut(u64, u64),
) -> Result<(), String> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed("create", folder))?;
    let part = path.with_extension("part");
    let mut file = (File::options().read(true).write(true).create(true).truncate(false))
        .open(&part)
        .map_err(failed("write", &part))?;
    // Another process may be fetching the same file: this one then finds it done.
    file.lock().map_err(failed("lock", &part))?;
    if path.exists() {
        return Ok(());
    }
    let received = receive(client, remote, &mut file, &part, &mut progress)?;
    if let Err(reason) = received.check(remote) {
        fs::remove_file(&part).map_err(failed("remove", &part))?;
        return Err(reason);
    }
    file.sync_all().map_err(failed("write", &part))?;
    fs::rename(&part, path).map_err(failed("rename", &part))?;
    sync_folder(folder);
    Ok(())
}

/// What has been written so far.
struct Received {
    bytes: u64,
    hash: Sha256,
}

impl Received {
    /// What a file holds; its end is then where one writes on.
    fn of(file: &mut File) -> io::Result<Self> {
        file.seek(SeekFrom::Start(0))?;
        let mut received = Received { bytes: 0, hash: Sha256::new() };
        let mut buffer = vec![0; BUFFER];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(received),
                n => received.take(&buffer[..n]),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }

    fn check(self, remote: &Remote) -> Result<(), String> {
        if let Some(size) = remote.size
            && size != self.bytes
        {
            return Err(format!("{}: came with {} bytes instead of {size}", remote.address, self.bytes));
        }
        let sha256: String = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        match &remote.sha256 {
            Some(expected) if !sha256.starts_with(expected) => Err(format!(
                "{}: came damaged, with SHA-256 {sha256} instead of {expected}; it has been thrown away",
                remote.address
            )),
            _ => Ok(()),
        }
    }
}

/// Fetches what is missing, as often as the connection breaks but brings something.
fn receive(
    client: &Client,
    remote: &Remote,
    file: &mut File,
    part: &Path,
    progress: &mut impl FnMut(u64, u64),
) -> Result<Received, String> {
    let mut received = Received::of(file).map_err(failed("read", part))?;
    let mut fruitless = 0;
    loop {
        if remote.size.is_some_and(|size| received.bytes >= size) {
            return Ok(received);
        }
        let before = received.bytes;
        let (body, continues) = client.bytes_from(&remote.address, before)?;
        if !continues {
            file.set_len(0).map_err(failed("write", part))?;
            received = Received::of(file).map_err(failed("read", part))?;
        }
        match copy(body, file, &mut received, remote.size, progress) {
            Ok(()) if remote.size.is_none_or(|size| received.bytes >= size) => return Ok(received),
            Err(Failure::Write(error)) => return Err(failed("write", part)(error)),
            Ok(()) | Err(Failure::Read(_)) if received.bytes > before => fruitless = 0,
            Ok(()) | Err(Failure::Read(_)) if fruitless + 1 < ATTEMPTS => fruitless += 1,
            Ok(()) => return Err(broken(remote, &received, "the connection closed")),
            Err(Failure::Read(error)) => return Err(broken(remote, &received, &error.to_string())),
        }
    }
}

fn broken(remote: &Remote, received: &Received, reason: &str) -> String {
    let (address, bytes) = (&remote.address, received.bytes);
    format!("{address}: broke off after {bytes} bytes: {reason}; the next attempt goes on from there")
}

enum Failure {
    Read(io::Error),
    Write(io::Error),
}

fn copy(
    mut body: impl Read,
    file: &mut File,
    received: &mut Received,
    size: Option<u64>,
    progress: &mut impl FnMut(u64, u64),
) -> Result<(), Failure> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::Read(error)),
        };
        file.write_all(&buffer[..n]).map_err(Failure::Write)?;
        received.take(&buffer[..n]);
        progress(received.bytes, size.unwrap_or(received.bytes));
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> String {
    move |error| format!("cannot {action} {}: {error}", path.display())
}

/// So that the new name outlives a power failure, on systems where folders are files.
fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}
