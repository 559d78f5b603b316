//! y = act(x · scale + shift + residual) in one pass: what an inference plan makes of normalisations that no convolution
//! absorbs, channel weights, residual sums, and the activations behind them.

use super::activation::Activation;
use super::pointwise::{load, store, stream};
use crate::simd::{self, Kernel, Simd};
use crate::{Element, Error, MAX_RANK, Result, Shape, Tensor, threads};

/// What is done to x; what is absent is left out.
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a, T: Element> {
    /// A factor for each channel, `[C]`, or for each image and channel, `[N, 1, …, 1, C]`.
    pub scale: Option<&'a Tensor<T>>,
    /// `[C]`
    pub shift: Option<&'a Tensor<T>>,
    /// Of y's shape.
    pub residual: Option<&'a Tensor<T>>,
    /// What comes last.
    pub activation: Option<Activation>,
}

/// y = act(x · scale + shift + residual) over the first `columns` columns of x `[N, …, W]`: `[N, …, columns]`.
///
/// Errors if x has fewer columns, or an operand has not its shape.
pub fn affine<T: Element>(x: &Tensor<T>, columns: usize, affine: Affine<'_, T>) -> Result<Tensor<T>> {
    Tensor::made(|y| affine_into(x, columns, affine, y))
}

/// As [`affine`], into `y`, which is [resized](Tensor::resize).
pub fn affine_into<T: Element>(x: &Tensor<T>, columns: usize, affine: Affine<'_, T>, y: &mut Tensor<T>) -> Result<()> {
    const OP: &str = "affine";
    let width = x.shape().columns();
    if x.shape().rank() == 0 || columns > width {
        return Err(Error::argument(OP, "columns", format!("of at most {}", x.shape()), columns));
    }
    let shape = x.shape().with_columns(columns);
    let check = |what: &'static str, tensor: Option<&Tensor<T>>, expected: Shape| match tensor {
        Some(tensor) if *tensor.shape() != expected => Err(Error::shape(OP, what, expected, tensor.shape())),
        _ => Ok(()),
    };
    let per_image = affine.scale.is_some_and(|scale| scale.shape().rank() > 1);
    check("scale", affine.scale, if per_image { per_image_shape(&shape)? } else { Shape::from([columns]) })?;
    check("shift", affine.shift, Shape::from([columns]))?;
    check("residual", affine.residual, shape)?;
    let y = y.resize(shape);
    if y.is_empty() {
        return Ok(());
    }
    // The rows that share a scale.
    let rows = y.len() / columns;
    let image = if per_image { rows / shape[0] } else { rows };
    let chunk = threads::rows_per_chunk(columns);
    threads::for_each_chunk(y, chunk * columns, |i, y| {
        simd::dispatch(Rows { affine: &affine, x: x.data(), width, columns, image, first: i * chunk, y });
    });
    Ok(())
}

/// `[N, 1, …, 1, C]`
fn per_image_shape(shape: &Shape) -> Result<Shape> {
    let last = shape.rank() - 1;
    let mut dims = [1; MAX_RANK];
    (dims[0], dims[last]) = (shape[0], shape[last]);
    Shape::new(&dims[..=last])
}

/// Whole rows of y, of which the first is row `first` of the tensor.
struct Rows<'a, T: Element> {
    affine: &'a Affine<'a, T>,
    x: &'a [T],
    width: usize,
    columns: usize,
    image: usize,
    first: usize,
    y: &'a mut [T],
}

