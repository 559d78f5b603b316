//! Data sets: the embedded digits and folders of images, each split into a training and a validation part.

mod digits;
mod folder;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub use digits::digits;
pub use folder::{Folder, folder};

use crate::{Error, Picture, Result};

/// Labelled pictures by index. Reading one may fail (a damaged file) without harm to the others.
pub trait Dataset: Send + Sync {
    /// The number of pictures.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of picture `index`, an index into [`Data::classes`].
    fn label(&self, index: usize) -> usize;

    /// Reads and decodes picture `index`.
    fn picture(&self, index: usize) -> Result<Picture>;

    /// What picture `index` is called in messages, such as its path.
    fn name(&self, index: usize) -> String;
}

/// A data set with its classes, in two parts.
#[derive(Clone)]
pub struct Data {
    /// Where it came from: `digits`, or the folder.
    pub source: String,
    /// The names of the classes, in the order of their labels.
    pub classes: Vec<String>,
    /// What the network learns from.
    pub train: Arc<dyn Dataset>,
    /// What it is measured on.
    pub validation: Arc<dyn Dataset>,
}

impl Data {
    /// The data set that a name of the command line stands for: `digits`, the embedded handwritten digits, or a
    /// folder of images (see [`folder`]). `seed` chooses what a folder without `val/` holds out.
    pub fn open(source: &str, seed: u64) -> Result<Data> {
        let path = Path::new(source);
        match source {
            "digits" => digits(),
            _ if path.exists() => folder(path, seed),
            _ if source.contains(std::path::is_separator) => Err(Error::data(path, "no such folder")),
            _ => Err(Error::data(path, "no such folder, nor an embedded data set (there is one: digits)")),
        }
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Data { source, classes, train, validation } = self;
        let (train, validation) = (train.len(), validation.len());
        write!(f, "Data {{ {source:?}, {} classes, {train} training, {validation} validation }}", classes.len())
    }
}

/// Divides `0..labels.len()` into (training, validation) so that every class is held out in the same share, at
/// least one and at most all but one of each. Both are sorted. Drawn by `seed` for each class by itself.
fn stratified(labels: &[usize], classes: usize, share: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    use crate::rng::{Purpose, stream};
    use rand::seq::SliceRandom;

    let mut members = vec![Vec::new(); classes];
    for (index, &label) in labels.iter().enumerate() {
        members[label].push(index);
    }
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    for (class, mut members) in members.into_iter().enumerate() {
        let most = members.len().saturating_sub(1);
        let held_out = ((members.len() as f64 * share).round() as usize).max(1).min(most);
        members.shuffle(&mut stream(seed, Purpose::Split, 0, class as u64));
        validation.extend(members.drain(..held_out));
        train.extend(members);
    }
    train.sort_unstable();
    validation.sort_unstable();
    (train, validation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stratified_holds_out_every_class() {
        let labels: Vec<usize> = (0..100).map(|i| if i < 90 { 0 } else { 1 + i % 2 }).collect();
        let (train, validation) = stratified(&labels, 3, 0.2, 7);
        let mut all = [train.clone(), validation.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        let held_out = |class| validation.iter().filter(|&&i| labels[i] == class).count();
        assert_eq!([0, 1, 2].map(held_out), [18, 1, 1]);
        assert_eq!(stratified(&labels, 3, 0.2, 7), (train.clone(), validation));
        assert_ne!(stratified(&labels, 3, 0.2, 8).0, train);
    }

    #[test]
    fn unknown_sources_are_errors() {
        let error = Data::open("digts", 0).unwrap_err().to_string();
        assert_eq!(error, "digts: no such folder, nor an embedded data set (there is one: digits)");
        assert_eq!(Data::open("no/such", 0).unwrap_err().to_string(), "no/such: no such folder");
    }
}
