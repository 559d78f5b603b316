//! The operand `B`: panels of as many columns as a register tile has (some tiles take two), each a contiguous `[taps · k, width]`.
//!
//! ```text
//!   B[g, t, k, n]       panel 0, group 0   panel 0, group 1  …   panel 1, group 0
//!   ┌──────────┐        ┌──────┐           ┌──────┐              ┌──────┐
//!   │ t=0      │ taps·k │ 0..w │           │ 0..w │              │ w..2w│   zeros beyond the last column
//!   │ t=1 …    │        └──────┘           └──────┘              └──────┘
//!   └──────────┘
//! ```
//!
//! One that is used once may stay where it lies, since a row of a panel is a cache line or two: see [`Packed::in_place`].

use half::f16;

use super::half::Halves;
use super::pieces::compete;
use super::transpose::Transpose;
use crate::simd::{self, Isa, Kernel, Simd};
use crate::{Element, Tensor, threads};

/// Bytes of a matrix's rows that are packed at a time, as some panels side by side.
const SIDE_BY_SIDE: usize = 512;

/// Where `B[g, t, k, n]` lies in a tensor: `g · group + t · tap + k · row + n · column`. Row or column is 1.
#[derive(Debug, Clone, Copy)]
pub struct Matrix {
    pub group: usize,
    pub tap: usize,
    pub row: usize,
    pub column: usize,
}

impl Matrix {
    /// One matrix, row by row.
    pub fn of_rows(columns: usize) -> Self {
        Matrix { group: 0, tap: 0, row: columns, column: 1 }
    }

    /// One matrix, column by column.
    pub fn of_columns(rows: usize) -> Self {
        Matrix { group: 0, tap: 0, row: 1, column: rows }
    }
}

/// An operand of `groups` matrices, and the instruction set whose tiles it is cut for.
#[derive(Clone)]
pub struct Packed<T: Element> {
    pub isa: Isa,
    pub groups: usize,
    /// taps · k
    pub depth: usize,
    /// Columns of each group's matrix.
    pub columns: usize,
    /// Columns of a panel.
    pub width: usize,
    panels: Panels<T>,
}

/// All panels, `[panels, groups, depth, width]`.
#[derive(Clone)]
enum Panels<T: Element> {
    Whole(Tensor<T>),
    Halves(Halves),
    /// The only group's matrix itself. A row of the last panel is read on into the next row of the matrix, if its columns are not
    /// enough for a panel; so the last rows of that panel, behind which there is not enough to read, are copied.
    Lying {
        matrix: Tensor<T>,
        tail: Tensor<T>,
    },
}

impl<T: Element> Packed<T> {
    /// Packs `groups` matrices of the given taps (indices into the source), `k` rows a tap and `columns` columns.
    pub fn new(source: &[T], at: Matrix, groups: usize, taps: &[usize], k: usize, columns: usize) -> Self {
        let mut packed = Self::scratch(groups, taps.len() * k, columns);
        let (size, width) = (packed.depth * packed.width, packed.width);
        let panels = Source { numbers: source, at, groups, taps, k, columns };
        // A matrix that lies row by row is read in runs as long as some panels are wide, if there are enough for all threads.
        let count = columns.div_ceil(width);
        let beside = (SIDE_BY_SIDE / (width * size_of::<T>())).min(count / threads::count()).max(1);
        let some = if groups == 1 && at.column == 1 { beside } else { 1 };
        threads::for_each_chunk(packed.panels_mut(), some * size, |i, rows| match width {
            _ if some == 1 => panels.copy(i, rows, width),
            4 => panels.copy_side_by_side::<4>(some * i, rows),
            8 => panels.copy_side_by_side::<8>(some * i, rows),
            16 => panels.copy_side_by_side::<16>(some * i, rows),
            32 => panels.copy_side_by_side::<32>(some * i, rows),
            _ => unreachable!("panels of {width} columns"),
        });
        packed
    }

    /// As [`new`](Self::new), in 16 bits a number, if these hold the numbers: see [`Halves`].
    pub fn halved(source: &[T], at: Matrix, groups: usize, taps: &[usize], k: usize, columns: usize) -> Option<Self> {
        let (isa, width, depth) = (simd::current(), Self::tile_width(), taps.len() * k);
        let panels = Source { numbers: source, at, groups, taps, k, columns };
        let count = columns.div_ceil(width) * groups;
        let halves = Halves::new(count, depth * width, |i, rows| panels.copy(i, rows, width))?;
        Some(Packed { isa, groups, depth, columns, width, panels: Panels::Halves(halves) })
    }

