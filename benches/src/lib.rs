//! What the benchmarks share: this machine's peaks, the networks' layer shapes, and a clock.

pub mod layers;
pub mod peak;

use std::time::{Duration, Instant};

/// The median and the least time of a call, in seconds: at least `runs` calls and a fifth of a second, after a warm-up.
pub fn time(runs: usize, mut f: impl FnMut()) -> (f64, f64) {
    f();
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < runs || start.elapsed() < Duration::from_millis(200) {
        let start = Instant::now();
        f();
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[0])
}
