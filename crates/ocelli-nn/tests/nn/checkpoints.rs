//! Checkpoint files: those that PyTorch wrote (see `fixtures/make.py`), our own, and damaged ones.

use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use ocelli_nn::checkpoint::{Checkpoint, Dtype, write_atomically};
use ocelli_nn::tensor::Tensor;
use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// What `fixtures/make.py` saved.
fn expected() -> Vec<(&'static str, Dtype, Vec<usize>, Vec<f32>)> {
    vec![
        ("f32", Dtype::F32, vec![2, 3], vec![0.0, 0.25, 0.5, 0.75, 1.0, 1.25]),
        ("f16", Dtype::F16, vec![3], vec![1.5, -2.0, 65504.0]),
        ("bf16", Dtype::Bf16, vec![2, 1], vec![0.5, 3.0]),
        ("f64", Dtype::F64, vec![2], vec![0.25, f32::INFINITY]),
        ("i64", Dtype::I64, vec![], vec![41.0]),
        ("u8", Dtype::U8, vec![2], vec![0.0, 255.0]),
        ("transposed", Dtype::F32, vec![3, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]),
        ("slice", Dtype::F32, vec![4], vec![8.0, 9.0, 10.0, 11.0]),
        ("columns", Dtype::F32, vec![3, 2], vec![1.0, 2.0, 5.0, 6.0, 9.0, 10.0]),
        ("parameter", Dtype::F32, vec![1], vec![7.0]),
        ("empty", Dtype::F32, vec![0, 4], vec![]),
    ]
}

#[test]
fn both_of_pytorchs_kinds_are_read() {
    for file in ["tiny.pth", "tiny-stream.pth"] {
        let checkpoint = Checkpoint::read(fixture(file)).unwrap();
        let read: Vec<_> = checkpoint
            .iter()
            .map(|(name, e)| (name, e.dtype, e.tensor.shape().to_vec(), e.tensor.data().to_vec()))
            .collect();
        assert_eq!(read, expected(), "{file}");
    }
}

#[test]
fn a_pickled_module_is_refused_by_name() {
    let error = Checkpoint::read(fixture("module.pth")).unwrap_err().to_string();
    assert!(error.contains("module.pth: the checkpoint refers to `torch.nn.modules.linear.Linear`"), "{error}");
}

#[test]
fn safetensors_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let mut checkpoint = Checkpoint::read(fixture("tiny.pth")).unwrap();
    checkpoint.metadata.insert("source".into(), "fixtures/make.py".into());
    checkpoint.write(&path).unwrap();
    let read = Checkpoint::read(&path).unwrap();
    assert_eq!(read.metadata, checkpoint.metadata);
    assert_eq!(read.len(), checkpoint.len());
    for (name, entry) in checkpoint.iter() {
        assert_eq!(read.get(name), Some(entry), "{name}");
    }
}

#[test]
fn sixteen_bit_files_keep_what_does_not_fit() {
    let mut checkpoint = Checkpoint::new();
    checkpoint.insert("small", Tensor::from_slice([2], &[0.1, f32::NAN]).unwrap());
    checkpoint.insert("large", Tensor::full([1], 1e6));
    checkpoint.insert_as("count", Dtype::I64, Tensor::scalar(3.0));
    checkpoint.store_floats_as(Dtype::F16);
    let read = Checkpoint::from_bytes(&checkpoint.to_bytes().unwrap()).unwrap();
    let types = ["small", "large", "count"].map(|name| read.get(name).unwrap().dtype);
    assert_eq!(types, [Dtype::F16, Dtype::F32, Dtype::I64]);
    assert_eq!(read.get("small").unwrap().tensor.data()[0], half::f16::from_f32(0.1).to_f32());
    assert_eq!(read.get("large").unwrap().tensor.data(), [1e6]);
}

#[test]
fn renaming_and_retaining_keep_the_order() {
    let mut checkpoint = Checkpoint::new();
    ["b", "a", "c"].iter().for_each(|name| checkpoint.insert(*name, Tensor::scalar(0.0)));
    checkpoint.retain(|name| name != "a");
    let renamed = checkpoint.clone().renamed(|i, name| format!("{i}.{name}")).unwrap();
    assert_eq!(renamed.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["0.b", "1.c"]);
    assert!(renamed.get("1.c").is_some() && renamed.get("a").is_none());
    assert_eq!(
        checkpoint.renamed(|_, _| "x".into()).unwrap_err().to_string(),
        "the name `x` is given to two tensors of one model"
    );
}

