use super::*;
use crate::{Error, Picture};

/// Pictures whose grey is their number; every one in `damaged` cannot be read.
struct Numbers {
    count: usize,
    damaged: Vec<usize>,
}

impl Dataset for Numbers {
    fn len(&self) -> usize {
        self.count
    }

    fn label(&self, index: usize) -> usize {
        index
    }

    fn picture(&self, index: usize) -> Result<Picture> {
        if self.damaged.contains(&index) {
            return Err(Error::image(self.name(index), "damaged"));
        }
        Picture::new(28, 28, 1, vec![index as u8; 784])
    }

    fn name(&self, index: usize) -> String {
        format!("picture {index}")
    }
}

fn loader(count: usize, batch_size: usize, workers: usize, damaged: &[usize]) -> Loader {
    let augment = Some(Augment::digits());
    let options = LoaderOptions { batch_size, shuffle: true, augment, seed: 5, workers };
    let dataset = Arc::new(Numbers { count, damaged: damaged.to_vec() });
    Loader::new(dataset, Preprocessing::digits(), options).unwrap()
}

fn collect(batches: Batches) -> Vec<(Tensor, Vec<usize>, Vec<Skipped>)> {
    batches.map(|batch| (batch.images, batch.labels, batch.skipped)).collect()
}

#[test]
fn batches_do_not_depend_on_workers_or_where_an_epoch_is_taken_up() {
    let reference = collect(loader(37, 8, 1, &[]).epoch(2, 0));
    let sizes: Vec<usize> = reference.iter().map(|batch| batch.1.len()).collect();
    assert_eq!(sizes, [7, 7, 8, 7, 8]);
    let mut seen: Vec<usize> = reference.iter().flat_map(|batch| batch.1.clone()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..37).collect::<Vec<_>>());
    for workers in [2, 3, 9] {
        let loader = loader(37, 8, workers, &[]);
        assert_eq!(collect(loader.epoch(2, 0)), reference);
        assert_eq!(collect(loader.epoch(2, 3)), reference[3..]);
        assert_eq!(loader.epoch(2, 5).count(), 0);
    }
    assert_ne!(collect(loader(37, 8, 1, &[]).epoch(3, 0)), reference);
}

#[test]
fn damaged_pictures_are_left_out_and_named() {
    let batches = collect(loader(6, 2, 2, &[1, 3, 4]).epoch(0, 0));
    let mut labels: Vec<usize> = batches.iter().flat_map(|batch| batch.1.clone()).collect();
    labels.sort_unstable();
    assert_eq!(labels, [0, 2, 5]);
    let mut skipped: Vec<&str> = batches.iter().flat_map(|batch| &batch.2).map(|s| s.name.as_str()).collect();
    skipped.sort_unstable();
    assert_eq!(skipped, ["picture 1", "picture 3", "picture 4"]);
    for (images, labels, skipped) in &batches {
        assert_eq!(**images.shape(), [labels.len(), 28, 28, 1]);
        assert!(skipped.iter().all(|s| s.reason == format!("{}: damaged", s.name)));
    }
    let all = collect(loader(2, 2, 2, &[0, 1]).epoch(0, 0));
    assert_eq!(**all[0].0.shape(), [0, 28, 28, 1]);
}

#[test]
fn dropping_the_iterator_stops_the_threads() {
    let loader = loader(200, 2, 3, &[]);
    let dataset = loader.dataset.clone();
    let mut batches = loader.epoch(0, 0);
    batches.next().unwrap();
    drop(batches);
    drop(loader);
    assert_eq!(Arc::strong_count(&dataset), 1);
}
