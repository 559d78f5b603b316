//! Transformed tiles: 36 planes, one a frequency, of tiles × channels.

use super::Tiles;
use super::transform::{FREQUENCIES, INPUTS, Input, Map, OUTPUTS, OutputAdjoint};
use crate::simd::Simd;
use crate::{Element, Tensor};

/// Elements between planes beyond their size, so that the same element of all planes does not fall into one cache set.
const GAP: usize = 16;

/// A buffer for planes of up to `rows` tiles with `columns` channels.
pub(super) struct Planes<T: Element> {
    data: Tensor<T>,
    rows: usize,
    pub columns: usize,
}

impl<T: Element> Planes<T> {
    pub fn new(rows: usize, columns: usize) -> Self {
        Planes { data: Tensor::scratch([FREQUENCIES, rows * columns + GAP]), rows, columns }
    }

    pub fn view(&mut self) -> View<T> {
        let stride = self.rows * self.columns + GAP;
        View { data: self.data.data_mut().as_mut_ptr(), stride, columns: self.columns, rows: self.rows }
    }
}

/// A pointer to planes, for tasks that write different rows or read what is complete.
#[derive(Clone, Copy)]
pub(super) struct View<T> {
    data: *mut T,
    pub stride: usize,
    pub columns: usize,
    rows: usize,
}

// SAFETY: tasks write disjoint rows, or planes' columns, of a view, and read it only after all writers have ended.
unsafe impl<T: Send> Send for View<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for View<T> {}

impl<T: Element> View<T> {
    /// The first element of row `i` of plane 0; plane `f` is `f · stride` on.
    pub fn row(&self, i: usize) -> *mut T {
        assert!(i < self.rows.max(1));
        // SAFETY: the row lies within the buffer, as just asserted.
        unsafe { self.data.add(i * self.columns) }
    }

    /// The first element of a plane.
    pub fn plane(&self, f: usize) -> *mut T {
        assert!(f < FREQUENCIES);
        // SAFETY: the plane lies within the buffer, as just asserted.
        unsafe { self.data.add(f * self.stride) }
    }
}

/// Transforms the tiles' inputs `x` `[N, H, W, C]` to rows of planes, beginning with row `first`.
///
/// # Safety
/// Nobody else may access these rows.
#[inline(always)]
pub(super) unsafe fn input<T: Element, S: Simd<T>>(
    simd: S,
    tiles: &Tiles,
    range: std::ops::Range<usize>,
    (x, zeros): (&[T], &[T]),
    planes: View<T>,
    first: usize,
) {
    for (i, tile) in range.enumerate() {
        let pixels = tiles.pixels::<T, INPUTS>(tiles.at(tile), tiles.input, (x, planes.columns), zeros);
        // SAFETY: the pixels have all columns, and the row is the caller's.
        unsafe { each_vector::<T, S, Input, INPUTS>(simd, &pixels, planes, first + i) };
    }
}

/// Transforms the tiles' output gradients `dy` `[N, Ho, Wo, C]` to rows of planes, beginning with row `first`.
///
/// # Safety
/// Nobody else may access these rows.
#[inline(always)]
pub(super) unsafe fn output_adjoint<T: Element, S: Simd<T>>(
    simd: S,
    tiles: &Tiles,
    range: std::ops::Range<usize>,
    (dy, zeros): (&[T], &[T]),
    planes: View<T>,
    first: usize,
) {
    for (i, tile) in range.enumerate() {
        let pixels = tiles.pixels::<T, OUTPUTS>(tiles.at(tile), tiles.output, (dy, planes.columns), zeros);
        // SAFETY: the pixels have all columns, and the row is the caller's.
        unsafe { each_vector::<T, S, OutputAdjoint, OUTPUTS>(simd, &pixels, planes, first + i) };
    }
}

/// Writes the map of a window of pixels, register by register of channels, to a row of all planes.
///
/// # Safety
/// Each pixel must have the planes' columns, and nobody else may access the row.
#[inline(always)]
unsafe fn each_vector<T: Element, S: Simd<T>, M: Map<SIZE, INPUTS>, const SIZE: usize>(
    simd: S,
    pixels: &[[*const T; SIZE]; SIZE],
    planes: View<T>,
    row: usize,
) {
    let (row, channels) = (planes.row(row), planes.columns);
    let full = channels - channels % S::LANES;
    let mut d = [[simd.splat(T::ZERO); SIZE]; SIZE];
    // SAFETY: the caller's promise; a row of a plane has as many elements as a pixel.
    unsafe {
        for c in (0..full).step_by(S::LANES) {
            for y in 0..SIZE {
                for x in 0..SIZE {
                    d[y][x] = simd.load_ptr(pixels[y][x].add(c));
                }
            }
            let v = M::both(simd, &d);
            for f in 0..FREQUENCIES {
                simd.store_ptr(v[f / INPUTS][f % INPUTS], row.add(f * planes.stride + c));
            }
        }
        if full < channels {
            let n = channels - full;
            for y in 0..SIZE {
                for x in 0..SIZE {
                    d[y][x] = simd.load_partial_ptr(pixels[y][x].add(full), n);
                }
            }
            let v = M::both(simd, &d);
            for f in 0..FREQUENCIES {
                simd.store_partial_ptr(v[f / INPUTS][f % INPUTS], row.add(f * planes.stride + full), n);
            }
        }
    }
}
