//! Where the time of a plan goes, step by step.

use ocelli_train::zoo::nn::autograd::plan::StepTime;
use ocelli_train::zoo::nn::autograd::{Cost, Plan};
use ocelli_train::zoo::nn::tensor::{Tensor, peak, threads};
use serde::Serialize;

use super::{measure, median, rounded};
use crate::error::Result;
use crate::output::{Align, Table, percent};

/// One step of a plan.
#[derive(Serialize)]
pub struct Step {
    layer: String,
    operations: String,
    algorithm: &'static str,
    median_ms: f64,
    gflops: f64,
    /// Of the multiply-adds that the threads could do.
    share_of_peak: f64,
    /// Bytes of its operands and its value.
    bytes: u64,
}

/// What was seen of a step.
struct Seen {
    label: String,
    algorithm: &'static str,
    cost: Cost,
    /// In seconds.
    times: Vec<f64>,
}

/// Runs `plan` as a measurement does, and returns the medians of its steps.
pub fn profile(plan: &Plan, input: &Tensor) -> Result<Vec<Step>> {
    let mut seen: Vec<Seen> = Vec::new();
    measure(|| {
        let mut i = 0;
        plan.profile(input, |StepTime { label, algorithm, cost, time }| {
            if i == seen.len() {
                seen.push(Seen { label: label.to_owned(), algorithm, cost, times: Vec::new() });
            }
            seen[i].times.push(time.as_secs_f64());
            i += 1;
        })?;
        Ok(())
    })?;
    let peak = peak::fma_gflops(threads::count());
    Ok(seen.into_iter().map(|seen| Step::new(seen, peak)).collect())
}

impl Step {
    fn new(Seen { label, algorithm, cost, mut times }: Seen, peak: f64) -> Self {
        let (layer, operations) = label.rsplit_once(": ").unwrap_or(("", &label));
        times.sort_by(f64::total_cmp);
        let seconds = median(&times);
        let gflops = 2e-9 * cost.macs as f64 / seconds;
        Step {
            layer: layer.to_owned(),
            operations: operations.to_owned(),
            algorithm,
            median_ms: rounded(1e3 * seconds),
            gflops: rounded(gflops),
            share_of_peak: rounded(gflops / peak),
            bytes: cost.bytes,
        }
    }
}

/// Prints a row for each step, and one for all of them.
pub fn print(steps: &[Step]) -> Result<()> {
    let mut table = Table::new([
        ("layer", Align::Left),
        ("operations", Align::Left),
        ("algorithm", Align::Left),
        ("ms", Align::Right),
        ("GFLOP/s", Align::Right),
        ("of peak", Align::Right),
        ("MiB", Align::Right),
    ]);
    let mib = |bytes: u64| format!("{:.2}", bytes as f64 / f64::from(1 << 20));
    for step in steps {
        let (mut gflops, mut share) = (String::new(), String::new());
        if step.gflops > 0.0 {
            (gflops, share) = (format!("{:.1}", step.gflops), percent(step.share_of_peak, 0));
        }
        let (layer, operations) = (step.layer.clone(), step.operations.clone());
        let ms = format!("{:.3}", step.median_ms);
        table.row([layer, operations, step.algorithm.into(), ms, gflops, share, mib(step.bytes)]);
    }
    let ms = format!("{:.3}", steps.iter().map(|step| step.median_ms).sum::<f64>());
    let bytes = mib(steps.iter().map(|step| step.bytes).sum());
    let empty = String::new;
    table.row(["all".into(), empty(), empty(), ms, empty(), empty(), bytes]);
    table.print()
}
