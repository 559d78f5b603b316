//! The methods, and what they have in common.

use ocelli_autograd::tensor::Element;
use ocelli_autograd::tensor::simd::Simd;

use super::adam::{Adam, AdamOptions};
use super::lamb::{Lamb, LambOptions};
use super::pass::{Piece, apply, for_each, map};
use super::rmsprop::{RmsProp, RmsPropOptions};
use super::sgd::{Descend, Momentum, SgdOptions};
use super::slot::Kept;
use crate::{Error, Result};

/// How an [`Optimizer`](super::Optimizer) steps, with the method's constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// Gradient descent, with or without momentum.
    Sgd(SgdOptions),
    /// TensorFlow's RMSprop.
    RmsProp(RmsPropOptions),
    /// Adam or AdamW.
    Adam(AdamOptions),
    /// LAMB.
    Lamb(LambOptions),
}

impl From<SgdOptions> for Method {
    fn from(options: SgdOptions) -> Self {
        Method::Sgd(options)
    }
}

impl From<RmsPropOptions> for Method {
    fn from(options: RmsPropOptions) -> Self {
        Method::RmsProp(options)
    }
}

impl From<AdamOptions> for Method {
    fn from(options: AdamOptions) -> Self {
        Method::Adam(options)
    }
}

impl From<LambOptions> for Method {
    fn from(options: LambOptions) -> Self {
        Method::Lamb(options)
    }
}

/// What a step does with a gradient before the method sees it, and the rate of the step.
#[derive(Clone, Copy)]
pub(super) struct Constants<T> {
    pub lr: T,
    /// λ, or 0 if the parameter is spared.
    pub decay: T,
    /// Of the gradient.
    pub scale: T,
    /// Of the scaled gradient's magnitude.
    pub limit: T,
}

impl<T: Element> Constants<T> {
    /// The gradient within its limits; a NaN stays one.
    #[inline(always)]
    pub fn clipped<S: Simd<T>>(&self, simd: S, g: S::V) -> S::V {
        let g = simd.mul(g, simd.splat(self.scale));
        simd.max(simd.splat(-self.limit), simd.min(simd.splat(self.limit), g))
    }

    /// The same, and λ·w.
    #[inline(always)]
    pub fn decayed<S: Simd<T>>(&self, simd: S, w: S::V, g: S::V) -> S::V {
        simd.mul_add(simd.splat(self.decay), w, self.clipped(simd, g))
    }
}

/// A step's settings.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub lr: f64,
    pub scale: f64,
    pub limit: f64,
}

/// Of each parameter that moves.
#[derive(Clone, Copy)]
pub(super) struct About {
    /// Which step of it this is, from 1.
    pub t: u64,
    /// Whether weights decay.
    pub decays: bool,
}

impl Method {
    /// λ
    pub(super) fn weight_decay(&self) -> f64 {
        match self {
            Method::Sgd(options) => options.weight_decay,
            Method::RmsProp(options) => options.weight_decay,
            Method::Adam(options) => options.weight_decay,
            Method::Lamb(options) => options.weight_decay,
        }
    }

    /// Whether weight decay applies to vectors.
    pub(super) fn decays_vectors(&self) -> bool {
        match self {
            Method::Sgd(options) => options.decay_vectors,
            Method::RmsProp(options) => options.decay_vectors,
            Method::Adam(options) => options.decay_vectors,
            Method::Lamb(options) => options.decay_vectors,
        }
    }

    /// What is kept of each parameter from step to step.
    pub(super) fn kept(&self) -> &'static [Kept] {
        const MOMENTS: &[Kept] = &[Kept { suffix: "/m", start: 0.0 }, Kept { suffix: "/v", start: 0.0 }];
        match self {
            Method::Sgd(options) if options.momentum == 0.0 => &[],
            // Its own name: how it was stored when there was no other method.
            Method::Sgd(_) => &[Kept { suffix: "", start: 0.0 }],
            Method::RmsProp(_) => &[Kept { suffix: "/square", start: 1.0 }, Kept { suffix: "/momentum", start: 0.0 }],
            Method::Adam(_) | Method::Lamb(_) => MOMENTS,
        }
    }

    /// Whether a step depends on how many there have been.
    pub(super) fn counts(&self) -> bool {
        matches!(self, Method::Adam(_) | Method::Lamb(_))
    }

    /// Moves the parameters.
    pub(super) fn step<T: Element>(&self, pieces: &mut [Piece<'_, T>], abouts: &[About], step: Step) {
        let constants = |about: &About| {
            let decay = if about.decays { self.weight_decay() } else { 0.0 };
            let [lr, decay, scale, limit] = [step.lr, decay, step.scale, step.limit].map(T::from_f64);
            Constants { lr, decay, scale, limit }
        };
        let about = |piece: &Piece<'_, T>| abouts[piece.owner];
        match self {
            Method::Sgd(options) if options.momentum == 0.0 => {
                for_each(pieces, |piece| apply(Descend::new(constants(&about(piece))), piece));
            }
            Method::Sgd(options) => {
                for_each(pieces, |piece| apply(Momentum::new(options, constants(&about(piece))), piece));
            }
            Method::RmsProp(options) => {
                for_each(pieces, |piece| apply(RmsProp::new(options, constants(&about(piece))), piece));
            }
            Method::Adam(options) => for_each(pieces, |piece| {
                let about = about(piece);
                apply(Adam::new(options, constants(&about), about.t), piece);
            }),
            Method::Lamb(options) => {
                let rule = |about: &About| Lamb::new(options, constants(about), about.t);
                let mut norms = vec![[0.0; 2]; abouts.len()];
                let measured = map(pieces, |piece| rule(&about(piece)).measure(piece));
                for (piece, [w, u]) in pieces.iter().zip(measured) {
                    norms[piece.owner][0] += w;
                    norms[piece.owner][1] += u;
                }
                for_each(pieces, |piece| {
                    let about = about(piece);
                    let adapts = about.decays && options.weight_decay > 0.0;
                    let rule = if adapts { rule(&about).scaled(norms[piece.owner]) } else { rule(&about) };
                    apply(rule, piece);
                });
            }
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        let within = |item, value: f64, ok: bool, expected: &str| {
            if ok && value.is_finite() { Ok(()) } else { Err(Error::argument(item, expected, value)) }
        };
        let least = |item, value: f64| within(item, value, value >= 0.0, "a number of at least 0");
        let positive = |item, value: f64| within(item, value, value > 0.0, "a number of more than 0");
        let share = |item, value: f64| within(item, value, (0.0..1.0).contains(&value), "at least 0 and below 1");
        match self {
            Method::Sgd(options) => {
                least("SGD momentum", options.momentum)?;
                least("SGD weight decay", options.weight_decay)?;
                if options.nesterov && options.momentum == 0.0 {
                    return Err(Error::argument("SGD momentum", "more than 0 for Nesterov's method", 0));
                }
                Ok(())
            }
            Method::RmsProp(options) => {
                share("RMSprop decay", options.decay)?;
                share("RMSprop momentum", options.momentum)?;
                positive("RMSprop epsilon", options.eps)?;
                least("RMSprop weight decay", options.weight_decay)
            }
            Method::Adam(options) => {
                options.betas.into_iter().try_for_each(|beta| share("Adam beta", beta))?;
                positive("Adam epsilon", options.eps)?;
                least("Adam weight decay", options.weight_decay)
            }
            Method::Lamb(options) => {
                options.betas.into_iter().try_for_each(|beta| share("LAMB beta", beta))?;
                positive("LAMB epsilon", options.eps)?;
                least("LAMB weight decay", options.weight_decay)
            }
        }
    }
}
