//! Where the time of a plan goes, step by step.

use ocelli_train::zoo::nn::autograd::Plan;
use ocelli_train::zoo::nn::autograd::plan::Timed;
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

/// Runs `plan` as a measurement does, and returns the medians of its steps.
pub fn profile(plan: &Plan, input: &Tensor) -> Result<Vec<Step>> {
    let mut steps: Vec<(Step, Vec<f64>, u64)> = Vec::new();
    measure(|| {
        let mut i = 0;
        plan.profile(input, |timed| {
            if i == steps.len() {
                steps.push((Step::new(&timed), Vec::new(), timed.cost.macs));
            }
            steps[i].1.push(timed.time.as_secs_f64());
            i += 1;
        })?;
        Ok(())
    })?;
    let peak = peak::fma_gflops(threads::count());
    let finish = |(mut step, mut times, macs): (Step, Vec<f64>, u64)| {
        times.sort_by(f64::total_cmp);
        let seconds = median(&times);
        let gflops = 2e-9 * macs as f64 / seconds;
        step.median_ms = rounded(1e3 * seconds);
        step.gflops = rounded(gflops);
        step.share_of_peak = rounded(gflops / peak);
        step
    };
    Ok(steps.into_iter().map(finish).collect())
}

impl Step {
    fn new(timed: &Timed<'_>) -> Self {
        let (layer, operations) = timed.label.rsplit_once(": ").unwrap_or(("", timed.label));
        Step {
            layer: layer.to_owned(),
            operations: operations.to_owned(),
            algorithm: timed.algorithm,
            median_ms: 0.0,
            gflops: 0.0,
            share_of_peak: 0.0,
            bytes: timed.cost.bytes,
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
        let ms = format!("{:.3}", step.median_ms);
        let texts = [step.layer.clone(), step.operations.clone(), step.algorithm.to_owned()];
        let [layer, operations, algorithm] = texts;
        table.row([layer, operations, algorithm, ms, gflops, share, mib(step.bytes)]);
    }
    let total: f64 = steps.iter().map(|step| step.median_ms).sum();
    let bytes = steps.iter().map(|step| step.bytes).sum();
    let [none, nothing, nil, zero] = [(); 4].map(|()| String::new());
    table.row(["all".to_owned(), none, nothing, format!("{total:.3}"), nil, zero, mib(bytes)]);
    table.print()
}
