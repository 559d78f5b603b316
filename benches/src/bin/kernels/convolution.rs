//! A network's convolutions.

use std::collections::BTreeMap;
use std::hint::black_box;

use ocelli_benches::clock::{Sample, time};
use ocelli_benches::layers::Layer;
use ocelli_benches::peak::Meter;
use ocelli_tensor::ops::conv::{Algorithm, Pass, planned};
use ocelli_tensor::ops::{PackedConv, conv2d, conv2d_backward_input, conv2d_backward_weight};
use ocelli_tensor::threads;

/// A pass over a layer, which returns nothing but takes its time.
pub struct Run {
    /// What the table calls it.
    pub name: &'static str,
    /// What the planner calls it.
    pub pass: Pass,
    /// Prepares the operands; what is returned is to be timed.
    pub prepare: fn(&Layer, usize) -> Box<dyn FnMut()>,
}

/// The passes. The forward one has its weights packed once, as inference does; in training they are packed every time.
pub const PASSES: [Run; 4] = [
    Run { name: "forward", pass: Pass::Inference, prepare: inference },
    Run { name: "forward (training)", pass: Pass::Training, prepare: forward },
    Run { name: "backward input", pass: Pass::Training, prepare: backward_input },
    Run { name: "backward weight", pass: Pass::Weight, prepare: backward_weight },
];

const SOUND: &str = "a layer of the list is sound";

fn inference(layer: &Layer, batch: usize) -> Box<dyn FnMut()> {
    let [x, w, _] = layer.operands(batch);
    let packed = PackedConv::new(&w, None, None, layer.window(), layer.groups, x.shape()).expect(SOUND);
    Box::new(move || drop(black_box(packed.run(&x, None).expect(SOUND))))
}

fn forward(layer: &Layer, batch: usize) -> Box<dyn FnMut()> {
    let ([x, w, _], window, groups) = (layer.operands(batch), layer.window(), layer.groups);
    Box::new(move || drop(black_box(conv2d(&x, &w, &window, groups).expect(SOUND))))
}

fn backward_input(layer: &Layer, batch: usize) -> Box<dyn FnMut()> {
    let ([x, w, dy], window, groups) = (layer.operands(batch), layer.window(), layer.groups);
    Box::new(move || drop(black_box(conv2d_backward_input(&dy, &w, x.shape(), &window, groups).expect(SOUND))))
}

fn backward_weight(layer: &Layer, batch: usize) -> Box<dyn FnMut()> {
    let ([x, w, dy], window, groups) = (layer.operands(batch), layer.window(), layer.groups);
    Box::new(move || drop(black_box(conv2d_backward_weight(&x, &dy, w.shape(), &window, groups).expect(SOUND))))
}

/// The algorithm of a pass.
pub fn algorithm(run: &Run, layer: &Layer, batch: usize) -> Algorithm {
    let [x, w, _] = layer.shapes(batch);
    planned(run.pass, &x, &w, &layer.window(), layer.groups).expect(SOUND)
}

fn algorithm_name(run: &Run, layer: &Layer, batch: usize) -> String {
    match algorithm(run, layer, batch) {
        _ if layer.is_depthwise() => "depthwise".into(),
        Algorithm::Im2col if run.name != "forward (training)" => "direct".into(),
        algorithm => format!("{algorithm:?}").to_lowercase(),
    }
}

/// What a class of layers sums up to, over all layers of the network.
#[derive(Default)]
struct Total {
    layers: usize,
    ms: f64,
    gflop: f64,
    /// GFLOP that the peak would have done in the time.
    possible: f64,
    least_share: Option<f64>,
}

/// Prints each pass over each layer, and totals. Images need no gradient, so the first layer has no pass to its input.
pub fn table(layers: &[Layer], batch: usize, pass: &str, only: &str) {
    println!("GFLOP/s count what the direct algorithm does, so other algorithms may exceed 100 % of the peak.\n");
    println!(
        "{:<20}{:<38}{:>3}  {:<10}{:>10}{:>10}{:>8}{:>8}",
        "convolution",
        format!("shape, batch {batch}"),
        "×",
        "algorithm",
        "ms",
        "GFLOP/s",
        "% peak",
        "faults"
    );
    let only = only.replace('x', "×");
    let mut meter = Meter::gflops(threads::count());
    let mut totals = BTreeMap::<(usize, String), Total>::new();
    for (i, layer) in layers.iter().enumerate().filter(|(_, layer)| layer.to_string().contains(&only)) {
        let runs = PASSES.iter().enumerate().filter(|(_, run)| run.name.contains(pass));
        let samples: Vec<(usize, Sample)> = runs
            .filter(|(_, run)| i > 0 || run.name != "backward input")
            .map(|(p, run)| (p, time((run.prepare)(layer, batch))))
            .collect();
        let peak = meter.read();
        for (p, sample) in samples {
            let run = &PASSES[p];
            let share = layer.flops(batch) / 1e9 / sample.seconds / peak;
            println!(
                "{:<20}{:<38}{:>3}  {:<10}{:>10.3}{:>10.1}{:>8.1}{:>8}",
                run.name,
                layer.to_string(),
                layer.count,
                algorithm_name(run, layer, batch),
                sample.ms(),
                share * peak,
                100.0 * share,
                sample.shown_faults()
            );
            for class in [layer.class(), "all".into()] {
                totals.entry((p, class)).or_default().add(layer, batch, &sample, share);
            }
        }
    }
    println!(
        "\n{:<20}{:<38}{:>3}  {:<10}{:>10}{:>10}{:>8}{:>8}",
        "total", "", "×", "", "ms", "GFLOP/s", "% peak", "least"
    );
    for ((p, class), total) in &totals {
        let Total { layers, ms, gflop, possible, least_share } = total;
        println!(
            "{:<20}{class:<38}{layers:>3}  {:<10}{ms:>10.3}{:>10.1}{:>8.1}{:>8.1}",
            PASSES[*p].name,
            "",
            1e3 * gflop / ms,
            100.0 * gflop / possible,
            100.0 * least_share.unwrap_or(0.0)
        );
    }
    let [least, median, most] = meter.spread();
    println!("\npeak, measured between the layers: {least:.0} to {most:.0} GFLOP/s, median {median:.0}");
}

impl Total {
    fn add(&mut self, layer: &Layer, batch: usize, sample: &Sample, share: f64) {
        let (count, gflop) = (layer.count as f64, layer.flops(batch) / 1e9);
        self.layers += layer.count;
        self.ms += count * sample.ms();
        self.gflop += count * gflop;
        self.possible += count * gflop / share;
        self.least_share = Some(self.least_share.map_or(share, |least| least.min(share)));
    }
}
