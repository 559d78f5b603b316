//! Where fetched files are kept.

use std::env;
use std::path::PathBuf;

use crate::{Error, Result};

/// The folder of fetched weights: `OCELLI_CACHE` if it is set, else `ocelli` in the user's folder of caches, which is
/// `XDG_CACHE_HOME`, or `.cache` in the home folder.
pub fn cache_folder() -> Result<PathBuf> {
    folder(|name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)).ok_or_else(|| {
        let reason = "neither OCELLI_CACHE nor XDG_CACHE_HOME nor HOME says where fetched weights are kept";
        Error::setting("cache", reason)
    })
}

fn folder(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    // The XDG specification has relative paths ignored.
    let caches = || variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let home = || variable("HOME").or_else(|| variable("USERPROFILE")).map(|home| home.join(".cache"));
    variable("OCELLI_CACHE").or_else(|| caches().or_else(home).map(|caches| caches.join("ocelli")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_decides() {
        let of = |set: &[(&str, &str)]| {
            folder(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value)))
        };
        let home = ("HOME", "/home/me");
        assert_eq!(of(&[home, ("XDG_CACHE_HOME", "/c"), ("OCELLI_CACHE", "w")]), Some("w".into()));
        assert_eq!(of(&[home, ("XDG_CACHE_HOME", "/c")]), Some("/c/ocelli".into()));
        assert_eq!(of(&[home, ("XDG_CACHE_HOME", "relative")]), Some("/home/me/.cache/ocelli".into()));
        assert_eq!(of(&[]), None);
    }
}
