//! Elementwise kernels and sums.

use ocelli_tensor::ops::{
    Activation, activation, activation_backward, add, add_assign, dropout_mask, mul, scale, sum_all, sum_rows,
};

use super::{BLOCK, Stream, call, sound, stream};
use crate::random;

pub(super) fn streams() -> Vec<Stream> {
    let forward = |name, curve| {
        stream(name, BLOCK, 2.0, move |shape| {
            let x = random(shape);
            call(move || activation(&x, curve))
        })
    };
    let backward = |name, curve| {
        stream(name, BLOCK, 3.0, move |shape| {
            let (saved, dy) = (random(shape), random(shape));
            sound(move || activation_backward(&saved, &dy, curve))
        })
    };
    vec![
        stream("add", BLOCK, 3.0, |shape| {
            let (a, b) = (random(shape), random(shape));
            sound(move || add(&a, &b))
        }),
        stream("add in place", BLOCK, 3.0, |shape| {
            let (mut a, b) = (random(shape), random(shape));
            sound(move || add_assign(&mut a, &b))
        }),
        stream("multiply", BLOCK, 3.0, |shape| {
            let (a, b) = (random(shape), random(shape));
            sound(move || mul(&a, &b))
        }),
        stream("multiply by a channel's factor", BLOCK, 2.0, |shape| {
            let (a, b) = (random(shape), random([shape[0], 1, 1, shape[3]]));
            sound(move || mul(&a, &b))
        }),
        stream("scale", BLOCK, 2.0, |shape| {
            let x = random(shape);
            call(move || scale(&x, 0.5))
        }),
        forward("relu", Activation::Relu),
        backward("relu backward", Activation::Relu),
        forward("relu6", Activation::Relu6),
        forward("silu", Activation::Silu),
        backward("silu backward", Activation::Silu),
        forward("sigmoid", Activation::Sigmoid),
        stream("dropout mask", BLOCK, 1.0, |shape| {
            let shape = *shape;
            sound(move || dropout_mask::<f32>(&shape, 0.2, 7))
        }),
        stream("sum of all", BLOCK, 1.0, |shape| {
            let x = random(shape);
            call(move || sum_all(&x))
        }),
        stream("sum of rows", BLOCK, 1.0, |shape| {
            let x = random(shape);
            call(move || sum_rows(&x))
        }),
    ]
}
