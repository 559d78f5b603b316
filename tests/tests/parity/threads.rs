//! The same weights, bit for bit, whatever the number of threads. A test binary of its own: the number is the process's.

use ocelli_train::zoo::nn::autograd::Var;
use ocelli_train::zoo::nn::loss::cross_entropy;
use ocelli_train::zoo::nn::optim::{Optimizer, SgdOptions};
use ocelli_train::zoo::nn::tensor::{Tensor, threads};
use ocelli_train::zoo::nn::{Builder, Layer, Mode};
use ocelli_train::zoo::{Options, cifar_resnet};

const STEPS: usize = 20;
const BATCH: usize = 8;

/// The losses, and all of the state, of ResNet-20 after so many steps.
fn trained() -> (Vec<u32>, Vec<(String, Vec<u32>)>) {
    let builder = Builder::<f32>::new(1);
    let network = cifar_resnet::residual(&builder, 3, Options { classes: 10, in_channels: 3 }).unwrap();
    let options = SgdOptions { momentum: 0.9, weight_decay: 1e-4, ..SgdOptions::default() };
    let mut sgd = Optimizer::new(&builder.state(), options).unwrap();
    let labels: Vec<usize> = (0..BATCH).collect();
    let step = |k: usize| {
        let x = Tensor::from_fn([BATCH, 32, 32, 3], |i| ((i * 31 + k * 17) % 101) as f32 / 50.0 - 1.0);
        let logits = network.forward(&Var::constant(x), &Mode::train(k as u64)).unwrap();
        let loss = cross_entropy(&logits, &labels, 0.1).unwrap();
        loss.backward().unwrap();
        sgd.step(0.05);
        loss.value().item().unwrap().to_bits()
    };
    let losses = (0..STEPS).map(step).collect();
    let state = builder.state().to_checkpoint().unwrap();
    let bits = |tensor: &Tensor| tensor.data().iter().map(|value| value.to_bits()).collect();
    (losses, state.iter().map(|(name, entry)| (name.to_owned(), bits(&entry.tensor))).collect())
}

#[test]
fn twenty_steps_give_the_same_bits_on_one_two_and_four_threads() {
    let [one, two, four] = [1, 2, 4].map(|threads| {
        threads::set(threads);
        assert_eq!(threads::count(), threads);
        trained()
    });
    assert_ne!(one.0[0], one.0[STEPS - 1], "it learns");
    for (threads, other) in [(2, two), (4, four)] {
        assert_eq!(one.0, other.0, "losses on {threads} threads");
        for ((name, a), (_, b)) in one.1.iter().zip(&other.1) {
            assert_eq!(a, b, "{name} on {threads} threads");
        }
    }
}
