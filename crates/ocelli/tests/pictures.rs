//! Training, evaluation and prediction on small folders of pictures.

mod common;
#[cfg(feature = "pretrained")]
#[path = "../examples/photo_folder.rs"]
mod photo_folder;

use std::fs;
use std::path::Path;

#[cfg(feature = "pretrained")]
use common::photo;
use common::{fails, json, keys, ocelli, small_pictures, succeeds};

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

#[test]
fn a_run_is_trained_resumed_evaluated_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("pictures"), folder.path().join("run"));
    small_pictures(&data, ["blue", "red"], 10);
    let damaged = data.join("red/0.png");
    let whole = fs::read(&damaged).unwrap();
    fs::write(&damaged, &whole[..whole.len() / 2]).unwrap();

    let train = [
        "train",
        "--data",
        text(&data),
        "--out",
        text(&run),
        "--model",
        "resnet8",
        "--epochs",
        "2",
        "--batch-size",
        "8",
    ];
    let output = ocelli(train);
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{error}");
    assert!(out.contains("16 training and 4 validation images, 2 classes"), "{out}");
    assert!(out.contains("Left out: 1 image that could not be read"), "{out}");
    assert!(error.contains("warning: skipped ") && error.contains("0.png: damaged image"), "{error}");
    for file in ["config.json", "best.safetensors", "last.safetensors", "metrics.csv", "curves.png"] {
        assert!(run.join(file).exists(), "{file}");
    }
    assert_eq!(fs::read_to_string(run.join("metrics.csv")).unwrap().lines().count(), 3);

    assert!(fails(train).contains("holds a training run already: add --resume"));
    succeeds(train.into_iter().chain(["--resume"]));
    succeeds(["train", "--out", text(&run), "--resume"]);
    let other = fails(["train", "--out", text(&run), "--resume", "--lr", "0.5"]);
    assert!(other.contains("the run began with other settings"), "{other}");

    let (best, new) = (run.join("best.safetensors"), folder.path().join("new"));
    let unfit = ["train", "--data", text(&data), "--out", text(&new), "--model", "resnet20", "--weights", text(&best)];
    let error = fails(unfit);
    assert!(error.contains("best.safetensors: the checkpoint does not fit the model: "), "{error}");
    assert!(!new.exists(), "nothing was begun");

    let report = json(["evaluate", "--run", text(&run), "--json"]);
    assert_eq!(keys(&report), ["classes", "confusion", "data", "images", "loss", "model", "skipped", "top1", "top5"]);
    assert_eq!((&report["model"], report["classes"].as_array().map(Vec::len)), (&"resnet8".into(), Some(2)));
    assert!(succeeds(["evaluate", "--run", text(&run)]).contains("images of"));
    let both = json(["evaluate", "--run", text(&run), "--int8", "--calibration", "4", "--json"]);
    assert_eq!(both["top1"], report["top1"]);
    assert_eq!(both["int8"]["images"], report["images"]);
    assert!(both.get("f16").is_none());
    let both = json(["evaluate", "--run", text(&run), "--f16", "--json"]);
    assert_eq!((&both["f16"]["images"], both.get("int8")), (&report["images"], None));
    let all = succeeds(["evaluate", "--run", text(&run), "--int8", "--f16"]);
    assert!(all.contains("in eight bits: ") && all.contains("with weights in 16 bits: "), "{all}");

    let image = data.join("blue/3.png");
    let by_run = json(["predict", "--run", text(&run), text(&image), text(&image), "--json"]);
    let answers = by_run.as_array().expect("a list");
    assert_eq!((answers.len(), keys(&answers[0])), (2, vec!["image", "predictions"]));
    let predictions = answers[0]["predictions"].as_array().expect("a list");
    assert_eq!((predictions.len(), keys(&predictions[0])), (2, vec!["class", "index", "probability"]));
    let sum: f64 = predictions.iter().map(|p| p["probability"].as_f64().expect("a number")).sum();
    assert!((sum - 1.0).abs() < 1e-6);
    // A run's weights say themselves what their classes are and how pictures are prepared.
    let by_weights =
        json(["predict", "--model", "resnet8", "--weights", text(&best), text(&image), text(&image), "--json"]);
    assert_eq!(by_weights, by_run);
}

