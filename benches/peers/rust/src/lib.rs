//! What the programs here share: their arguments, how they measure, and graphs for engines that read no ONNX.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, fs, io};

pub mod graph;

const CHANNELS: usize = 3;
const SIZE: usize = 224;
const WARM_UP: usize = 3;
const LEAST_RUNS: usize = 10;

/// What to measure: `MODEL INPUT EXPECTED BATCH THREADS MIN_SECONDS`, files of which the second and third are raw f32.
pub struct Job {
    pub model: PathBuf,
    pub input: Vec<f32>,
    /// Of the input: N, C, H, W.
    pub shape: [usize; 4],
    pub threads: usize,
    expected: Vec<f32>,
    min_seconds: f64,
}

impl Job {
    pub fn from_arguments() -> Self {
        let arguments: Vec<String> = env::args().skip(1).collect();
        let [model, input, expected, batch, threads, min_seconds] = arguments.as_slice() else {
            panic!("arguments: MODEL INPUT EXPECTED BATCH THREADS MIN_SECONDS");
        };
        Self {
            model: model.into(),
            input: floats(input).expect("the input's file"),
            shape: [batch.parse().expect("BATCH"), CHANNELS, SIZE, SIZE],
            threads: threads.parse().expect("THREADS"),
            expected: floats(expected).expect("the expected outputs' file"),
            min_seconds: min_seconds.parse().expect("MIN_SECONDS"),
        }
    }

    /// Prints the median time of `infer` in milliseconds. Panics if its logits are others than expected.
    pub fn measure(&self, mut infer: impl FnMut() -> Vec<f32>) {
        for _ in 0..WARM_UP {
            self.check(&infer());
        }
        let (mut times, mut total) = (Vec::new(), 0.0);
        while times.len() < LEAST_RUNS || total < self.min_seconds {
            let start = Instant::now();
            black_box(infer());
            let seconds = start.elapsed().as_secs_f64();
            times.push(seconds);
            total += seconds;
        }
        times.sort_by(f64::total_cmp);
        let middle = times.len() / 2;
        println!("{}", 1e3 * (times[middle] + times[(times.len() - 1) / 2]) / 2.0);
    }

    fn check(&self, logits: &[f32]) {
        assert_eq!(logits.len(), self.expected.len(), "number of logits");
        let largest = self.expected.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
        for (logit, expected) in logits.iter().zip(&self.expected) {
            assert!((logit - expected).abs() <= 1e-3 * largest, "a logit is {logit}, not {expected}");
        }
    }
}

fn floats(path: impl AsRef<Path>) -> io::Result<Vec<f32>> {
    Ok(fs::read(path)?.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect())
}
