//! A small network in training: against PyTorch, interrupted and resumed, and partly frozen.

use std::path::Path;

use ocelli_nn::autograd::ops::Activation;
use ocelli_nn::autograd::{Var, trace};
use ocelli_nn::checkpoint::Checkpoint;
use ocelli_nn::loss::cross_entropy;
use ocelli_nn::optim::{Optimizer, SgdOptions};
use ocelli_nn::tensor::{Element, Tensor};
use ocelli_nn::{
    BatchNormOptions, Builder, Conv2d, Conv2dOptions, ConvNorm, Error, Flatten, Layer, Layout, Linear, LinearOptions,
    Mode, Result, Sequential, State,
};

/// The network of `fixtures/training.py`.
fn network<T: Element>(b: &Builder<T>) -> Result<Sequential<T>> {
    let mut network = Sequential::new();
    let relu = Some(Activation::Relu);
    let first = Conv2dOptions::new(3).padding(1).bias(true);
    network.push("stem", ConvNorm::new(b, ("conv1", "bn1"), [2, 4], first, BatchNormOptions::default(), relu)?);
    let second = Conv2dOptions::new(3).stride(2).padding(1).groups(2);
    let norm = BatchNormOptions { eps: 1e-3, momentum: 0.2, ..BatchNormOptions::default() };
    network.push("body", ConvNorm::new(b, ("conv2", "bn2"), [4, 8], second, norm, Some(Activation::Silu))?);
    network.push("flatten", Flatten);
    let layout = Layout::LinearAfterFlatten { height: 3, width: 2, channels: 8 };
    network.push("fc", Linear::new(&b.enter("fc"), 48, 5, LinearOptions { layout, ..LinearOptions::default() })?);
    Ok(network)
}

const OPTIONS: SgdOptions = SgdOptions { momentum: 0.9, nesterov: true, weight_decay: 0.01, decay_vectors: true };
const RATES: [f64; 3] = [0.1, 0.05, 0.2];

fn fixture() -> Checkpoint {
    Checkpoint::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/training.pth")).unwrap()
}

/// The tensors under a prefix, without it.
fn part(checkpoint: &Checkpoint, prefix: &str) -> Checkpoint {
    let mut part = checkpoint.clone();
    part.retain(|name| name.starts_with(prefix));
    part.renamed(|_, name| name[prefix.len()..].to_owned()).unwrap()
}

struct Batch<T: Element> {
    input: Var<T>,
    labels: Vec<usize>,
}

fn batch<T: Element>() -> Batch<T> {
    let fixture = fixture();
    let input = fixture.get("input").unwrap().tensor.permute(&[0, 2, 3, 1]).unwrap();
    let labels = fixture.get("labels").unwrap().tensor.data().iter().map(|&x| x as usize).collect();
    Batch { input: Var::constant(input.cast()), labels }
}

fn step<T: Element>(network: &Sequential<T>, sgd: &mut Optimizer<T>, batch: &Batch<T>, lr: f64) -> Result<f64> {
    let logits = network.forward(&batch.input, &Mode::train(0))?;
    let loss = cross_entropy(&logits, &batch.labels, 0.1)?;
    loss.backward()?;
    sgd.step(lr);
    Ok(loss.value().item()?.to_f64())
}

fn built<T: Element>(seed: u64) -> (Sequential<T>, State<T>) {
    let b = Builder::new(seed);
    (network(&b).unwrap(), b.state())
}

fn assert_near(got: &Checkpoint, expected: &Checkpoint) {
    assert_eq!(
        got.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        expected.iter().map(|(name, _)| name).collect::<Vec<_>>()
    );
    for (name, entry) in expected.iter() {
        let error = got.get(name).unwrap().tensor.relative_error(&entry.tensor);
        assert!(error < 1e-6, "{name}: relative error {error}");
    }
}

#[test]
fn three_steps_agree_with_pytorch() {
    let (fixture, batch) = (fixture(), batch::<f64>());
    let (network, state) = built::<f64>(0);
    state.load(&part(&fixture, "initial."), true).unwrap();
    let mut sgd = Optimizer::new(&state, OPTIONS).unwrap();
    let losses = RATES.map(|lr| step(&network, &mut sgd, &batch, lr).unwrap() as f32);
    let losses = Tensor::from_slice([3], &losses).unwrap();
    assert!(losses.relative_error(&fixture.get("losses").unwrap().tensor) < 1e-6, "{losses:?}");
    assert_near(&state.to_checkpoint().unwrap(), &part(&fixture, "final."));
    assert_near(&sgd.to_checkpoint().unwrap(), &part(&fixture, "velocity."));
    let logits = network.forward(&batch.input, &Mode::Eval).unwrap();
    assert!(logits.value().cast().relative_error(&fixture.get("logits").unwrap().tensor) < 1e-6);
}

#[test]
fn a_resumed_run_is_the_same_bits() {
    let batch = batch::<f32>();
    let train = |network: &Sequential, sgd: &mut Optimizer, rates: &[f64]| {
        for &lr in rates {
            step(network, sgd, &batch, lr).unwrap();
        }
    };
    let (whole, state) = built(3);
    let mut sgd = Optimizer::new(&state, OPTIONS).unwrap();
    train(&whole, &mut sgd, &RATES);

    let (first, first_state) = built(3);
    let mut first_sgd = Optimizer::new(&first_state, OPTIONS).unwrap();
    train(&first, &mut first_sgd, &RATES[..1]);
    let saved = [first_state.to_checkpoint().unwrap(), first_sgd.to_checkpoint().unwrap()];
    let [weights, velocities] = saved.map(|c| Checkpoint::from_bytes(&c.to_bytes().unwrap()).unwrap());

    let (second, second_state) = built(99);
    second_state.load(&weights, true).unwrap();
    let mut second_sgd = Optimizer::new(&second_state, OPTIONS).unwrap();
    second_sgd.load(&velocities).unwrap();
    train(&second, &mut second_sgd, &RATES[1..]);
    assert_eq!(second_state.to_checkpoint().unwrap(), state.to_checkpoint().unwrap());
    assert_eq!(second_sgd.to_checkpoint().unwrap(), sgd.to_checkpoint().unwrap());
}