    /// A matrix `[depth, columns]` where it lies, unless the rows of a panel would compete for few sets of the caches.
    pub fn in_place(matrix: &Tensor<T>, depth: usize, columns: usize) -> Option<Self> {
        assert_eq!(matrix.len(), depth * columns);
        if compete::<T>(columns) {
            return None;
        }
        let (isa, width) = (simd::current(), Self::tile_width());
        let at = Matrix::of_rows(columns);
        let last = columns.div_ceil(width).saturating_sub(1);
        // So many rows of the last panel are whole within the matrix.
        let whole = matrix.len().checked_sub((last + 1) * width).map_or(0, |room| room / columns + 1).min(depth);
        let rest = &matrix.data()[whole * columns..];
        let mut tail = Tensor::scratch([depth - whole, width]);
        if whole < depth {
            let source = Source { numbers: rest, at, groups: 1, taps: &[0], k: depth - whole, columns };
            source.copy(last, tail.data_mut(), width);
        }
        let panels = Panels::Lying { matrix: matrix.clone(), tail };
        Some(Packed { isa, groups: 1, depth, columns, width, panels })
    }

    /// Rows and columns of a tile of an instruction set, and how many panels some of its tiles take side by side.
    pub fn tile(isa: Isa) -> [usize; 3] {
        struct Tile;
        impl<T: Element> Kernel<T> for Tile {
            type Output = [usize; 3];
            #[inline(always)]
            fn run<S: Simd<T>>(self, _: S) -> [usize; 3] {
                [S::TILE_ROWS, S::LANES * S::TILE_VECTORS, if S::WIDE_ROWS > 0 { 2 } else { 1 }]
            }
        }
        T::dispatch_on(isa, Tile)
    }

    /// Columns of a tile of the current instruction set.
    pub fn tile_width() -> usize {
        Self::tile(simd::current())[1]
    }

    /// Panels of unspecified content.
    pub fn scratch(groups: usize, depth: usize, columns: usize) -> Self {
        let (isa, width) = (simd::current(), Self::tile_width());
        let panels = Tensor::scratch([columns.div_ceil(width), groups, depth, width]);
        Packed { isa, groups, depth, columns, width, panels: Panels::Whole(panels) }
    }

    /// The operand with each row times its factor, in `memory`, which it shares until it is dropped.
    pub fn scaled(&self, factors: &[T], memory: &mut Tensor<T>) -> Self {
        assert!(self.groups == 1 && self.depth == factors.len(), "a factor a row");
        let panels = self.whole();
        let rows = panels.data().chunks_exact(self.width);
        let copies = memory.resize(*panels.shape()).chunks_exact_mut(self.width);
        for ((copy, row), &factor) in copies.zip(rows).zip(factors.iter().cycle()) {
            copy.iter_mut().zip(row).for_each(|(copy, &x)| *copy = x * factor);
        }
        Packed { panels: Panels::Whole(memory.clone()), ..*self }
    }

    /// The elements of all panels.
    pub fn len(&self) -> usize {
        self.panels() * self.groups * self.depth * self.width
    }

    /// Of a matrix in place, the elements from some row of a panel on, and how far apart its rows lie, up to
    /// [`lying_end`](Self::lying_end): as many in each as a panel is wide, though some may be another row's.
    pub fn lying_rows(&self, panel: usize, row: usize) -> (&[T], usize) {
        let Panels::Lying { matrix, tail } = &self.panels else { unreachable!("the operand is packed") };
        match row.checked_sub(self.copied_from(panel)) {
            Some(row) => (&tail.data()[row * self.width..], self.width),
            None => (&matrix.data()[row * self.columns + panel * self.width..], self.columns),
        }
    }

    /// Where the rows of a panel end that follow some row in the same memory.
    pub fn lying_end(&self, panel: usize, row: usize) -> usize {
        let from = self.copied_from(panel);
        if row < from { from } else { self.depth }
    }

    /// The first row of a panel of a matrix in place that is copied.
    fn copied_from(&self, panel: usize) -> usize {
        match &self.panels {
            Panels::Lying { tail, .. } if panel + 1 == self.panels() => self.depth - tail.shape()[0],
            _ => self.depth,
        }
    }

    /// Whether the operand is a matrix that lies in place.
    pub fn is_in_place(&self) -> bool {
        matches!(self.panels, Panels::Lying { .. })
    }

    /// Whether the numbers are kept in 16 bits.
    pub fn is_halved(&self) -> bool {
        matches!(self.panels, Panels::Halves(_))
    }

    fn whole(&self) -> &Tensor<T> {
        match &self.panels {
            Panels::Whole(panels) => panels,
            _ => unreachable!("only gathered products take halves, or what is not packed"),
        }
    }

    /// The panels of a group.
    pub fn panels(&self) -> usize {
        self.columns.div_ceil(self.width)
    }

    /// Panel `panel` of group `group`, `[depth, width]`.
    pub fn panel(&self, group: usize, panel: usize) -> &[T] {
        &self.rows_from(group, panel, 0)[..self.depth * self.width]
    }

    /// All numbers from some row of a panel on.
    pub fn rows_from(&self, group: usize, panel: usize, row: usize) -> &[T] {
        &self.whole().data()[self.at(group, panel, row)..]
    }

