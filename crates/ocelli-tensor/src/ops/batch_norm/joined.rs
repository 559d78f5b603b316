//! Batch normalisation of tensors side by side, as DenseNet's layers need it, whose concatenation, as large as all that a
//! block has made so far, is never stored: a chunk of its rows at a time is joined where a cache holds it.

use super::backward::{Lines, parameter_gradients};
use super::gradient::{Gradient, Summed, Through};
use super::{Columns, GradientSums, Normalization, Normalize};
use crate::memory::{Buffer, Scratch};
use crate::ops::activation::Activation;
use crate::ops::columns::{add_in_order, chunk_sums, rounded, rows_per_chunk};
use crate::ops::concat::{join_rows, joined_shape, take_rows_apart};
use crate::{Element, Error, Result, Tensor, threads};

/// The gradients of [`batch_norm_joined`].
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNormJoinedGradients<T: Element> {
    /// Of the parts' shapes.
    pub dx: Vec<Tensor<T>>,
    /// `[C]`
    pub dgamma: Tensor<T>,
    /// `[C]`
    pub dbeta: Tensor<T>,
}

/// y = act(γ (x − mean) / √(var + eps) + β), x being `parts` `[…, C₁]`, `[…, C₂]`, … side by side, `[…, C]`.
///
/// Errors if there is no part, if parts differ in any dimension but the last, or if mean, var, γ or β is not `[C]`.
pub fn batch_norm_joined<T: Element>(
    parts: &[&Tensor<T>],
    normalization: Normalization<'_, T>,
    activation: Option<Activation>,
) -> Result<Tensor<T>> {
    const OP: &str = "batch_norm_joined";
    let shape = joined_shape(OP, parts.iter().map(|part| part.shape()))?;
    let columns = Columns::new(OP, &shape, normalization)?;
    let mut y = Tensor::scratch(shape);
    let (len, chunk) = (columns.len(), threads::rows_per_chunk(columns.len()));
    threads::for_each_chunk(y.data_mut(), chunk * len, |i, y| {
        let mut x = Scratch::new(y.len());
        join_rows(parts, i * chunk, len, &mut x);
        T::batch_norm_normalize(Normalize { columns: columns.lanes(), x: &x, residual: None, activation, y });
    });
    Ok(y)
}

/// The gradients of [`batch_norm_joined`] in training, through mean and variance, which must be those of the parts. A part
/// for which `onto` has another part of its gradient gets the sum. The operation behind it may have taken the gradient `dy`
/// back through the activation, then it gives the `sums` of that.
///
/// Errors as [`batch_norm_joined`], or if dy's shape is not y's, or there is not one item of `onto` for each part, of its
/// shape, or the sums are not those of y's columns.
pub fn batch_norm_joined_backward<T: Element>(
    parts: &[&Tensor<T>],
    normalization: Normalization<'_, T>,
    activation: Option<Activation>,
    dy: &Tensor<T>,
    sums: Option<GradientSums>,
    onto: Vec<Option<Tensor<T>>>,
) -> Result<BatchNormJoinedGradients<T>> {
    const OP: &str = "batch_norm_joined_backward";
    let shape = joined_shape(OP, parts.iter().map(|part| part.shape()))?;
    let columns = Columns::new(OP, &shape, normalization)?;
    if *dy.shape() != shape {
        return Err(Error::shape(OP, "dy", shape, dy.shape()));
    }
    if onto.len() != parts.len() {
        return Err(Error::argument(OP, "gradients", format!("one for each of {} parts", parts.len()), onto.len()));
    }
    for (part, onto) in parts.iter().zip(&onto) {
        if let Some(onto) = onto.as_ref().filter(|onto| onto.shape() != part.shape()) {
            return Err(Error::shape(OP, "gradient", part.shape(), onto.shape()));
        }
    }
    let (rows, len) = (shape.rows(), columns.len());
    let (sums, activation) = match sums {
        Some(sums) => (sums.of(OP, len)?, None),
        None => (column_sums(parts, &columns, activation, dy), activation),
    };
    let [dgamma, dbeta] = parameter_gradients(&columns, sums);
    let lines = Lines::new(&columns, rows, [&dgamma, &dbeta]);

    let adds: Vec<bool> = onto.iter().map(Option::is_some).collect();
    let dx = parts.iter().zip(onto).map(|(part, onto)| onto.unwrap_or_else(|| Tensor::scratch(part.shape())));
    let mut dx: Vec<Tensor<T>> = dx.collect();
    let chunk = threads::rows_per_chunk(len);
    // The same rows of all parts' gradients.
    let mut pieces: Vec<Vec<_>> = (0..rows.div_ceil(chunk)).map(|_| Vec::with_capacity(parts.len())).collect();
    for (dx, adds) in dx.iter_mut().zip(adds) {
        let width = dx.shape().columns();
        for (piece, dx) in pieces.iter_mut().zip(dx.data_mut().chunks_mut((chunk * width).max(1))) {
            piece.push((width, adds, dx));
        }
    }
    threads::for_each_chunk(&mut pieces, 1, |i, piece| {
        let part = i * chunk * len..((i + 1) * chunk * len).min(dy.len());
        let [mut x, mut joined] = [(); 2].map(|()| Scratch::new(part.len()));
        join_rows(parts, i * chunk, len, &mut x);
        let g = Gradient::new(columns.lanes(), &x, activation);
        let dy = Some(&dy.data()[part]);
        T::batch_norm_through(Through {
            g,
            dy,
            slope: &lines.slope,
            shift: &lines.shift,
            adds: false,
            dx: &mut joined,
        });
        take_rows_apart(&joined, len, &mut piece[0]);
    });
    drop(pieces);
    Ok(BatchNormJoinedGradients { dx, dgamma: rounded([len], &dgamma, 1.0), dbeta: rounded([len], &dbeta, 1.0) })
}

