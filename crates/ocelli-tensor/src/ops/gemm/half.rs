//! Packed operands in 16 bits a number: weights that have to come from memory, at the price of their last bits.
//!
//! A number of the format (IEEE 754's binary16) has 11 significant bits, so that rounding changes one by at most 2⁻¹¹ of
//! itself, if it lies between 2⁻¹⁴ and 65504. The tiles widen what they load, and compute and add in single precision.

use std::ops::Deref;
use std::sync::Arc;

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::memory::{Buffer, Scratch};
use crate::{Element, threads};

/// Numbers rounded to 16 bits.
#[derive(Clone)]
pub(super) struct Halves(Arc<Buffer<f16>>);

impl Halves {
    /// Panels of so many numbers that `panel` puts in place, if these are of single precision, finite, and rounding changes
    /// them by at most 2⁻¹¹ of them by the Euclidean norm: if few are tiny.
    pub fn new<T: Element>(panels: usize, size: usize, panel: impl Fn(usize, &mut [T]) + Send + Sync) -> Option<Self> {
        if T::NAME != f32::NAME {
            return None;
        }
        let mut halves = Buffer::scratch(panels * size);
        let mut squares = vec![[0.0; 2]; panels];
        threads::for_each_chunk2((&mut halves, size), (&mut squares, 1), |i, halves, squares| {
            let mut numbers = Scratch::<T>::new(size);
            panel(i, &mut numbers);
            squares[0] = round(bytemuck::cast_slice(&numbers), halves);
        });
        let [change, all] = [0, 1].map(|i| squares.iter().map(|of| of[i]).sum::<f64>().sqrt());
        let most = f64::from(f16::EPSILON) / 2.0;
        (change <= most * all && all.is_finite()).then(|| Halves(Arc::new(halves)))
    }
}

/// Rounds numbers, and sums the squares of what that changes, and of the numbers.
fn round(numbers: &[f32], halves: &mut [f16]) -> [f64; 2] {
    const CHUNK: usize = 1 << 12;
    let mut sums = [0.0; 2];
    for (numbers, halves) in numbers.chunks(CHUNK).zip(halves.chunks_mut(CHUNK)) {
        let mut widened = [0.0; CHUNK];
        halves.convert_from_f32_slice(numbers);
        halves.convert_to_f32_slice(&mut widened[..halves.len()]);
        for (number, widened) in numbers.iter().zip(widened) {
            sums[0] += f64::from(widened - number).powi(2);
            sums[1] += f64::from(*number).powi(2);
        }
    }
    sums
}

impl Deref for Halves {
    type Target = [f16];

    fn deref(&self) -> &[f16] {
        &self.0
    }
}
