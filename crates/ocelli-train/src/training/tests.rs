use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use ocelli_zoo::nn::autograd::ops::Activation;
use ocelli_zoo::nn::checkpoint::Checkpoint;
use ocelli_zoo::nn::{
    BatchNorm2d, BatchNormOptions, Builder, Conv2d, Conv2dOptions, Dropout, GlobalAvgPool, Layer, Linear,
    LinearOptions, Sequential, State,
};

use super::*;
use crate::{Algorithm, Augment, Dataset, Interpolation, Picture, Preprocessing};

/// Stripes that run across (class 0), down (1) or aslant (2), each with a phase and an ink of its own.
struct Stripes(std::ops::Range<usize>);

impl Dataset for Stripes {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn label(&self, index: usize) -> usize {
        (self.0.start + index) % 3
    }

    fn picture(&self, index: usize) -> Result<Picture> {
        let number = self.0.start + index;
        let ink = 120 + (number * 37 % 120) as u8;
        let pixel = |i: usize| {
            let along = [i / 12, i % 12, i / 12 + i % 12][self.label(index)];
            if (along + number / 3).is_multiple_of(4) { ink } else { 20 }
        };
        Picture::new(12, 12, 1, (0..144).map(pixel).collect())
    }

    fn name(&self, index: usize) -> String {
        format!("stripes {}", self.0.start + index)
    }
}

fn data() -> Data {
    let classes = ["across", "down", "aslant"].map(String::from).to_vec();
    Data { source: "stripes".into(), classes, train: Arc::new(Stripes(0..50)), validation: Arc::new(Stripes(50..71)) }
}

/// A convolution, a batch norm, dropout and a classifier: all kinds of state and of randomness.
struct Tiny {
    layers: Sequential<f32>,
    state: State<f32>,
}

impl Tiny {
    fn new(seed: u64) -> Self {
        let b = Builder::new(seed);
        let mut layers = Sequential::new();
        layers.push("conv", Conv2d::new(&b.enter("conv"), 1, 8, Conv2dOptions::new(3).padding(1)).unwrap());
        layers.push("bn", BatchNorm2d::new(&b.enter("bn"), 8, BatchNormOptions::default()).unwrap());
        layers.push("relu", Activation::Relu);
        layers.push("pool", GlobalAvgPool);
        layers.push("drop", Dropout::new(0.1).unwrap());
        layers.push("fc", Linear::new(&b.enter("fc"), 8, 3, LinearOptions::default()).unwrap());
        Tiny { layers, state: b.state() }
    }
}

impl Network for Tiny {
    fn forward(&self, images: &Var<f32>, mode: &Mode) -> Result<Var<f32>> {
        Ok(self.layers.forward(images, mode)?)
    }

    fn state(&self) -> &State<f32> {
        &self.state
    }

    fn classifier_prefix(&self) -> String {
        "fc.".into()
    }
}

fn config() -> Config {
    let (mean, std) = (vec![0.3], vec![0.3]);
    let preprocessing = Preprocessing { resize: 12, crop: 12, interpolation: Interpolation::Bilinear, mean, std };
    Config {
        classes: data().classes,
        data: "stripes".into(),
        preprocessing,
        augment: Augment { shift: 1, ..Augment::default() },
        epochs: 3,
        batch_size: 8,
        label_smoothing: 0.05,
        checkpoint_seconds: f64::MAX,
        ..Config::digits("tiny")
    }
}

/// Stops or kills a run after so many steps, and counts what it is told.
#[derive(Default)]
struct Watch<'s> {
    stop_after: Option<(usize, &'s AtomicBool)>,
    kill_after: Option<usize>,
    steps: usize,
    epochs: Vec<(EpochMetrics, bool)>,
    skipped: Vec<Skipped>,
}

impl Observer for Watch<'_> {
    fn step(&mut self, step: &Step) {
        self.steps += 1;
        assert!(step.loss.is_finite() && step.batch <= step.batches);
        if let Some((after, stop)) = self.stop_after {
            stop.store(self.steps >= after, Ordering::Relaxed);
        }
        assert_ne!(Some(self.steps), self.kill_after, "killed, as the test wants");
    }

    fn skipped(&mut self, picture: &Skipped) {
        self.skipped.push(picture.clone());
    }

    fn epoch(&mut self, metrics: &EpochMetrics, best: bool) {
        self.epochs.push((metrics.clone(), best));
    }
}

