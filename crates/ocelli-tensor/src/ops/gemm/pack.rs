//! The packed operand `B`: panels of as many columns as a register tile has, each a contiguous `[taps · k, width]`.
//!
//! ```text
//!   B[g, t, k, n]       panel 0, group 0   panel 0, group 1  …   panel 1, group 0
//!   ┌──────────┐        ┌──────┐           ┌──────┐              ┌──────┐
//!   │ t=0      │ taps·k │ 0..w │           │ 0..w │              │ w..2w│   zeros beyond the last column
//!   │ t=1 …    │        └──────┘           └──────┘              └──────┘
//!   └──────────┘
//! ```

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
    panels: Tensor<T>,
}

impl<T: Element> Packed<T> {
    /// Packs `groups` matrices of the given taps (indices into the source), `k` rows a tap and `columns` columns.
    pub fn new(source: &[T], at: Matrix, groups: usize, taps: &[usize], k: usize, columns: usize) -> Self {
        let depth = taps.len() * k;
        let mut packed = Self::scratch(groups, depth, columns);
        let width = packed.width;
        threads::for_each_chunk(packed.panels.data_mut(), depth * width, |i, rows| {
            let (first, group) = (i / groups * width, i % groups);
            let live = width.min(columns - first);
            if live < width {
                rows.fill(T::ZERO);
            }
            for (&tap, rows) in taps.iter().zip(rows.chunks_exact_mut((k * width).max(1))) {
                let source = &source[group * at.group + tap * at.tap + first * at.column..];
                copy(source, at, rows, width, live);
            }
        });
        packed
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
        Packed { isa, groups, depth, columns, width, panels }
    }

    /// The operand with each row times its factor, in `memory`, which it shares until it is dropped.
    pub fn scaled(&self, factors: &[T], memory: &mut Tensor<T>) -> Self {
        assert!(self.groups == 1 && self.depth == factors.len(), "a factor a row");
        let rows = self.panels.data().chunks_exact(self.width);
        let copies = memory.resize(*self.panels.shape()).chunks_exact_mut(self.width);
        for ((copy, row), &factor) in copies.zip(rows).zip(factors.iter().cycle()) {
            copy.iter_mut().zip(row).for_each(|(copy, &x)| *copy = x * factor);
        }
        Packed { panels: memory.clone(), ..*self }
    }

    /// The elements of all panels.
    pub fn len(&self) -> usize {
        self.panels.len()
    }

    /// The panels of a group.
    pub fn panels(&self) -> usize {
        self.columns.div_ceil(self.width)
    }

    /// Panel `panel` of group `group`, `[depth, width]`.
    pub fn panel(&self, group: usize, panel: usize) -> &[T] {
        let size = self.depth * self.width;
        &self.panels.data()[(panel * self.groups + group) * size..][..size]
    }

    /// The panels from some panel on, `[panels, groups, depth, width]`.
    pub fn panels_from(&self, panel: usize) -> &[T] {
        &self.panels.data()[panel * self.groups * self.depth * self.width..]
    }

    /// All panels, `[panels, groups, depth, width]`.
    pub fn panels_mut(&mut self) -> &mut [T] {
        self.panels.data_mut()
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
