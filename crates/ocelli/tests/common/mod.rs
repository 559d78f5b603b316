//! Running the program, and making small folders of pictures for it.

#![allow(dead_code, reason = "each test file uses a part")]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image::{Rgb, RgbImage};
use serde_json::Value;

/// Runs `ocelli` with some arguments.
pub fn ocelli<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ocelli")).args(arguments).output().expect("the program starts")
}

/// Runs it, expects success, and returns standard output.
pub fn succeeds<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> String {
    let output = ocelli(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    String::from_utf8(output.stdout).expect("text")
}

/// Runs it, expects success, and returns standard output as JSON.
pub fn json<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Value {
    serde_json::from_str(&succeeds(arguments)).expect("JSON")
}

/// Runs it, expects exit status 1 and one line of error, and returns that line.
pub fn fails<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> String {
    let output = ocelli(arguments);
    let error = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{error}");
    let last = error.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: "), "{error}");
    assert_eq!(error.lines().filter(|line| !line.starts_with("warning: ")).count(), 1, "{error}");
    last.to_owned()
}

/// The sorted keys of an object.
pub fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// A photo that the tests share.
pub fn photo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/photos").join(name)
}

/// Makes `count` pictures of 16 × 16 pixels in `root/CLASS`, reddish ones in the first class and bluish in the second.
pub fn small_pictures(root: &Path, classes: [&str; 2], count: u32) {
    for (class, name) in classes.iter().enumerate() {
        fs::create_dir_all(root.join(name)).expect("a folder");
        for i in 0..count {
            let picture = RgbImage::from_fn(16, 16, |x, y| {
                let grain = ((x * 7 + y * 13 + i * 29) % 64) as u8;
                if class == 0 { Rgb([180 + grain, grain, grain]) } else { Rgb([grain, grain, 180 + grain]) }
            });
            picture.save(root.join(name).join(format!("{i}.png"))).expect("a file");
        }
    }
}
