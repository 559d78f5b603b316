//! 5,000 handwritten digits of MNIST, built in; their source and licence are in `data/README.md` of this crate.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use flate2::read::GzDecoder;

use super::{Data, Dataset, stratified};
use crate::{Error, Picture, Result};

static FILE: &[u8] = include_bytes!("../../data/digits.bin.gz");

const COUNT: usize = 5_000;
const SIDE: usize = 28;

/// Constant, so that accuracies of different runs are measured on the same digits.
const SPLIT_SEED: u64 = 5_000;

/// The embedded digits: 28 × 28 grey pixels, 10 classes, 4,000 for training and 1,000 for validation, every class
/// equally often in both. The split is always the same.
pub fn digits() -> Result<Data> {
    let mut bytes = Vec::with_capacity(COUNT * (1 + SIDE * SIDE));
    let read = GzDecoder::new(FILE).read_to_end(&mut bytes);
    read.map_err(Error::io(Path::new("embedded digits"), "read"))?;
    let (labels, pixels) = bytes.split_at(COUNT);
    let labels: Arc<[usize]> = labels.iter().map(|&label| label as usize).collect();
    let pixels: Arc<[u8]> = pixels.into();
    let (train, validation) = stratified(&labels, 10, 0.2, SPLIT_SEED);
    let part = |indices| Arc::new(Digits { labels: labels.clone(), pixels: pixels.clone(), indices });
    Ok(Data {
        source: "digits".into(),
        classes: (0..10).map(|digit| digit.to_string()).collect(),
        train: part(train),
        validation: part(validation),
    })
}

struct Digits {
    labels: Arc<[usize]>,
    pixels: Arc<[u8]>,
    indices: Vec<usize>,
}

impl Dataset for Digits {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn label(&self, index: usize) -> usize {
        self.labels[self.indices[index]]
    }

    fn picture(&self, index: usize) -> Result<Picture> {
        let start = self.indices[index] * SIDE * SIDE;
        Picture::new(SIDE, SIDE, 1, self.pixels[start..start + SIDE * SIDE].to_vec())
    }

    fn name(&self, index: usize) -> String {
        format!("digit {}", self.indices[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_file_is_whole() {
        let data = digits().unwrap();
        assert_eq!((data.train.len(), data.validation.len(), data.classes.len()), (4_000, 1_000, 10));
        for (part, each) in [(&data.train, 400), (&data.validation, 100)] {
            let mut counts = [0; 10];
            let mut ink = 0;
            for i in 0..part.len() {
                counts[part.label(i)] += 1;
                let picture = part.picture(i).unwrap();
                assert_eq!((picture.width(), picture.height(), picture.channels()), (28, 28, 1));
                ink += picture.pixels().iter().map(|&v| v as usize).sum::<usize>();
            }
            assert_eq!(counts, [each; 10]);
            // MNIST's mean grey is 33.3 of 255.
            let mean = ink as f64 / (part.len() * SIDE * SIDE) as f64;
            assert!((30.0..37.0).contains(&mean), "{mean}");
        }
    }
}
