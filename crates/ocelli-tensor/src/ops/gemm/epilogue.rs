//! What follows a gathered product while its results are in registers, and where they are put.

use super::tile::Finish;
use crate::ops::Activation;

/// What follows the product: `curve(clamp(C + bias + residual))`.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<'a, T> {
    /// One number a column of the output.
    pub bias: Option<&'a [T]>,
    /// A tensor of the output's shape.
    pub residual: Option<&'a [T]>,
    /// Lowest and highest result.
    pub clamp: Option<[T; 2]>,
    /// An activation that is no clamp.
    pub curve: Option<Activation>,
    /// Whether C starts at what the output holds rather than at zero.
    pub onto: bool,
    /// Where the results lie in the output's rows, if these have other columns too. There is no residual then.
    pub slice: Option<ColumnSlice>,
}

/// The columns of wider rows from `first` on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColumnSlice {
    pub columns: usize,
    pub first: usize,
}

impl ColumnSlice {
    /// All of so many columns.
    pub fn whole(columns: usize) -> Self {
        ColumnSlice { columns, first: 0 }
    }
}

impl<T> Epilogue<'_, T> {
    /// Nothing.
    pub const NONE: Self = Epilogue { bias: None, residual: None, clamp: None, curve: None, onto: false, slice: None };
    /// The product is added to what the output holds.
    pub const ONTO: Self = Epilogue { onto: true, ..Self::NONE };
}

impl<T: Copy> Epilogue<'_, T> {
    /// For `len` elements of the output from element `start` on.
    pub fn part(&self, start: usize, len: usize) -> Self {
        Epilogue { residual: self.residual.map(|residual| &residual[start..][..len]), ..*self }
    }

    /// Where `columns` results lie in an output of so many rows and `len` elements, which fit it.
    pub fn slice_of(&self, columns: usize, rows: usize, len: usize) -> ColumnSlice {
        let slice = self.slice.unwrap_or(ColumnSlice::whole(columns));
        assert!(columns <= slice.columns && slice.first <= slice.columns - columns, "the rows have the columns");
        assert_eq!(len, rows * slice.columns, "the output has the rows");
        assert!(self.bias.is_none_or(|bias| bias.len() == columns), "a number a column");
        assert!(self.residual.is_none_or(|residual| self.slice.is_none() && residual.len() == len));
        slice
    }

    /// As the tiles take it.
    pub fn finish(&self) -> Finish<T> {
        let null = std::ptr::null();
        Finish {
            bias: self.bias.map_or(null, <[T]>::as_ptr),
            residual: self.residual.map_or(null, <[T]>::as_ptr),
            clamp: self.clamp,
            curve: self.curve,
            counts: None,
        }
    }
}
