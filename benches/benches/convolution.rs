//! Convolutions of ResNet-50 by each algorithm, and matrix products beside the `matrixmultiply` crate.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ocelli_benches::layers::{Layer, RESNET50};
use ocelli_benches::random;
use ocelli_tensor::ops::conv::{Algorithm, with_algorithm};
use ocelli_tensor::ops::{Window, conv2d, conv2d_backward_input, conv2d_backward_weight, matmul};
use ocelli_tensor::threads;

fn convolutions(c: &mut Criterion) {
    for layer in RESNET50.iter().filter(|layer| layer.kernel == 3) {
        let Layer { size, cin, cout, kernel, stride, groups, .. } = *layer;
        let window = Window::square(kernel).stride(stride).padding(kernel / 2);
        let (x, w) = (random([1, size, size, cin]), random([kernel, kernel, cin, cout]));
        let out = size.div_ceil(stride);
        let dy = random([1, out, out, cout]);
        let mut group = c.benchmark_group(format!("{size}x{size}x{cin}-{cout}, {kernel}x{kernel}/{stride}"));
        group.throughput(Throughput::Elements((out * out * cout * kernel * kernel * cin) as u64));
        for algorithm in [Algorithm::Direct, Algorithm::Winograd, Algorithm::Im2col] {
            group.bench_function(BenchmarkId::new("forward", format!("{algorithm:?}")), |b| {
                b.iter(|| with_algorithm(algorithm, || black_box(conv2d(&x, &w, &window, groups))));
            });
        }
        for algorithm in [Algorithm::Direct, Algorithm::Winograd] {
            group.bench_function(BenchmarkId::new("backward input", format!("{algorithm:?}")), |b| {
                let pass = || conv2d_backward_input(&dy, &w, x.shape(), &window, groups);
                b.iter(|| with_algorithm(algorithm, || black_box(pass())));
            });
            group.bench_function(BenchmarkId::new("backward weight", format!("{algorithm:?}")), |b| {
                let pass = || conv2d_backward_weight(&x, &dy, w.shape(), &window, groups);
                b.iter(|| with_algorithm(algorithm, || black_box(pass())));
            });
        }
    }
}

fn products(c: &mut Criterion) {
    // One thread, as the other has.
    threads::set(1);
    for [m, k, n] in [[1024, 1024, 1024], [196, 2304, 256], [3136, 64, 256]] {
        let (a, b) = (random([m, k]), random([k, n]));
        let mut out = vec![0.0f32; m * n];
        let mut group = c.benchmark_group(format!("{m}x{k} by {k}x{n}"));
        group.throughput(Throughput::Elements((m * k * n) as u64));
        group.bench_function("ocelli", |bench| bench.iter(|| black_box(matmul(&a, &b))));
        group.bench_function("matrixmultiply", |bench| {
            bench.iter(|| {
                let (a, b, c) = (a.data().as_ptr(), b.data().as_ptr(), out.as_mut_ptr());
                let [ra, rb] = [k as isize, n as isize];
                // SAFETY: a is m × k, b is k × n and c is m × n, all row-major.
                unsafe { matrixmultiply::sgemm(m, k, n, 1.0, a, ra, 1, b, rb, 1, 0.0, c, rb, 1) }
            });
        });
    }
    threads::set(0);
}

criterion_group!(benches, convolutions, products);
criterion_main!(benches);
