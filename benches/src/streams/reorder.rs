//! Joining and splitting channels.

use ocelli_tensor::ops::{concat_columns, split_columns};

use super::{BLOCK, Stream, sound, stream};
use crate::random;

pub(super) fn streams() -> Vec<Stream> {
    vec![
        stream("concat of 224 and 32 channels", BLOCK, 2.0, |shape| {
            let (a, b) = (random(shape.with_columns(224)), random(shape.with_columns(32)));
            sound(move || concat_columns(&[&a, &b]))
        }),
        stream("split to 224 and 32 channels", BLOCK, 2.0, |shape| {
            let x = random(shape);
            sound(move || split_columns(&x, &[224, 32]))
        }),
    ]
}
