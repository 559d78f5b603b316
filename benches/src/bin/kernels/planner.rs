//! Whether the cost model chooses the faster algorithm.

use ocelli_benches::clock::in_turns;
use ocelli_benches::layers::Layer;
use ocelli_tensor::ops::conv::{Algorithm, with_algorithm};

use crate::convolution::{PASSES, algorithm};

/// Times each layer to which Winograd's algorithm applies with it and without, in turns, and prints what the wrong
/// choices of the cost model cost.
pub fn table(layers: &[Layer], batch: usize) {
    println!("\"loss\" is how much longer the chosen algorithm took than the faster one.\n");
    println!(
        "{:<20}{:<38}{:>3}{:>12}{:>12}{:>12}{:>12}{:>8}",
        "convolution",
        format!("shape, batch {batch}"),
        "×",
        "direct ms",
        "winograd ms",
        "ratio",
        "chosen",
        "loss %"
    );
    let applies = |layer: &&Layer| {
        let of = |run| with_algorithm(Algorithm::Winograd, || algorithm(run, layer, batch));
        PASSES.iter().all(|run| of(run) == Algorithm::Winograd)
    };
    let mut totals = PASSES.each_ref().map(|_| [0.0; 4]);
    for (i, layer) in layers.iter().enumerate().filter(|(_, layer)| applies(layer)) {
        for (run, total) in PASSES.iter().zip(&mut totals).filter(|(run, _)| i > 0 || run.name != "backward input") {
            let prepare = |algorithm| with_algorithm(algorithm, || (run.prepare)(layer, batch));
            let (mut direct, mut winograd) = (prepare(Algorithm::Direct), prepare(Algorithm::Winograd));
            let [direct, winograd] = in_turns([&mut || with_algorithm(Algorithm::Direct, &mut direct), &mut || {
                with_algorithm(Algorithm::Winograd, &mut winograd)
            }])
            .map(|sample| sample.ms());
            let chosen = algorithm(run, layer, batch);
            let (faster, taken) = (direct.min(winograd), if chosen == Algorithm::Direct { direct } else { winograd });
            let ms = [direct, winograd, faster, taken].map(|ms| ms * layer.count as f64);
            total.iter_mut().zip(ms).for_each(|(total, ms)| *total += ms);
            println!(
                "{:<20}{:<38}{:>3}{direct:>12.3}{winograd:>12.3}{:>12.2}{:>12}{:>8.1}",
                run.name,
                layer.to_string(),
                layer.count,
                direct / winograd,
                format!("{chosen:?}").to_lowercase(),
                100.0 * (taken / faster - 1.0)
            );
        }
    }
    println!(
        "\n{:<61}{:>12}{:>12}{:>12}{:>12}{:>8}",
        "total over these layers", "direct ms", "winograd ms", "faster ms", "chosen ms", "loss %"
    );
    for (run, [direct, winograd, faster, taken]) in PASSES.iter().zip(totals).filter(|(_, total)| total[2] > 0.0) {
        println!(
            "{:<61}{direct:>12.3}{winograd:>12.3}{faster:>12.3}{taken:>12.3}{:>8.1}",
            run.name,
            100.0 * (taken / faster - 1.0)
        );
    }
}
