//! Folders of images: `train/CLASS/*` and `val/CLASS/*`, or one level of class folders.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Data, Dataset, stratified};
use crate::decode::{EXTENSIONS, read_image};
use crate::{Error, Picture, Result};

/// The share of each class that is held out of a folder without `val/`.
const HELD_OUT: f64 = 0.2;

/// A folder of images with a folder for each class, named after it.
///
/// Either `root/train/CLASS/*` and `root/val/CLASS/*`, or `root/CLASS/*`, of which a fifth of each class, chosen by
/// `seed`, is held out for validation. Classes are sorted by name, and so are the files of a class. Hidden files and
/// files that do not end like an image are passed over; the images themselves are not opened yet.
///
/// Fails if a folder is missing, if there are fewer than two classes, if a class has no image (or just one, when
/// some must be held out), and if `val` has other classes than `train`. The error names the folder.
pub fn folder(root: &Path, seed: u64) -> Result<Data> {
    if !root.is_dir() {
        return Err(Error::data(root, if root.exists() { "not a folder" } else { "no such folder" }));
    }
    let (train, validation) = (root.join("train"), root.join("val"));
    let source = root.display().to_string();
    if train.is_dir() && validation.is_dir() {
        let train = Folder::open(&train)?;
        let validation = Folder::open(&validation)?;
        same_classes(&train, &validation)?;
        let classes = train.classes.clone();
        return Ok(Data { source, classes, train: Arc::new(train), validation: Arc::new(validation) });
    }
    for (present, missing) in [(&train, "val"), (&validation, "train")] {
        // A class may be called `train`, too: then it holds images, not folders.
        if present.is_dir() && !subfolders(present)?.is_empty() {
            return Err(Error::data(root, format!("no folder {missing}/ beside {}", present.display())));
        }
    }
    let all = Folder::open(root)?;
    for (label, class) in all.classes.iter().enumerate() {
        if all.files.iter().filter(|file| file.1 == label).count() < 2 {
            let reason = "only one image in this class: training and validation need one each";
            return Err(Error::data(&root.join(class), reason));
        }
    }
    let labels: Vec<usize> = all.files.iter().map(|file| file.1).collect();
    let (train, validation) = stratified(&labels, all.classes.len(), HELD_OUT, seed);
    let (train, validation) = (Arc::new(all.subset(&train)), Arc::new(all.subset(&validation)));
    Ok(Data { source, classes: all.classes, train, validation })
}

/// The images of one level of class folders.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    classes: Vec<String>,
    files: Vec<(PathBuf, usize)>,
}

impl Folder {
    /// All images of `root/CLASS/*`. Fails as [`folder`] does.
    pub fn open(root: &Path) -> Result<Folder> {
        let classes = subfolders(root)?;
        if classes.len() < 2 {
            let found = if classes.is_empty() { "no folder".into() } else { format!("only {:?}", classes[0]) };
            return Err(Error::data(
                root,
                format!("a folder for each of at least two classes is needed, found {found}"),
            ));
        }
        let mut files = Vec::new();
        for (label, class) in classes.iter().enumerate() {
            let images = images(&root.join(class))?;
            if images.is_empty() {
                let reason = format!("no image in this class (files that end in {})", EXTENSIONS.join(", "));
                return Err(Error::data(&root.join(class), reason));
            }
            files.extend(images.into_iter().map(|path| (path, label)));
        }
        Ok(Folder { root: root.to_owned(), classes, files })
    }

    /// The names of the classes, sorted.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    fn subset(&self, indices: &[usize]) -> Folder {
        Folder { files: indices.iter().map(|&i| self.files[i].clone()).collect(), ..self.clone() }
    }
}

impl Dataset for Folder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn label(&self, index: usize) -> usize {
        self.files[index].1
    }

    fn picture(&self, index: usize) -> Result<Picture> {
        read_image(&self.files[index].0)
    }

    fn name(&self, index: usize) -> String {
        self.files[index].0.display().to_string()
    }
}

