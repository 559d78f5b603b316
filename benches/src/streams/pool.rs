//! Pooling.

use ocelli_tensor::Shape;
use ocelli_tensor::ops::{
    Window, adaptive_avg_pool2d, avg_pool2d, avg_pool2d_backward, global_avg_pool2d, global_avg_pool2d_backward,
    max_pool2d, max_pool2d_backward, max_pool2d_values,
};

use super::{BLOCK, STEM, Stream, sound, stream};
use crate::random;

/// VGG's first pool, for 8 images: 98 MiB.
const VGG: [usize; 4] = [8, 224, 224, 64];
/// The pool within GoogLeNet's modules, for 128 images: 74 MiB.
const MODULE: [usize; 4] = [128, 28, 28, 192];
/// ResNet-50's last pixels, for 256 images: 98 MiB.
const LAST: [usize; 4] = [256, 7, 7, 2048];
/// AlexNet's last pixels, for 512 images: 84 MiB.
const ALEXNET: [usize; 4] = [512, 13, 13, 256];

pub(super) fn streams() -> Vec<Stream> {
    let (three, two) = (Window::square(3).padding(1), Window::square(2).stride(2));
    // A maximum's place is a byte, a quarter of a number.
    const PLACE: f64 = 0.25;
    let max = |name, shape, window: Window, outputs: f64| {
        stream(name, shape, 1.0 + outputs * (1.0 + PLACE), move |shape: &Shape| {
            let x = random(shape);
            sound(move || max_pool2d(&x, &window, false))
        })
    };
    let values = |name, shape, window: Window, outputs: f64| {
        stream(name, shape, 1.0 + outputs, move |shape: &Shape| {
            let x = random(shape);
            sound(move || max_pool2d_values(&x, &window, false))
        })
    };
    let max_backward = |name, shape, window: Window, outputs: f64| {
        stream(name, shape, 1.0 + outputs * (1.0 + PLACE), move |shape: &Shape| {
            let (shape, (y, places)) = (*shape, max_pool2d(&random(shape), &window, false).expect("a sound window"));
            sound(move || max_pool2d_backward(&y, &places, &shape, &window))
        })
    };
    vec![
        max("max pool 3×3 / 2, training", STEM, three.stride(2), 0.25),
        values("max pool 3×3 / 2, inference", STEM, three.stride(2), 0.25),
        max_backward("max pool 3×3 / 2 backward", STEM, three.stride(2), 0.25),
        max("max pool 2×2 / 2, training", VGG, two, 0.25),
        values("max pool 2×2 / 2, inference", VGG, two, 0.25),
        max_backward("max pool 2×2 / 2 backward", VGG, two, 0.25),
        max("max pool 3×3, training", MODULE, three, 1.0),
        values("max pool 3×3, inference", MODULE, three, 1.0),
        max_backward("max pool 3×3 backward", MODULE, three, 1.0),
        stream("average pool 2×2 / 2", BLOCK, 1.25, move |shape| {
            let x = random(shape);
            sound(move || avg_pool2d(&x, &two, false, true))
        }),
        stream("average pool 2×2 / 2 backward", BLOCK, 1.25, move |shape| {
            let (shape, dy) = (*shape, random([shape[0], shape[1] / 2, shape[2] / 2, shape[3]]));
            sound(move || avg_pool2d_backward(&dy, &shape, &two, false, true))
        }),
        stream("average pool 3×3", MODULE, 2.0, move |shape| {
            let x = random(shape);
            sound(move || avg_pool2d(&x, &three, false, true))
        }),
        stream("average pool 3×3 backward", MODULE, 2.0, move |shape| {
            let (shape, dy) = (*shape, random(shape));
            sound(move || avg_pool2d_backward(&dy, &shape, &three, false, true))
        }),
        stream("global average pool", LAST, 1.0, |shape| {
            let x = random(shape);
            sound(move || global_avg_pool2d(&x))
        }),
        stream("global average pool backward", LAST, 1.0, |shape| {
            let (shape, dy) = (*shape, random([shape[0], shape[3]]));
            sound(move || global_avg_pool2d_backward(&dy, &shape))
        }),
        stream("adaptive average pool to 6×6", ALEXNET, 1.0 + 36.0 / 169.0, |shape| {
            let x = random(shape);
            sound(move || adaptive_avg_pool2d(&x, [6, 6]))
        }),
    ]
}
