//! This machine's peaks: fused multiply-adds from registers, and copying between buffers that no cache holds.

use std::hint::black_box;

use ocelli_tensor::simd::{self, Kernel, Simd};
use ocelli_tensor::threads;

use crate::time;

/// GFLOP/s of independent fused multiply-adds on all threads of the pool, on the current instruction set.
pub fn gflops() -> f64 {
    const ROUNDS: usize = 200_000;
    struct Fma;
    impl Kernel<f32> for Fma {
        type Output = (f32, usize);
        #[inline(always)]
        fn run<S: Simd<f32>>(self, simd: S) -> (f32, usize) {
            const CHAINS: usize = 12;
            let mut acc = [simd.splat(1.0); CHAINS];
            let (x, y) = (simd.splat(black_box(0.999)), simd.splat(black_box(0.001)));
            for _ in 0..ROUNDS {
                for acc in &mut acc {
                    *acc = simd.mul_add(*acc, x, y);
                }
            }
            let sum = acc.into_iter().fold(simd.splat(0.0), |sum, x| simd.add(sum, x));
            (simd.reduce_add(sum), 2 * ROUNDS * CHAINS * S::LANES)
        }
    }
    let tasks = threads::count();
    let mut flops = 0;
    let (_, seconds) = time(20, || {
        flops = threads::map(tasks, |_| black_box(simd::dispatch(Fma)).1).iter().sum();
    });
    flops as f64 / seconds / 1e9
}

/// GB/s read plus written when copying 64 MiB on all threads of the pool.
pub fn copy_bandwidth() -> f64 {
    const BYTES: usize = 64 << 20;
    const CHUNK: usize = 1 << 18;
    let from = vec![1.0f32; BYTES / 4];
    let mut to = vec![0.0f32; BYTES / 4];
    let (_, seconds) = time(10, || {
        threads::for_each_chunk(&mut to, CHUNK, |i, to| to.copy_from_slice(&from[i * CHUNK..][..to.len()]));
        black_box(&to);
    });
    2.0 * BYTES as f64 / seconds / 1e9
}
