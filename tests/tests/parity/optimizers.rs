//! Optimizers against PyTorch's and timm's (`fixtures/optimizers.py`), resumed, on any number of threads, and averaged.

use ocelli_tests::fixtures::read_json;
use ocelli_train::zoo::nn::checkpoint::Checkpoint;
use ocelli_train::zoo::nn::optim::{
    AdamOptions, Clip, Ema, LambOptions, Method, Optimizer, RmsPropOptions, SgdOptions,
};
use ocelli_train::zoo::nn::tensor::simd::{available, with_isa};
use ocelli_train::zoo::nn::tensor::{Element, Tensor, threads};
use ocelli_train::zoo::nn::{Builder, Init, Layout, State};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    rates: Vec<f64>,
    initial: Values,
    gradients: Vec<Values>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Values {
    w: Vec<f64>,
    b: Vec<f64>,
}

#[derive(Deserialize)]
struct Case {
    method: String,
    #[serde(default)]
    momentum: f64,
    #[serde(default)]
    nesterov: bool,
    #[serde(default)]
    decay: f64,
    #[serde(default)]
    betas: [f64; 2],
    #[serde(default)]
    eps: f64,
    #[serde(default)]
    weight_decay: f64,
    #[serde(default)]
    spare_vectors: bool,
    clip_norm: Option<f64>,
    clip_value: Option<f64>,
    after: Vec<Values>,
}

impl Case {
    fn method(&self) -> Method {
        let Case { momentum, nesterov, decay, betas, eps, weight_decay, .. } = *self;
        let decay_vectors = !self.spare_vectors;
        let adam = AdamOptions { betas, eps, weight_decay, decoupled: false, decay_vectors };
        match self.method.as_str() {
            "sgd" => SgdOptions { momentum, nesterov, weight_decay, decay_vectors }.into(),
            "rmsprop" => RmsPropOptions { decay, momentum, eps, weight_decay, decay_vectors }.into(),
            "adam" => adam.into(),
            "adamw" => AdamOptions { decoupled: true, ..adam }.into(),
            "lamb" => LambOptions { betas, eps, weight_decay, decay_vectors }.into(),
            other => panic!("no method {other}"),
        }
    }

    fn optimizer<T: Element>(&self, state: &State<T>) -> Optimizer<T> {
        let optimizer = Optimizer::new(state, self.method()).unwrap();
        let clip = self.clip_norm.map(Clip::Norm).or(self.clip_value.map(Clip::Value));
        match clip {
            Some(clip) => optimizer.with_clip(clip).unwrap(),
            None => optimizer,
        }
    }
}

fn fixture() -> Fixture {
    read_json("optimizers.json")
}

/// A matrix and a vector.
fn state<T: Element>(values: &Values) -> State<T> {
    let b = Builder::zeroed();
    b.parameter("w", [5, 7], Init::ZEROS, Layout::Linear).unwrap();
    b.parameter("b", [7], Init::ZEROS, Layout::Vector).unwrap();
    let state = b.state();
    for ((_, parameter), values) in state.parameters().zip([&values.w, &values.b]) {
        parameter.set_value(Tensor::from_fn(parameter.shape(), |i| T::from_f64(values[i]))).unwrap();
    }
    state
}

fn give<T: Element>(state: &State<T>, gradients: &Values) {
    for ((_, parameter), values) in state.parameters().zip([&gradients.w, &gradients.b]) {
        parameter.accumulate(Tensor::from_fn(parameter.shape(), |i| T::from_f64(values[i]))).unwrap();
    }
}

/// The largest difference of the parameters, all of which are around 1.
fn error<T: Element>(state: &State<T>, expected: &Values) -> f64 {
    let pairs = state.parameters().zip([&expected.w, &expected.b]);
    let difference = |(x, expected): (&T, &f64)| (x.to_f64() - expected).abs();
    pairs
        .map(|((_, parameter), expected)| {
            parameter.value().data().iter().zip(expected).map(difference).fold(0.0, f64::max)
        })
        .fold(0.0, f64::max)
}

fn follows<T: Element>(case: &Case, Fixture { rates, initial, gradients, .. }: &Fixture, tolerance: f64) {
    let state = state::<T>(initial);
    let mut optimizer = case.optimizer(&state);
    for (step, gradient) in gradients.iter().enumerate() {
        give(&state, gradient);
        optimizer.step(rates[step]);
        let error = error(&state, &case.after[step]);
        assert!(error < tolerance, "{:?}, {}, step {step}: {error:e}", case.method(), T::NAME);
    }
}

