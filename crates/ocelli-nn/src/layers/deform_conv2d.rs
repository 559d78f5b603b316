//! Deformable convolution: Dai et al. 2017, <https://arxiv.org/abs/1703.06211>, and with masks ("modulated") Zhu et al.
//! 2018, <https://arxiv.org/abs/1811.11168>.

use ocelli_autograd::ops;
use ocelli_autograd::tensor::Element;
use ocelli_autograd::{Parameter, Var, scope};

use super::{Conv2d, Conv2dOptions, Layer};
use crate::{Builder, Error, Init, Mode, Result};

/// A deformable convolution by offsets, and perhaps masks, that its caller computes. Parameters as in torchvision's:
/// `weight`, and `bias` if asked for.
#[derive(Debug)]
pub struct DeformConv2d<T: Element = f32> {
    conv: Conv2d<T>,
    offset_groups: usize,
}

impl<T: Element> DeformConv2d<T> {
    /// A deformable convolution whose parameters are named in `b`. `offset_groups` parts of the input channels are each
    /// displaced alike. Errors if the channels can't be divided into the groups of either kind.
    pub fn new(
        b: &Builder<T>,
        in_channels: usize,
        out_channels: usize,
        options: Conv2dOptions,
        offset_groups: usize,
    ) -> Result<Self> {
        if offset_groups == 0 || !in_channels.is_multiple_of(offset_groups) {
            let expected = format!("to divide {in_channels} input channels");
            return Err(Error::argument("DeformConv2d offset_groups", expected, offset_groups));
        }
        Ok(DeformConv2d { conv: Conv2d::new(b, in_channels, out_channels, options)?, offset_groups })
    }

    /// The learned weight, `[Kh, Kw, in / groups, out]`.
    pub fn weight(&self) -> &Parameter<T> {
        self.conv.weight()
    }

    /// The value at `x` `[N, H, W, in]`: `[N, Ho, Wo, out]`. `offset` is `[N, Ho, Wo, 2 · offset_groups · Kh · Kw]`, in
    /// pixels: for each group, for each tap, down and to the right; `mask` is `[N, Ho, Wo, offset_groups · Kh · Kw]`.
    pub fn forward(&self, x: &Var<T>, offset: &Var<T>, mask: Option<&Var<T>>) -> Result<Var<T>> {
        let [_, h, w, _] = x.shape().nhwc("deform_conv2d", "input")?;
        let Conv2d { weight, bias, options } = &self.conv;
        let window = options.window([h, w]);
        let attributes = ops::DeformConv2d { window, groups: options.groups, offset_groups: self.offset_groups };
        let y = x.deform_conv2d(offset, mask, &weight.var(), &attributes)?;
        Ok(match bias {
            Some(bias) => y.add(&bias.var())?,
            None => y,
        })
    }
}

/// A deformable convolution with the convolution that computes its offsets from the same input: what takes a plain
/// convolution's place in a deformable network. Parameters: those of the plain one, which a plain network's weights
/// initialise, and `conv_offset.weight` and `conv_offset.bias`, as in MMCV's `DeformConv2dPack` and
/// `ModulatedDeformConv2dPack`.
///
/// `conv_offset` begins with zeros, as in the papers: offsets are 0, so that version 1 begins as the plain convolution.
/// In version 2 masks are the sigmoid of its last channels and begin at 0.5, half of the plain convolution, which a
/// batch norm behind it makes up for. The papers train `conv_offset` with a tenth of the other layers' learning rate.
#[derive(Debug)]
pub struct DeformConv2dPack<T: Element = f32> {
    deform: DeformConv2d<T>,
    conv_offset: Conv2d<T>,
    /// Channels of offsets, and of masks in version 2.
    channels: (usize, Option<usize>),
}

/// Which deformable convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeformOptions {
    /// Parts of the input channels with offsets and masks of their own.
    pub offset_groups: usize,
    /// Version 2: samples are weighed by masks.
    pub modulated: bool,
}

impl<T: Element> DeformConv2dPack<T> {
    /// A unit whose parameters are named in `b`. Errors as [`DeformConv2d::new`].
    pub fn new(
        b: &Builder<T>,
        in_channels: usize,
        out_channels: usize,
        options: Conv2dOptions,
        DeformOptions { offset_groups, modulated }: DeformOptions,
    ) -> Result<Self> {
        let deform = DeformConv2d::new(b, in_channels, out_channels, options, offset_groups)?;
        let samples = offset_groups * options.kernel_size[0] * options.kernel_size[1];
        let channels = (2 * samples, modulated.then_some(samples));
        let options = Conv2dOptions { groups: 1, bias: true, init: Init::ZEROS, ..options };
        let offset_channels = channels.0 + channels.1.unwrap_or(0);
        let conv_offset = Conv2d::new(&b.enter("conv_offset"), in_channels, offset_channels, options)?;
        Ok(DeformConv2dPack { deform, conv_offset, channels })
    }

    /// The learned weight, `[Kh, Kw, in / groups, out]`.
    pub fn weight(&self) -> &Parameter<T> {
        self.deform.weight()
    }
}

impl<T: Element> Layer<T> for DeformConv2dPack<T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        let field = scope("conv_offset", || self.conv_offset.forward(x, mode))?;
        match self.channels {
            (_, None) => self.deform.forward(x, &field, None),
            (offsets, Some(masks)) => {
                let mask = field.columns(offsets..offsets + masks)?.sigmoid()?;
                self.deform.forward(x, &field.columns(0..offsets)?, Some(&mask))
            }
        }
    }
}
