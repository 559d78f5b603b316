//! The assembler.

use crate::nn::autograd::Var;
use crate::nn::checkpoint::Checkpoint;
use crate::nn::tensor::Element;
use crate::nn::{
    Builder, ConvNorm, Dropout, GlobalAvgPool, Init, Layer, Linear, LinearOptions, Mode, Result, Sequential,
};
use crate::{Architecture, Chain, Options};

use super::block::{Block, conv};
use super::timm::torchvision_name;
use super::{Config, Library, Stage};

/// The whole network.
#[derive(Debug)]
pub struct EfficientNet<T: Element> {
    names: &'static Names,
    stem: ConvNorm<T>,
    stages: Sequential<T>,
    /// The stages behind which the map is about to shrink, or ends, and the strides of their maps.
    ends: Vec<(String, usize)>,
    head: ConvNorm<T>,
    dropout: Dropout,
    classifier: Linear<T>,
}

/// What the parts of a network are called.
#[derive(Debug)]
struct Names {
    stem: (&'static str, &'static str),
    /// Of all stages together, and the number of the first.
    stages: (&'static str, usize),
    /// With a `#` for the number behind the last stage's.
    head: (&'static str, &'static str),
    pool: &'static str,
    classifier: &'static str,
    /// Whether timm has other ones.
    translates: bool,
}

const TORCHVISION: Names = Names {
    stem: ("features.0.0", "features.0.1"),
    stages: ("features", 1),
    head: ("features.#.0", "features.#.1"),
    pool: "avgpool",
    classifier: "classifier.1",
    translates: true,
};

const TENSORFLOW: Names = Names {
    stem: ("conv_stem", "bn1"),
    stages: ("blocks", 0),
    head: ("conv_head", "bn2"),
    pool: "global_pool",
    classifier: "classifier",
    translates: false,
};

impl<T: Element> EfficientNet<T> {
    /// The network of this table.
    pub fn new(b: &Builder<T>, config: &Config, options: Options) -> Result<Self> {
        let &Config { library, norm, .. } = config;
        let names = match library {
            Library::Torchvision => &TORCHVISION,
            Library::TensorFlow => &TENSORFLOW,
        };
        let active = Some(config.activation);
        let stem = conv(library, 3, 1).stride(2);
        let stem = ConvNorm::new(b, names.stem, [options.in_channels, config.stem], stem, norm, active)?;

        let total: usize = config.stages.iter().map(|stage| stage.blocks).sum();
        let (mut stages, mut channels, mut built) = (Sequential::new(), config.stem, 0);
        for (s, stage) in (names.stages.1..).zip(&config.stages) {
            let b = b.enter(names.stages.0).enter(s.to_string());
            let mut blocks = Sequential::new();
            for i in 0..stage.blocks {
                let stage = Stage { stride: if i == 0 { stage.stride } else { 1 }, ..*stage };
                let drop = config.stochastic_depth * built as f64 / total as f64;
                blocks.push(i.to_string(), Block::new(&b.enter(i.to_string()), config, &stage, channels, drop)?);
                channels = stage.channels;
                built += 1;
            }
            stages.push(s.to_string(), blocks);
        }

        let (mut ends, mut reached) = (Vec::new(), 2);
        for (s, stage) in config.stages.iter().enumerate() {
            reached *= stage.stride;
            if config.stages.get(s + 1).is_none_or(|next| next.stride > 1) {
                ends.push(((names.stages.1 + s).to_string(), reached));
            }
        }

        let number = (names.stages.1 + stages.len()).to_string();
        let head = (&*names.head.0.replace('#', &number), &*names.head.1.replace('#', &number));
        let head = ConvNorm::new(b, head, [channels, config.head], conv(library, 1, 1), norm, active)?;
        let init = Init::Uniform { bound: 1.0 / (options.classes.max(1) as f64).sqrt() };
        let linear = LinearOptions { init: Some(init), bias_init: Some(Init::ZEROS), ..LinearOptions::default() };
        let classifier = Linear::new(&b.enter(names.classifier), config.head, options.classes, linear)?;
        Ok(EfficientNet { names, stem, stages, ends, head, dropout: Dropout::new(config.dropout)?, classifier })
    }
}

impl<T: Element> Architecture<T> for EfficientNet<T> {
    fn chain(&self) -> Chain<'_, T> {
        let ends: Vec<_> = self.ends.iter().map(|(name, stride)| (name.as_str(), *stride)).collect();
        Chain::new()
            .unit(&self.stem)
            .each(self.names.stages.0, &self.stages, &ends)
            .unit(&self.head)
            .then(self.names.pool, &GlobalAvgPool)
            .then("dropout", &self.dropout)
            .then(self.names.classifier, &self.classifier)
    }

    /// A checkpoint that has a name which is not timm's is none of timm's.
    fn translated(&self, checkpoint: &Checkpoint) -> Result<Option<Checkpoint>> {
        if !self.names.translates || !checkpoint.iter().all(|(name, _)| torchvision_name(name).is_some()) {
            return Ok(None);
        }
        let ours = |_, name: &str| torchvision_name(name).unwrap_or_else(|| name.into());
        checkpoint.clone().renamed(ours).map(Some)
    }
}

impl<T: Element> Layer<T> for EfficientNet<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        self.chain().forward(x, mode)
    }
}
