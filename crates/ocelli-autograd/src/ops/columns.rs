//! y = some neighbouring channels of x; dx is dy in those columns, and zero in the others.

use std::ops::Range;

use ocelli_tensor::{Element, Error, Shape, Tensor, threads};

use crate::{Gradients, Op, Result, Var};

/// A slice of the last dimension.
#[derive(Debug, Clone)]
pub struct Columns {
    /// Which columns.
    pub columns: Range<usize>,
}

impl<T: Element> Op<T> for Columns {
    /// The input's shape.
    type Saved = Shape;

    fn name(&self) -> &'static str {
        "columns"
    }

    fn forward(&self, inputs: &[&Tensor<T>], _: &[bool]) -> Result<(Tensor<T>, Shape)> {
        let mut y = Tensor::default();
        self.forward_into(inputs, &mut y)?;
        Ok((y, *inputs[0].shape()))
    }

    fn forward_into(&self, inputs: &[&Tensor<T>], y: &mut Tensor<T>) -> Result<()> {
        let (x, Range { start, end }) = (inputs[0], self.columns.clone());
        let width = x.shape().columns();
        if x.shape().rank() == 0 || start >= end || end > width {
            let expected = format!("within 0..{width} and not empty");
            return Err(Error::argument("columns", "range", expected, format!("{start}..{end}")).into());
        }
        let columns = end - start;
        let y = y.resize(x.shape().with_columns(columns));
        let rows = threads::rows_per_chunk(columns);
        threads::for_each_chunk(y, rows * columns, |i, y| {
            let x = x.data()[i * rows * width..].chunks_exact(width);
            y.chunks_exact_mut(columns).zip(x).for_each(|(y, x)| y.copy_from_slice(&x[start..end]));
        });
        Ok(())
    }

    fn backward(&self, x_shape: Shape, dy: Tensor<T>, _: &[bool]) -> Result<Gradients<T>> {
        let (Range { start, end }, width) = (self.columns.clone(), x_shape.columns());
        let columns = end - start;
        let mut dx = Tensor::zeros(x_shape);
        let rows = threads::rows_per_chunk(width);
        threads::for_each_chunk(dx.data_mut(), rows * width, |i, dx| {
            let dy = dy.data()[i * rows * columns..].chunks_exact(columns);
            dx.chunks_exact_mut(width).zip(dy).for_each(|(dx, dy)| dx[start..end].copy_from_slice(dy));
        });
        Ok(vec![Some(dx)])
    }
}

impl<T: Element> Var<T> {
    /// The channels `columns` of this value `[…, C]`.
    pub fn columns(&self, columns: Range<usize>) -> Result<Var<T>> {
        Var::apply(Columns { columns }, &[self])
    }

    /// This value `[…, C]` cut into `[…, sizes[0]]`, `[…, sizes[1]]`, …; the sizes add up to C.
    pub fn split_columns(&self, sizes: &[usize]) -> Result<Vec<Var<T>>> {
        let width = self.shape().columns();
        if sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size)) != Some(width) {
            let expected = format!("that add up to {width}");
            return Err(Error::argument("split_columns", "sizes", expected, format!("{sizes:?}")).into());
        }
        let mut start = 0;
        let part = |&size| {
            start += size;
            self.columns(start - size..start)
        };
        sizes.iter().map(part).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::slice::from_ref;

    use super::super::testing::*;
    use super::*;

    pub fn gradients(g: &Geometry) -> Checked {
        let x = g.image_of(g.channels + 2, 1);
        gradcheck(from_ref(&x), |v| v[0].columns(1..g.channels + 1))?;
        gradcheck(&[x], |v| {
            let parts = v[0].split_columns(&[g.channels, 1, 1])?;
            parts[1].mul(&parts[2])
        })
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }

    #[test]
    fn many_rows_are_cut_in_pieces() {
        let x = Tensor::from_fn([40_000, 3], |i| i as f32);
        let y = Var::constant(x).columns(1..2).unwrap();
        assert!(y.value().data().iter().enumerate().all(|(i, &y)| y == (3 * i + 1) as f32));
    }

    #[test]
    fn wrong_ranges_are_errors() {
        let x = Var::constant(Tensor::<f32>::zeros([2, 3]));
        let error = x.columns(1..4).unwrap_err();
        assert_eq!(error.to_string(), "columns: expected range within 0..3 and not empty, got 1..4");
        let error = x.split_columns(&[1, 1]).unwrap_err();
        assert_eq!(error.to_string(), "split_columns: expected sizes that add up to 3, got [1, 1]");
        assert!(x.columns(1..1).is_err() && x.split_columns(&[usize::MAX, 4]).is_err());
    }
}