/// The column sums of g and g (x − mean).
fn column_sums<T: Element>(
    parts: &[&Tensor<T>],
    columns: &Columns<'_, T>,
    activation: Option<Activation>,
    dy: &Tensor<T>,
) -> Buffer<f64> {
    let (rows, len, chunk) = (dy.shape().rows(), columns.len(), rows_per_chunk(columns.len()));
    let mut chunks = Scratch::new(2 * len * rows.div_ceil(chunk));
    threads::for_each_chunk(&mut chunks, 2 * len, |i, sums| {
        let first = i * chunk;
        let n = chunk.min(rows - first);
        let mut x = Scratch::new(n * len);
        join_rows(parts, first, len, &mut x);
        let g = Gradient::new(columns.lanes(), &x, activation);
        chunk_sums(Summed { g, dy: &dy.data()[first * len..][..n * len] }, 0, n, len, sums);
    });
    let mut sums = Buffer::zeros(2 * len);
    add_in_order(&mut sums, &chunks);
    sums
}

#[cfg(test)]
mod tests {
    use super::super::{BatchNormGradients, Recompute, batch_norm_act, batch_norm_act_backward, batch_norm_stats};
    use super::*;
    use crate::Shape;
    use crate::ops::testing::{Rng, on_every_isa, same_bits};
    use crate::ops::{concat_columns, split_columns};

    const EPS: f64 = 1e-5;

    struct Case<T: Element> {
        parts: Vec<Tensor<T>>,
        stats: (Tensor<T>, Tensor<T>),
        gamma: Tensor<T>,
        beta: Tensor<T>,
        dy: Tensor<T>,
    }

    impl<T: Element> Case<T> {
        fn new(outer: [usize; 3], widths: &[usize]) -> Self {
            let mut rng = Rng::new(widths.iter().sum::<usize>() as u64);
            let [n, h, w] = outer;
            let parts: Vec<_> = widths.iter().map(|&c| rng.tensor([n, h, w, c])).collect();
            let columns = widths.iter().sum();
            let stats = batch_norm_stats(&concat_columns(&parts.iter().collect::<Vec<_>>()).unwrap()).unwrap();
            let (gamma, beta) = (rng.tensor([columns]), rng.tensor([columns]));
            Case { parts, stats, gamma, beta, dy: rng.tensor([n, h, w, columns]) }
        }

        fn parts(&self) -> Vec<&Tensor<T>> {
            self.parts.iter().collect()
        }

