//! Joining tensors by their columns (channels), and splitting them again; each is the other's gradient.

use super::pointwise::{load, store};
use crate::simd::{Kernel, Simd};
use crate::{Element, Error, Result, Shape, Tensor, threads};

/// `[…, C₁]`, `[…, C₂]`, … to `[…, C₁ + C₂ + …]`.
///
/// Errors if there is no tensor, if one has no dimension, or if they differ in any dimension but the last.
pub fn concat_columns<T: Element>(tensors: &[&Tensor<T>]) -> Result<Tensor<T>> {
    Tensor::made(|out| concat_columns_into(tensors, out))
}

/// As [`concat_columns`], into `out`, which is [resized](Tensor::resize).
pub fn concat_columns_into<T: Element>(tensors: &[&Tensor<T>], out: &mut Tensor<T>) -> Result<()> {
    let shape = joined_shape("concat_columns", tensors.iter().map(|tensor| tensor.shape()))?;
    let columns = shape.columns();
    let chunk = threads::rows_per_chunk(columns);
    threads::for_each_chunk(out.resize(shape), chunk * columns, |i, out| join_rows(tensors, i * chunk, columns, out));
    Ok(())
}

/// The shape of what [`concat_columns`] makes of tensors of these shapes.
///
/// Errors as that does.
pub fn concat_shape<'a>(shapes: impl Iterator<Item = &'a Shape> + Clone) -> Result<Shape> {
    joined_shape("concat_columns", shapes)
}

/// As [`concat_shape`] for the operation `op`.
pub(crate) fn joined_shape<'a>(op: &'static str, shapes: impl Iterator<Item = &'a Shape> + Clone) -> Result<Shape> {
    let Some(first) = shapes.clone().next() else {
        return Err(Error::argument(op, "tensor count", "of at least 1", 0));
    };
    for shape in shapes.clone() {
        if shape.rank() == 0 || shape.with_columns(1) != first.with_columns(1) {
            return Err(Error::shape(op, "input", with_any_columns(first), shape));
        }
    }
    Shape::new(&first.with_columns(shapes.map(Shape::columns).sum()))
}

/// Writes rows of tensors side by side, `columns` together, from row `first` on.
pub(crate) fn join_rows<T: Element>(tensors: &[&Tensor<T>], first: usize, columns: usize, out: &mut [T]) {
    let mut start = 0;
    for tensor in tensors {
        let width = tensor.shape().columns();
        let from = Columns { data: &tensor.data()[first * width..], columns: width, first: 0 };
        let to = Columns { data: &mut *out, columns, first: start };
        T::copy_columns(CopyColumns { width, from, to, adds: false });
        start += width;
    }
}

/// Takes rows of `columns` columns apart into `parts`, in each of which they replace what is there or, if it `adds`, are
/// added to it. A part is its number of columns and the same rows of it.
pub(crate) fn take_rows_apart<T: Element>(rows: &[T], columns: usize, parts: &mut [(usize, bool, &mut [T])]) {
    let mut first = 0;
    for (width, adds, part) in parts {
        let (width, adds) = (*width, *adds);
        let from = Columns { data: rows, columns, first };
        T::copy_columns(CopyColumns { width, from, to: Columns { data: part, columns: width, first: 0 }, adds });
        first += width;
    }
}

/// Writes `part` `[…, C]` to the columns of `whole` from `first` on.
///
/// Errors if they do not exist, or if the tensors differ in any dimension but the last.
pub fn put_columns<T: Element>(whole: &mut Tensor<T>, first: usize, part: &Tensor<T>) -> Result<()> {
    const OP: &str = "put_columns";
    let (shape, width) = (*whole.shape(), part.shape().columns());
    if part.shape().rank() == 0 || part.shape().with_columns(1) != shape.with_columns(1) {
        return Err(Error::shape(OP, "part", with_any_columns(&shape), part.shape()));
    }
    let columns = shape.columns();
    if first.checked_add(width).is_none_or(|end| end > columns) {
        let expected = format!("within the columns of {shape}");
        return Err(Error::argument(OP, "columns", expected, format!("{first}..{first}+{width}")));
    }
    let chunk = threads::rows_per_chunk(width);
    threads::for_each_chunk(whole.data_mut(), chunk * columns, |i, whole| {
        let from = Columns { data: &part.data()[i * chunk * width..], columns: width, first: 0 };
        T::copy_columns(CopyColumns { width, from, to: Columns { data: whole, columns, first }, adds: false });
    });
    Ok(())
}

/// `[…, C]` to `[…, C₁]`, `[…, C₂]`, …, given the widths C₁, C₂, ….
///
/// Errors if the widths do not add up to C.
pub fn split_columns<T: Element>(x: &Tensor<T>, widths: &[usize]) -> Result<Vec<Tensor<T>>> {
    const OP: &str = "split_columns";
    let columns = x.shape().columns();
    let total = widths.iter().try_fold(0usize, |total, &width| total.checked_add(width));
    if total != Some(columns) || x.shape().rank() == 0 {
        let expected = format!("that add up to the columns of {}", x.shape());
        return Err(Error::argument(OP, "widths", expected, format!("{widths:?}")));
    }
    let mut start = 0;
    let part = |&width: &usize| {
        let first = start;
        start += width;
        let mut out = Tensor::scratch(x.shape().with_columns(width));
        let chunk = threads::rows_per_chunk(width);
        threads::for_each_chunk(out.data_mut(), chunk * width, |i, out| {
            let from = Columns { data: &x.data()[i * chunk * columns..], columns, first };
            let to = Columns { data: out, columns: width, first: 0 };
            T::copy_columns(CopyColumns { width, from, to, adds: false });
        });
        out
    };
    Ok(widths.iter().map(part).collect())
}

