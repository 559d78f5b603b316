//! Checkpoints: converted, run, and refused.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{fails, succeeds};
use ocelli_train::zoo::nn::checkpoint::{Checkpoint, Dtype};
use ocelli_train::zoo::nn::tensor::Tensor;
use ocelli_train::zoo::{Model, Options};

/// A ResNet-8 for three classes of grey pictures.
fn weights() -> Checkpoint {
    let model = Model::new("resnet8", Options { classes: 3, in_channels: 1 }, 7).unwrap();
    model.state().to_checkpoint().unwrap()
}

fn saved(folder: &Path, name: &str, checkpoint: &Checkpoint) -> PathBuf {
    let path = folder.join(name);
    checkpoint.write(&path).unwrap();
    path
}

/// `ocelli forward` on pictures `[2, 1, 12, 10]`.
fn forward<'a>(weights: &'a Path, input: &'a Path, output: &'a Path) -> [&'a str; 9] {
    let text = |path: &'a Path| path.to_str().unwrap();
    let (weights, input, output) = (text(weights), text(input), text(output));
    ["forward", "--model", "resnet8", "--weights", weights, "--input", input, "--output", output]
}

fn input(folder: &Path, dims: &[usize]) -> PathBuf {
    let mut file = Checkpoint::new();
    let shape = ocelli_train::zoo::nn::tensor::Shape::new(dims).unwrap();
    file.insert("input", Tensor::from_fn(shape, |i| (i as f32 * 0.7).sin()));
    saved(folder, "x.safetensors", &file)
}

/// The same tensors under names of another library's: numbers, which sort as the model's tensors are ordered.
fn numbered(checkpoint: &Checkpoint) -> Checkpoint {
    let mut numbered = Checkpoint::new();
    for (i, (_, entry)) in checkpoint.iter().enumerate() {
        numbered.insert(format!("{i:03}"), entry.tensor.clone());
    }
    numbered
}

#[test]
fn forward_takes_classes_and_channels_from_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, output) = (saved(folder.path(), "w.safetensors", &weights()), folder.path().join("y.safetensors"));
    let input = input(folder.path(), &[2, 1, 12, 10]);
    assert_eq!(succeeds(forward(&weights, &input, &output)), "");
    let logits = Checkpoint::read(&output).unwrap();
    let first = logits.get("logits").unwrap().clone();
    assert_eq!((**first.tensor.shape()).to_vec(), [2, 3]);
    succeeds(forward(&weights, &input, &output).into_iter().chain(["--threads", "1"]));
    assert_eq!(Checkpoint::read(&output).unwrap().get("logits"), Some(&first), "the same bits with one thread");
}

#[test]
fn forward_refuses_other_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let weights = saved(folder.path(), "w.safetensors", &weights());
    let output = folder.path().join("y.safetensors");
    let rank = input(folder.path(), &[2, 12, 10]);
    assert!(fails(forward(&weights, &rank, &output)).contains("not [N, channels, height, width]"));
    let colour = input(folder.path(), &[2, 3, 12, 10]);
    assert!(fails(forward(&weights, &colour, &output)).contains("1 channels, got"));
    assert!(fails(forward(&weights, &weights, &output)).contains("no tensor `input` (found: "));
    assert!(fails(forward(&weights, &folder.path().join("no"), &output)).contains("no: "));
    assert!(!output.exists());
}

#[test]
fn truncated_and_foreign_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let input = input(folder.path(), &[1, 1, 8, 8]);
    let output = folder.path().join("y.safetensors");
    let whole = weights().to_bytes().unwrap();
    for (name, bytes) in [
        ("half.safetensors", &whole[..whole.len() / 2]),
        ("head.safetensors", &whole[..6]),
        ("empty.pth", &[]),
        ("text.pth", b"these are no weights, these are words"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let error = fails(forward(&path, &input, &output));
        assert!(error.contains(name) && error.contains("not a readable checkpoint"), "{error}");
    }
}

#[test]
fn a_wrong_checkpoint_is_answered_with_every_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = weights();
    wrong.retain(|name| name != "layer1.0.bn1.bias" && name != "layer2.0.conv1.weight");
    wrong.insert("head.weight", Tensor::zeros([2]));
    wrong.insert("layer3.0.conv2.weight", Tensor::zeros([64, 64, 5, 5]));
    let wrong = saved(folder.path(), "wrong.safetensors", &wrong);
    let input = input(folder.path(), &[1, 1, 8, 8]);
    let error = fails(forward(&wrong, &input, &folder.path().join("y")));
    let parts = [
        "wrong.safetensors: the checkpoint does not fit the model: ",
        "2 missing (layer1.0.bn1.bias, layer2.0.conv1.weight)",
        "1 unexpected (head.weight)",
        "1 misshaped (layer3.0.conv2.weight [64, 64, 5, 5] instead of [64, 64, 3, 3])",
    ];
    for part in parts {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn convert_shortens_renames_and_describes() {
    let folder = tempfile::tempdir().unwrap();
    let renamed = numbered(&weights());
    let path = saved(folder.path(), "in.safetensors", &renamed);
    let out = folder.path().join("out.safetensors");
    let [from, to] = [&path, &out].map(|path| path.to_str().unwrap());
    let options = ["--model", "resnet8", "--dtype", "f16", "--meta", "license=CC0", "--meta", "a=b=c"];
    // Of other classes than the model's usual ones: the classifier can't be told before it has its name.
    assert!(fails(["convert", from, to].into_iter().chain(options)).contains("missing"));

    let text = succeeds(["convert", from, to, "--dtype", "f16", "--meta", "license=CC0", "--meta", "a=b=c"]);
    assert!(text.contains("out.safetensors: ") && text.contains(" tensors"), "{text}");
    let converted = Checkpoint::read(&out).unwrap();
    assert!(converted.iter().all(|(_, entry)| entry.dtype == Dtype::F16));
    assert_eq!((converted.metadata["license"].as_str(), converted.metadata["a"].as_str()), ("CC0", "b=c"));

    let usual = Model::new("resnet8", Options { classes: 10, in_channels: 3 }, 7).unwrap();
    numbered(&usual.state().to_checkpoint().unwrap()).write(&path).unwrap();
    let text = succeeds(["convert", from, to].into_iter().chain(options));
    assert!(text.contains("named as resnet8's by their order"), "{text}");
    usual.load(&Checkpoint::read(&out).unwrap()).unwrap();
}
