//! The most that this machine's arithmetic can do, to compare kernels with.

use std::hint::black_box;
use std::time::Instant;

use crate::simd::{self, Kernel, Simd};
use crate::threads;

/// GFLOP/s of independent fused multiply-adds in f32 on so many threads of the pool, on the current instruction set: the
/// median of about 20 ms. A multiply-add counts as two operations.
pub fn fma_gflops(threads: usize) -> f64 {
    let mut speeds = [(); 11].map(|()| {
        let start = Instant::now();
        let operations: usize = threads::map(threads, |_| black_box(simd::dispatch(Chains)).1).iter().sum();
        operations as f64 / start.elapsed().as_secs_f64() / 1e9
    });
    speeds.sort_by(f64::total_cmp);
    speeds[speeds.len() / 2]
}

/// As many chains of multiply-adds as hide the latency of each.
struct Chains;

impl Kernel<f32> for Chains {
    type Output = (f32, usize);

    #[inline(always)]
    fn run<S: Simd<f32>>(self, simd: S) -> (f32, usize) {
        const CHAINS: usize = 12;
        const ROUNDS: usize = 1_000_000;
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
