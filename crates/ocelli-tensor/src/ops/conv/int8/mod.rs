//! Convolutions of bytes for inference: unsigned activations with one scale for the tensor, signed weights with one for
//! each output channel, sums of 32 bits.
//!
//! With x = (q − z) · sₓ, w = v · s_w and padding of z, `y = sₓ s_w (Σ q v − z Σ v) + bias`, exact but for the rounding of
//! x and w; z Σ v is a constant of the channel. Residual sum, activation and the rounding to the next layer's bytes
//! follow in registers. All instruction sets have the same sums, and the same bytes unless the activation is curved.

mod product;
#[cfg(test)]
mod tests;
mod tile;
mod weights;

use std::borrow::Cow;
use std::sync::Arc;

use self::product::product;
use self::tile::{Finish, Out, Residual};
use self::weights::Bytes;
use super::{Geometry, packed::clamp_or_curve};
use crate::memory::Scratch;
use crate::ops::gemm::Grid;
use crate::ops::gemm::grid::{Pixels, Tap, joined_source, joined_taps};
use crate::ops::quantize::quantize_row;
use crate::ops::{Activation, Quantization, QuantizedTensor, Window};
use crate::simd::int8::STEP;
use crate::{Error, Result, Shape, Tensor, threads};

const OP: &str = "quantized_conv";

/// A convolution to be quantized: `activation(conv2d(x, weight) + bias + residual)`.
#[derive(Debug, Clone)]
pub struct FloatConv {
    /// `[Kh, Kw, Cin, Cout]`
    pub weight: Tensor,
    /// `[Cout]`
    pub bias: Option<Tensor>,
    /// The mean of the input, `[Cin]`: if it is known, the bias makes up for what rounding the weights does to it, so that
    /// the output keeps its mean.
    pub input_mean: Option<Tensor>,
    /// What follows.
    pub activation: Option<Activation>,
    /// The geometry.
    pub window: Window,
}

/// Numbers or bytes.
#[derive(Clone)]
pub enum Values {
    /// Numbers as they are.
    Floats(Tensor),
    /// Numbers as bytes.
    Bytes(QuantizedTensor),
}

impl Values {
    /// The dimensions.
    pub fn shape(&self) -> &Shape {
        match self {
            Values::Floats(x) => x.shape(),
            Values::Bytes(x) => x.shape(),
        }
    }

    fn to_bytes(&self, quantization: Quantization) -> Cow<'_, QuantizedTensor> {
        match self {
            Values::Floats(x) => Cow::Owned(QuantizedTensor::quantize(x, quantization)),
            Values::Bytes(x) => Cow::Borrowed(x),
        }
    }
}

/// A convolution with fixed weights, from bytes to bytes or numbers.
#[derive(Clone)]
pub struct QuantizedConv {
    weights: Bytes,
    w_shape: Shape,
    window: Window,
    taps: Arc<[Tap]>,
    input: Quantization,
    output: Option<Quantization>,
    /// Of the sums, and what is added, both for all columns of all panels.
    scale: Vec<f32>,
    bias: Vec<f32>,
    clamp: [f32; 2],
    curve: Option<Activation>,
}

