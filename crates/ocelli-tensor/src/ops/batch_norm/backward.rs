//! Gradients of batch normalisation. With g = dy · act′ the gradient by the activation's input, and m rows:
//!
//! dβ = Σ g, dγ = Σ g x̂, d residual = g, and
//! dx = γ / √(var + eps) · (g − dβ / m − x̂ dγ / m) through mean and variance, or γ / √(var + eps) · g if they are
//! constants.
//!
//! In training these are two passes: one over x and dy for the column sums, one over them for dx. x̂ and the
//! activation's input are recomputed from x in registers.

use super::gradient::{Activated, Gradient, Saved, Scaled, Store, Summed, Through};
use super::{Columns, GradientSums, Normalization, check_shape};
use crate::memory::Buffer;
use crate::ops::activation::Activation;
use crate::ops::columns::{add_in_order, chunk_sums, rounded, rows_per_chunk};
use crate::{Element, Error, Result, Tensor, threads};

/// The gradients of [`batch_norm_act`](super::batch_norm_act).
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNormGradients<T: Element> {
    /// Of x's shape.
    pub dx: Tensor<T>,
    /// `[C]`
    pub dgamma: Tensor<T>,
    /// `[C]`
    pub dbeta: Tensor<T>,
    /// Of x's shape, if a residual was added.
    pub dresidual: Option<Tensor<T>>,
}