fn tensors(path: &Path) -> Vec<(String, Vec<u32>)> {
    let checkpoint = Checkpoint::read(path).unwrap();
    let bits = |x: &f32| x.to_bits();
    checkpoint.iter().map(|(name, entry)| (name.into(), entry.tensor.data().iter().map(bits).collect())).collect()
}

/// The history without what depends on time.
fn timeless(history: &[EpochMetrics]) -> Vec<EpochMetrics> {
    history.iter().map(|m| EpochMetrics { images_per_second: 0.0, seconds: 0.0, ..m.clone() }).collect()
}

fn never() -> AtomicBool {
    AtomicBool::new(false)
}

#[test]
fn training_learns_and_leaves_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::create(folder.path(), Config { epochs: 8, ..config() }).unwrap();
    let mut watch = Watch::default();
    let outcome = fit(&run, &Tiny::new(1), &data(), false, &never(), &mut watch).unwrap();
    let Outcome::Finished(history) = outcome else { panic!("{outcome:?}") };
    assert_eq!((history.len(), watch.epochs.len(), watch.steps), (8, 8, 8 * 7));
    let best = best_epoch(&history).unwrap();
    assert!(best.val_accuracy > 0.9, "{history:?}");
    assert!(history[7].train_loss < history[0].train_loss);
    assert_eq!(watch.epochs.iter().rfind(|epoch| epoch.1).unwrap().0.epoch, best.epoch);

    let csv = std::fs::read_to_string(run.metrics_path()).unwrap();
    assert_eq!(csv, metrics_csv(&history));
    assert!(crate::read_image(&run.curves_path()).unwrap().width() > 1000);

    // The best weights, in another network, measure as they did.
    let network = Tiny::new(99);
    network.state.load(&run.best().unwrap(), true).unwrap();
    let Config { classes, preprocessing, .. } = run.config();
    let report = crate::evaluate(&network, data().validation, classes, preprocessing, 5, |_, _| {}).unwrap();
    assert_eq!((report.images, report.top1), (21, best.val_accuracy));
    assert!((report.loss - best.val_loss).abs() < 1e-6);
    assert_eq!(report.confusion.iter().flatten().sum::<u32>(), 21);
    let mut predictor = crate::Predictor::new(&network, preprocessing, classes).unwrap();
    let mut predict = |i: usize| predictor.predict(&data().validation.picture(i).unwrap(), 2).unwrap();
    let predictions: Vec<_> = (0..3).map(&mut predict).collect();
    let right = (0..3).filter(|&i| predictions[i][0].index == data().validation.label(i)).count();
    assert!(right >= 2 && predictions.iter().all(|p| p.len() == 2));
    // The first picture again, this time by the plan that the second one compiled.
    let (again, first) = (predict(0), &predictions[0]);
    assert_eq!(again[0].class, first[0].class);
    assert!((again[0].probability - first[0].probability).abs() < 1e-5);
}

#[test]
fn a_resumed_run_ends_with_the_same_bits() {
    resumes(&Config { frozen_epochs: 1, frozen_lr: 0.05, ..config() });
    // All that a checkpoint can hold: moments, counts, averages; and steps of several batches.
    let adamw = config().with_optimizer(Algorithm::AdamW);
    resumes(&Config { accumulate: 2, ema: Some(0.9), clip_norm: Some(0.5), ..adamw });
    resumes(&Config { frozen_epochs: 1, frozen_lr: 0.001, ..config().with_optimizer(Algorithm::RmsProp) });
    resumes(&Config { ema: Some(0.5), ..config().with_optimizer(Algorithm::Lamb) });
}