#[test]
fn files_that_are_no_checkpoints_say_so() {
    let neither = "not a readable checkpoint: it is neither a safetensors file nor a PyTorch checkpoint (a zip archive \
                   or PyTorch's pickle stream)";
    for bytes in [&b""[..], b"P", b"\x89PNG\r\n\x1a\n and so on", b"\x80\x04\x95 a plain pickle"] {
        assert_eq!(Checkpoint::from_bytes(bytes).unwrap_err().to_string(), neither);
    }
    let missing = Checkpoint::read("no/such/file.pth").unwrap_err().to_string();
    assert!(missing.starts_with("no/such/file.pth: "), "{missing}");
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    write_atomically(&path, b"old").unwrap();
    write_atomically(&path, b"new").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    assert!(write_atomically(folder.path().join("missing/a"), b"new").is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
}

/// `tiny.pth`, written anew with each of its files as `edit` leaves it (`None`: left out).
fn edited(compression: CompressionMethod, edit: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut archive = ZipArchive::new(Cursor::new(std::fs::read(fixture("tiny.pth")).unwrap())).unwrap();
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for i in 0..archive.len() {
        let mut file = archive.by_index(i).unwrap();
        let (name, mut content) = (file.name().unwrap().into_owned(), Vec::new());
        file.read_to_end(&mut content).unwrap();
        if let Some(content) = edit(&name, content) {
            writer.start_file(name, SimpleFileOptions::default().compression_method(compression)).unwrap();
            writer.write_all(&content).unwrap();
        }
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn archives_that_pytorch_would_not_write_are_refused() {
    let replace = |name: &'static str, content: &'static [u8]| {
        edited(CompressionMethod::Stored, move |n, old| Some(if n == name { content.to_vec() } else { old }))
    };
    let without = |name: &'static str| edited(CompressionMethod::Stored, move |n, old| (n != name).then_some(old));
    assert!(Checkpoint::from_bytes(&replace("", b"")).is_ok(), "a plain copy is fine");
    assert!(Checkpoint::from_bytes(&without("tiny/byteorder")).is_ok(), "older versions wrote no byte order");
    for (bytes, expected) in [
        (replace("tiny/byteorder", b"big"), r#"its byte order is "big", and only "little" is supported"#),
        (replace("tiny/data/0", &[0; 23]), r#"tensor "f32" reaches beyond the bytes of its storage"#),
        (without("tiny/data/7"), "its tiny/data/7 is missing"),
        (without("tiny/data.pkl"), "it is a zip archive without a data.pkl, thus not one of PyTorch's"),
        (
            edited(CompressionMethod::Deflated, |_, content| Some(content)),
            "its tiny/byteorder is compressed, which PyTorch's own archives are not",
        ),
    ] {
        let error = Checkpoint::from_bytes(&bytes).unwrap_err().to_string();
        assert_eq!(error, format!("not a readable checkpoint: {expected}"));
    }
    let mut damaged = std::fs::read(fixture("tiny.pth")).unwrap();
    let storage = damaged.windows(4).position(|bytes| bytes == 1.25f32.to_le_bytes()).unwrap();
    damaged[storage] ^= 1;
    let error = Checkpoint::from_bytes(&damaged).unwrap_err().to_string();
    assert!(error.contains("tiny/data/0") && error.contains("checksum"), "{error}");
}

fn files() -> Vec<Vec<u8>> {
    let tiny = Checkpoint::read(fixture("tiny.pth")).unwrap();
    let mut files: Vec<_> =
        ["tiny.pth", "tiny-stream.pth"].iter().map(|file| std::fs::read(fixture(file)).unwrap()).collect();
    files.push(tiny.to_bytes().unwrap());
    files
}

#[test]
fn every_truncation_is_an_error() {
    for file in files() {
        for length in 0..file.len() {
            assert!(Checkpoint::from_bytes(&file[..length]).is_err(), "cut to {length} of {}", file.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any answer will do, but no panic, and none that is much larger than the file.
    #[test]
    fn damaged_files_never_panic(file in 0usize..3, flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = files().swap_remove(file);
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(checkpoint) = Checkpoint::from_bytes(&bytes) {
            let elements: usize = checkpoint.iter().map(|(_, entry)| entry.tensor.len()).sum();
            prop_assert!(elements <= 4 * bytes.len());
        }
    }
}
