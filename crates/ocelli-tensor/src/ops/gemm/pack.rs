//! The packed operand `B`: panels of as many columns as a register tile has, each a contiguous `[taps · k, width]`.
//!
//! ```text
//!   B[g, t, k, n]       panel 0, group 0   panel 0, group 1  …   panel 1, group 0
//!   ┌──────────┐        ┌──────┐           ┌──────┐              ┌──────┐
//!   │ t=0      │ taps·k │ 0..w │           │ 0..w │              │ w..2w│   zeros beyond the last column
//!   │ t=1 …    │        └──────┘           └──────┘              └──────┘
//!   └──────────┘
//! ```

use half::f16;

use super::half::Halves;
use super::transpose::Transpose;
use crate::simd::{self, Isa, Kernel, Simd};
use crate::{Element, Tensor, threads};

/// Where `B[g, t, k, n]` lies in a tensor: `g · group + t · tap + k · row + n · column`. Row or column is 1.
#[derive(Debug, Clone, Copy)]
pub struct Matrix {
    pub group: usize,
    pub tap: usize,
    pub row: usize,
    pub column: usize,
}

/// A packed operand of `groups` matrices, and the instruction set whose tiles it is cut for.
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
}

impl<T: Element> Packed<T> {
    /// Packs `groups` matrices of the given taps (indices into the source), `k` rows a tap and `columns` columns.
    pub fn new(source: &[T], at: Matrix, groups: usize, taps: &[usize], k: usize, columns: usize) -> Self {
        let mut packed = Self::scratch(groups, taps.len() * k, columns);
        let (size, width) = (packed.depth * packed.width, packed.width);
        let panels = Source { numbers: source, at, groups, taps, k, columns };
        threads::for_each_chunk(packed.panels_mut(), size, |i, rows| panels.copy(i, rows, width));
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

    /// Columns of a tile of the current instruction set.
    pub fn tile_width() -> usize {
        struct Width;
        impl<T: Element> Kernel<T> for Width {
            type Output = usize;
            #[inline(always)]
            fn run<S: Simd<T>>(self, _: S) -> usize {
                S::LANES * S::TILE_VECTORS
            }
        }
        T::dispatch_on(simd::current(), Width)
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

    /// Whether the numbers are kept in 16 bits.
    pub fn is_halved(&self) -> bool {
        matches!(self.panels, Panels::Halves(_))
    }

    fn whole(&self) -> &Tensor<T> {
        match &self.panels {
            Panels::Whole(panels) => panels,
            Panels::Halves(_) => unreachable!("only gathered products take halves"),
        }
    }

    /// The panels of a group.
    pub fn panels(&self) -> usize {
        self.columns.div_ceil(self.width)
    }

    /// Panel `panel` of group `group`, `[depth, width]`.
    pub fn panel(&self, group: usize, panel: usize) -> &[T] {
        self.panel_of(self.whole().data(), group, panel)
    }

    /// As [`panel`](Self::panel), of halves.
    pub fn halved_panel(&self, group: usize, panel: usize) -> &[f16] {
        match &self.panels {
            Panels::Halves(halves) => self.panel_of(halves, group, panel),
            Panels::Whole(_) => unreachable!("the operand is whole"),
        }
    }

    fn panel_of<'a, N>(&self, panels: &'a [N], group: usize, panel: usize) -> &'a [N] {
        let size = self.depth * self.width;
        &panels[(panel * self.groups + group) * size..][..size]
    }

    /// The panels from some panel on, `[panels, groups, depth, width]`.
    pub fn panels_from(&self, panel: usize) -> &[T] {
        &self.whole().data()[panel * self.groups * self.depth * self.width..]
    }

    /// All panels, `[panels, groups, depth, width]`.
    pub fn panels_mut(&mut self) -> &mut [T] {
        match &mut self.panels {
            Panels::Whole(panels) => panels.data_mut(),
            Panels::Halves(_) => unreachable!("halves are made once"),
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