fn resumes(config: &Config) {
    let root = tempfile::tempdir().unwrap();
    let whole = Run::create(&root.path().join("whole"), config.clone()).unwrap();
    let outcome = fit(&whole, &Tiny::new(1), &data(), false, &never(), &mut ()).unwrap();
    let Outcome::Finished(expected) = outcome else { panic!("{outcome:?}") };

    // An epoch has 7 steps. Stopped within an epoch, at its end and in the frozen phase, or killed behind a
    // checkpoint in mid-epoch and before the first one.
    for (stop_after, kill_after) in
        [(Some(3), None), (Some(7), None), (Some(12), None), (None, Some(12)), (None, Some(1))]
    {
        let name = format!("{stop_after:?} {kill_after:?}");
        let run = Run::create(&root.path().join(&name), Config { checkpoint_steps: 2, ..config.clone() }).unwrap();
        let stop = never();
        let mut watch = Watch { kill_after, stop_after: stop_after.map(|after| (after, &stop)), ..Watch::default() };
        let begun = catch_unwind(AssertUnwindSafe(|| fit(&run, &Tiny::new(1), &data(), false, &stop, &mut watch)));
        match begun {
            Ok(outcome) => assert!(matches!(outcome.unwrap(), Outcome::Interrupted { .. }), "{name}"),
            Err(_) => assert_eq!(Some(watch.steps), kill_after, "{name}"),
        }
        assert!(watch.steps < 21, "{name}");

        // A fresh process: nothing is left of the network but the files (and its seed, when there are none yet).
        let network = Tiny::new(if run.last_path().exists() { 77 } else { 1 });
        let outcome = fit(&Run::open(run.folder()).unwrap(), &network, &data(), true, &never(), &mut ()).unwrap();
        let Outcome::Finished(history) = outcome else { panic!("{name}: {outcome:?}") };
        assert_eq!(timeless(&history), timeless(&expected), "{name}");
        assert_eq!(tensors(&run.last_path()), tensors(&whole.last_path()), "{name}");
        assert_eq!(std::fs::read(run.best_path()).unwrap(), std::fs::read(whole.best_path()).unwrap(), "{name}");
    }
}

#[test]
fn saving_memory_changes_no_bit() {
    let root = tempfile::tempdir().unwrap();
    // With steps for single parameters, and where all gradients are needed at once.
    for (name, clip_norm) in [("single", None), ("all", Some(0.5))] {
        let run = |save_memory: bool| {
            let config = Config { save_memory, clip_norm, epochs: 1, ema: Some(0.5), ..config() };
            let run = Run::create(&root.path().join(format!("{name} {save_memory}")), config).unwrap();
            fit(&run, &Tiny::new(1), &data(), false, &never(), &mut ()).unwrap();
            tensors(&run.last_path())
        };
        assert_eq!(run(true), run(false), "{name}");
    }
}

#[test]
fn accumulated_batches_are_one_larger_batch() {
    // Without batch norm, whose statistics are of a batch, and without dropout: a linear classifier.
    struct Flat(Linear<f32>, State<f32>);
    impl Network for Flat {
        fn forward(&self, images: &Var<f32>, mode: &Mode) -> Result<Var<f32>> {
            Ok(self.0.forward(&images.flatten()?, mode)?)
        }
        fn state(&self) -> &State<f32> {
            &self.1
        }
        fn classifier_prefix(&self) -> String {
            String::new()
        }
    }
    let root = tempfile::tempdir().unwrap();
    let trained = |batch_size: usize, accumulate: usize| {
        let b = Builder::new(4);
        let network = Flat(Linear::new(&b.enter("fc"), 144, 3, LinearOptions::default()).unwrap(), b.state());
        let config = Config { batch_size, accumulate, epochs: 1, warmup_epochs: 0.0, lr: 0.01, ..config() };
        let config = Config { augment: Augment::default(), ..config };
        let run = Run::create(&root.path().join(accumulate.to_string()), config).unwrap();
        fit(&run, &network, &data(), false, &never(), &mut ()).unwrap();
        network.1.to_checkpoint().unwrap()
    };
    // Batches of 17, 17 and 16 pictures.
    let (whole, parts) = (trained(50, 1), trained(17, 3));
    for (name, entry) in whole.iter() {
        let error = parts.get(name).unwrap().tensor.relative_error(&entry.tensor);
        assert!(error < 1e-5, "{name}: {error}");
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let root = tempfile::tempdir().unwrap();
    let trained = |count: usize| {
        threads::set(count);
        let run = Run::create(&root.path().join(count.to_string()), config()).unwrap();
        fit(&run, &Tiny::new(1), &data(), false, &never(), &mut ()).unwrap();
        threads::set(0);
        tensors(&run.last_path())
    };
    let one = trained(1);
    assert!(trained(2) == one && trained(5) == one);
}

#[test]
fn frozen_epochs_train_the_classifier_alone() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::create(folder.path(), Config { epochs: 1, frozen_epochs: 1, frozen_lr: 0.1, ..config() }).unwrap();
    let network = Tiny::new(1);
    let before = network.state.to_checkpoint().unwrap();
    fit(&run, &network, &data(), false, &never(), &mut ()).unwrap();
    for (name, entry) in network.state.to_checkpoint().unwrap().iter() {
        assert_eq!(before.get(name) != Some(entry), name.starts_with("fc."), "{name}");
    }
}

