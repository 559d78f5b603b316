//! Options that several commands share.

use std::path::PathBuf;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use ocelli_train::zoo::nn::tensor::threads;

/// A positive whole number that is small enough to be meant.
pub fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=1_000_000)
}

/// The number of threads.
#[derive(Debug, Args)]
pub struct Threads {
    /// Threads that compute [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    threads: Option<usize>,
}

impl Threads {
    /// Applies the setting, and returns the number of threads.
    pub fn apply(&self) -> usize {
        threads::set(self.threads.unwrap_or(0));
        threads::count()
    }
}

/// Which network.
#[derive(Debug, Args)]
pub struct NetworkChoice {
    /// The folder of a training run (see `ocelli train`)
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "weights"])]
    pub run: Option<PathBuf>,
    /// A model of `ocelli models`; published weights know theirs
    #[arg(long, value_name = "NAME", requires = "weights")]
    pub model: Option<String>,
    /// Its weights: safetensors, a PyTorch checkpoint, or a name of `ocelli models --weights`
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
}
