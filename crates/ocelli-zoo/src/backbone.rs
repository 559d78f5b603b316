//! Networks as backbones: the maps of their stages, their embedding, and freezing by stages.

use crate::nn::Mode;
use crate::nn::autograd::{Trace, Var, no_grad};
use crate::nn::tensor::Tensor;
use crate::{Error, Model, Result};

/// A stage of a network: the layers between two changes of the map's size, as a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The path of the layer that ends it, such as `layer1`; `stem` where several layers without a common path do.
    pub name: String,
    /// Pixels of the image, down and across, for one of the map.
    pub stride: usize,
    /// Channels of the map.
    pub channels: usize,
}

/// What a stage makes of a batch.
#[derive(Debug)]
pub struct Feature {
    /// Which stage.
    pub stage: Stage,
    /// `[N, ⌈H / stride⌉, ⌈W / stride⌉, channels]`, give or take a pixel where an architecture does not pad.
    pub map: Var<f32>,
}

/// A layer of a network, with what it does.
#[derive(Debug)]
pub struct Part {
    /// The path of its operations; empty where they have none in common.
    pub path: String,
    /// The number of the stage that it ends, if it ends one.
    pub ends: Option<usize>,
    /// Its operations.
    pub trace: Trace<f32>,
}

impl Model {
    /// The stages in order, from the image to the classifier.
    pub fn stages(&self) -> Result<Vec<Stage>> {
        let side = self.variant().least_size;
        let image = Var::constant(Tensor::zeros([1, side, side, self.options().in_channels]));
        let all: Vec<usize> = (0..self.chain().stages().len()).collect();
        let features = no_grad(|| self.features(&image, &all, &Mode::Eval))?;
        Ok(features.into_iter().map(|feature| feature.stage).collect())
    }

    /// The maps of the stages of these numbers, from 0, in this order: what timm calls `features_only` with
    /// `out_indices`. Layers behind the last of them do not run. Gradients flow back through the maps.
    ///
    /// Errors if the images are too small or of other channels, and if there is no such stage.
    ///
    /// ```
    /// use ocelli_zoo::nn::{Mode, autograd::Var, tensor::Tensor};
    /// use ocelli_zoo::{Model, Options};
    ///
    /// // No classes: a backbone, whose state has no classifier.
    /// let backbone = Model::new("resnet18", Options { classes: 0, in_channels: 3 }, 42)?;
    /// let images = Var::constant(Tensor::zeros([1, 64, 96, 3]));
    ///
    /// let features = backbone.features(&images, &[2, 4], &Mode::Eval)?;
    /// let seen = features.iter().map(|f| (&*f.stage.name, f.stage.stride, f.map.shape().to_vec()));
    /// let expected = [("layer2", 8, vec![1, 8, 12, 128]), ("layer4", 32, vec![1, 2, 3, 512])];
    /// assert!(seen.eq(expected));
    ///
    /// assert_eq!(backbone.embedding(&images, &Mode::Eval)?.shape()[..], [1, 512]);
    /// backbone.freeze_stages(2)?; // the stem and layer1
    /// # Ok::<(), ocelli_zoo::Error>(())
    /// ```
    pub fn features(&self, x: &Var<f32>, stages: &[usize], mode: &Mode) -> Result<Vec<Feature>> {
        self.check(x.shape())?;
        let chain = self.chain();
        let known: Vec<(&str, usize)> = chain.stages().collect();
        stages.iter().try_for_each(|&stage| self.check_stage(stage, known.len()))?;
        let maps = chain.features(x, stages, mode)?;
        let named = |(&stage, map): (&usize, Var<f32>)| {
            let (name, stride) = known[stage];
            Feature { stage: Stage { name: name.into(), stride, channels: map.shape()[3] }, map }
        };
        Ok(stages.iter().zip(maps).map(named).collect())
    }

    /// The layers in their order, with the operations of each on one image of that height and width.
    pub fn parts(&self, side: usize) -> Result<Vec<Part>> {
        let image = Var::constant(Tensor::zeros([1, side, side, self.options().in_channels]));
        self.check(image.shape())?;
        let chain = self.chain();
        let traced = chain.trace(&image)?;
        Ok(traced.into_iter().map(|(path, ends, trace)| Part { path: path.into(), ends, trace }).collect())
    }

    /// What the classifier takes, `[N, numbers]`: the last map averaged over its pixels, and behind it the hidden layers
    /// of the networks that have such.
    pub fn embedding(&self, x: &Var<f32>, mode: &Mode) -> Result<Var<f32>> {
        self.check(x.shape())?;
        Ok(self.chain().embedding(x, mode)?)
    }

    /// Freezes the first `stages` stages, their batch norms' statistics included, and says how many tensors that are.
    /// [`State::freeze`](crate::nn::State::freeze) does it by names, and [`unfreeze`](crate::nn::State::unfreeze) undoes
    /// it.
    pub fn freeze_stages(&self, stages: usize) -> Result<usize> {
        let chain = self.chain();
        if let Some(last) = stages.checked_sub(1) {
            self.check_stage(last, chain.stages().len())?;
        }
        Ok(chain.prefixes(stages).map(|prefix| self.state().freeze(prefix)).sum())
    }

    fn check_stage(&self, stage: usize, count: usize) -> Result<()> {
        if stage < count { Ok(()) } else { Err(Error::Stage { model: self.variant().name, count, stage }) }
    }
}