#[test]
fn what_cannot_go_on_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let run = |name: &str, config| Run::create(&root.path().join(name), config).unwrap();
    let start = |run: &Run, data: &Data, resume| fit(run, &Tiny::new(1), data, resume, &never(), &mut ());

    let hot = run("hot", Config { lr: 1e30, warmup_epochs: 0.0, ..config() });
    let error = start(&hot, &data(), false).unwrap_err().to_string();
    assert!(error.ends_with("is not finite: training has diverged, a lower learning rate may help"), "{error}");

    let hot = run("watched", Config { lr: 1e30, warmup_epochs: 0.0, detect_anomalies: true, ..config() });
    let error = start(&hot, &data(), false).unwrap_err().to_string();
    assert!(error.ends_with("pass gave a number that is not finite") && error.contains(" in "), "{error}");

    let other = Data { classes: vec!["a".into(), "b".into()], ..data() };
    let error = start(&run("other", config()), &other, false).unwrap_err().to_string();
    assert_eq!(error, "data: stripes has other classes than the run");

    let done = run("done", Config { epochs: 1, ..config() });
    start(&done, &data(), false).unwrap();
    let grown = Data { train: Arc::new(Stripes(0..51)), ..data() };
    let error = start(&done, &grown, true).unwrap_err().to_string();
    assert_eq!(error, "data: 50 training pictures when the run began, 51 now: it cannot be resumed");
    let finished = start(&done, &data(), true).unwrap();
    assert!(matches!(finished, Outcome::Finished(history) if history.len() == 1));

    std::fs::write(done.last_path(), &std::fs::read(done.last_path()).unwrap()[..300]).unwrap();
    let error = start(&done, &data(), true).unwrap_err().to_string();
    assert!(error.contains("last.safetensors: "), "{error}");
}

#[test]
fn damaged_files_are_named_once_and_left_out() {
    let root = tempfile::tempdir().unwrap();
    for i in 0..30 {
        let class = root.path().join(["across", "down", "aslant"][i % 3]);
        std::fs::create_dir_all(&class).unwrap();
        let pixels = Stripes(0..30).picture(i).unwrap().pixels().to_vec();
        image::GrayImage::from_raw(12, 12, pixels).unwrap().save(class.join(format!("{i}.png"))).unwrap();
    }
    std::fs::write(root.path().join("down/broken.png"), b"\x89PNG\r\n\x1a\n....").unwrap();
    std::fs::write(root.path().join("down/empty.jpg"), b"").unwrap();
    let data = Data::open(root.path().to_str().unwrap(), 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = Config { classes: data.classes.clone(), epochs: 2, ..config() };
    let run = Run::create(&folder.path().join("run"), config).unwrap();
    let mut watch = Watch::default();
    fit(&run, &Tiny::new(1), &data, false, &never(), &mut watch).unwrap();
    let mut names: Vec<String> = watch.skipped.iter().map(|s| s.reason.clone()).collect();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(
        names[0].contains("down/broken.png: damaged image") && names[1].ends_with("down/empty.jpg: the file is empty")
    );
}

#[test]
fn the_learning_rate_is_constant_then_rises_then_falls() {
    let config = Config { epochs: 5, frozen_epochs: 1, frozen_lr: 0.3, lr: 0.1, warmup_epochs: 1.0, ..config() };
    let rates: Vec<f64> = (0..50).map(|step| learning_rate(&config, 10, step / 10, step % 10)).collect();
    assert!(rates[..10].iter().all(|&lr| lr == 0.3));
    assert!(rates[10..20].is_sorted() && rates[10] > 0.0 && rates[10] < 0.02);
    assert!((rates[20] - 0.1).abs() < 1e-3 && rates[20..].iter().rev().is_sorted() && rates[49] < 1e-3);
}
