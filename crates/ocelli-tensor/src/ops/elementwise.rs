//! Sums and products of elements, with broadcasting of the second operand, and multiples.
//!
//! For x of shape `[N, H, W, C]`, the second operand may be of the same shape, `[C]` (a value a channel), `[N, 1, 1, C]`
//! (one an image and channel, as squeeze and excitation has), `[N, H, W, 1]` (one a pixel), `[N, 1, 1, 1]` (one an
//! image, as stochastic depth has) or a single element. Gradients: of `add` by b,
//! [`sum_to_shape`](super::sum_to_shape)`(dy, b.shape())`; of `mul` by a, `mul(dy, b)`, and by b,
//! [`sum_product_to_shape`](super::sum_product_to_shape)`(dy, a, b.shape())`.

use super::broadcast::Broadcast;
use super::pointwise::{self, Binary, Unary, Update, Zip, load, store};
use crate::simd::{self, Kernel, Simd};
use crate::{Element, Error, Result, Tensor, threads};

/// a + b, with b repeated to a's shape.
///
/// Errors if b's shape does not broadcast to a's.
pub fn add<T: Element>(a: &Tensor<T>, b: &Tensor<T>) -> Result<Tensor<T>> {
    Tensor::made(|y| add_into(a, b, y))
}

/// As [`add`], into `y`, which is [resized](Tensor::resize).
pub fn add_into<T: Element>(a: &Tensor<T>, b: &Tensor<T>, y: &mut Tensor<T>) -> Result<()> {
    broadcast("add", a, b, Sum, y)
}

/// a · b, element by element, with b repeated to a's shape.
///
/// Errors if b's shape does not broadcast to a's.
pub fn mul<T: Element>(a: &Tensor<T>, b: &Tensor<T>) -> Result<Tensor<T>> {
    Tensor::made(|y| mul_into(a, b, y))
}

/// As [`mul`], into `y`, which is [resized](Tensor::resize).
pub fn mul_into<T: Element>(a: &Tensor<T>, b: &Tensor<T>, y: &mut Tensor<T>) -> Result<()> {
    broadcast("mul", a, b, Product, y)
}

/// a += b for tensors of one shape: how gradients are accumulated.
///
/// Errors if the shapes differ.
pub fn add_assign<T: Element>(a: &mut Tensor<T>, b: &Tensor<T>) -> Result<()> {
    if a.shape() != b.shape() {
        return Err(Error::shape("add_assign", "b", a.shape(), b.shape()));
    }
    pointwise::zip_in_place(a, b, Sum);
    Ok(())
}

/// Adds parts, each of `out`'s length, to it, in their order.
pub(crate) fn add_parts<T: Element>(out: &mut [T], parts: &[T]) {
    let (size, chunk) = (out.len(), threads::rows_per_chunk(1));
    if parts.is_empty() {
        return;
    }
    threads::for_each_chunk(out, chunk, |i, out| {
        for part in parts.chunks_exact(size) {
            add_slice(out, &part[i * chunk..][..out.len()]);
        }
    });
}

/// a += b for slices of one length, on this thread.
fn add_slice<T: Element>(a: &mut [T], b: &[T]) {
    simd::dispatch(Update { f: Sum, a, b });
}

/// Every element times `factor`.
pub fn scale<T: Element>(x: &Tensor<T>, factor: T) -> Tensor<T> {
    pointwise::map(x, Multiple(factor))
}

#[derive(Clone, Copy)]
struct Sum;

impl<T: Element> Binary<T> for Sum {
    #[inline(always)]
    fn apply<S: Simd<T>>(self, simd: S, a: S::V, b: S::V) -> S::V {
        simd.add(a, b)
    }
}

#[derive(Clone, Copy)]
struct Product;

impl<T: Element> Binary<T> for Product {
    #[inline(always)]
    fn apply<S: Simd<T>>(self, simd: S, a: S::V, b: S::V) -> S::V {
        simd.mul(a, b)
    }
}

#[derive(Clone, Copy)]
struct Multiple<T>(T);

impl<T: Element> Unary<T> for Multiple<T> {
    #[inline(always)]
    fn apply<S: Simd<T>>(self, simd: S, x: S::V) -> S::V {
        simd.mul(x, simd.splat(self.0))
    }
}

fn broadcast<T: Element>(
    op: &'static str,
    a: &Tensor<T>,
    b: &Tensor<T>,
    f: impl Binary<T>,
    y: &mut Tensor<T>,
) -> Result<()> {
    if a.shape() == b.shape() {
        pointwise::zip_into(a, b, f, y);
        return Ok(());
    }
    let form = Broadcast::new(a.shape(), b.shape())
        .ok_or_else(|| Error::shape(op, "b", format!("one that broadcasts to {}", a.shape()), b.shape()))?;
    let y = y.resize(a.shape());
    if y.is_empty() {
        return Ok(());
    }
    let chunk = threads::rows_per_chunk(form.columns);
    let (a, b) = (a.data(), b.data());
    threads::for_each_chunk(y, chunk * form.columns, |i, y| {
        let start = i * chunk * form.columns;
        simd::dispatch(Repeat { f, form, first: i * chunk, a: &a[start..start + y.len()], b, y });
    });
    Ok(())
}

