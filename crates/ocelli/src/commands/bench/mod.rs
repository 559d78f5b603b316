//! `ocelli bench`: how long a model takes here.

mod profile;
mod training;

use std::fs;
use std::time::{Duration, Instant};

use clap::Args;
use ocelli_train::zoo::nn::autograd::{Plan, Var};
use ocelli_train::zoo::nn::loss::cross_entropy;
use ocelli_train::zoo::nn::optim::{Optimizer, SgdOptions};
use ocelli_train::zoo::nn::tensor::{Tensor, threads};
use ocelli_train::zoo::nn::{self, Mode};
use ocelli_train::zoo::{Model, variant};
use serde::Serialize;

use self::profile::Step;
use crate::arguments::{Threads, at_least_one};
use crate::error::Result;
use crate::output::{Style, count, print_json, print_line};

const WARM_UPS: usize = 3;
const LEAST_RUNS: usize = 10;
const LEAST_TIME: Duration = Duration::from_secs(3);
/// Small, so that the weights stay finite on noise.
const LR: f64 = 1e-3;

/// Measure how long a model takes on this machine
#[derive(Debug, Args)]
#[command(after_help = "\
After 3 warm-ups at least 10 runs are taken and at least 3 seconds spent; the median counts. Inference is the compiled \
plan; a training run is forward, cross-entropy, backward and an SGD step with momentum. A multiply-accumulate counts as \
two operations, and training as three forward passes. The input is noise, the weights are random. With --int8, \
convolutions and fully connected layers multiply bytes, with ranges that are taken from the same noise; with --f16, \
layers whose weights have to come from memory keep them in 16 bits.

Examples:
  ocelli bench resnet50
  ocelli bench resnet50 --int8
  ocelli bench alexnet --f16
  ocelli bench googlenet --profile
  ocelli bench resnet18 --train --batch 16 --threads 2
  ocelli bench tf_efficientnet_lite0 --json")]
pub struct Bench {
    /// A model of `ocelli models`
    #[arg(value_name = "MODEL")]
    model: String,
    /// Images at once
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least_one())]
    batch: usize,
    #[command(flatten)]
    threads: Threads,
    /// Height and width of the images [default: the model's own]
    #[arg(long, value_name = "S", value_parser = at_least_one())]
    input_size: Option<usize>,
    /// Measure training steps in place of inference
    #[arg(long)]
    train: bool,
    /// Measure inference in eight bits
    #[arg(long, conflicts_with_all = ["train", "profile"])]
    int8: bool,
    /// Measure inference with the weights of memory-bound layers in 16 bits
    #[arg(long, conflicts_with_all = ["train", "int8"])]
    f16: bool,
    /// Train with less memory: the backward pass computes the first convolution again, DenseNets' layers, ResNets' sums and
    /// EfficientNets' activations, and each parameter moves as with --step-early
    #[arg(long, requires = "train")]
    save_memory: bool,
    /// Move each parameter as soon as its gradient is complete, so that not all gradients live at once
    #[arg(long, requires = "train")]
    step_early: bool,
    /// Show where the time goes: each step of the plan, what was fused into it, and its share of the machine's peak; in
    /// training each operation, forward and backward, and what memory it keeps
    #[arg(long)]
    profile: bool,
    /// Print {model, mode, batch, threads, median_ms, min_ms, runs, gflops, peak_rss_mib}, and with --profile `steps` or `profile`
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    model: &'static str,
    mode: &'static str,
    batch: usize,
    threads: usize,
    median_ms: f64,
    min_ms: f64,
    runs: usize,
    gflops: f64,
    peak_rss_mib: Option<f64>,
    /// Of a kind of inference that is opt-in.
    #[serde(skip)]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<Step>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<training::Profile>,
}

impl Bench {
    pub fn run(&self) -> Result<()> {
        let threads = self.threads.apply();
        let variant = variant(&self.model)?;
        let (options, side) = (variant.options(), self.input_size.unwrap_or(variant.input_size));
        let model = Model::new(variant.name, options, 0)?;
        let macs = model.trace([1, side, side, options.in_channels])?.cost().macs;
        let input = noise(&[self.batch, side, side, options.in_channels])?;
        let (mut steps, mut profile, mut kind) = (None, None, String::new());
        let (mode, passes, times) = if self.train {
            let (times, of_steps) = threads::install(|| self.training(&model, &input))?;
            profile = of_steps;
            ("training", 3.0, times)
        } else if self.int8 {
            kind += " in eight bits";
            ("inference", 1.0, threads::install(|| quantized(model, &input))?)
        } else {
            let shape = *input.shape();
            let plan = threads::install(|| if self.f16 { model.half_plan(shape) } else { model.plan(shape) })?;
            drop(model);
            if self.f16 {
                let layers = plan.algorithms().filter(|algorithm| algorithm.ends_with(" f16")).count();
                kind += &format!(" with the weights of {} in 16 bits", plural(layers, "layer"));
            }
            let (times, of_plan) = threads::install(|| inference(&plan, &input, self.profile))?;
            steps = of_plan;
            ("inference", 1.0, times)
        };
        let median_ms = median(&times) * 1e3;
        let report = Report {
            model: variant.name,
            mode,
            batch: self.batch,
            threads,
            median_ms: rounded(median_ms),
            min_ms: rounded(times[0] * 1e3),
            runs: times.len(),
            gflops: rounded(2.0 * passes * macs as f64 * self.batch as f64 / median_ms / 1e6),
            peak_rss_mib: peak_rss_mib().map(rounded),
            kind,
            steps,
            profile,
        };
        if self.json { print_json(&report) } else { report.print() }
    }

