//! Products of few rows with a matrix that is kept in seven eighths of its bytes, without loss.
//!
//! A fully connected layer in a small batch takes as long as its weights take to come from memory. [`simd::compact`] keeps a
//! number in 28 bits if its first byte is one of 16. A matrix has its 16: zero and the 15 most frequent, which are both signs
//! of some 14 powers of two. The few numbers that have another are kept beside them, as [`Exception`]s, and are zeros among
//! them (so that an infinite x makes NaN, not infinity, of a column with an exception in its row).
//!
//! [`simd::compact`]: crate::simd::compact

mod product;

use std::sync::Arc;

pub(crate) use product::{Panels, product};

use crate::memory::Buffer;
use crate::simd::compact::{Place, REGISTERS, TOGETHER, Tops, run_bytes};
use crate::simd::{self, Isa, Kernel, Simd};
use crate::{Element, threads};

/// The most rows that such products are for: each few of them read the panel again.
pub(crate) const ROWS: usize = 8;
/// The bytes that a matrix must have, since caches hold what is smaller, and its panels, which are a thread's at least: the
/// last may be half empty.
const LEAST_BYTES: usize = 2 << 20;
const LEAST_PANELS: usize = 8;
/// Of how many numbers one may be an exception.
const EXCEPTION_OF: usize = 512;
/// In place of the number of a first byte that has none.
const NONE: u8 = 16;

/// A matrix `[k, columns]` of single precision, in panels of [`REGISTERS`] registers' columns, each `k` runs.
#[derive(Clone)]
pub(crate) struct Compact {
    isa: Isa,
    k: usize,
    pub columns: usize,
    /// Columns of a panel, and the bytes of its runs.
    width: usize,
    run: usize,
    tops: Tops,
    bytes: Arc<Buffer<u8>>,
    /// Those of each panel.
    exceptions: Arc<[Vec<Exception>]>,
}

/// A number that has none of the first bytes.
#[derive(Clone, Copy)]
pub(crate) struct Exception {
    row: usize,
    /// In the panel.
    column: usize,
    value: f32,
}

impl Compact {
    /// The matrix `w` `[k, columns]` for products of about so many rows, unless there are too many, or the matrix is small,
    /// narrow, has too many exceptions, or is not of single precision, or the instruction set can't expand it.
    pub fn new<T: Element>(w: &[T], columns: usize, rows: usize) -> Option<Self> {
        let is_large = size_of_val(w) >= LEAST_BYTES && columns > (LEAST_PANELS - 1) * REGISTERS * lanes()?;
        if rows > ROWS || !is_large || size_of::<T>() != size_of::<u32>() {
            return None;
        }
        Self::pack(bytemuck::cast_slice(w), columns)
    }

    fn pack(w: &[u32], columns: usize) -> Option<Self> {
        let (isa, lanes) = (simd::current(), lanes()?);
        let (tops, exceptions) = most_frequent(w);
        if exceptions > w.len() / EXCEPTION_OF {
            return None;
        }
        let mut numbers = [NONE; 256];
        for (number, &top) in (0..).zip(&tops) {
            numbers[usize::from(top)] = number;
        }
        let (k, width, run) = (w.len() / columns, REGISTERS * lanes, run_bytes(lanes));
        let places: Vec<Place> = (0..width).step_by(TOGETHER).map(|first| Place::new(first, lanes)).collect();
        let panels = columns.div_ceil(width);
        let mut bytes = Buffer::zeros(panels * k * run);
        let mut exceptions = vec![Vec::new(); panels];
        threads::for_each_chunk2((&mut bytes, k * run), (&mut exceptions, 1), |panel, bytes, exceptions| {
            let first = panel * width;
            let live = width.min(columns - first);
            for (row, run) in bytes.chunks_exact_mut(run).enumerate() {
                for (i, (some, place)) in w[row * columns + first..][..live].chunks(TOGETHER).zip(&places).enumerate() {
                    let mut four: [u32; TOGETHER] = std::array::from_fn(|j| some.get(j).copied().unwrap_or(0));
                    let mut tops = four.map(|x| numbers[(x >> 24) as usize]);
                    while let Some(j) = tops.iter().position(|&top| top == NONE) {
                        let (column, value) = (i * TOGETHER + j, f32::from_bits(four[j]));
                        exceptions[0].push(Exception { row, column, value });
                        (four[j], tops[j]) = (0, 0);
                    }
                    place.write(four, tops, run);
                }
            }
        });
        Some(Compact { isa, k, columns, width, run, tops, bytes: Arc::new(bytes), exceptions: exceptions.into() })
    }

    fn panels(&self) -> usize {
        self.exceptions.len()
    }

    /// The runs of a panel.
    fn panel(&self, panel: usize) -> &[u8] {
        &self.bytes[panel * self.k * self.run..][..self.k * self.run]
    }
}

/// Zero and the most frequent first bytes, and how many numbers have others.
fn most_frequent(w: &[u32]) -> (Tops, usize) {
    const CHUNK: usize = 1 << 20;
    let counts = threads::map(w.len().div_ceil(CHUNK), |i| {
        let mut counts = [0usize; 256];
        w[i * CHUNK..].iter().take(CHUNK).for_each(|x| counts[(x >> 24) as usize] += 1);
        counts
    });
    let count = |top: u8| counts.iter().map(|counts| counts[usize::from(top)]).sum::<usize>();
    let mut others: Vec<(usize, u8)> = (1..=u8::MAX).map(|top| (count(top), top)).collect();
    others.sort_unstable_by(|a, b| b.cmp(a));
    let (frequent, rare) = others.split_at(Tops::default().len() - 1);
    let mut tops = Tops::default();
    tops[1..].iter_mut().zip(frequent).for_each(|(to, &(_, top))| *to = top);
    (tops, rare.iter().map(|(count, _)| count).sum())
}

/// The lanes of the current instruction set, if it expands compact numbers.
fn lanes() -> Option<usize> {
    struct Lanes;
    impl Kernel<f32> for Lanes {
        type Output = Option<usize>;
        #[inline(always)]
        fn run<S: Simd<f32>>(self, _: S) -> Option<usize> {
            S::EXPANDS.then_some(S::LANES)
        }
    }
    simd::dispatch(Lanes)
}

#[cfg(test)]
mod tests;