        fn normalization(&self) -> Normalization<'_, T> {
            let (mean, var) = &self.stats;
            Normalization { mean, var, gamma: &self.gamma, beta: &self.beta, eps: EPS }
        }
    }

    const ACTIVATIONS: [Option<Activation>; 3] = [None, Some(Activation::Relu), Some(Activation::Silu)];

    fn is_that_of_the_concatenation<T: Element>(outer: [usize; 3], widths: &[usize], bound: f64) {
        let case = Case::<T>::new(outer, widths);
        let x = concat_columns(&case.parts()).unwrap();
        for activation in ACTIVATIONS {
            let y = batch_norm_joined(&case.parts(), case.normalization(), activation).unwrap();
            assert_eq!(y, batch_norm_act(&x, case.normalization(), None, activation).unwrap());
            // Half of the parts have a gradient already.
            let earlier = |i: usize, part: &Tensor<T>| (i % 2 == 1).then(|| Rng::new(i as u64).tensor(part.shape()));
            let onto: Vec<Option<Tensor<T>>> = case.parts.iter().enumerate().map(|(i, x)| earlier(i, x)).collect();
            let got = batch_norm_joined_backward(
                &case.parts(),
                case.normalization(),
                activation,
                &case.dy,
                None,
                onto.clone(),
            )
            .unwrap();
            let expected = batch_norm_act_backward(
                &x,
                case.normalization(),
                activation,
                Recompute::Normalized,
                case.dy.clone(),
                None,
            );
            let BatchNormGradients { dx, dgamma, dbeta, .. } = expected.unwrap();
            assert!(got.dgamma.relative_error(&dgamma) < bound && got.dbeta.relative_error(&dbeta) < bound);
            for ((got, mut dx), onto) in got.dx.iter().zip(split_columns(&dx, widths).unwrap()).zip(onto) {
                dx.data_mut().iter_mut().zip(onto.iter().flat_map(Tensor::data)).for_each(|(dx, &x)| *dx += x);
                assert!(got.relative_error(&dx) < bound, "{widths:?} {activation:?}");
            }
        }
    }

    #[test]
    fn normalises_as_a_concatenation() {
        for (outer, widths) in [
            ([2, 3, 3], &[1][..]),
            ([1, 5, 7], &[3, 0, 17]),
            ([3, 20, 9], &[64, 32, 32, 5]),
            ([2, 31, 40], &[16, 1, 8]),
        ] {
            on_every_isa(|| {
                is_that_of_the_concatenation::<f32>(outer, widths, 1e-5);
                is_that_of_the_concatenation::<f64>(outer, widths, 1e-12);
            });
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let case = Case::<f32>::new([2, 40, 50], &[19, 32, 5]);
        same_bits(|| {
            let relu = Some(Activation::Relu);
            let y = batch_norm_joined(&case.parts(), case.normalization(), relu).unwrap();
            let onto = vec![None; 3];
            let gradients = batch_norm_joined_backward(&case.parts(), case.normalization(), relu, &case.dy, None, onto);
            let BatchNormJoinedGradients { mut dx, dgamma, dbeta } = gradients.unwrap();
            dx.extend([y, dgamma, dbeta]);
            dx
        });
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let case = Case::<f32>::new([2, 3, 3], &[4, 2]);
        let message = |onto: Vec<Option<Tensor<f32>>>, dy: Shape| {
            let dy = Tensor::zeros(dy);
            batch_norm_joined_backward(&case.parts(), case.normalization(), None, &dy, None, onto)
                .unwrap_err()
                .to_string()
        };
        let shape = Shape::from([2, 3, 3, 6]);
        assert_eq!(
            message(vec![None; 2], Shape::from([2, 3, 3, 5])),
            "batch_norm_joined_backward: expected dy of shape [2, 3, 3, 6], got [2, 3, 3, 5]"
        );
        assert_eq!(
            message(vec![None], shape),
            "batch_norm_joined_backward: expected gradients one for each of 2 parts, got 1"
        );
        assert_eq!(
            message(vec![Some(Tensor::zeros([2])), None], shape),
            "batch_norm_joined_backward: expected gradient of shape [2, 3, 3, 4], got [2]"
        );
        let other = Tensor::zeros([2, 3, 4, 2]);
        let error = batch_norm_joined(&[&case.parts[0], &other], case.normalization(), None).unwrap_err();
        assert_eq!(error.to_string(), "batch_norm_joined: expected input of shape [2, 3, 3, C], got [2, 3, 4, 2]");
        let error = batch_norm_joined(&case.parts()[..1], case.normalization(), None).unwrap_err();
        assert_eq!(error.to_string(), "batch_norm_joined: expected mean of shape [4], got [6]");
    }
}
