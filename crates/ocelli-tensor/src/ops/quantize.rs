//! Tensors of bytes: x ≈ (q − zero_point) · scale for q in 0..=255, with one scale for the whole tensor.
//!
//! Jacob et al. 2017, <https://arxiv.org/abs/1712.05877>.

use std::sync::Arc;

use crate::memory::Buffer;
use crate::simd::int8::{ByteKernel, Int8, STEP, dispatch_bytes};
use crate::simd::{self, Simd};
use crate::{Error, Result, Shape, Tensor, threads};

/// What a byte stands for: `(q − zero_point) · scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantization {
    /// The distance of two neighbouring numbers.
    pub scale: f32,
    /// The byte of 0, which is exact, so that padding with zeros is.
    pub zero_point: u8,
}

impl Quantization {
    /// The one for numbers from `low` to `high`, both finite; others become the nearest of these. 0 is always among
    /// them.
    pub fn of_range(low: f32, high: f32) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = (high - low) / 255.0;
        if scale < f32::MIN_POSITIVE {
            return Quantization { scale: 1.0, zero_point: 0 };
        }
        Quantization { scale, zero_point: (-low / scale).round() as u8 }
    }

    /// The nearest byte.
    pub fn quantize(&self, x: f32) -> u8 {
        (x * (1.0 / self.scale) + f32::from(self.zero_point)).clamp(0.0, 255.0).round_ties_even() as u8
    }

    /// The number of a byte.
    pub fn dequantize(&self, q: u8) -> f32 {
        (f32::from(q) - f32::from(self.zero_point)) * self.scale
    }
}

/// A tensor of bytes, whose rows (all dimensions but the last) are padded to a multiple of eight.
#[derive(Clone)]
pub struct QuantizedTensor {
    shape: Shape,
    quantization: Quantization,
    bytes: Arc<Buffer<u8>>,
}

impl QuantizedTensor {
    /// The nearest bytes of a tensor's numbers.
    pub fn quantize(x: &Tensor, quantization: Quantization) -> Self {
        let mut out = Self::scratch(*x.shape(), quantization);
        let (columns, stride) = (x.shape().columns(), out.stride());
        if x.is_empty() {
            return out;
        }
        let (rows, input) = (threads::rows_per_chunk(columns), x.data());
        threads::for_each_chunk(out.bytes_mut(), rows * stride, |i, to| {
            let from = &input[i * rows * columns..][..to.len() / stride * columns];
            dispatch_bytes(simd::current(), Quantize { from, columns, to, stride, quantization });
        });
        out
    }

    /// The numbers that the bytes stand for.
    pub fn dequantize(&self) -> Tensor {
        let mut out = Tensor::scratch(self.shape);
        let (columns, stride) = (self.shape.columns(), self.stride());
        if out.is_empty() {
            return out;
        }
        let rows = threads::rows_per_chunk(columns);
        threads::for_each_chunk(out.data_mut(), rows * columns, |i, to| {
            let from = &self.bytes()[i * rows * stride..][..to.len() / columns * stride];
            dispatch_bytes(simd::current(), Dequantize { from, stride, to, columns, quantization: self.quantization });
        });
        out
    }

    /// Unspecified content, for kernels that write every byte, padding included.
    pub(crate) fn scratch(shape: Shape, quantization: Quantization) -> Self {
        let bytes = Arc::new(Buffer::scratch(shape.rows() * shape.columns().next_multiple_of(STEP)));
        QuantizedTensor { shape, quantization, bytes }
    }

    /// The dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What the bytes stand for.
    pub fn quantization(&self) -> Quantization {
        self.quantization
    }

    /// The bytes of the element at `column` of row `row`.
    pub fn get(&self, row: usize, column: usize) -> u8 {
        self.bytes[row * self.stride() + column]
    }

    /// The same bytes under another shape with rows of the same length.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if shape.len() != self.shape.len() || shape.columns() != self.shape.columns() {
            let expected = format!("{shape} (rows of {})", shape.columns());
            return Err(Error::shape("reshape", "bytes", expected, &self.shape));
        }
        Ok(QuantizedTensor { shape, ..self.clone() })
    }

    /// The bytes from one row to the next.
    pub(crate) fn stride(&self) -> usize {
        self.shape.columns().next_multiple_of(STEP)
    }

    /// All rows, with their padding.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All rows for writing.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut *Arc::make_mut(&mut self.bytes)
    }
}

/// The nearest bytes of as many numbers.
pub(crate) fn quantize_row(from: &[f32], to: &mut [u8], quantization: Quantization) {
    let (columns, stride) = (from.len(), to.len());
    if columns > 0 {
        dispatch_bytes(simd::current(), Quantize { from, columns, to, stride, quantization });
    }
}

