//! The register tile of products of bytes, and what follows them in registers.

// Registers are named by their place in the tile.
#![allow(clippy::needless_range_loop)]

use crate::ops::Activation;
use crate::simd::Simd;
use crate::simd::int8::{Int8, Lanes, RUN};

/// `f(sums · scale + bias + residual)`, clamped, as bytes or numbers.
///
/// Where bytes are written, `scale`, `bias` and `clamp` are in their unit, zero point included, unless there is a curve.
#[derive(Clone, Copy)]
pub struct Finish {
    /// One number a column, as many as all panels have.
    pub scale: *const f32,
    /// Likewise.
    pub bias: *const f32,
    pub residual: Residual,
    pub clamp: [f32; 2],
    /// What neither clamps nor is linear, and then the factor and the addend that lead to the unit of the output.
    pub curve: Option<(Activation, [f32; 2])>,
    pub out: Out,
}

/// What is added, with the output's rows and columns.
#[derive(Clone, Copy)]
pub enum Residual {
    None,
    /// `q · scale + shift`
    Bytes {
        data: *const u8,
        stride: usize,
        scale: f32,
        shift: f32,
    },
    /// `x · scale`
    Floats {
        data: *const f32,
        stride: usize,
        scale: f32,
    },
}

/// Where the output goes: rows `stride` elements apart, all of which are written.
#[derive(Clone, Copy)]
pub enum Out {
    Bytes { data: *mut u8, stride: usize },
    Floats { data: *mut f32, stride: usize },
}

impl Out {
    /// The elements of a row.
    pub fn columns(&self) -> usize {
        match *self {
            Out::Bytes { stride, .. } | Out::Floats { stride, .. } => stride,
        }
    }
}

/// Some rows times a panel.
pub struct Block<'a> {
    /// `taps` groups, `stride` apart, of the rows' pointers, each valid for `k` bytes.
    pub sources: *const *const u8,
    pub stride: usize,
    pub taps: usize,
    pub k: usize,
    /// The panel.
    pub weights: *const i8,
    /// The rows' numbers in the output.
    pub targets: *const usize,
    /// The panel's first column.
    pub column: usize,
    pub finish: &'a Finish,
}

/// Computes a block with a tile of `ROWS` rows and `VECTORS` registers.
///
/// # Safety
/// All pointers of `block` must be valid as described there, for `ROWS` rows and `VECTORS` registers of columns, of which
/// the last may reach beyond the output's; and nobody else may access what it writes.
#[inline(always)]
pub unsafe fn tile<S: Int8, const ROWS: usize, const VECTORS: usize>(simd: S, block: &Block<'_>) {
    let lanes = S::Floats::LANES;
    let width = lanes * S::TILE_VECTORS;
    let mut sums = [[simd.zero(); VECTORS]; ROWS];
    // SAFETY: the caller's promise.
    unsafe {
        let mut b = block.weights;
        for tap in 0..block.taps {
            let mut a = [std::ptr::null(); ROWS];
            for (i, a) in a.iter_mut().enumerate() {
                *a = *block.sources.add(tap * block.stride + i);
            }
            let mut k = 0;
            while k < block.k {
                let mut weights = [simd.weights(b, width * RUN); VECTORS];
                for v in 1..VECTORS {
                    weights[v] = simd.weights(b.add(v * lanes * RUN), width * RUN);
                }
                for i in 0..ROWS {
                    let row = simd.row(a[i].add(k));
                    for v in 0..VECTORS {
                        sums[i][v] = simd.dot(sums[i][v], row, weights[v]);
                    }
                }
                k += S::DEPTH;
                b = b.add(S::DEPTH * width);
            }
        }
        // Through memory: what follows is too much to be unrolled, and registers can't be indexed.
        let mut done = [[simd.zero(); VECTORS]; ROWS];
        let place = done.as_mut_ptr().cast::<S::Sums>();
        for i in 0..ROWS {
            for v in 0..VECTORS {
                place.add(i * VECTORS + v).write_volatile(sums[i][v]);
            }
        }
        let end = block.finish.out.columns();
        for v in 0..VECTORS {
            let column = block.column + v * lanes;
            let live = lanes.min(end - column);
            let f = simd.floats();
            let scale = f.load_ptr(block.finish.scale.add(column));
            let bias = f.load_ptr(block.finish.bias.add(column));
            for i in 0..ROWS {
                let y = f.add(f.mul(simd.numbers(done[i][v]), scale), bias);
                finish(simd, block.finish, y, *block.targets.add(i), column, live);
            }
        }
    }
}

/// Adds the residual, bends, clamps and writes one register.
///
/// # Safety
/// The finish's pointers must be valid for `live` columns from `column` on of row `row`.
#[inline(always)]
unsafe fn finish<S: Int8>(simd: S, finish: &Finish, mut y: Lanes<S>, row: usize, column: usize, live: usize) {
    let f = simd.floats();
    let whole = live == S::Floats::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        match finish.residual {
            Residual::None => {}
            Residual::Bytes { data, stride, scale, shift } => {
                let q = simd.load_bytes(data.add(row * stride + column), live);
                y = f.add(y, f.add(f.mul(q, f.splat(scale)), f.splat(shift)));
            }
            Residual::Floats { data, stride, scale } => {
                let data = data.add(row * stride + column);
                let x = if whole { f.load_ptr(data) } else { f.load_partial_ptr(data, live) };
                y = f.add(y, f.mul(x, f.splat(scale)));
            }
        }
        if let Some((curve, [factor, addend])) = finish.curve {
            y = f.add(f.mul(curve.activate(f, y), f.splat(factor)), f.splat(addend));
        }
        y = f.min(f.splat(finish.clamp[1]), f.max(f.splat(finish.clamp[0]), y));
        match finish.out {
            Out::Bytes { data, stride } => simd.store_bytes(y, data.add(row * stride + column), live),
            Out::Floats { data, stride } => {
                let data = data.add(row * stride + column);
                if whole { f.store_ptr(y, data) } else { f.store_partial_ptr(y, data, live) }
            }
        }
    }
}
