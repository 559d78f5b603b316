//! `--weights NAME`, without a network.

#![cfg(feature = "hub")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::photo;

fn offline(cache: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocelli"));
    command.env("OCELLI_CACHE", cache).env("HF_HUB_OFFLINE", "1").args(arguments).output().expect("the program starts")
}

fn failure(cache: &Path, arguments: &[&str]) -> String {
    let output = offline(cache, arguments);
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn published_weights_are_taken_from_the_cache_with_their_model_and_preprocessing() {
    let cache = tempfile::tempdir().expect("a folder");
    let file = cache.path().join("timm/tf_efficientnet_lite0.in1k/model.safetensors");
    fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    let weights = "../ocelli-train/weights/tf_efficientnet_lite0.f16.safetensors";
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(weights), file).expect("a copy");
    let coffee = photo("coffee.png");
    let name = "tf_efficientnet_lite0.in1k";
    let output = offline(cache.path(), &["predict", "--weights", name, "--top", "1", coffee.to_str().expect("a path")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("espresso"));
    let arguments = ["predict", "--model", "resnet18", "--weights", name, coffee.to_str().expect("a path")];
    assert!(failure(cache.path(), &arguments).contains("are weights of tf_efficientnet_lite0, not of resnet18"));
}

#[test]
fn what_is_not_in_the_cache_is_an_error() {
    let cache = tempfile::tempdir().expect("a folder");
    let forward = ["forward", "--weights", "resnet18.tv_in1k", "--input", "x.safetensors", "--output", "y.safetensors"];
    for arguments in [
        &["predict", "--weights", "resnet18.tv_in1k", "x.png"][..],
        &["evaluate", "--weights", "resnet18.tv_in1k"],
        &["train", "--weights", "resnet18.tv_in1k", "--out", "nowhere/run"],
    ] {
        let error = failure(cache.path(), arguments);
        assert!(error.starts_with("error: resnet18.tv_in1k: not in the cache ("), "{error}");
    }
    // There the input is read first.
    assert!(failure(cache.path(), &forward).contains("x.safetensors"));
    let error = failure(cache.path(), &["evaluate", "--weights", "resnet18.tw_in1k"]);
    assert!(error.contains("no published weights of this name; there are resnet18.IMAGENET1K_V1"), "{error}");
    assert!(failure(cache.path(), &["evaluate", "--weights", "Cargo.toml"]).contains("say it with --model"));
}
