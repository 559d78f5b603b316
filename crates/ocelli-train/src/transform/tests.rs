use super::*;
use crate::rng::{Purpose, stream};

fn rng(item: u64) -> ChaCha8Rng {
    stream(1, Purpose::Augment, 0, item)
}

fn small(channels: usize) -> Preprocessing {
    let (mean, std) = (vec![0.5; channels], vec![0.25; channels]);
    Preprocessing { resize: 4, crop: 2, interpolation: Interpolation::Bilinear, mean, std }
}

#[test]
fn normalises_the_centre() {
    let picture = Picture::new(4, 4, 3, (0..48).collect()).unwrap();
    let mut row = [0.0; 12];
    Transform::new(&small(3), None).unwrap().apply(&picture, &mut rng(0), &mut row).unwrap();
    for (at, pixel) in [(0, 5), (1, 6), (2, 9), (3, 10)] {
        for c in 0..3 {
            assert_eq!(row[at * 3 + c], ((pixel * 3 + c) as f32 / 255.0 - 0.5) / 0.25);
        }
    }
}

#[test]
fn grey_and_colour_are_converted() {
    let grey = Picture::new(4, 4, 1, vec![51; 16]).unwrap();
    let mut row = [0.0; 12];
    Transform::new(&small(3), None).unwrap().apply(&grey, &mut rng(0), &mut row).unwrap();
    assert!(row.iter().all(|&v| (v + 1.2).abs() < 1e-6), "{row:?}");

    let colour = Picture::new(4, 4, 3, vec![51; 48]).unwrap();
    let mut row = [0.0; 4];
    Transform::new(&small(1), None).unwrap().apply(&colour, &mut rng(0), &mut row).unwrap();
    assert!(row.iter().all(|&v| (v + 1.2).abs() < 1e-6), "{row:?}");
}

#[test]
fn augmentation_depends_on_its_stream_alone() {
    let preprocessing = Preprocessing { resize: 16, crop: 16, ..small(1) };
    let picture = Picture::new(20, 16, 1, (0..320).map(|i| (i * 7 % 256) as u8).collect()).unwrap();
    for augment in [Augment::photos(), Augment::digits()] {
        let rows = |items: &[u64]| -> Vec<Vec<f32>> {
            let mut transform = Transform::new(&preprocessing, Some(&augment)).unwrap();
            let mut row = vec![0.0; preprocessing.row_len()];
            let apply = |&item: &u64| {
                transform.apply(&picture, &mut rng(item), &mut row).unwrap();
                row.clone()
            };
            items.iter().map(apply).collect()
        };
        let (forward, backward) = (rows(&[0, 1, 2, 3, 4]), rows(&[4, 3, 2, 1, 0]));
        assert!(forward.iter().eq(backward.iter().rev()));
        assert!(forward.windows(2).any(|pair| pair[0] != pair[1]));
    }
}

#[test]
fn wrong_settings_are_errors() {
    for wrong in [
        Preprocessing { crop: 5, ..small(3) },
        Preprocessing { crop: 0, ..small(3) },
        Preprocessing { std: vec![0.0; 3], ..small(3) },
        Preprocessing { mean: vec![0.0; 2], ..small(3) },
    ] {
        assert!(Transform::new(&wrong, None).is_err(), "{wrong:?}");
    }
}