impl QuantizedConv {
    /// Quantizes the weights of `conv`, for inputs of the quantization `input`. The output is bytes if `output` says which,
    /// else numbers.
    pub fn new(conv: &FloatConv, input: Quantization, output: Option<Quantization>) -> Result<Self> {
        let FloatConv { weight, bias, input_mean, activation, window } = conv;
        let Ok([kh, kw, cin, cout]) = <[usize; 4]>::try_from(&**weight.shape()) else {
            return Err(Error::shape(OP, "weight", "[Kh, Kw, Cin, Cout]", weight.shape()));
        };
        if [kh, kw] != window.kernel_size || weight.is_empty() {
            let expected = format!("[{}, {}, Cin, Cout] above 0", window.kernel_size[0], window.kernel_size[1]);
            return Err(Error::shape(OP, "weight", expected, weight.shape()));
        }
        if let Some(bias) = bias.as_ref().filter(|bias| **bias.shape() != [cout]) {
            return Err(Error::shape(OP, "bias", format!("[{cout}]"), bias.shape()));
        }
        if let Some(mean) = input_mean.as_ref().filter(|mean| **mean.shape() != [cin]) {
            return Err(Error::shape(OP, "mean of the input", format!("[{cin}]"), mean.shape()));
        }
        // 127 · 255 of each, at most, must fit into 32 bits.
        const MOST: usize = 1 << 16;
        if kh * kw * cin > MOST {
            let expected = format!("[Kh, Kw, Cin, Cout] with Kh · Kw · Cin of at most {MOST}");
            return Err(Error::shape(OP, "weight", expected, weight.shape()));
        }
        let [taps, k] = if joins(window, cin) { [kh, kw * cin] } else { [kh * kw, cin] };
        let mean = input_mean.as_ref().map_or(&[0.0][..], Tensor::data);
        let weights = Bytes::new(weight.data(), [taps, k, cout], mean);
        let (clamp, curve) = clamp_or_curve::<f32>(*activation);
        let clamp = clamp.unwrap_or([f32::NEG_INFINITY, f32::INFINITY]);
        // Before a curve all is in units of 1, else in that of the output.
        let [unit, zero] = match output {
            Some(output) if curve.is_none() => [f64::from(output.scale), f64::from(output.zero_point)],
            _ => [1.0, 0.0],
        };
        let columns = weights.panels() * weights.width;
        let (mut scale, mut shift) = (vec![0.0; columns], vec![zero as f32; columns]);
        for c in 0..cout {
            let s = f64::from(input.scale) * f64::from(weights.scales[c]);
            let b = bias.as_ref().map_or(0.0, |bias| f64::from(bias.data()[c])) + weights.errors[c];
            scale[c] = (s / unit) as f32;
            shift[c] = ((b - s * f64::from(input.zero_point) * f64::from(weights.sums[c])) / unit + zero) as f32;
        }
        let clamp = match output {
            Some(_) if curve.is_some() => [0.0, 255.0],
            Some(_) => clamp.map(|bound| (f64::from(bound) / unit + zero).clamp(0.0, 255.0) as f32),
            None => clamp,
        };
        let (w_shape, window) = (*weight.shape(), *window);
        let taps = if joins(&window, cin) { joined_taps(&window) } else { Grid::forward_taps(&window) };
        Ok(QuantizedConv { weights, w_shape, window, taps, input, output, scale, bias: shift, clamp, curve })
    }

    /// The output for `x` `[N, H, W, Cin]`: numbers, or bytes of the quantization that the convolution was made for.
    /// `residual`, of the output's shape, is added before the activation.
    pub fn run(&self, x: &Values, residual: Option<&Values>) -> Result<Values> {
        let g = Geometry::new(OP, x.shape(), &self.w_shape, &self.window, 1)?;
        if let Values::Bytes(x) = x
            && x.quantization() != self.input
        {
            let expected = format!("{:?}", self.input);
            return Err(Error::argument(OP, "quantization of the input", expected, format!("{:?}", x.quantization())));
        }
        let shape = Shape::new(&g.y_shape())?;
        if let Some(residual) = residual.filter(|residual| *residual.shape() != shape) {
            return Err(Error::shape(OP, "residual", shape, residual.shape()));
        }
        let mut y = match self.output {
            Some(output) => Values::Bytes(QuantizedTensor::scratch(shape, output)),
            None => Values::Floats(Tensor::scratch(shape)),
        };
        if shape.is_empty() {
            return Ok(y);
        }
        let finish = Finish {
            scale: self.scale.as_ptr(),
            bias: self.bias.as_ptr(),
            residual: self.residual(residual),
            clamp: self.clamp,
            curve: self.curve.map(|curve| (curve, self.output.map_or([1.0, 0.0], from_unit))),
            out: match &mut y {
                Values::Bytes(y) => Out::Bytes { stride: y.stride(), data: y.bytes_mut().as_mut_ptr() },
                Values::Floats(y) => Out::Floats { stride: g.out_channels, data: y.data_mut().as_mut_ptr() },
            },
        };
        let mut outside = Scratch::new(self.weights.k);
        outside.fill(self.input.zero_point);
        let pixels = |data, columns| Pixels { data, columns, part: 0..outside.len(), outside: &outside };
        let grid = |source| Grid::forward(g.batch, source, g.output, g.window.stride, self.taps.clone());
        // SAFETY: scale and bias have all panels' columns, and output and residual are of the grid's shape, as checked.
        unsafe {
            if self.reads_numbers() {
                let source = joined_source(g.output, &g.window);
                let data = joined(&g, x, source, self.input);
                product(&grid(source), &pixels(&data, g.in_channels), &self.weights, finish);
            } else {
                let x = x.to_bytes(self.input);
                product(&grid(g.input), &pixels(x.bytes(), x.stride()), &self.weights, finish);
            }
        }
        Ok(y)
    }

