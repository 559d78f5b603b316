//! Sums and means over all elements, over rows, and onto the shape of a broadcast operand.

use super::broadcast::Broadcast;
use super::columns::{Products, Terms, Values, column_sums, grouped_sums, rounded, row_sums, total};
use crate::{Element, Error, Result, Shape, Tensor};

/// The sum of all elements, of shape `[]`.
pub fn sum_all<T: Element>(x: &Tensor<T>) -> Tensor<T> {
    Tensor::scalar(T::from_f64(total(Values(x.data()), x.len())))
}

/// The mean of all elements, of shape `[]`; NaN if there are none.
pub fn mean_all<T: Element>(x: &Tensor<T>) -> Tensor<T> {
    Tensor::scalar(T::from_f64(total(Values(x.data()), x.len()) / x.len() as f64))
}

/// The sum over all dimensions but the last: `[…, C]` to `[C]`. It is the gradient of a bias.
pub fn sum_rows<T: Element>(x: &Tensor<T>) -> Tensor<T> {
    let (rows, columns) = (x.shape().rows(), x.shape().columns());
    rounded([columns], &column_sums(Values(x.data()), rows, columns), 1.0)
}

/// Sums `dy` over the dimensions along which an operand of shape `shape` was broadcast: the gradient of
/// [`add`](super::add) by its second operand.
///
/// Errors if `shape` does not broadcast to `dy`'s.
pub fn sum_to_shape<T: Element>(dy: &Tensor<T>, shape: &Shape) -> Result<Tensor<T>> {
    let broadcast = broadcast_to("sum_to_shape", dy.shape(), shape)?;
    Ok(if dy.shape() == shape { dy.clone() } else { sum_onto(Values(dy.data()), broadcast, shape) })
}

/// Sums a · b over the dimensions along which an operand of shape `shape` was broadcast, without storing the product:
/// with a = dy and b = x, the gradient of [`mul`](super::mul)`(x, ·)` by its second operand.
///
/// Errors if the shapes of a and b differ or if `shape` does not broadcast to them.
pub fn sum_product_to_shape<T: Element>(a: &Tensor<T>, b: &Tensor<T>, shape: &Shape) -> Result<Tensor<T>> {
    const OP: &str = "sum_product_to_shape";
    if a.shape() != b.shape() {
        return Err(Error::shape(OP, "b", a.shape(), b.shape()));
    }
    let broadcast = broadcast_to(OP, a.shape(), shape)?;
    if a.shape() == shape { super::mul(a, b) } else { Ok(sum_onto(Products(a.data(), b.data()), broadcast, shape)) }
}

fn broadcast_to(op: &'static str, to: &Shape, shape: &Shape) -> Result<Broadcast> {
    Broadcast::new(to, shape).ok_or_else(|| Error::shape(op, "input", Broadcast::expected(shape), to))
}

