//! Batch normalisation and softmax.

use ocelli_tensor::Tensor;
use ocelli_tensor::ops::{
    batch_norm, batch_norm_backward, batch_norm_backward_frozen, batch_norm_stats, log_softmax, softmax,
    softmax_backward, softmax_cross_entropy, softmax_cross_entropy_backward,
};

use super::{BLOCK, Stream, call, sound, stream};
use crate::random;

const EPS: f64 = 1e-5;
/// Logits of ImageNet's classes: 98 MiB.
const LOGITS: [usize; 2] = [25_600, 1000];

pub(super) fn streams() -> Vec<Stream> {
    let columns = |value: f32| Tensor::full([BLOCK[3]], value);
    let (mean, var, gamma, beta) = (columns(0.0), columns(0.3), columns(1.0), columns(0.1));
    let parameters = move || (mean.clone(), var.clone(), gamma.clone(), beta.clone());
    let [inference, training, backward, frozen] = [(); 4].map(|()| parameters());
    vec![
        stream("batch norm, inference", BLOCK, 2.0, move |shape| {
            let (x, (mean, var, gamma, beta)) = (random(shape), inference);
            sound(move || batch_norm(&x, &mean, &var, &gamma, &beta, EPS))
        }),
        stream("batch norm, statistics", BLOCK, 1.0, |shape| {
            let x = random(shape);
            sound(move || batch_norm_stats(&x))
        }),
        stream("batch norm, training", BLOCK, 3.0, move |shape| {
            let (x, (_, _, gamma, beta)) = (random(shape), training);
            sound(move || batch_norm_stats(&x).and_then(|(mean, var)| batch_norm(&x, &mean, &var, &gamma, &beta, EPS)))
        }),
        stream("batch norm backward", BLOCK, 5.0, move |shape| {
            let (x, dy, (mean, var, gamma, _)) = (random(shape), random(shape), backward);
            sound(move || batch_norm_backward(&x, &mean, &var, &gamma, EPS, &dy))
        }),
        stream("batch norm backward, frozen", BLOCK, 3.0, move |shape| {
            let (x, dy, (mean, var, gamma, _)) = (random(shape), random(shape), frozen);
            sound(move || batch_norm_backward_frozen(&x, &mean, &var, &gamma, EPS, &dy))
        }),
        stream("softmax", LOGITS, 2.0, |shape| {
            let x = random(shape);
            call(move || softmax(&x))
        }),
        stream("log softmax", LOGITS, 2.0, |shape| {
            let x = random(shape);
            call(move || log_softmax(&x))
        }),
        stream("softmax backward", LOGITS, 3.0, |shape| {
            let (y, dy) = (softmax(&random(shape)), random(shape));
            sound(move || softmax_backward(&y, &dy))
        }),
        stream("cross-entropy", LOGITS, 2.0, |shape| {
            let (x, targets) = (random(shape), vec![7; shape[0]]);
            sound(move || softmax_cross_entropy(&x, &targets, 0.1))
        }),
        stream("cross-entropy backward", LOGITS, 2.0, |shape| {
            let (y, targets) = (softmax(&random(shape)), vec![7; shape[0]]);
            sound(move || softmax_cross_entropy_backward(&y, &targets, 0.1, 1.0))
        }),
    ]
}