impl<T: Element> Kernel<T> for Rows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Rows { affine: &Affine { scale, shift, residual, activation }, x, width, columns, image, first, y } = self;
        // Slices, which the loops need not ask for.
        let [scale, shift, residual] = [scale, shift, residual].map(|operand| operand.map(Tensor::data));
        for (r, y) in y.chunks_exact_mut(columns).enumerate() {
            let row = first + r;
            let x = &x[row * width..][..columns];
            let scale = scale.map(|scale| &scale[row / image * columns..][..columns]);
            let residual = residual.map(|residual| &residual[row * columns..][..columns]);
            for c in (0..columns).step_by(S::LANES) {
                let n = S::LANES.min(columns - c);
                simd.ask_ahead(y, c);
                let mut v = stream(simd, x, c, n);
                if let Some(scale) = scale {
                    v = simd.mul(v, load(simd, scale, c, n));
                }
                if let Some(shift) = shift {
                    v = simd.add(v, load(simd, shift, c, n));
                }
                if let Some(residual) = residual {
                    v = simd.add(v, stream(simd, residual, c, n));
                }
                if let Some(activation) = activation {
                    v = activation.activate(simd, v);
                }
                store(simd, v, y, c, n);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{Rng, on_every_isa, same_bits};
    use super::*;

    fn reference(x: &Tensor<f64>, columns: usize, affine: Affine<'_, f64>) -> Tensor<f64> {
        let shape = x.shape().with_columns(columns);
        let image = shape.len() / shape[0];
        Tensor::from_fn(shape, |i| {
            let (row, c) = (i / columns, i % columns);
            let mut y = x.data()[row * x.shape().columns() + c];
            if let Some(scale) = affine.scale {
                y *= scale.data()[if scale.shape().rank() > 1 { i / image * columns + c } else { c }];
            }
            y += affine.shift.map_or(0.0, |shift| shift.data()[c]);
            y += affine.residual.map_or(0.0, |residual| residual.data()[i]);
            if affine.activation == Some(Activation::Relu) { y.max(0.0) } else { y }
        })
    }

    proptest! {
        #[test]
        fn matches_the_reference(
            batch in 1..4usize,
            side in 1..5usize,
            columns in 1..40usize,
            wider in 0..20usize,
            has in prop::array::uniform4(any::<bool>()),
            per_image: bool,
        ) {
            let x = Rng::new(1).tensor::<f64>([batch, side, side, columns + wider]);
            let scale = if per_image { Shape::from([batch, 1, 1, columns]) } else { Shape::from([columns]) };
            let [scale, shift, residual] =
                [scale, Shape::from([columns]), x.shape().with_columns(columns)].map(|shape| Rng::new(2).tensor(shape));
            let activation = has[3].then_some(Activation::Relu);
            let expected = reference(&x, columns, Affine {
                scale: has[0].then_some(&scale),
                shift: has[1].then_some(&shift),
                residual: has[2].then_some(&residual),
                activation,
            });
            let [scale, shift, residual] = [scale, shift, residual].map(|x| x.cast::<f32>());
            on_every_isa(|| {
                let terms = Affine {
                    scale: has[0].then_some(&scale),
                    shift: has[1].then_some(&shift),
                    residual: has[2].then_some(&residual),
                    activation,
                };
                let y = affine(&x.cast(), columns, terms).unwrap();
                assert!(y.relative_error(&expected.cast()) < 1e-6);
            });
        }
    }

    const NOTHING: Affine<'static, f32> = Affine { scale: None, shift: None, residual: None, activation: None };

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let (x, scale) = (Rng::new(1).tensor::<f32>([2, 40, 50, 19]), Rng::new(2).tensor([2, 1, 1, 17]));
        same_bits(|| vec![affine(&x, 17, Affine { scale: Some(&scale), ..NOTHING }).unwrap()]);
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let (x, scale) = (Tensor::<f32>::zeros([2, 3, 3, 4]), Tensor::zeros([3, 1, 1, 4]));
        let error = affine(&x, 5, NOTHING).unwrap_err();
        assert_eq!(error.to_string(), "affine: expected columns of at most [2, 3, 3, 4], got 5");
        let error = affine(&x, 4, Affine { scale: Some(&scale), ..NOTHING }).unwrap_err();
        assert_eq!(error.to_string(), "affine: expected scale of shape [2, 1, 1, 4], got [3, 1, 1, 4]");
    }
}
