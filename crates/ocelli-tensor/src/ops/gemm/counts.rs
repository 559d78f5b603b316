//! Sums over the rows of a gathered product, taken while its tiles are in registers: the statistics that a batch norm needs
//! come without another pass over memory, as do the sums that its gradients need.

use super::gate::Gate;
use super::pieces::Pieces;
use crate::Element;
use crate::memory::Buffer;
use crate::ops::batch_norm::Part;
use crate::ops::columns::add_in_order;
use crate::simd::Simd;

/// Rows, and those of some tiles more, that are summed in the element type. Sums of blocks are added up in `f64`.
const BLOCK_ROWS: usize = 64;
/// The columns of the widest tile: four registers of 16 lanes.
pub(super) const WIDEST: usize = 64;

/// For each part of C's rows and each column, Σ (C − centre) and Σ (C − centre)², the centre being the part's first row; or
/// what passes a gate and its products, Σ g and Σ g (x − mean).
pub(crate) struct Counts<'a, T: Element> {
    pub gate: Option<Gate<'a, T>>,
    pieces: Pieces,
    columns: usize,
    centres: Buffer<T>,
    /// A part's sums, then its squares or products.
    sums: Buffer<f64>,
}

impl<'a, T: Element> Counts<'a, T> {
    /// Zeros, a part for each chunk of rows.
    pub(super) fn new(pieces: Pieces, columns: usize, gate: Option<Gate<'a, T>>) -> Self {
        let parts = pieces.row_chunks;
        let (centres, sums) = (Buffer::scratch(parts * columns), Buffer::zeros(2 * parts * columns));
        Counts { gate, pieces, columns, centres, sums }
    }

    /// The sums of all parts' rows, then those of the squares or products.
    pub fn total(&self) -> Buffer<f64> {
        let mut total = Buffer::zeros(2 * self.columns);
        add_in_order(&mut total, &self.sums);
        total
    }

    /// What is known of each part.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_, T>> + Clone {
        let centres = self.centres.chunks_exact(self.columns);
        centres.zip(self.sums.chunks_exact(2 * self.columns)).enumerate().map(move |(i, (centre, sums))| {
            let (sums, squares) = sums.split_at(self.columns);
            Part { rows: self.pieces.rows(i).len() as f64, centre, sums, squares }
        })
    }

    /// Where the first part's sums of the first column go.
    pub(super) fn place(&mut self) -> Place<T> {
        let sums = self.sums.as_mut_ptr();
        Place { centre: self.centres.as_mut_ptr(), sums, products: sums.wrapping_add(self.columns) }
    }
}

/// Where sums are put.
#[derive(Clone, Copy)]
pub struct Place<T> {
    centre: *mut T,
    sums: *mut f64,
    products: *mut f64,
}

impl<T> Place<T> {
    /// That of another part and column, of `columns`.
    pub(super) fn at(self, part: usize, columns: usize, column: usize) -> Self {
        let sums = 2 * part * columns + column;
        Place {
            centre: self.centre.wrapping_add(part * columns + column),
            sums: self.sums.wrapping_add(sums),
            products: self.products.wrapping_add(sums),
        }
    }
}

/// Sums over a block's columns while one tile after the other is added.
pub(super) struct Counting<T> {
    place: Place<T>,
    /// Rows that have been added, and those of them whose sums have been put into their place.
    rows: usize,
    put: usize,
    lines: Lines<T>,
}

/// The centre of each column, and the sums so far, of which the second are those of squares or products.
pub(super) struct Lines<T> {
    centre: [T; WIDEST],
    pub sums: [T; WIDEST],
    pub products: [T; WIDEST],
}

impl<T: Element> Counting<T> {
    pub fn new(place: Place<T>) -> Self {
        let zeros = [T::ZERO; WIDEST];
        Counting { place, rows: 0, put: 0, lines: Lines { centre: zeros, sums: zeros, products: zeros } }
    }

    /// Adds a tile, while it is in registers.
    #[inline(always)]
    pub fn add<S: Simd<T>, const ROWS: usize, const VECTORS: usize>(
        &mut self,
        simd: S,
        tile: &[[S::V; VECTORS]; ROWS],
    ) {
        self.lines.add(simd, tile, self.rows == 0);
        self.rows += ROWS;
    }

    /// The sums, for a caller that adds so many rows to them itself.
    pub fn lines(&mut self, rows: usize) -> &mut Lines<T> {
        self.rows += rows;
        &mut self.lines
    }

    /// [Puts](Self::put) the sums of a block of rows into their place, if there are as many.
    ///
    /// # Safety
    /// As for [`put`](Self::put).
    #[inline(always)]
    pub unsafe fn put_blocks(&mut self, live: usize) {
        if self.rows - self.put >= BLOCK_ROWS {
            // SAFETY: the caller's promise.
            unsafe { self.put(live) }
        }
    }

    /// Adds what has not been put there to the sums in their place.
    ///
    /// # Safety
    /// The place must have `live` columns, which nobody else may access.
    #[inline(always)]
    pub unsafe fn put(&mut self, live: usize) {
        let Counting { place, lines, .. } = self;
        for c in 0..live {
            // SAFETY: the caller's promise.
            unsafe {
                *place.centre.add(c) = lines.centre[c];
                *place.sums.add(c) += lines.sums[c].to_f64();
                *place.products.add(c) += lines.products[c].to_f64();
            }
        }
        (lines.sums, lines.products) = ([T::ZERO; WIDEST], [T::ZERO; WIDEST]);
        self.put = self.rows;
    }
}

impl<T: Element> Lines<T> {
    /// Adds a tile; the first row of the first becomes the centre.
    #[inline(always)]
    fn add<S: Simd<T>, const ROWS: usize, const VECTORS: usize>(
        &mut self,
        simd: S,
        tile: &[[S::V; VECTORS]; ROWS],
        first: bool,
    ) {
        for v in 0..VECTORS {
            let c = v * S::LANES;
            if first {
                simd.store(tile[0][v], &mut self.centre[c..]);
            }
            let centre = simd.load(&self.centre[c..]);
            let (mut sum, mut squares) = (simd.load(&self.sums[c..]), simd.load(&self.products[c..]));
            for row in tile {
                let apart = simd.sub(row[v], centre);
                sum = simd.add(sum, apart);
                squares = simd.mul_add(apart, apart, squares);
            }
            simd.store(sum, &mut self.sums[c..]);
            simd.store(squares, &mut self.products[c..]);
        }
    }
}