#[test]
fn every_method_agrees_with_pytorch() {
    let fixture = fixture();
    assert_eq!(fixture.cases.len(), 13);
    for case in &fixture.cases {
        follows::<f64>(case, &fixture, 1e-12);
        for &isa in available() {
            with_isa(isa, || follows::<f32>(case, &fixture, 5e-6));
        }
    }
}

#[test]
fn a_resumed_optimizer_gives_the_same_bits() {
    let Fixture { rates, initial, gradients, cases } = fixture();
    for case in &cases {
        let step = |state: &State, optimizer: &mut Optimizer, k: usize| {
            give(state, &gradients[k]);
            optimizer.step(rates[k]);
        };
        let whole = state::<f32>(&initial);
        let mut optimizer = case.optimizer(&whole);
        (0..4).for_each(|k| step(&whole, &mut optimizer, k));

        let first = state(&initial);
        let mut first_optimizer = case.optimizer(&first);
        (0..2).for_each(|k| step(&first, &mut first_optimizer, k));
        let saved = [first.to_checkpoint().unwrap(), first_optimizer.to_checkpoint().unwrap()];
        let [weights, kept] = saved.map(|c| Checkpoint::from_bytes(&c.to_bytes().unwrap()).unwrap());

        let second = state(&gradients[0]);
        second.load(&weights, true).unwrap();
        let mut second_optimizer = case.optimizer(&second);
        second_optimizer.load(&kept).unwrap();
        (2..4).for_each(|k| step(&second, &mut second_optimizer, k));
        assert_eq!(second.to_checkpoint().unwrap(), whole.to_checkpoint().unwrap(), "{}", case.method);
        assert_eq!(second_optimizer.to_checkpoint().unwrap(), optimizer.to_checkpoint().unwrap(), "{}", case.method);
    }
}

#[test]
fn what_was_kept_by_another_method_is_refused_whole() {
    let Fixture { rates, initial, gradients, .. } = fixture();
    let state = state::<f32>(&initial);
    let mut adam = Optimizer::new(&state, AdamOptions::adam()).unwrap();
    give(&state, &gradients[0]);
    adam.step(rates[0]);
    let mut kept = adam.to_checkpoint().unwrap();
    let names: Vec<_> = kept.iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, ["w/m", "w/v", "w/steps", "b/m", "b/v", "b/steps"]);

    let options = SgdOptions { momentum: 0.9, ..SgdOptions::default() };
    let error = Optimizer::new(&state, options).unwrap().load(&kept).unwrap_err().to_string();
    let fit = "the checkpoint does not fit the model:";
    assert_eq!(error, format!("{fit} 6 unexpected (w/m, w/v, w/steps, b/m, b/v, b/steps)"));

    kept.retain(|name| name != "w/v" && name != "b/steps");
    kept.insert("b/m", Tensor::zeros([3]));
    let error = adam.load(&kept).unwrap_err().to_string();
    assert_eq!(error, format!("{fit} 2 missing (w/v, b/steps); 1 misshaped (b/m [3] instead of [7])"));
}

/// Weights of many sizes, among them one of several pieces and a crowd of small ones.
fn crowd() -> State {
    let b = Builder::new(3);
    for (i, rows) in [1, 70_001, 3, 1_000, 64 * 1024, 2].into_iter().chain(1..120).enumerate() {
        b.parameter(&format!("w{i}"), [rows, 3], Init::Normal { std: 1.0 }, Layout::Linear).unwrap();
    }
    b.state()
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let (sgd, rmsprop) = (SgdOptions { momentum: 0.9, ..SgdOptions::default() }, RmsPropOptions::default());
    let methods: [Method; 4] = [sgd.into(), rmsprop.into(), AdamOptions::adamw().into(), LambOptions::default().into()];
    for method in methods {
        let trained = |count: usize| {
            threads::set(count);
            let state = crowd();
            let mut optimizer = Optimizer::new(&state, method).unwrap().with_clip(Clip::Norm(10.0)).unwrap();
            let mut ema = Ema::new(&state, 0.5).unwrap();
            for step in 0..3 {
                for (_, p) in state.parameters() {
                    p.accumulate(Tensor::from_fn(p.shape(), |i| ((i * 7 + step) % 11) as f32 - 5.5)).unwrap();
                }
                optimizer.step(0.01);
                ema.update();
            }
            threads::set(0);
            [state.to_checkpoint().unwrap(), optimizer.to_checkpoint().unwrap(), ema.to_checkpoint().unwrap()]
        };
        let one = trained(1);
        assert!(trained(2) == one && trained(4) == one, "{method:?}");
    }
}