#[test]
fn frozen_parts_do_not_move() {
    let batch = batch::<f32>();
    let (network, state) = built(1);
    let before = state.to_checkpoint().unwrap();
    assert_eq!((state.freeze("conv"), state.freeze("bn")), (3, 4));
    let mut sgd = Optimizer::new(&state, OPTIONS).unwrap();
    step(&network, &mut sgd, &batch, 0.1).unwrap();
    let after = state.to_checkpoint().unwrap();
    for (name, entry) in before.iter() {
        assert_eq!(after.get(name) == Some(entry), !name.starts_with("fc."), "{name}");
    }
    assert_eq!(state.unfreeze(""), 9);
    step(&network, &mut sgd, &batch, 0.1).unwrap();
    let last = state.to_checkpoint().unwrap();
    assert!(last.iter().all(|(name, entry)| before.get(name) != Some(entry)));
    assert_eq!(last.get("bn1.num_batches_tracked").unwrap().tensor.data(), [1.0]);
}

#[test]
fn weight_decay_can_spare_vectors() {
    let (_, state) = built::<f32>(1);
    let before = state.to_checkpoint().unwrap();
    let options = SgdOptions { weight_decay: 0.5, decay_vectors: false, ..SgdOptions::default() };
    let mut sgd = Optimizer::new(&state, options).unwrap();
    state.parameters().for_each(|(_, p)| p.accumulate(Tensor::zeros(*p.shape())).unwrap());
    sgd.step(1.0);
    let after = state.to_checkpoint().unwrap();
    assert_eq!(after.get("conv1.bias"), before.get("conv1.bias"));
    assert_eq!(after.get("bn2.weight"), before.get("bn2.weight"));
    let halved = before.get("fc.weight").unwrap().tensor.map(|w| w - 0.5 * w);
    assert_eq!(after.get("fc.weight").unwrap().tensor, halved);
    assert!(sgd.to_checkpoint().unwrap().is_empty(), "without momentum there is no velocity");
}

#[test]
fn a_checkpoint_that_does_not_fit_is_told_in_full() {
    let (_, state) = built::<f32>(1);
    let before = state.to_checkpoint().unwrap();
    let mut other = built::<f32>(2).1.to_checkpoint().unwrap();
    other.retain(|name| !["conv1.bias", "bn1.running_var", "bn1.num_batches_tracked"].contains(&name));
    other.insert("fc.weight", Tensor::zeros([10, 48]));
    other.insert("head.weight", Tensor::zeros([1]));
    let error = state.load(&other, true).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the checkpoint does not fit the model: 2 missing (conv1.bias, bn1.running_var); 1 unexpected (head.weight); \
         1 misshaped (fc.weight [10, 48] instead of [5, 48])"
    );
    assert!(
        matches!(state.load(&other, false), Err(Error::Mismatch(m)) if m.misshaped.len() == 1 && m.missing.is_empty())
    );
    assert_eq!(state.to_checkpoint().unwrap(), before, "nothing has changed");

    other.retain(|name| name != "fc.weight");
    state.load(&other, false).unwrap();
    let after = state.to_checkpoint().unwrap();
    assert_eq!(after.get("conv1.weight"), other.get("conv1.weight"));
    assert_eq!(after.get("fc.weight"), before.get("fc.weight"));

    let mut sgd = Optimizer::new(&state, OPTIONS).unwrap();
    let error = sgd.load(&other).unwrap_err().to_string();
    assert!(error.contains("bn1.running_mean") && error.contains("unexpected"), "{error}");
}

#[test]
fn constants_out_of_their_domain_are_refused() {
    let state = built::<f32>(0).1;
    let plain = SgdOptions::default();
    for (options, expected) in [
        (SgdOptions { momentum: -0.1, ..plain }, "SGD momentum: expected a number of at least 0, got -0.1"),
        (SgdOptions { weight_decay: f64::NAN, ..plain }, "SGD weight decay: expected a number of at least 0, got NaN"),
        (SgdOptions { nesterov: true, ..plain }, "SGD momentum: expected more than 0 for Nesterov's method, got 0"),
    ] {
        assert_eq!(Optimizer::new(&state, options).unwrap_err().to_string(), expected);
    }
    let b = Builder::<f32>::new(0);
    let error = Conv2d::new(&b, 6, 8, Conv2dOptions::new(3).groups(4)).unwrap_err().to_string();
    assert_eq!(error, "Conv2d groups: expected to divide 6 input and 8 output channels, got 4");
    let error = network(&b).unwrap().forward(&Var::constant(Tensor::zeros([1, 1, 1, 2])), &Mode::train(0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "BatchNorm2d input in training: expected at least 2 values a channel, got [1, 1, 1, 4]"
    );
}

#[test]
fn traces_show_where_an_operation_belongs() {
    let (network, _) = built::<f32>(0);
    let (result, trace) = trace::<f32, _>(|| network.forward(&batch().input, &Mode::Eval));
    result.unwrap();
    let scopes: Vec<_> = trace.entries().iter().map(|entry| entry.scope()).collect();
    assert!(
        scopes.starts_with(&["stem.conv1"]) && scopes.contains(&"stem.bn1") && scopes.ends_with(&["fc"]),
        "{scopes:?}"
    );
}