/// Whole rows of y, of which the first is row `first` of the tensor.
struct Repeat<'a, T, F> {
    f: F,
    form: Broadcast,
    first: usize,
    a: &'a [T],
    b: &'a [T],
    y: &'a mut [T],
}

impl<T: Element, F: Binary<T>> Kernel<T> for Repeat<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Repeat { f, form: Broadcast { middle, columns, along_columns, .. }, first, a, b, y } = self;
        for r in 0..y.len() / columns {
            let row = r * columns..(r + 1) * columns;
            let (outer, a, y) = ((first + r) / middle, &a[row.clone()], &mut y[row]);
            if along_columns {
                let b = simd.splat(b[outer]);
                for c in (0..columns).step_by(S::LANES) {
                    let n = S::LANES.min(columns - c);
                    store(simd, f.apply(simd, load(simd, a, c, n), b), y, c, n);
                }
            } else {
                let b = &b[outer * columns..(outer + 1) * columns];
                Zip { f, a, b, y }.run(simd);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Rng, on_every_isa, same_bits};
    use super::*;
    use crate::Shape;

    /// b's element for every element of `[N, H, W, C]`, by index arithmetic on b's dimensions.
    fn repeated(b: &Tensor<f64>, [n, h, w, c]: [usize; 4]) -> Tensor<f64> {
        let mut dims = [1; 4];
        dims[4 - b.shape().rank()..].copy_from_slice(b.shape());
        Tensor::from_fn([n, h, w, c], |i| {
            let index = [i / c / w / h, i / c / w % h, i / c % w, i % c];
            let at = index.iter().zip(dims).fold(0, |at, (i, d)| at * d + i % d);
            b.data()[at]
        })
    }

    #[test]
    fn broadcasts_match_reference() {
        for large in [[2, 3, 4, 1], [1, 3, 5, 17], [3, 2, 2, 24], [0, 2, 2, 3], [2, 40, 30, 16]] {
            let [n, h, w, c] = large;
            let a = Rng::new(1).tensor::<f64>(large);
            let smalls: [&[usize]; 7] = [&large, &[c], &[n, 1, 1, c], &[n, h, w, 1], &[n, 1, 1, 1], &[1, 1, 1, c], &[]];
            for small in smalls {
                let b = Rng::new(2).tensor::<f64>(Shape::new(small).unwrap());
                let r = repeated(&b, large);
                let by_element = |f: fn(f64, f64) -> f64| Tensor::from_fn(large, |i| f(a.data()[i], r.data()[i]));
                let (sum, product) = (by_element(|a, b| a + b), by_element(|a, b| a * b));
                on_every_isa(|| {
                    assert_eq!(add(&a, &b).unwrap(), sum, "{small:?}");
                    assert_eq!(mul(&a, &b).unwrap(), product, "{small:?}");
                    let (a, b) = (a.cast::<f32>(), b.cast());
                    assert!(add(&a, &b).unwrap().relative_error(&sum.cast()) < 1e-7, "{small:?}");
                    assert!(mul(&a, &b).unwrap().relative_error(&product.cast()) < 1e-7, "{small:?}");
                });
            }
        }
    }

    #[test]
    fn in_place_sums_and_multiples() {
        for n in [0, 1, 17, 40_000] {
            let (mut a, b) = (Rng::new(1).tensor::<f32>([n]), Rng::new(2).tensor::<f32>([n]));
            let sum = add(&a, &b).unwrap();
            let shared = a.clone();
            add_assign(&mut a, &b).unwrap();
            assert_eq!(a, sum);
            assert_eq!(shared, Rng::new(1).tensor([n]));
            on_every_isa(|| assert_eq!(scale(&b, 3.0), b.map(|x| 3.0 * x)));
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let a = Rng::new(7).tensor::<f32>([3, 40, 50, 19]);
        let b = Rng::new(8).tensor::<f32>([3, 1, 1, 19]);
        same_bits(|| vec![add(&a, &a).unwrap(), mul(&a, &b).unwrap(), scale(&a, 0.3)]);
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let a = Tensor::<f32>::zeros([2, 3, 4, 5]);
        let error = add(&a, &Tensor::zeros([2, 5])).unwrap_err();
        assert_eq!(error.to_string(), "add: expected b of shape one that broadcasts to [2, 3, 4, 5], got [2, 5]");
        let error = mul(&Tensor::zeros([5]), &a).unwrap_err();
        assert_eq!(error.to_string(), "mul: expected b of shape one that broadcasts to [5], got [2, 3, 4, 5]");
        let error = add_assign(&mut Tensor::zeros([5]), &a).unwrap_err();
        assert_eq!(error.to_string(), "add_assign: expected b of shape [5], got [2, 3, 4, 5]");
    }
}