/// What the backward of a normalisation with an activation knows the activation's input from, besides x.
#[derive(Debug, Clone, Copy)]
pub enum Recompute<'a, T: Element> {
    /// Nothing: there was no residual.
    Normalized,
    /// The residual that was added.
    Residual(&'a Tensor<T>),
    /// The output y, for activations whose gradient [reads it](Activation::saves_output); a residual was added.
    Output(&'a Tensor<T>),
}

impl<'a, T: Element> Recompute<'a, T> {
    pub(super) fn tensor(self) -> Option<(&'static str, &'a Tensor<T>)> {
        match self {
            Recompute::Normalized => None,
            Recompute::Residual(residual) => Some(("residual", residual)),
            Recompute::Output(y) => Some(("output", y)),
        }
    }
}

/// The gradients (dx, dγ, dβ) of [`batch_norm`](super::batch_norm) in training, through mean and variance, which must
/// be those of x ([`batch_norm_stats`](super::batch_norm_stats)).
///
/// Errors if dy's shape is not x's or one of mean, var and γ is not `[C]`.
pub fn batch_norm_backward<T: Element>(
    x: &Tensor<T>,
    mean: &Tensor<T>,
    var: &Tensor<T>,
    gamma: &Tensor<T>,
    eps: f64,
    dy: &Tensor<T>,
) -> Result<(Tensor<T>, Tensor<T>, Tensor<T>)> {
    const OP: &str = "batch_norm_backward";
    // Without an activation β plays no part.
    let columns = Columns::new(OP, x.shape(), Normalization { mean, var, gamma, beta: gamma, eps })?;
    check_shape(OP, "dy", x, dy)?;
    let g = Gradient::new(columns.lanes(), x.data(), None);
    let [dgamma, dbeta] = parameter_gradients(&columns, g.sums(dy));
    let dx = through_statistics(&columns, g, dy.clone(), None, [&dgamma, &dbeta]);
    Ok((dx, rounded([columns.len()], &dgamma, 1.0), rounded([columns.len()], &dbeta, 1.0)))
}

/// The gradients (dx, dγ, dβ) of [`batch_norm`](super::batch_norm) with constant mean and variance.
///
/// Errors if dy's shape is not x's or one of mean, var and γ is not `[C]`.
pub fn batch_norm_backward_frozen<T: Element>(
    x: &Tensor<T>,
    mean: &Tensor<T>,
    var: &Tensor<T>,
    gamma: &Tensor<T>,
    eps: f64,
    dy: &Tensor<T>,
) -> Result<(Tensor<T>, Tensor<T>, Tensor<T>)> {
    const OP: &str = "batch_norm_backward_frozen";
    let columns = Columns::new(OP, x.shape(), Normalization { mean, var, gamma, beta: gamma, eps })?;
    check_shape(OP, "dy", x, dy)?;
    let g = Gradient::new(columns.lanes(), x.data(), None);
    let (len, chunk) = (columns.len(), rows_per_chunk(columns.len()) * columns.len());
    let mut dx = Tensor::scratch(x.shape());
    let sums = sums_beside(len, &mut dx, |i, dx, sums| {
        let part = i * chunk..i * chunk + dx.len();
        let (g, dy) = (g.part(part.clone()), &dy.data()[part]);
        T::batch_norm_scaled(Scaled { columns: columns.lanes(), dy, dx });
        chunk_sums(Summed { g, dy }, 0, dx.len() / len, len, sums);
    });
    let [dgamma, dbeta] = parameter_gradients(&columns, sums);
    Ok((dx, rounded([columns.len()], &dgamma, 1.0), rounded([columns.len()], &dbeta, 1.0)))
}

/// The gradients of [`batch_norm_act`](super::batch_norm_act) in training, through mean and variance, which must be
/// those of x. Nothing normalised is kept for it: x̂ is recomputed from x, and the activation's input from x and what
/// `recompute` names. dx is written over dy where nobody else holds that, or added to `onto`, another part of x's gradient.
///
/// Errors if a shape is not x's or a vector not `[C]`, or if the output is given for an activation whose gradient does
/// not read it.
pub fn batch_norm_act_backward<T: Element>(
    x: &Tensor<T>,
    normalization: Normalization<'_, T>,
    activation: Option<Activation>,
    recompute: Recompute<'_, T>,
    dy: Tensor<T>,
    onto: Option<Tensor<T>>,
) -> Result<BatchNormGradients<T>> {
    const OP: &str = "batch_norm_act_backward";
    let columns = Columns::new(OP, x.shape(), normalization)?;
    check_shape(OP, "dy", x, &dy)?;
    onto.iter().try_for_each(|onto| check_shape(OP, "gradient", x, onto))?;
    let joined = recompute.tensor();
    if let Some((what, tensor)) = joined {
        check_shape(OP, what, x, tensor)?;
    }
    if let (Recompute::Output(_), Some(activation)) = (recompute, activation)
        && !activation.saves_output()
    {
        return Err(Error::argument(
            OP,
            "activation",
            "one whose gradient reads its output",
            format!("{activation:?}"),
        ));
    }
    let activated = activation.map(|activation| Activated { activation, recompute: Saved::new(recompute) });
    let g = Gradient { columns: columns.lanes(), x: x.data(), activation: activated };
    let len = columns.len();
    // What is a residual's gradient too is stored, and what takes long: it need not be computed again.
    let stores = activation.is_some_and(|activation| joined.is_some() || activation.is_curve());
    let (sums, dy) = if stores { stored_gradient(g, dy) } else { (g.sums(&dy), dy) };
    let dresidual = joined.map(|_| dy.clone());
    let [dgamma, dbeta] = parameter_gradients(&columns, sums);
    let activation = g.activation.filter(|_| !stores);
    let dx = through_statistics(&columns, Gradient { activation, ..g }, dy, onto, [&dgamma, &dbeta]);
    Ok(BatchNormGradients { dx, dgamma: rounded([len], &dgamma, 1.0), dbeta: rounded([len], &dbeta, 1.0), dresidual })
}

/// As [`batch_norm_act_backward`], from the gradient `g` by what the activation was applied to, and its sums, which the
/// operation behind it has taken. (It is the residual's gradient too.)
///
/// Errors if g's shape is not x's, or a vector or the sums are not those of x's columns.
pub fn batch_norm_gated_backward<T: Element>(
    x: &Tensor<T>,
    normalization: Normalization<'_, T>,
    g: Tensor<T>,
    sums: GradientSums,
    onto: Option<Tensor<T>>,
) -> Result<BatchNormGradients<T>> {
    const OP: &str = "batch_norm_gated_backward";
    let columns = Columns::new(OP, x.shape(), normalization)?;
    check_shape(OP, "gradient", x, &g)?;
    onto.iter().try_for_each(|onto| check_shape(OP, "gradient", x, onto))?;
    let len = columns.len();
    let [dgamma, dbeta] = parameter_gradients(&columns, sums.of(OP, len)?);
    let gradient = Gradient::new(columns.lanes(), x.data(), None);
    let dx = through_statistics(&columns, gradient, g, onto, [&dgamma, &dbeta]);
    let [dgamma, dbeta] = [dgamma, dbeta].map(|sums| rounded([len], &sums, 1.0));
    Ok(BatchNormGradients { dx, dgamma, dbeta, dresidual: None })
}

/// g, in dy's buffer if it is not shared, and the column sums of g and g (x − mean), which are taken while a chunk's g
/// is at hand.
fn stored_gradient<T: Element>(g: Gradient<'_, T>, dy: Tensor<T>) -> (Buffer<f64>, Tensor<T>) {
    let len = g.columns.len();
    let chunk = rows_per_chunk(len) * len;
    let (mut out, dy) = in_place(dy);
    let sums = sums_beside(len, &mut out, |i, out, sums| {
        let part = i * chunk..i * chunk + out.len();
        let g = g.part(part.clone());
        T::batch_norm_store(Store { g, dy: dy.as_ref().map(|dy| &dy.data()[part]), out });
        let summed = Summed { g: Gradient { activation: None, ..g }, dy: out };
        chunk_sums(summed, 0, out.len() / len, len, sums);
    });
    (sums, out)
}

/// A tensor to be written over dy element by element: dy itself, or, if others hold it too, a new one and dy.
fn in_place<T: Element>(dy: Tensor<T>) -> (Tensor<T>, Option<Tensor<T>>) {
    if dy.is_unique() { (dy, None) } else { (Tensor::scratch(dy.shape()), Some(dy)) }
}

/// The column sums, two of each of `len` columns, that `write` takes of every chunk of rows while it fills these rows of
/// `out`, so that what both read comes from memory once.
fn sums_beside<T: Element>(
    len: usize,
    out: &mut Tensor<T>,
    write: impl Fn(usize, &mut [T], &mut [f64]) + Send + Sync,
) -> Buffer<f64> {
    let chunk = rows_per_chunk(len);
    let mut parts = Buffer::scratch(2 * len * out.shape().rows().div_ceil(chunk));
    threads::for_each_chunk2((out.data_mut(), chunk * len), (&mut parts, 2 * len), write);
    let mut sums = Buffer::zeros(2 * len);
    add_in_order(&mut sums, &parts);
    sums
}

/// (dγ, dβ) from the sums of g and g (x − mean).
pub(super) fn parameter_gradients<T: Element>(columns: &Columns<'_, T>, sums: Buffer<f64>) -> [Buffer<f64>; 2] {
    let len = columns.len();
    let dgamma = Buffer::from_fn(len, |c| sums[len + c] * columns.inverse[c]);
    [dgamma, Buffer::from_fn(len, |c| sums[c])]
}

/// dx = scale · g + (slope · (x − mean) + shift), in dy's buffer if it is not shared, or added to `onto`.
fn through_statistics<T: Element>(
    columns: &Columns<'_, T>,
    g: Gradient<'_, T>,
    dy: Tensor<T>,
    onto: Option<Tensor<T>>,
    sums: [&[f64]; 2],
) -> Tensor<T> {
    let len = columns.len();
    let lines = Lines::new(columns, dy.shape().rows(), sums);
    let adds = onto.is_some();
    let (mut dx, dy) = match onto {
        Some(onto) => (onto, Some(dy)),
        None => in_place(dy),
    };
    let chunk = threads::rows_per_chunk(len) * len;
    threads::for_each_chunk(dx.data_mut(), chunk, |i, dx| {
        let part = i * chunk..i * chunk + dx.len();
        let (g, dy) = (g.part(part.clone()), dy.as_ref().map(|dy| &dy.data()[part]));
        T::batch_norm_through(Through { g, dy, slope: &lines.slope, shift: &lines.shift, adds, dx });
    });
    dx
}

/// What mean and variance add to dx, a line over x − mean for every column.
pub(super) struct Lines<T> {
    pub slope: Buffer<T>,
    pub shift: Buffer<T>,
}

impl<T: Element> Lines<T> {
    /// From dγ and dβ, which are sums over so many rows.
    pub fn new(columns: &Columns<'_, T>, rows: usize, [dgamma, dbeta]: [&[f64]; 2]) -> Self {
        let Columns { gamma, inverse, .. } = columns;
        let scale = |c: usize| gamma[c].to_f64() * inverse[c];
        let slope = |c: usize| T::from_f64(-scale(c) * inverse[c] * dgamma[c] / rows as f64);
        let shift = |c: usize| T::from_f64(-scale(c) * dbeta[c] / rows as f64);
        Lines { slope: Buffer::from_fn(columns.len(), slope), shift: Buffer::from_fn(columns.len(), shift) }
    }
}
