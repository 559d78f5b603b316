//! Saving memory, and checkpoints around randomness and running statistics, change no bit.

use std::sync::Arc;

use ocelli_train::zoo::nn::autograd::Var;
use ocelli_train::zoo::nn::checkpoint::Checkpoint;
use ocelli_train::zoo::nn::loss::cross_entropy;
use ocelli_train::zoo::nn::optim::{Optimizer, SgdOptions};
use ocelli_train::zoo::nn::tensor::Tensor;
use ocelli_train::zoo::nn::{
    BatchNorm2d, BatchNormOptions, Builder, Conv2d, Conv2dOptions, Dropout, Layer, Mode, Sequential, StochasticDepth,
    checkpoint,
};
use ocelli_train::zoo::{Options, variant};

fn trained(model: &str, size: usize, save_memory: bool) -> Checkpoint {
    let builder = Builder::new(1);
    let network = (variant(model).unwrap().build)(&builder, Options { classes: 10, in_channels: 3 }).unwrap();
    let state = builder.state();
    let mut optimizer = Optimizer::new(&state, SgdOptions::default()).unwrap();
    let x = Tensor::from_fn([2, size, size, 3], |i| (i % 17) as f32 / 8.0 - 1.0);
    for step in 0..2 {
        let mode = Mode::train(step);
        let mode = if save_memory { mode.saving_memory() } else { mode };
        let outputs = network.outputs(&Var::constant(x.clone()), &mode).unwrap();
        let loss = outputs.loss(|logits| cross_entropy(logits, &[3, 7], 0.1)).unwrap();
        if save_memory {
            optimizer.backward_step(&loss, 0.01).unwrap();
        } else {
            loss.backward().unwrap();
            optimizer.step(0.01);
        }
    }
    state.to_checkpoint().unwrap()
}

#[test]
fn networks_that_save_memory_learn_the_same_bits() {
    for model in ["densenet121", "resnet18", "efficientnet_b0"] {
        let (plain, saving) = (trained(model, 32, false), trained(model, 32, true));
        for (name, entry) in plain.iter() {
            assert_eq!(saving.get(name).unwrap(), entry, "{name} of {model}");
        }
    }
}

#[test]
fn randomness_and_running_statistics_are_those_of_one_run() {
    let run = |saving: bool| {
        let b = Builder::<f32>::new(5);
        let mut part = Sequential::new();
        part.push("conv", Conv2d::new(&b.enter("conv"), 2, 4, Conv2dOptions::new(3).padding(1)).unwrap());
        part.push("bn", BatchNorm2d::new(&b.enter("bn"), 4, BatchNormOptions::default()).unwrap());
        part.push("drop", Dropout::new(0.4).unwrap());
        part.push("depth", StochasticDepth::new(0.5).unwrap());
        let (part, last) = (Arc::new(part), Dropout::new(0.5).unwrap());
        let mode = Mode::train(3);
        let x = Var::constant(Tensor::from_fn([6, 4, 4, 2], |i| ((i * 5) % 13) as f32 / 6.0 - 1.0));
        let y = if saving {
            let part = part.clone();
            checkpoint(&[&x], &mode, move |x, mode| part.forward(&x[0], mode)).unwrap()
        } else {
            part.forward(&x, &mode).unwrap()
        };
        // What is drawn behind a checkpoint goes on where the part left off.
        let y = last.forward(&y, &mode).unwrap();
        let value = y.value().clone();
        y.backward_with(Tensor::from_fn(value.shape(), |i| (i % 7) as f32 - 3.0)).unwrap();
        let state = b.state();
        let gradients: Vec<_> = state.parameters().map(|(_, p)| p.grad().unwrap()).collect();
        (value, gradients, state.to_checkpoint().unwrap())
    };
    let (plain, saving) = (run(false), run(true));
    assert!(plain.0 == saving.0 && plain.1 == saving.1);
    assert_eq!(plain.2, saving.2);
    assert_eq!(saving.2.get("bn.num_batches_tracked").unwrap().tensor.data(), [1.0]);
}