    /// Whether numbers are no more work for it than bytes, because it copies its input in any case.
    pub fn reads_numbers(&self) -> bool {
        joins(&self.window, self.w_shape[2])
    }

    /// The residual in the unit in which it is added.
    fn residual(&self, residual: Option<&Values>) -> Residual {
        let unit = match self.output {
            Some(output) if self.curve.is_none() => output.scale,
            _ => 1.0,
        };
        match residual {
            None => Residual::None,
            Some(Values::Floats(x)) => {
                Residual::Floats { data: x.data().as_ptr(), stride: x.shape().columns(), scale: 1.0 / unit }
            }
            Some(Values::Bytes(x)) => {
                let Quantization { scale, zero_point } = x.quantization();
                let scale = scale / unit;
                let shift = -f32::from(zero_point) * scale;
                Residual::Bytes { data: x.bytes().as_ptr(), stride: x.stride(), scale, shift }
            }
        }
    }
}

/// The factor and the addend that turn numbers into those that are rounded to bytes.
fn from_unit(output: Quantization) -> [f32; 2] {
    [1.0 / output.scale, f32::from(output.zero_point)]
}

/// Whether the taps of a kernel row are joined into one run over a padded copy of the input, because those of single
/// pixels would be mostly padding.
fn joins(window: &Window, in_channels: usize) -> bool {
    in_channels < STEP && window.kernel_size[1] > 1 && window.dilation == [1, 1]
}

/// The input in its padding, of that height and width, pixels side by side.
fn joined(g: &Geometry, x: &Values, [height, width]: [usize; 2], quantization: Quantization) -> Scratch<u8> {
    let (batch, channels) = (g.batch, g.in_channels);
    let (top, left) = (g.window.padding.top, g.window.padding.left);
    // A step of the last pixel may read behind it.
    let (size, row) = (batch * height * width * channels, width * channels);
    let mut out = Scratch::new(size + STEP);
    out[size..].fill(0);
    let [input_height, input_width] = g.input;
    threads::for_each_chunk(&mut out[..size], row, |i, out| {
        out.fill(quantization.zero_point);
        let (n, Some(y)) = (i / height, (i % height).checked_sub(top).filter(|&y| y < input_height)) else { return };
        let inside = &mut out[(left * channels).min(row)..];
        let (pixels, first) = (input_width.min(inside.len() / channels), (n * input_height + y) * input_width);
        let inside = &mut inside[..pixels * channels];
        match x {
            Values::Floats(x) => quantize_row(&x.data()[first * channels..][..pixels * channels], inside, quantization),
            Values::Bytes(x) => {
                let from = x.bytes()[first * x.stride()..].chunks_exact(x.stride());
                inside
                    .chunks_exact_mut(channels)
                    .zip(from)
                    .for_each(|(to, from)| to.copy_from_slice(&from[..channels]));
            }
        }
    });
    out
}