    /// As [`rows_from`](Self::rows_from), of halves.
    pub fn halves_from(&self, group: usize, panel: usize, row: usize) -> &[f16] {
        match &self.panels {
            Panels::Halves(halves) => &halves[self.at(group, panel, row)..],
            _ => unreachable!("the operand is whole"),
        }
    }

    fn at(&self, group: usize, panel: usize, row: usize) -> usize {
        ((panel * self.groups + group) * self.depth + row) * self.width
    }

    /// The panels from some panel on, `[panels, groups, depth, width]`.
    pub fn panels_from(&self, panel: usize) -> &[T] {
        self.rows_from(0, panel, 0)
    }

    /// All panels, `[panels, groups, depth, width]`.
    pub fn panels_mut(&mut self) -> &mut [T] {
        match &mut self.panels {
            Panels::Whole(panels) => panels.data_mut(),
            _ => unreachable!("the operand is made once"),
        }
    }
}

/// What panels are copied from.
struct Source<'a, T> {
    numbers: &'a [T],
    at: Matrix,
    groups: usize,
    taps: &'a [usize],
    k: usize,
    columns: usize,
}

impl<T: Element> Source<'_, T> {
    /// Copies the panels from the `first` on of the only group, row by row: panel by panel, each line would be read alone, from
    /// another page than the one before.
    fn copy_side_by_side<const WIDTH: usize>(&self, first: usize, rows: &mut [T]) {
        let depth = self.taps.len() * self.k;
        let (rows, _) = rows.as_chunks_mut::<WIDTH>();
        let from = first * WIDTH;
        let columns = (self.columns - from).min(rows.len() / depth * WIDTH);
        for (t, tap) in self.taps.iter().enumerate() {
            for k in 0..self.k {
                let row = &self.numbers[tap * self.at.tap + k * self.at.row + from..][..columns];
                let (whole, rest) = row.as_chunks::<WIDTH>();
                let at = t * self.k + k;
                for (panel, &piece) in whole.iter().enumerate() {
                    rows[panel * depth + at] = piece;
                }
                if !rest.is_empty() {
                    let last = &mut rows[whole.len() * depth + at];
                    *last = [T::ZERO; WIDTH];
                    last[..rest.len()].copy_from_slice(rest);
                }
            }
        }
    }

    /// Copies panel `i`, rows of `width`.
    fn copy(&self, i: usize, rows: &mut [T], width: usize) {
        let (first, group) = (i / self.groups * width, i % self.groups);
        let live = width.min(self.columns - first);
        if live < width {
            rows.fill(T::ZERO);
        }
        let at = self.at;
        for (&tap, rows) in self.taps.iter().zip(rows.chunks_exact_mut((self.k * width).max(1))) {
            copy(&self.numbers[group * at.group + tap * at.tap + first * at.column..], at, rows, width, live);
        }
    }
}

/// Copies one tap's rows of a panel, `live` columns each.
fn copy<T: Element>(source: &[T], at: Matrix, rows: &mut [T], width: usize, live: usize) {
    if at.column == 1 {
        for (k, row) in rows.chunks_exact_mut(width).enumerate() {
            row[..live].copy_from_slice(&source[k * at.row..][..live]);
        }
        return;
    }
    assert_eq!(at.row, 1, "a matrix or its transpose");
    let size = [live, rows.len() / width];
    T::transpose(Transpose { from: source, from_stride: at.column, to: rows, to_stride: width, size });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Element>(columns: usize, taps: &[usize], k: usize, groups: usize) {
        let at = Matrix { group: columns, tap: k * groups * columns, row: groups * columns, column: 1 };
        let source = Vec::from_iter((1..=3 * k * groups * columns).map(|i| T::from_f64(i as f64)));
        for &isa in simd::available() {
            let packed = simd::with_isa(isa, || Packed::new(&source, at, groups, taps, k, columns));
            for (group, panel) in (0..groups).flat_map(|group| (0..packed.panels()).map(move |panel| (group, panel))) {
                for (i, &x) in packed.panel(group, panel).iter().enumerate() {
                    let (row, column) = (i / packed.width, panel * packed.width + i % packed.width);
                    let from = group * at.group + taps[row / k] * at.tap + row % k * at.row + column;
                    let expected = if column < columns { source[from] } else { T::ZERO };
                    assert_eq!(x, expected, "{isa:?} {columns} {taps:?} {k} {groups}: {group} {panel} {i}");
                }
            }
        }
    }

    #[test]
    fn panels_hold_the_columns_and_zeros_beyond_them() {
        for columns in [1, 33, 127, 128, 129, 300, 600] {
            for (taps, k, groups) in [(&[0][..], 1, 1), (&[2, 0], 3, 1), (&[1], 3, 2)] {
                check::<f32>(columns, taps, k, groups);
                check::<f64>(columns, taps, k, groups);
            }
        }
    }
}