/// Columns `first` and the following of rows of `columns` columns.
struct Columns<D> {
    data: D,
    columns: usize,
    first: usize,
}

/// Copies `width` columns of all rows of `to`, or adds to these. (For rows this short, a call of `memcpy` each costs more
/// than the copy.)
pub struct CopyColumns<'a, T> {
    width: usize,
    from: Columns<&'a [T]>,
    to: Columns<&'a mut [T]>,
    adds: bool,
}

impl<T: Element> Kernel<T> for CopyColumns<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let CopyColumns { width, from, to, adds } = self;
        if width == 0 {
            return;
        }
        // What is asked for meanwhile: a page of these columns further on, in whole rows.
        let ahead = [from.columns, to.columns].map(|columns| (64 * S::LINE).div_ceil(width) * columns);
        for row in 0..to.data.len() / to.columns {
            let from = &from.data[row * from.columns + from.first..][..width];
            let to = &mut to.data[row * to.columns + to.first..][..width];
            for c in (0..width).step_by(S::LANES) {
                let n = S::LANES.min(width - c);
                simd.prefetch(from.as_ptr().wrapping_add(c + ahead[0]));
                simd.prefetch(to.as_ptr().wrapping_add(c + ahead[1]));
                let mut x = load(simd, from, c, n);
                if adds {
                    x = simd.add(x, load(simd, to, c, n));
                }
                store(simd, x, to, c, n);
            }
        }
    }
}

fn with_any_columns(shape: &Shape) -> String {
    let outer = shape.iter().take(shape.rank().saturating_sub(1));
    let mut dims: Vec<String> = outer.map(|d| d.to_string()).collect();
    dims.push("C".into());
    format!("[{}]", dims.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Rng, same_bits};
    use super::*;

    #[test]
    fn concat_puts_columns_side_by_side_and_split_takes_them_apart() {
        for (outer, widths) in [
            (vec![], vec![2, 3]),
            (vec![0, 2, 2], vec![1, 2]),
            (vec![1, 1, 1], vec![17]),
            (vec![2, 3, 5], vec![1, 24, 0, 3]),
            (vec![2, 30, 40], vec![8, 17]),
        ] {
            let tensors: Vec<Tensor<f32>> = widths
                .iter()
                .enumerate()
                .map(|(i, &width)| {
                    let dims = [outer.clone(), vec![width]].concat();
                    Rng::new(i as u64).tensor(Shape::new(&dims).unwrap())
                })
                .collect();
            let joined = concat_columns(&tensors.iter().collect::<Vec<_>>()).unwrap();
            let columns = widths.iter().sum::<usize>();
            assert_eq!(joined.shape().columns(), columns);
            for (i, &x) in joined.data().iter().enumerate() {
                let (row, mut c, mut t) = (i / columns, i % columns, 0);
                while c >= widths[t] {
                    c -= widths[t];
                    t += 1;
                }
                assert_eq!(x, tensors[t].data()[row * widths[t] + c]);
            }
            assert_eq!(split_columns(&joined, &widths).unwrap(), tensors);
        }
    }

    #[test]
    fn columns_are_put_where_they_belong() {
        let parts = [5, 0, 17].map(|width| Rng::new(width as u64).tensor::<f32>([2, 30, 40, width]));
        let mut whole = Tensor::zeros([2, 30, 40, 22]);
        for (first, part) in [0, 5, 5].into_iter().zip(&parts) {
            put_columns(&mut whole, first, part).unwrap();
        }
        assert_eq!(whole, concat_columns(&parts.each_ref()).unwrap());
        let error = put_columns(&mut whole, 6, &parts[2]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "put_columns: expected columns within the columns of [2, 30, 40, 22], got 6..6+17"
        );
        let error = put_columns(&mut whole, 0, &Tensor::zeros([2, 30, 41, 1])).unwrap_err();
        assert_eq!(error.to_string(), "put_columns: expected part of shape [2, 30, 40, C], got [2, 30, 41, 1]");
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let (a, b) = (Rng::new(1).tensor::<f32>([2, 40, 50, 19]), Rng::new(2).tensor([2, 40, 50, 8]));
        same_bits(|| {
            let joined = concat_columns(&[&a, &b]).unwrap();
            let mut parts = split_columns(&joined, &[10, 17]).unwrap();
            parts.push(joined);
            parts
        });
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let (a, b) = (Tensor::<f32>::zeros([2, 4, 3]), Tensor::zeros([2, 5, 3]));
        let error = concat_columns(&[&a, &b]).unwrap_err();
        assert_eq!(error.to_string(), "concat_columns: expected input of shape [2, 4, C], got [2, 5, 3]");
        let error = concat_columns(&[&a, &Tensor::zeros([4, 3])]).unwrap_err();
        assert_eq!(error.to_string(), "concat_columns: expected input of shape [2, 4, C], got [4, 3]");
        let error = concat_columns::<f32>(&[]).unwrap_err();
        assert_eq!(error.to_string(), "concat_columns: expected tensor count of at least 1, got 0");
        let error = split_columns(&a, &[1, 1]).unwrap_err();
        let expected = "split_columns: expected widths that add up to the columns of [2, 4, 3], got [1, 1]";
        assert_eq!(error.to_string(), expected);
        assert!(split_columns(&a, &[usize::MAX, 4]).is_err());
    }
}