fn same_classes(train: &Folder, validation: &Folder) -> Result<()> {
    let lacking = |from: &Folder, of: &Folder| of.classes.iter().find(|class| !from.classes.contains(class)).cloned();
    if let Some(class) = lacking(train, validation) {
        return Err(Error::data(&validation.root.join(class), "a class that the training images lack"));
    }
    match lacking(validation, train) {
        Some(class) => Err(Error::data(&validation.root.join(class), "no such folder, but the class is in train")),
        None => Ok(()),
    }
}

/// The folders in `root`, sorted by name.
fn subfolders(root: &Path) -> Result<Vec<String>> {
    let folders = entries(root)?.into_iter().filter(|path| path.is_dir());
    Ok(folders.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
}

/// The files in `class` that end like an image, sorted by name.
fn images(class: &Path) -> Result<Vec<PathBuf>> {
    let is_image = |path: &PathBuf| {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str())) && !path.is_dir()
    };
    Ok(entries(class)?.into_iter().filter(is_image).collect())
}

/// What `folder` holds, sorted by name, without what is hidden.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "read"))? {
        let entry = entry.map_err(Error::io(folder, "read"))?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::{TempDir, tempdir};

    /// A tree of empty files; folders alone end in a slash.
    fn tree(paths: &[&str]) -> TempDir {
        let root = tempdir().unwrap();
        for path in paths {
            let path_in = root.path().join(path);
            if path.ends_with('/') {
                fs::create_dir_all(path_in).unwrap();
            } else {
                fs::create_dir_all(path_in.parent().unwrap()).unwrap();
                fs::write(path_in, []).unwrap();
            }
        }
        root
    }

    #[test]
    fn both_layouts_are_read_in_order() {
        let root = tree(&["train/dog/2.JPG", "train/dog/1.png", "train/cat/a.webp", "val/cat/b.gif", "val/dog/c.bmp"]);
        let data = folder(root.path(), 0).unwrap();
        assert_eq!(data.classes, ["cat", "dog"]);
        assert_eq!((data.train.len(), data.validation.len()), (3, 2));
        let names: Vec<_> = (0..3).map(|i| (data.train.name(i), data.train.label(i))).collect();
        assert!(names[0].0.ends_with("a.webp") && names[1].0.ends_with("1.png") && names[2].0.ends_with("2.JPG"));
        assert_eq!([names[0].1, names[1].1, names[2].1], [0, 1, 1]);

        let files: Vec<String> = (0..20).map(|i| format!("{}/{i}.png", ["train", "plane"][i % 2])).collect();
        let root =
            tree(&files.iter().map(String::as_str).chain([".hidden/x.png", "train/notes.txt"]).collect::<Vec<_>>());
        let data = folder(root.path(), 3).unwrap();
        assert_eq!(data.classes, ["plane", "train"]);
        assert_eq!((data.train.len(), data.validation.len()), (16, 4));
        assert!(data.train.picture(0).is_err());
    }

    #[test]
    fn wrong_folders_are_errors_that_name_them() {
        for (paths, suffix) in [
            (&["a/1.png", "a/2.png"][..], ": a folder for each of at least two classes is needed, found only \"a\""),
            (&["1.png"], ": a folder for each of at least two classes is needed, found no folder"),
            (&["a/1.png", "a/2.png", "b/"], "/b: no image in this class (files that end in"),
            (&["a/1.png", "b/1.png"], "/a: only one image in this class"),
            (&["train/a/1.png", "train/b/1.png"], ": no folder val/ beside"),
            (&["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/c/1.png"], "/val/c: a class that the training"),
            (
                &["train/a/1.png", "train/b/1.png", "train/c/1.png", "val/a/1.png", "val/b/1.png"],
                "/val/c: no such folder",
            ),
        ] {
            let root = tree(paths);
            let error = folder(root.path(), 0).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{}{suffix}", root.path().display())), "{error}");
        }
    }
}
