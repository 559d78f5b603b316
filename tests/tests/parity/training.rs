//! Three SGD steps in training mode against PyTorch: losses, every parameter and every running statistic.
//!
//! In f64 both sides agree to the rounding of the stored values, whatever the network and the algorithm of its
//! convolutions. In f32 rounding may flip a ReLU whose input is next to zero, after which nobody agrees with anybody:
//! PyTorch neither with its own f64 nor with itself in another memory layout. So f32 is compared in runs that do not
//! depend on it: where moving the weights by more than the algorithm's rounding does leaves PyTorch's result as it is, and,
//! for the direct convolution, PyTorch's own f32 agrees with its f64.

use ocelli_tests::fixtures::{TrainingRun, training_runs};
use ocelli_tests::seeded::{self, Entry};
use ocelli_tests::{nhwc, relative_error};
use ocelli_train::zoo::nn::loss::cross_entropy;
use ocelli_train::zoo::nn::optim::{Optimizer, SgdOptions};
use ocelli_train::zoo::nn::tensor::Element;
use ocelli_train::zoo::nn::tensor::ops::conv::{Algorithm, with_algorithm};
use ocelli_train::zoo::nn::{Builder, Layer, Mode, State, autograd::Var};
use ocelli_train::zoo::{Options, cifar_resnet, resnet};

/// How far slightly perturbed weights may lead from PyTorch's result, and PyTorch's own f32 from its f64, in a run whose
/// direct convolutions are compared in f32.
const DIRECT_CONDITIONED: f64 = 1e-5;
/// How far perturbed weights may lead from PyTorch's result in a run that is compared in f32 with every algorithm.
const WELL_CONDITIONED: f64 = 5e-5;
/// In f32.
const SINGLE: Tolerance = Tolerance { value: 1e-4, change: 1e-2 };

struct Tolerance {
    /// Of losses and tensors, relative to their largest value.
    value: f64,
    /// Of tensors, relative to their largest change.
    change: f64,
}

fn network<T: Element>(model: &str, classes: usize) -> (Box<dyn Layer<T>>, State<T>) {
    let (builder, options) = (Builder::zeroed(), Options { classes, in_channels: 3 });
    let network: Box<dyn Layer<T>> = match model {
        "resnet18" => Box::new(resnet::resnet18(&builder, options).unwrap()),
        "resnet20" => Box::new(cifar_resnet::residual(&builder, 3, options).unwrap()),
        _ => panic!("no training of {model}"),
    };
    (network, builder.state())
}

/// The losses before each step; the state holds the rest.
fn train<T: Element>(run: &TrainingRun, network: &dyn Layer<T>, state: &State<T>) -> Vec<f64> {
    let &TrainingRun { momentum, nesterov, weight_decay, .. } = run;
    let options = SgdOptions { momentum, nesterov, weight_decay, decay_vectors: true };
    let mut sgd = Optimizer::new(state, options).unwrap();
    let step = |k: usize| {
        let x = nhwc(seeded::images(&format!("input{k}/{}", run.seed), run.input), run.input);
        let labels = seeded::labels(&format!("labels{k}/{}", run.seed), run.input[0], run.classes);
        let logits = network.forward(&Var::constant(x.cast()), &Mode::train(0)).unwrap();
        let loss = cross_entropy(&logits, &labels, 0.0).unwrap();
        loss.backward().unwrap();
        sgd.step(run.lr);
        loss.value().item().unwrap().to_f64()
    };
    (0..run.losses.len()).map(step).collect()
}

/// Runs and compares everything, with convolutions done by `algorithm`, or by the one that their shape suggests.
fn compare<T: Element>(run: &TrainingRun, algorithm: Option<Algorithm>, tolerance: &Tolerance) {
    let what = format!("{} in {}, {algorithm:?}", run.name, std::any::type_name::<T>());
    let (network, state) = network::<T>(&run.model, run.classes);
    let tensors = run.tensors.iter().map(|t| Entry { name: t.name.clone(), shape: t.shape.clone() });
    state.load(&seeded::checkpoint(&tensors.collect::<Vec<_>>(), 1.0), true).unwrap();
    let train = || train(run, &*network, &state);
    let losses = match algorithm {
        Some(algorithm) => with_algorithm(algorithm, train),
        None => train(),
    };

    let trained = state.to_checkpoint().unwrap();
    let mut failures = Vec::new();
    let (mut worst_value, mut worst_change) = (relative_error(&losses, &run.losses), 0.0);
    if worst_value > tolerance.value {
        failures.push(format!("losses {losses:?}, not {:?}", run.losses));
    }
    for tensor in &run.tensors {
        let values: Vec<f64> = trained.get(&tensor.name).unwrap().tensor.data().iter().map(|&v| f64::from(v)).collect();
        let error = run.compare(tensor, &values);
        (worst_value, worst_change) = (error.value.max(worst_value), error.change.max(worst_change));
        if error.value > tolerance.value || error.change > tolerance.change {
            failures.push(format!("{}: {error:?}", tensor.name));
        }
    }
    println!("{what}: values {worst_value:.1e}, changes {worst_change:.1e}");
    assert!(failures.is_empty(), "{what}: {failures:#?}");

    let counters = trained.iter().filter(|(name, _)| name.ends_with("num_batches_tracked"));
    let counts: Vec<f32> = counters.map(|(_, entry)| entry.tensor.item().unwrap()).collect();
    assert_eq!(counts, vec![3.0; run.tensors.iter().filter(|t| t.name.ends_with("running_var")).count()]);
}

#[test]
fn every_run_agrees_in_f64() {
    let runs = training_runs();
    assert!(!runs.is_empty());
    for run in &runs {
        for algorithm in [Algorithm::Direct, Algorithm::Winograd] {
            // Values are read back as f32, which limits how well small changes are seen.
            compare::<f64>(run, Some(algorithm), &Tolerance { value: 1e-6, change: 1e-3 });
        }
    }
}

/// The runs for which `condition` holds, which must be of these models.
fn runs_where(condition: impl Fn(&TrainingRun) -> bool, models: &[&str]) -> Vec<TrainingRun> {
    let runs: Vec<_> = training_runs().into_iter().filter(condition).collect();
    assert_eq!(runs.iter().map(|run| run.model.as_str()).collect::<Vec<_>>(), models);
    runs
}

#[test]
fn direct_convolutions_agree_in_f32() {
    let conditioned = |run: &TrainingRun| {
        run.f32_deviation < DIRECT_CONDITIONED && run.slightly_perturbed_deviation < DIRECT_CONDITIONED
    };
    for run in runs_where(conditioned, &["resnet20", "resnet18"]) {
        compare::<f32>(&run, Some(Algorithm::Direct), &SINGLE);
    }
}

#[test]
fn all_algorithms_agree_in_f32() {
    for run in runs_where(|run| run.perturbed_deviation < WELL_CONDITIONED, &["resnet20"]) {
        for algorithm in [Some(Algorithm::Im2col), Some(Algorithm::Winograd), None] {
            compare::<f32>(&run, algorithm, &SINGLE);
        }
    }
}
