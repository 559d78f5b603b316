//! Deformable convolution, 3×3, 64 to 64 channels at 56×56, with offsets of up to two pixels, beside the plain direct
//! convolution. `benches/peers/bench_deform.py` times torchvision's.

use std::hint::black_box;

use ocelli_benches::clock::{Sample, in_turns};
use ocelli_tensor::Tensor;
use ocelli_tensor::ops::conv::{Algorithm, with_algorithm};
use ocelli_tensor::ops::{
    DeformConv2d, Window, conv2d, conv2d_backward_input, conv2d_backward_weight, deform_conv2d,
    deform_conv2d_backward_input, deform_conv2d_backward_weight,
};

const SIZE: usize = 56;
const CHANNELS: usize = 64;

/// Uniform in ±reach, and without the regularity that would let a cache help.
fn random(shape: [usize; 4], reach: f32) -> Tensor {
    Tensor::from_fn(shape, |i| {
        let z = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((z >> 40) as f32 / (1 << 23) as f32 - 1.0) * reach
    })
}

/// Prints all passes of both.
pub fn table(batch: usize) {
    with_algorithm(Algorithm::Direct, || passes(batch));
}

fn passes(batch: usize) {
    println!("\n{:<28}{:>12}{:>14}{:>10}", format!("3×3, batch {batch}"), "plain ms", "deformable ms", "ratio");
    let attributes = DeformConv2d { window: Window::square(3).padding(1), groups: 1, offset_groups: 1 };
    let image = |columns| [batch, SIZE, SIZE, columns];
    let (x, dy, w) =
        (random(image(CHANNELS), 1.0), random(image(CHANNELS), 1.0), random([3, 3, CHANNELS, CHANNELS], 1.0));
    let (offset, mask) = (random(image(18), 2.0), random(image(9), 1.0));
    let (window, mask) = (&attributes.window, Some(&mask));
    let forward = in_turns([&mut || drop(black_box(conv2d(&x, &w, window, 1))), &mut || {
        drop(black_box(deform_conv2d(&x, &offset, mask, &w, &attributes)))
    }]);
    let input = in_turns([&mut || drop(black_box(conv2d_backward_input(&dy, &w, x.shape(), window, 1))), &mut || {
        drop(black_box(deform_conv2d_backward_input(&dy, &x, &offset, mask, &w, &attributes)))
    }]);
    let weight =
        in_turns([&mut || drop(black_box(conv2d_backward_weight(&x, &dy, w.shape(), window, 1))), &mut || {
            drop(black_box(deform_conv2d_backward_weight(&dy, &x, &offset, mask, w.shape(), &attributes)))
        }]);
    let row = |name: &str, [plain, deformable]: [f64; 2]| {
        println!("{name:<28}{plain:>12.3}{deformable:>14.3}{:>10.2}", deformable / plain);
    };
    let [forward, input, weight] = [forward, input, weight].map(|samples| samples.map(|sample: Sample| sample.ms()));
    row("forward", forward);
    row("backward to the input", input);
    row("backward to the weights", weight);
    row("forward and backward", [0, 1].map(|i| forward[i] + input[i] + weight[i]));
}