struct Quantize<'a> {
    from: &'a [f32],
    columns: usize,
    to: &'a mut [u8],
    stride: usize,
    quantization: Quantization,
}

impl ByteKernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Int8>(self, simd: S) {
        let (f, lanes) = (simd.floats(), S::Floats::LANES);
        let factor = f.splat(1.0 / self.quantization.scale);
        let zero_point = f.splat(f32::from(self.quantization.zero_point));
        let (low, high) = (f.splat(0.0), f.splat(255.0));
        // Rows without padding are one long row.
        let (columns, stride) =
            if self.columns == self.stride { (self.from.len(), self.to.len()) } else { (self.columns, self.stride) };
        for (from, to) in self.from.chunks_exact(columns).zip(self.to.chunks_exact_mut(stride)) {
            for (from, to) in from.chunks(lanes).zip(to.chunks_mut(lanes)) {
                let x = if from.len() == lanes { f.load(from) } else { f.load_partial(from) };
                let q = f.add(f.mul(x, factor), zero_point);
                // A NaN becomes 0: `max` returns its second operand then.
                let q = f.min(f.max(q, low), high);
                // SAFETY: the slice has room for as many bytes.
                unsafe { simd.store_bytes(q, to.as_mut_ptr(), to.len()) };
            }
        }
    }
}

struct Dequantize<'a> {
    from: &'a [u8],
    stride: usize,
    to: &'a mut [f32],
    columns: usize,
    quantization: Quantization,
}

impl ByteKernel for Dequantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Int8>(self, simd: S) {
        let (f, lanes) = (simd.floats(), S::Floats::LANES);
        let scale = f.splat(self.quantization.scale);
        let zero_point = f.splat(f32::from(self.quantization.zero_point));
        let (columns, stride) =
            if self.columns == self.stride { (self.to.len(), self.from.len()) } else { (self.columns, self.stride) };
        for (from, to) in self.from.chunks_exact(stride).zip(self.to.chunks_exact_mut(columns)) {
            for (from, to) in from.chunks(lanes).zip(to.chunks_mut(lanes)) {
                // SAFETY: the slice has as many bytes.
                let q = unsafe { simd.load_bytes(from.as_ptr(), from.len()) };
                let x = f.mul(f.sub(q, zero_point), scale);
                if to.len() == lanes { f.store(x, to) } else { f.store_partial(x, to) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Rng, on_every_isa};

    #[test]
    fn bytes_are_the_nearest_on_every_isa() {
        let quantization = Quantization::of_range(-0.4, 0.9);
        for shape in [[3, 1], [5, 8], [2, 13], [1, 100], [300, 24], [0, 4]] {
            let x = Rng::new(7).tensor::<f32>(shape);
            on_every_isa(|| {
                let q = QuantizedTensor::quantize(&x, quantization);
                let back = q.dequantize();
                for i in 0..x.len() {
                    let byte = quantization.quantize(x.data()[i]);
                    assert_eq!(q.get(i / shape[1], i % shape[1]), byte);
                    assert_eq!(back.data()[i], quantization.dequantize(byte));
                    let clipped = x.data()[i].clamp(quantization.dequantize(0), quantization.dequantize(255));
                    assert!((back.data()[i] - clipped).abs() <= quantization.scale * 0.5001);
                }
            });
        }
    }

    #[test]
    fn zero_is_exact() {
        for (low, high) in [(0.0, 6.0), (-1.0, 1.0), (-3.0, 0.1), (1.0, 2.0), (-2.0, -1.0), (0.0, 0.0), (-1e-42, 1e-42)]
        {
            let quantization = Quantization::of_range(low, high);
            assert_eq!(quantization.dequantize(quantization.quantize(0.0)), 0.0);
            assert!(quantization.scale > 0.0);
        }
        assert_eq!(Quantization::of_range(0.0, 6.0), Quantization { scale: 6.0 / 255.0, zero_point: 0 });
        let x = Tensor::from_slice([1, 3], &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]).unwrap();
        on_every_isa(|| {
            let q = QuantizedTensor::quantize(&x, Quantization::of_range(-1.0, 1.0));
            assert_eq!([q.get(0, 0), q.get(0, 1), q.get(0, 2)], [0, 255, 0]);
        });
    }

    #[test]
    fn rows_keep_their_length() {
        let q = QuantizedTensor::quantize(&Tensor::zeros([2, 1, 1, 5]), Quantization::of_range(0.0, 1.0));
        assert_eq!(**q.reshape([2, 5]).unwrap().shape(), [2, 5]);
        let error = q.reshape([1, 10]).err().unwrap();
        assert_eq!(error.to_string(), "reshape: expected bytes of shape [1, 10] (rows of 10), got [2, 1, 1, 5]");
    }
}
