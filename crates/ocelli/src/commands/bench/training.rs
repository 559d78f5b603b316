//! Where the time and the memory of a training step go: layer by layer, in all by operation, and by what is stored.

use std::collections::BTreeMap;
use std::time::Instant;

use ocelli_train::zoo::Model;
use ocelli_train::zoo::nn::autograd::{self, Pass, Timed};
use ocelli_train::zoo::nn::tensor::{peak, pool, threads};
use serde::Serialize;

use super::{median, rounded};
use crate::error::Result;
use crate::output::{Align, Table, percent, print_line};

/// Steps of which each figure is the median.
const STEPS: usize = 7;
const MIB: f64 = (1 << 20) as f64;

/// A profile of a training step.
#[derive(Serialize)]
pub struct Profile {
    /// What the threads could do in multiply-adds, measured beside.
    peak_gflops: f64,
    layers: Vec<Line>,
    operations: Vec<Line>,
    /// The optimizer, and whatever no operation did.
    rest_ms: f64,
    memory: Memory,
}

/// An operation of a layer, or all of a kind.
#[derive(Serialize, Default, Clone)]
struct Line {
    layer: String,
    operation: String,
    forward: Work,
    backward: Work,
    /// Kept for the backward pass, less what was freed meanwhile.
    kept_mib: f64,
}

#[derive(Serialize, Default, Clone, Copy)]
struct Work {
    ms: f64,
    gflops: f64,
    share_of_peak: f64,
    #[serde(skip)]
    macs: u64,
}

/// In MiB.
#[derive(Serialize)]
struct Memory {
    weights: f64,
    /// Gradients are as large as the weights, if all are there at once.
    kept_for_backward: f64,
    /// Of all tensors, gradients and the optimizer's included.
    most_at_once: f64,
    /// What the pool of buffers has, beyond those in use at the end of a step.
    idle: f64,
}

/// Profiles `step`, a whole training step of `model`, which has been warmed up.
pub fn profile(model: &Model, mut step: impl FnMut() -> Result<()>) -> Result<Profile> {
    let mut runs: Vec<Vec<Timed>> = Vec::with_capacity(STEPS);
    let mut totals = Vec::with_capacity(STEPS);
    let before = peak::fma_gflops(threads::count());
    for _ in 0..STEPS {
        let start = Instant::now();
        let (result, timed) = autograd::profile(&mut step);
        result?;
        totals.push(start.elapsed().as_secs_f64() * 1e3);
        runs.push(timed);
    }
    totals.sort_by(f64::total_cmp);
    // Whatever else the machine does lowers a reading.
    let peak_gflops = peak::fma_gflops(threads::count()).max(before);

    // Each step runs the same operations in the same order.
    let mut layers: Vec<Line> = Vec::new();
    let mut places = BTreeMap::new();
    for (i, timed) in runs[0].iter().enumerate() {
        let mut times: Vec<f64> = runs.iter().filter_map(|run| Some(run.get(i)?.time.as_secs_f64() * 1e3)).collect();
        times.sort_by(f64::total_cmp);
        let place = *places.entry((timed.scope.clone(), timed.op)).or_insert_with(|| {
            layers.push(Line { layer: timed.scope.clone(), operation: timed.op.to_owned(), ..Line::default() });
            layers.len() - 1
        });
        layers[place].add(timed, median(&times));
    }
    let mut operations: BTreeMap<String, Line> = BTreeMap::new();
    for line in &layers {
        let all = operations.entry(line.operation.clone()).or_default();
        all.operation.clone_from(&line.operation);
        all.join(line);
    }
    let mut operations: Vec<Line> = operations.into_values().collect();
    operations.sort_by(|a, b| b.ms().total_cmp(&a.ms()));
    let rest_ms = median(&totals) - layers.iter().map(Line::ms).sum::<f64>();
    let kept_for_backward = layers.iter().map(|line| line.kept_mib).sum();
    layers.iter_mut().chain(&mut operations).for_each(|line| line.finish(peak_gflops));

    let weights: usize =
        model.state().parameters().map(|(_, parameter)| parameter.shape().len() * size_of::<f32>()).sum();
    let stats = pool::stats();
    let memory = Memory {
        weights: rounded(weights as f64 / MIB),
        kept_for_backward: rounded(kept_for_backward),
        most_at_once: rounded(stats.most_bytes as f64 / MIB),
        idle: rounded(stats.idle_bytes as f64 / MIB),
    };
    Ok(Profile { peak_gflops: rounded(peak_gflops), layers, operations, rest_ms: rounded(rest_ms), memory })
}

impl Line {
    fn add(&mut self, timed: &Timed, ms: f64) {
        let work = match timed.pass {
            Pass::Forward => &mut self.forward,
            Pass::Backward => &mut self.backward,
        };
        work.ms += ms;
        work.macs += timed.cost.macs;
        if timed.pass == Pass::Forward {
            self.kept_mib += timed.kept as f64 / MIB;
        }
    }

    fn join(&mut self, other: &Line) {
        for (all, one) in [(&mut self.forward, other.forward), (&mut self.backward, other.backward)] {
            all.ms += one.ms;
            all.macs += one.macs;
        }
        self.kept_mib += other.kept_mib;
    }

    fn ms(&self) -> f64 {
        self.forward.ms + self.backward.ms
    }

    fn finish(&mut self, peak_gflops: f64) {
        for work in [&mut self.forward, &mut self.backward] {
            let gflops = if work.ms > 0.0 { 2e-6 * work.macs as f64 / work.ms } else { 0.0 };
            (work.gflops, work.share_of_peak) = (rounded(gflops), rounded(gflops / peak_gflops));
            work.ms = rounded(work.ms);
        }
        self.kept_mib = rounded(self.kept_mib);
    }
}

impl Profile {
    /// A table of layers, one of operations, and the memory.
    pub fn print(&self) -> Result<()> {
        let Memory { weights, kept_for_backward, most_at_once, idle } = self.memory;
        table("layer", &self.layers)?;
        print_line("")?;
        table("", &self.operations)?;
        print_line(&format!("optimizer and the rest: {:.2} ms", self.rest_ms))?;
        print_line(&format!("peak of multiply-adds: {:.0} GFLOP/s", self.peak_gflops))?;
        print_line(&format!(
            "memory: weights {weights:.0} MiB, kept for the backward pass {kept_for_backward:.0} MiB,"
        ))?;
        print_line(&format!(
            "  of all tensors at most {most_at_once:.0} MiB at once, idle at a step's end {idle:.0} MiB"
        ))
    }
}

fn table(layer: &'static str, lines: &[Line]) -> Result<()> {
    let right = ["forward ms", "GFLOP/s", "of peak", "backward ms", "GFLOP/s", "of peak", "kept MiB"];
    let mut heads = vec![("operation", Align::Left)];
    heads.extend(right.map(|head| (head, Align::Right)));
    if !layer.is_empty() {
        heads.insert(0, (layer, Align::Left));
    }
    let mut table = Table::new(heads);
    for line in lines {
        let mut cells = vec![line.operation.clone()];
        for work in [&line.forward, &line.backward] {
            cells.push(format!("{:.3}", work.ms));
            let multiplies = work.gflops > 0.0;
            cells.push(if multiplies { format!("{:.1}", work.gflops) } else { String::new() });
            cells.push(if multiplies { percent(work.share_of_peak, 0) } else { String::new() });
        }
        cells.push(format!("{:.2}", line.kept_mib));
        if !layer.is_empty() {
            cells.insert(0, line.layer.clone());
        }
        table.row(cells);
    }
    table.print()
}
