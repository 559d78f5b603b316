//! Fetching published weights: once, into a cache.
//!
//! A file is downloaded under a name that says it is a part, which an interrupted download leaves and the next one
//! continues. When it is whole, its size and SHA-256 are compared with what the publisher says, it is written through to
//! the disk, and only then gets its name: what has the name is complete.

mod cache;
mod client;
mod download;

use std::path::PathBuf;

pub use cache::cache_folder;

use self::client::Client;
use crate::published::{Published, Source};
use crate::{Error, Result};

/// The hub's address, unless the environment says another in `HF_ENDPOINT`.
const ENDPOINT: &str = "https://huggingface.co";
/// What the hub's repositories call the file.
const FILE: &str = "model.safetensors";

/// Where weights are fetched from and kept.
#[derive(Debug, Clone)]
pub struct Hub {
    endpoint: String,
    cache: PathBuf,
    offline: bool,
}

impl Hub {
    /// As the environment says: [`cache_folder`]; the hub at `HF_ENDPOINT`, for mirrors; and nothing is fetched if
    /// `HF_HUB_OFFLINE` is set, to something else than 0.
    pub fn from_env() -> Result<Self> {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut hub = Hub::new(cache_folder()?);
        hub.endpoint = set("HF_ENDPOINT").unwrap_or(hub.endpoint);
        hub.offline = set("HF_HUB_OFFLINE").is_some_and(|value| value != "0");
        Ok(hub)
    }

    /// The usual hub, with its files kept in that folder.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Hub { endpoint: ENDPOINT.into(), cache: cache.into(), offline: false }
    }

    /// With the hub at that address.
    pub fn endpoint(self, endpoint: impl Into<String>) -> Self {
        Hub { endpoint: endpoint.into(), ..self }
    }

    /// With nothing fetched.
    pub fn offline(self, offline: bool) -> Self {
        Hub { offline, ..self }
    }

    /// The file of those weights in the cache, fetched if it is not there. `progress` is told how many bytes of how many
    /// are there.
    ///
    /// Errors if there is no network, no such file, or not the file that the publisher describes.
    pub fn fetch(&self, weights: &Published, progress: impl FnMut(u64, u64)) -> Result<PathBuf> {
        let (address, path, sha256) = match weights.source {
            Source::Hub(repository) => {
                let address = format!("{}/{repository}/resolve/main/{FILE}", self.endpoint.trim_end_matches('/'));
                (address, self.cache.join(repository).join(FILE), None)
            }
            Source::File(address, digits) => {
                let name = address.rsplit('/').next().unwrap_or(address);
                (address.to_owned(), self.cache.join("files").join(name), digits)
            }
        };
        self.fetch_file(&address, path, sha256, progress)
            .map_err(|reason| Error::Weights { name: weights.name.into(), reason })
    }

    fn fetch_file(
        &self,
        address: &str,
        path: PathBuf,
        sha256: Option<&str>,
        progress: impl FnMut(u64, u64),
    ) -> Result<PathBuf, String> {
        if path.exists() {
            return Ok(path);
        }
        if self.offline {
            return Err(format!("not in the cache ({}), and HF_HUB_OFFLINE forbids fetching it", path.display()));
        }
        let client = Client::new();
        let mut remote = client.describe(address)?;
        remote.sha256 = remote.sha256.or(sha256.map(String::from));
        download::download(&client, &remote, &path, progress)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests;
