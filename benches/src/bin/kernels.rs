//! Prints a table of kernels: shape, milliseconds, GFLOP/s, share of this machine's peak measured in the same run.
//!
//! `cargo run --release -p ocelli-benches --bin kernels [NETWORK] [BATCH] [THREADS]`

use std::hint::black_box;

use ocelli_benches::layers::{self, Layer};
use ocelli_benches::{peak, time};
use ocelli_tensor::ops::{Window, conv2d, conv2d_backward_input, conv2d_backward_weight};
use ocelli_tensor::{Tensor, simd, threads};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let network = arguments.next().unwrap_or_else(|| "resnet50".into());
    let mut number = |default: usize| arguments.next().and_then(|a| a.parse().ok()).unwrap_or(default);
    let (batch, count) = (number(1), number(0));
    let layers = match network.as_str() {
        "resnet50" => layers::RESNET50,
        "resnet18" => layers::RESNET18,
        other => {
            eprintln!("error: no shapes of {other}; there are resnet50 and resnet18");
            std::process::exit(1);
        }
    };
    threads::set(count);
    threads::install(|| table(layers, batch));
}

fn table(layers: &[Layer], batch: usize) {
    let peak = peak::gflops();
    println!(
        "{} threads, {}: peak {peak:.0} GFLOP/s, copy {:.1} GB/s",
        threads::count(),
        simd::current().name(),
        peak::copy_bandwidth()
    );
    println!("{:<36}{:>10}{:>10}{:>8}", "convolution", "ms", "GFLOP/s", "% peak");
    let passes = ["forward", "backward input", "backward weight"];
    let mut totals = [(0.0, 0.0); 3];
    for layer in layers {
        let flops = print(layer, batch);
        for (pass, total) in totals.iter_mut().enumerate() {
            let ms = run(layer, batch, pass);
            total.0 += ms * layer.count as f64;
            total.1 += flops * layer.count as f64;
            row(passes[pass], ms, flops, peak);
        }
    }
    println!("total over all layers");
    for (pass, (ms, flops)) in passes.iter().zip(totals).filter(|(_, total)| total.0 > 0.0) {
        row(pass, ms, flops, peak);
    }
}

fn print(layer: &Layer, batch: usize) -> f64 {
    let Layer { size, cin, cout, kernel, stride, groups, count } = *layer;
    println!("{batch}×{size}×{size}×{cin} → {cout}, {kernel}×{kernel} / {stride}   (×{count})");
    let out = size.div_ceil(stride);
    2.0 * (batch * out * out * cout * kernel * kernel * cin / groups) as f64
}

fn row(name: &str, ms: f64, flops: f64, peak: f64) {
    let gflops = flops / ms / 1e6;
    println!("  {name:<34}{ms:>10.3}{gflops:>10.1}{:>8.1}", 100.0 * gflops / peak);
}

/// Milliseconds of a layer's forward pass (0), or its backward pass to the input (1) or the weights (2).
fn run(layer: &Layer, batch: usize, pass: usize) -> f64 {
    let Layer { size, cin, cout, kernel, stride, groups, .. } = *layer;
    let window = Window::square(kernel).stride(stride).padding(kernel / 2);
    let random = |shape: [usize; 4]| Tensor::from_fn(shape, |i| (i * 7919 % 2003) as f32 / 1001.5 - 1.0);
    let x = random([batch, size, size, cin]);
    let w = random([kernel, kernel, cin / groups, cout]);
    let out = size.div_ceil(stride);
    let dy = random([batch, out, out, cout]);
    let (_, median) = time(5, || {
        let result = match pass {
            0 => conv2d(&x, &w, &window, groups),
            1 => conv2d_backward_input(&dy, &w, x.shape(), &window, groups),
            _ => conv2d_backward_weight(&x, &dy, w.shape(), &window, groups),
        };
        black_box(result.expect("a sound layer"));
    });
    median * 1e3
}