#[test]
fn decay_is_spared_by_name_and_gradients_are_scaled() {
    let b = Builder::<f64>::new(1);
    for name in ["head.weight", "norm.weight"] {
        b.parameter(name, [2, 2], Init::ONES, Layout::Linear).unwrap();
    }
    let state = b.state();
    let options = SgdOptions { weight_decay: 0.5, ..SgdOptions::default() };
    let mut sgd = Optimizer::new(&state, options).unwrap().without_decay(|name| name.starts_with("norm."));
    state.parameters().for_each(|(_, p)| p.accumulate(Tensor::full(p.shape(), 2.0)).unwrap());
    sgd.step_scaled(0.1, 0.25);
    let values: Vec<f64> = state.parameters().map(|(_, p)| p.value().data()[3]).collect();
    assert_eq!(values, [1.0 - 0.1 * (0.5 + 0.5), 1.0 - 0.1 * 0.5]);
}

#[test]
fn a_nan_is_not_clipped_away() {
    for clip in [Clip::Norm(1.0), Clip::Value(1.0)] {
        let b = Builder::<f32>::new(1);
        let w = b.parameter("w", [20], Init::ONES, Layout::Vector).unwrap();
        let mut sgd = Optimizer::new(&b.state(), SgdOptions::default()).unwrap().with_clip(clip).unwrap();
        w.accumulate(Tensor::from_fn([20], |i| if i == 7 { f32::NAN } else { 0.5 })).unwrap();
        sgd.step(0.1);
        assert!(w.value().data()[7].is_nan(), "{clip:?}");
    }
}

#[test]
fn averages_follow_by_their_formula_and_stand_in_for_the_weights() {
    let b = Builder::<f64>::new(1);
    let w = b.parameter("w", [3], Init::ZEROS, Layout::Vector).unwrap();
    let mean = b.buffer("running_mean", Tensor::zeros([2])).unwrap();
    b.counter("num_batches_tracked").unwrap();
    let state = b.state();
    let mut ema = Ema::new(&state, 0.3).unwrap();
    let (mut expected, mut saved) = (0.0, None);
    for t in 0..5 {
        let x = f64::from(t + 1);
        w.set_value(Tensor::full([3], x)).unwrap();
        mean.set_value(Tensor::full([2], x)).unwrap();
        ema.update();
        let decay = f64::min(0.3, (1.0 + f64::from(t)) / (10.0 + f64::from(t)));
        expected = decay * expected + (1.0 - decay) * x;
        if t == 2 {
            saved = Some((ema.to_checkpoint().unwrap(), expected));
        }
    }
    let near = |x: f64, y: f64| (x - y).abs() < 1e-14;
    let inside = ema.with_averages(|| [w.value().data()[2], mean.value().data()[1]]);
    assert!(near(inside[0], expected) && near(inside[1], expected), "{inside:?} {expected}");
    assert_eq!((w.value().data()[2], mean.value().data()[1]), (5.0, 5.0));

    let (saved, expected) = saved.unwrap();
    let mut resumed = Ema::new(&state, 0.3).unwrap();
    resumed.load(&saved).unwrap();
    assert_eq!(resumed.to_checkpoint().unwrap(), saved);
    assert!((resumed.with_averages(|| w.value().data()[0]) - expected).abs() < 1e-6);
    let error = resumed.load(&Checkpoint::new()).unwrap_err().to_string();
    assert_eq!(error, "the checkpoint does not fit the model: 3 missing (w, running_mean, /updates)");
    assert_eq!(Ema::new(&state, 1.0).unwrap_err().to_string(), "Ema decay: expected at least 0 and below 1, got 1");
}

#[test]
fn constants_out_of_their_domain_are_refused() {
    let state = state::<f32>(&fixture().initial);
    let refused = |method: Method| Optimizer::new(&state, method).unwrap_err().to_string();
    let share = "at least 0 and below 1";
    let adam = AdamOptions { betas: [0.9, 1.0], ..AdamOptions::adam() };
    assert_eq!(refused(adam.into()), format!("Adam beta: expected {share}, got 1"));
    let lamb = LambOptions { eps: 0.0, ..LambOptions::default() };
    assert_eq!(refused(lamb.into()), "LAMB epsilon: expected a number of more than 0, got 0");
    let rmsprop = RmsPropOptions { momentum: f64::NAN, ..RmsPropOptions::default() };
    assert_eq!(refused(rmsprop.into()), format!("RMSprop momentum: expected {share}, got NaN"));
    let clip = Optimizer::new(&state, SgdOptions::default()).unwrap().with_clip(Clip::Norm(0.0));
    assert_eq!(clip.unwrap_err().to_string(), "Clip norm: expected more than 0, got 0");
}
