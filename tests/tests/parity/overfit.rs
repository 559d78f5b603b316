//! Every family learns: a reduced network of each, trained on 64 of the digits, comes to know all of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use ocelli_train::data::digits;
use ocelli_train::loader::LoaderOptions;
use ocelli_train::zoo::deformable_resnet::{V1, V2};
use ocelli_train::zoo::nn::autograd::{Var, no_grad};
use ocelli_train::zoo::nn::loss::{accuracy, cross_entropy};
use ocelli_train::zoo::nn::optim::{Optimizer, SgdOptions};
use ocelli_train::zoo::nn::{Builder, Mode};
use ocelli_train::zoo::resnet::Kind;
use ocelli_train::zoo::{
    Architecture, Options, alexnet, cifar_resnet, densenet, efficientnet, efficientnet_v2, googlenet, inception,
    preact_resnet, resnet, senet, variants, vgg,
};
use ocelli_train::{Dataset, Loader, Picture, Preprocessing};

/// More than any of the networks needs.
const EPOCHS: u64 = 400;

/// Digits of all classes, evenly spread over the training set, which is sorted by class.
struct Few(Arc<dyn Dataset>);

impl Few {
    fn at(&self, index: usize) -> usize {
        index * self.0.len() / self.len()
    }
}

impl Dataset for Few {
    fn len(&self) -> usize {
        64
    }

    fn label(&self, index: usize) -> usize {
        self.0.label(self.at(index))
    }

    fn picture(&self, index: usize) -> ocelli_train::Result<Picture> {
        self.0.picture(self.at(index))
    }

    fn name(&self, index: usize) -> String {
        self.0.name(self.at(index))
    }
}

type Build = fn(&Builder, Options) -> ocelli_train::zoo::nn::Result<Box<dyn Architecture>>;

/// Trains with steps of momentum 0.9 on pictures of `side` pixels until evaluation gets all of them right.
fn overfits(build: Build, side: usize, lr: f64) {
    let builder = Builder::new(1);
    let network = build(&builder, Options { classes: 10, in_channels: 1 }).unwrap();
    let mut sgd = Optimizer::new(&builder.state(), SgdOptions { momentum: 0.9, ..SgdOptions::default() }).unwrap();
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
    ($($test:ident $family:literal: $build:expr, $side:literal, $lr:literal;)*) => {
        const TESTED: &[&str] = &[$($family),*];
        $(
            #[test]
            fn $test() {
                overfits($build, $side, $lr);
            }
        )*
    };
}

const RESNET: resnet::Config = resnet::Config { width: 8, ..resnet::Config::new(Kind::Bottleneck, [1, 1, 1, 1]) };

overfits! {
    alexnet "AlexNet": |b, o| {
        let config = alexnet::Config { channels: [16, 32, 48, 32, 32], hidden: 128, ..alexnet::ALEXNET };
        Ok(Box::new(alexnet::AlexNet::new(b, &config, o)?))
    }, 64, 0.005;
    vgg "VGG": |b, o| {
        let config = vgg::Config { width: 8, hidden: 128, ..vgg::Config::new(vgg::VGG11, false) };
        Ok(Box::new(vgg::Vgg::new(b, &config, o)?))
    }, 32, 0.01;
    vgg_with_batch_norm "VGG": |b, o| {
        let config = vgg::Config { width: 8, hidden: 128, ..vgg::Config::new(vgg::VGG11, true) };
        Ok(Box::new(vgg::Vgg::new(b, &config, o)?))
    }, 32, 0.005;
    googlenet "GoogLeNet": |b, o| {
        let config = googlenet::Config { divisor: 8, ..googlenet::GOOGLENET };
        Ok(Box::new(googlenet::GoogLeNet::new(b, &config, o)?))
    }, 32, 0.01;
    inception "Inception": |b, o| {
        let config = inception::Config { divisor: 8, ..inception::INCEPTION_V3 };
        Ok(Box::new(inception::Inception::new(b, &config, o)?))
    }, 75, 0.01;
    resnet "ResNet": |b, o| Ok(Box::new(resnet::ResNet::new(b, &RESNET, o)?)), 32, 0.02;
    resnext "ResNeXt": |b, o| {
        let config = resnet::Config { groups: 4, group_width: 32, ..RESNET };
        Ok(Box::new(resnet::ResNet::new(b, &config, o)?))
    }, 32, 0.02;
    wide_resnet "Wide ResNet": |b, o| {
        let config = resnet::Config { group_width: 128, ..RESNET };
        Ok(Box::new(resnet::ResNet::new(b, &config, o)?))
    }, 32, 0.02;
    deformable_resnet "deformable ResNet": |b, o| {
        let config = resnet::Config { deformable: [None, None, Some(V1), Some(V2)], ..RESNET };
        Ok(Box::new(resnet::ResNet::new(b, &config, o)?))
    }, 32, 0.005;
    plain "plain": |b, o| {
        let config = resnet::Config { residual: false, kind: Kind::Basic, ..RESNET };
        Ok(Box::new(resnet::ResNet::new(b, &config, o)?))
    }, 32, 0.02;
    cifar_resnet "CIFAR ResNet": |b, o| Ok(Box::new(cifar_resnet::residual(b, 1, o)?)), 28, 0.05;
    cifar_plain "CIFAR plain": |b, o| Ok(Box::new(cifar_resnet::plain(b, 1, o)?)), 28, 0.05;
    cifar_preactivation "CIFAR pre-activation ResNet": |b, o| {
        let config = preact_resnet::Config { width: 8, ..preact_resnet::Config::new(Kind::Bottleneck, 1) };
        Ok(Box::new(preact_resnet::PreActResNet::new(b, &config, o)?))
    }, 28, 0.05;
    densenet "DenseNet": |b, o| Ok(Box::new(densenet::densenet(b, 8, [2, 2, 2, 2], o)?)), 32, 0.02;
    cifar_densenet "CIFAR DenseNet": |b, o| Ok(Box::new(densenet::cifar(b, 10, 8, o)?)), 28, 0.05;
    cifar_densenet_bc "CIFAR DenseNet": |b, o| Ok(Box::new(densenet::cifar_bc(b, 16, 8, o)?)), 28, 0.05;
    senet "SENet": |b, o| Ok(Box::new(senet::se_resnet_basic(b, [1, 1, 1, 1], o)?)), 32, 0.02;
    efficientnet "EfficientNet": |b, o| Ok(Box::new(efficientnet::efficientnet(b, -5.0, o)?)), 32, 0.01;
    efficientnet_v2 "EfficientNetV2": |b, o| {
        let mut config = efficientnet_v2::Size::S.config();
        config.stages.iter_mut().for_each(|stage| (stage.blocks, stage.channels) = (2, stage.channels / 4));
        let config = efficientnet::Config { stem: 8, head: 256, ..config };
        Ok(Box::new(efficientnet::EfficientNet::new(b, &config, o)?))
    }, 32, 0.01;
}

#[test]
fn every_family_is_tested() {
    let families: BTreeSet<_> = variants().map(|v| v.family).collect();
    assert_eq!(families, TESTED.iter().copied().collect());
}