    /// The times of steps, and their profile if it is wanted, for which further ones are taken.
    fn training(&self, model: &Model, input: &Tensor) -> Result<(Vec<f64>, Option<training::Profile>)> {
        let labels: Vec<usize> = (0..input.shape()[0]).map(|i| i % model.options().classes).collect();
        let options = SgdOptions { momentum: 0.9, weight_decay: 1e-4, ..SgdOptions::default() };
        let mut optimizer = Optimizer::new(model.state(), options)?;
        let mut number = 0;
        let mut step = || -> Result<()> {
            number += 1;
            let mode = Mode::train(number);
            let mode = if self.save_memory { mode.saving_memory() } else { mode };
            let outputs = model.outputs(&Var::constant(input.clone()), &mode)?;
            let loss = outputs.loss(|logits| cross_entropy(logits, &labels, 0.0))?;
            if self.step_early || self.save_memory {
                optimizer.backward_step(&loss, LR)?;
            } else {
                loss.backward()?;
                optimizer.step(LR);
            }
            Ok(())
        };
        let times = measure(&mut step)?;
        Ok((times, self.profile.then(|| training::profile(model, step)).transpose()?))
    }
}

impl Report {
    fn print(&self) -> Result<()> {
        let style = Style::stdout();
        let (batch, threads) = (plural(self.batch, "image"), plural(self.threads, "thread"));
        print_line(&style.strong(&format!("{}, {}{}: {batch} at once, {threads}", self.model, self.mode, self.kind)))?;
        let per_second = self.batch as f64 / self.median_ms * 1e3;
        print_line(&format!("  median       {:.2} ms ({per_second:.1} images/s)", self.median_ms))?;
        print_line(&format!("  fastest      {:.2} ms of {} runs", self.min_ms, self.runs))?;
        print_line(&format!("  speed        {:.1} GFLOP/s", self.gflops))?;
        if let Some(mib) = self.peak_rss_mib {
            print_line(&format!("  peak memory  {mib:.0} MiB"))?;
        }
        if let Some(steps) = &self.steps {
            print_line("").and_then(|()| profile::print(steps))?;
        }
        match &self.profile {
            Some(profile) => print_line("").and_then(|()| profile.print()),
            None => Ok(()),
        }
    }
}

/// `n` of something.
fn plural(n: usize, one: &str) -> String {
    format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" })
}

/// The times of the plan, and those of its steps if they are wanted, which are measured in runs of their own.
fn inference(plan: &Plan, input: &Tensor, steps: bool) -> Result<(Vec<f64>, Option<Vec<Step>>)> {
    let times = measure(|| {
        plan.run(input)?;
        Ok(())
    })?;
    Ok((times, steps.then(|| profile::profile(plan, input)).transpose()?))
}

/// The times of the plan in eight bits.
fn quantized(model: Model, input: &Tensor) -> Result<Vec<f64>> {
    let plan = model.quantized_plan(*input.shape(), std::slice::from_ref(input))?;
    drop(model);
    measure(|| {
        plan.run(input)?;
        Ok(())
    })
}

/// The times of the runs in seconds, sorted.
fn measure(mut run: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    for _ in 0..WARM_UPS {
        run()?;
    }
    let (mut times, start) = (Vec::new(), Instant::now());
    while times.len() < LEAST_RUNS || start.elapsed() < LEAST_TIME {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// To three decimals: more would be noise.
fn rounded(x: f64) -> f64 {
    (x * 1e3).round() / 1e3
}

/// Of sorted values.
fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}

/// Uniform in -1..1, from a linear congruential generator (Knuth's MMIX).
fn noise(dims: &[usize]) -> Result<Tensor> {
    let mut x = 1u64;
    let shape = nn::tensor::Shape::new(dims)?;
    Ok(Tensor::from_fn(shape, |_| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }))
}

/// The most memory that this process has had at once, where the system tells it.
fn peak_rss_mib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[1.0, 2.0, 5.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 5.0]), 3.0);
    }
}
