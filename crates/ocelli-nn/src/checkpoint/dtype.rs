//! Element types of stored tensors, and their little-endian bytes to and from `f32`.

use std::fmt;

use half::{bf16, f16};

/// The type of a stored tensor's elements. Whatever it is, Ocelli reads it as `f32`, rounded to nearest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE double precision.
    F64,
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single.
    Bf16,
    /// 64-bit signed integer, such as `num_batches_tracked`.
    I64,
    /// 32-bit signed integer.
    I32,
    /// 16-bit signed integer.
    I16,
    /// 8-bit signed integer.
    I8,
    /// 8-bit unsigned integer.
    U8,
    /// A byte that is 0 or 1.
    Bool,
}

impl Dtype {
    /// Bytes an element.
    pub fn size(self) -> usize {
        match self {
            Dtype::F64 | Dtype::I64 => 8,
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::F16 | Dtype::Bf16 | Dtype::I16 => 2,
            Dtype::I8 | Dtype::U8 | Dtype::Bool => 1,
        }
    }

    /// Whether a stored tensor of this type holds real numbers (weights) and not whole ones (counters).
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16)
    }

    /// Reads the elements that `bytes` holds; a rest shorter than an element is ignored.
    pub(super) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Dtype::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
            Dtype::F32 => each(bytes, f32::from_le_bytes),
            Dtype::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::Bf16 => each(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::I64 => each(bytes, |b| i64::from_le_bytes(b) as f32),
            Dtype::I32 => each(bytes, |b| i32::from_le_bytes(b) as f32),
            Dtype::I16 => each(bytes, |b| f32::from(i16::from_le_bytes(b))),
            Dtype::I8 => each(bytes, |b| f32::from(i8::from_le_bytes(b))),
            Dtype::U8 | Dtype::Bool => each(bytes, |[b]| f32::from(b)),
        }
    }

    /// Writes `values`, rounded to nearest.
    pub(super) fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Dtype::F64 => flat(values, |x| f64::from(x).to_le_bytes()),
            Dtype::F32 => flat(values, f32::to_le_bytes),
            Dtype::F16 => flat(values, |x| f16::from_f32(x).to_le_bytes()),
            Dtype::Bf16 => flat(values, |x| bf16::from_f32(x).to_le_bytes()),
            Dtype::I64 => flat(values, |x| (x as i64).to_le_bytes()),
            Dtype::I32 => flat(values, |x| (x as i32).to_le_bytes()),
            Dtype::I16 => flat(values, |x| (x as i16).to_le_bytes()),
            Dtype::I8 => flat(values, |x| (x as i8).to_le_bytes()),
            Dtype::U8 => flat(values, |x| [x as u8]),
            Dtype::Bool => flat(values, |x| [u8::from(x != 0.0)]),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::F64 => "f64",
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
            Dtype::I64 => "i64",
            Dtype::I32 => "i32",
            Dtype::I16 => "i16",
            Dtype::I8 => "i8",
            Dtype::U8 => "u8",
            Dtype::Bool => "bool",
        })
    }
}

fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|b| number(*b)).collect()
}

fn flat<const N: usize>(values: &[f32], bytes: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|&x| bytes(x)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_whole_numbers_survive_every_type() {
        use Dtype::*;
        for dtype in [F64, F32, F16, Bf16, I64, I32, I16, I8, U8, Bool] {
            let values = [0.0, 1.0, 1.0, 0.0];
            let bytes = dtype.encode(&values);
            assert_eq!(bytes.len(), 4 * dtype.size());
            assert_eq!(dtype.decode(&bytes), values, "{dtype}");
        }
    }
}
