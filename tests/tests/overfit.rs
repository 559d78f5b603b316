//! Every family learns: a reduced network of each, trained on 64 of the digits, comes to know all of them.

use std::sync::Arc;

use ocelli_train::data::digits;
use ocelli_train::loader::LoaderOptions;
use ocelli_train::zoo::nn::autograd::{Var, no_grad};
use ocelli_train::zoo::nn::loss::{accuracy, cross_entropy};
use ocelli_train::zoo::nn::optim::{Sgd, SgdOptions};
use ocelli_train::zoo::nn::{Builder, Mode};
use ocelli_train::zoo::resnet::Kind;
use ocelli_train::zoo::{
    Architecture, Options, alexnet, cifar_resnet, googlenet, inception, preact_resnet, resnet, vgg,
};
use ocelli_train::{Dataset, Loader, Picture, Preprocessing};

/// More than any of the networks needs.
const EPOCHS: u64 = 80;

/// The first digits of the training set.
struct Few(Arc<dyn Dataset>);

impl Dataset for Few {
    fn len(&self) -> usize {
        64
    }

    fn label(&self, index: usize) -> usize {
        self.0.label(index)
    }

    fn picture(&self, index: usize) -> ocelli_train::Result<Picture> {
        self.0.picture(index)
    }

    fn name(&self, index: usize) -> String {
        self.0.name(index)
    }
}

type Build = fn(&Builder, Options) -> ocelli_train::zoo::nn::Result<Box<dyn Architecture>>;

/// Trains with steps of momentum 0.9 on pictures of `side` pixels until evaluation gets all of them right.
fn overfits(build: Build, side: usize, lr: f64) {
    let builder = Builder::new(1);
    let network = build(&builder, Options { classes: 10, in_channels: 1 }).unwrap();
    let mut sgd = Sgd::new(&builder.state(), SgdOptions { momentum: 0.9, ..SgdOptions::default() }).unwrap();
    let preprocessing = Preprocessing { resize: side, crop: side, ..Preprocessing::digits() };
    let few = Arc::new(Few(digits().unwrap().train));
    let loader = |options| Loader::new(few.clone(), preprocessing.clone(), options).unwrap();
    let shuffled = loader(LoaderOptions { shuffle: true, seed: 1, ..LoaderOptions::in_order(16) });
    let all = loader(LoaderOptions::in_order(64)).epoch(0, 0).next().unwrap();
    let mut reached = Vec::new();
    for epoch in 0..EPOCHS {
        for (step, batch) in shuffled.epoch(epoch, 0).enumerate() {
            let mode = Mode::train(epoch << 32 | step as u64);
            let outputs = network.outputs(&Var::constant(batch.images), &mode).unwrap();
            outputs.loss(|logits| cross_entropy(logits, &batch.labels, 0.0)).unwrap().backward().unwrap();
            sgd.step(lr);
        }
        let logits = no_grad(|| network.forward(&Var::constant(all.images.clone()), &Mode::Eval)).unwrap();
        reached.push(accuracy(logits.value(), &all.labels).unwrap());
        if reached.ends_with(&[1.0]) {
            println!("{} epochs", reached.len());
            return;
        }
    }
    panic!("accuracy after each epoch: {reached:?}");
}

macro_rules! overfits {
    ($($family:ident: $build:expr, $side:literal, $lr:literal;)*) => {
        $(
            #[test]
            fn $family() {
                overfits($build, $side, $lr);
            }
        )*
    };
}

const RESNET: resnet::Config = resnet::Config { width: 8, ..resnet::Config::new(Kind::Bottleneck, [1, 1, 1, 1]) };

overfits! {
    alexnet: |b, o| {
        let config = alexnet::Config { channels: [16, 32, 48, 32, 32], hidden: 128 };
        Ok(Box::new(alexnet::AlexNet::new(b, &config, o)?))
    }, 64, 0.02;
    vgg: |b, o| {
        let config = vgg::Config { width: 8, hidden: 128, ..vgg::Config::new(vgg::VGG11, false) };
        Ok(Box::new(vgg::Vgg::new(b, &config, o)?))
    }, 32, 0.02;
    vgg_with_batch_norm: |b, o| {
        let config = vgg::Config { width: 8, hidden: 128, ..vgg::Config::new(vgg::VGG11, true) };
        Ok(Box::new(vgg::Vgg::new(b, &config, o)?))
    }, 32, 0.02;
    googlenet: |b, o| {
        let config = googlenet::Config { divisor: 8, ..googlenet::GOOGLENET };
        Ok(Box::new(googlenet::GoogLeNet::new(b, &config, o)?))
    }, 32, 0.02;
    inception: |b, o| {
        let config = inception::Config { divisor: 8, ..inception::INCEPTION_V3 };
        Ok(Box::new(inception::Inception::new(b, &config, o)?))
    }, 75, 0.02;
    resnet: |b, o| Ok(Box::new(resnet::ResNet::new(b, &RESNET, o)?)), 32, 0.02;
    resnext: |b, o| {
        let config = resnet::Config { groups: 4, group_width: 32, ..RESNET };
        Ok(Box::new(resnet::ResNet::new(b, &config, o)?))
    }, 32, 0.02;
    wide_resnet: |b, o| {
        let config = resnet::Config { group_width: 128, ..RESNET };
        Ok(Box::new(resnet::ResNet::new(b, &config, o)?))
    }, 32, 0.02;
    plain: |b, o| {
        let config = resnet::Config { residual: false, kind: Kind::Basic, ..RESNET };
        Ok(Box::new(resnet::ResNet::new(b, &config, o)?))
    }, 32, 0.02;
    cifar_resnet: |b, o| Ok(Box::new(cifar_resnet::residual(b, 1, o)?)), 28, 0.05;
    cifar_plain: |b, o| Ok(Box::new(cifar_resnet::plain(b, 1, o)?)), 28, 0.05;
    cifar_preactivation: |b, o| {
        let config = preact_resnet::Config { width: 8, ..preact_resnet::Config::new(Kind::Bottleneck, 1) };
        Ok(Box::new(preact_resnet::PreActResNet::new(b, &config, o)?))
    }, 28, 0.05;
}