#[test]
fn wrong_folders_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("pictures"), folder.path().join("run"));
    let train = ["train", "--data", text(&data), "--out", text(&run)];
    let error = fails(train);
    assert!(error.ends_with("pictures: no such folder"), "{error}");
    small_pictures(&data, ["a", "b"], 2);
    fs::create_dir(data.join("c")).unwrap();
    let error = fails(train);
    assert!(error.contains("c: no image in this class"), "{error}");
    assert!(!run.exists(), "nothing was begun");
    let error = fails(["train", "--data", "digts", "--out", text(&run)]);
    assert!(error.contains("digts: no such folder, nor an embedded data set"), "{error}");
    let error = fails(["evaluate", "--run", text(&run)]);
    assert!(error.ends_with("run: no such folder"), "{error}");
    let error = fails(["train", "--resume", "--out", text(&data)]);
    assert!(error.contains("no training run"), "{error}");
}

#[cfg(feature = "pretrained")]
#[test]
fn damaged_pictures_are_errors_in_prediction() {
    let folder = tempfile::tempdir().unwrap();
    let jpeg = fs::read(photo("rocket.jpg")).unwrap();
    let half = folder.path().join("half.jpg");
    fs::write(&half, &jpeg[..jpeg.len() / 2]).unwrap();
    let words = folder.path().join("words.png");
    fs::write(&words, "no picture").unwrap();
    for (path, reason) in [
        (half, "half.jpg: damaged image"),
        (words, "words.png: not an image"),
        (folder.path().join("missing.png"), "missing.png: cannot read"),
        (folder.path().to_owned(), "not a file"),
    ] {
        let error = fails(["predict", "--json", text(&path)]);
        assert!(error.contains(reason), "{error}");
    }
}

#[cfg(feature = "pretrained")]
#[test]
fn the_photos_are_recognised() {
    let photos = ["chelsea.png", "coffee.png", "camera.png", "rocket.jpg"].map(photo);
    let arguments = ["predict", "--json", "--top", "2"].into_iter().chain(photos.iter().map(|path| text(path)));
    let answers = json(arguments);
    // PyTorch's probabilities with the same weights in f32.
    let expected: [&[(&str, f64)]; 4] = [
        &[("tiger cat", 0.395), ("Egyptian cat", 0.355)],
        &[("espresso", 0.951)],
        &[("tripod", 0.937)],
        &[("missile", 0.272)],
    ];
    for (answer, expected) in answers.as_array().expect("a list").iter().zip(expected) {
        for (prediction, (class, probability)) in answer["predictions"].as_array().expect("a list").iter().zip(expected)
        {
            assert_eq!(&prediction["class"], class, "{answer}");
            assert!((prediction["probability"].as_f64().expect("a number") - probability).abs() < 0.01, "{answer}");
        }
    }
}

#[cfg(feature = "pretrained")]
#[test]
fn photos_fine_tune_the_built_in_weights() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("photos"), folder.path().join("run"));
    photo_folder::make(&data, 2).unwrap();
    let arguments = ["train", "--data", text(&data), "--out", text(&run), "--epochs", "2", "--image-size", "96"];
    let out = succeeds(arguments.into_iter().chain(["--batch-size", "4"]));
    assert!(out.contains("tf_efficientnet_lite0") && out.contains("pretrained on ImageNet (built in)"), "{out}");
    assert!(out.contains("2 epochs (1 of the classifier only)"), "{out}");
    let cat = json(["predict", "--run", text(&run), text(&photo("chelsea.png")), "--json"]);
    assert_eq!(cat[0]["predictions"].as_array().map(Vec::len), Some(4));
}
