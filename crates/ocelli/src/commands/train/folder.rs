//! Where a run goes if the command line doesn't say.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Where runs go, in the current folder.
const RUNS: &str = "runs";

/// The first of `runs/NAME`, `runs/NAME-2`, … that holds no run.
pub fn unused(source: &str) -> PathBuf {
    let mut candidates = candidates(source);
    candidates.find(|folder| !holds_run(folder)).unwrap_or_else(|| PathBuf::from(RUNS))
}

/// The last of them that holds a run.
pub fn latest(source: &str) -> Result<PathBuf> {
    let runs = candidates(source).take_while(|folder| holds_run(folder));
    runs.last().ok_or_else(|| {
        let first = candidates(source).next().unwrap_or_default();
        Error::file(&first, "no training run to resume: name its folder with --out")
    })
}

fn candidates(source: &str) -> impl Iterator<Item = PathBuf> {
    let name = name(source);
    (1..).map(move |n| match n {
        1 => Path::new(RUNS).join(&name),
        _ => Path::new(RUNS).join(format!("{name}-{n}")),
    })
}

/// The last part of a path, also of `.`.
fn name(source: &str) -> String {
    let path = Path::new(source);
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let last = whole.file_name().or(path.file_name());
    last.map_or_else(|| "run".into(), |name| name.to_string_lossy().into_owned())
}

fn holds_run(folder: &Path) -> bool {
    folder.join("config.json").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_named_after_their_data() {
        assert_eq!([name("digits"), name("no/such/photos/"), name("/")], ["digits", "photos", "run"]);
    }
}