fn sum_onto<T: Element>(f: impl Terms<T, 1>, broadcast: Broadcast, shape: &Shape) -> Tensor<T> {
    let Broadcast { outer, middle, columns, along_columns } = broadcast;
    let sums =
        if along_columns { row_sums(f, outer, middle * columns) } else { grouped_sums(f, outer, middle, columns) };
    rounded(shape, &sums, 1.0)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Rng, on_every_isa, same_bits};
    use super::super::{add, mul};
    use super::*;

    const SHAPES: [[usize; 2]; 9] =
        [[0, 3], [1, 1], [1, 17], [2, 3], [63, 24], [64, 8], [65, 17], [300, 33], [20_000, 5]];

    #[test]
    fn sums_match_reference() {
        for shape in SHAPES {
            let x = Rng::new(3).tensor::<f64>(shape);
            let mut rows = vec![0.0; shape[1]];
            x.data().iter().enumerate().for_each(|(i, x)| rows[i % shape[1]] += x);
            let rows = Tensor::from_vec([shape[1]], rows).unwrap();
            let all = Tensor::scalar(x.data().iter().sum::<f64>());
            on_every_isa(|| {
                assert!(sum_rows(&x).relative_error(&rows) < 1e-12, "{shape:?}");
                assert!(sum_all(&x).relative_error(&all) < 1e-12, "{shape:?}");
                let x = x.cast::<f32>();
                assert!(sum_rows(&x).relative_error(&rows.cast()) < 2e-6, "{shape:?}");
                let scale = x.len().max(1) as f32;
                assert!((sum_all(&x).data()[0] - all.data()[0] as f32).abs() < 1e-7 * scale, "{shape:?}");
                let mean = mean_all(&x).data()[0];
                assert!(x.is_empty() && mean.is_nan() || mean == (sum_all(&x).data()[0] / scale), "{shape:?}");
            });
        }
    }

    #[test]
    fn sums_of_long_rows_match_reference() {
        for shape in [[7, 100], [67, 300], [5, 1031]] {
            let x = Rng::new(4).tensor::<f64>(shape);
            let rows = Tensor::from_fn([shape[1]], |c| (0..shape[0]).map(|r| x.data()[r * shape[1] + c]).sum::<f64>());
            on_every_isa(|| {
                assert!(sum_rows(&x).relative_error(&rows) < 1e-12, "{shape:?}");
                assert!(sum_rows(&x.cast::<f32>()).relative_error(&rows.cast()) < 2e-6, "{shape:?}");
            });
        }
    }

    #[test]
    fn long_sums_stay_exact() {
        // One after the other in f32, these would stop growing at 2²⁴.
        let x = Tensor::full([20_000_000, 1], 1.0f32);
        assert_eq!(sum_rows(&x).data(), [2e7]);
        assert_eq!(sum_all(&x).data(), [2e7]);
    }

    #[test]
    fn sums_onto_a_shape_are_adjoint_to_its_broadcast() {
        let x = Rng::new(8).tensor::<f64>([3, 5, 7, 19]);
        let dy = Rng::new(9).tensor::<f64>([3, 5, 7, 19]);
        let shapes: [&[usize]; 8] =
            [&[3, 5, 7, 19], &[19], &[3, 1, 1, 19], &[3, 5, 7, 1], &[1, 1, 1, 19], &[3, 1, 1, 1], &[], &[1]];
        let zeros = Tensor::zeros([3, 5, 7, 19]);
        for dims in shapes {
            let b = Rng::new(10).tensor::<f64>(Shape::new(dims).unwrap());
            let dot = |a: &Tensor<f64>, b: &Tensor<f64>| super::super::testing::dot(a, b);
            on_every_isa(|| {
                let sum = sum_to_shape(&dy, b.shape()).unwrap();
                assert!((dot(&add(&zeros, &b).unwrap(), &dy) - dot(&b, &sum)).abs() < 1e-10, "{dims:?}");
                let sum = sum_product_to_shape(&dy, &x, b.shape()).unwrap();
                assert!((dot(&mul(&x, &b).unwrap(), &dy) - dot(&b, &sum)).abs() < 1e-10, "{dims:?}");
                let single = sum_product_to_shape(&dy.cast::<f32>(), &x.cast(), b.shape()).unwrap();
                assert!(single.relative_error(&sum.cast()) < 5e-6, "{dims:?}");
            });
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let x = Rng::new(7).tensor::<f32>([4, 40, 50, 19]);
        let (channel, pixel) = (Shape::from([4, 1, 1, 19]), Shape::from([4, 40, 50, 1]));
        same_bits(|| {
            let onto = |shape| sum_to_shape(&x, shape).unwrap();
            vec![sum_all(&x), sum_rows(&x), onto(&channel), onto(&pixel)]
        });
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let x = Tensor::<f32>::zeros([2, 3, 4, 5]);
        let error = sum_to_shape(&x, &Shape::from([4])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sum_to_shape: expected input of shape one that [4] broadcasts to, got [2, 3, 4, 5]"
        );
        let error = sum_product_to_shape(&x, &Tensor::zeros([5]), &Shape::from([5])).unwrap_err();
        assert_eq!(error.to_string(), "sum_product_to_shape: expected b of shape [2, 3, 4, 5], got [5]");
    }
}
