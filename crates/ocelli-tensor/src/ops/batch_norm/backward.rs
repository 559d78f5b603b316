//! Gradients of batch normalisation. With g = dy · act′ the gradient by the activation's input, and m rows:
//!
//! dβ = Σ g, dγ = Σ g x̂, d residual = g, and
//! dx = γ / √(var + eps) · (g − dβ / m − x̂ dγ / m) through mean and variance, or γ / √(var + eps) · g if they are
//! constants.
//!
//! In training these are two passes: one over x and dy for the column sums, one over them for dx. x̂ and the
//! activation's input are recomputed from x in registers.

use std::ops::Range;

use super::{Columns, Lanes, Normalization, check_shape};
use crate::memory::Buffer;
use crate::ops::activation::Activation;
use crate::ops::columns::{Terms, add_in_order, chunk_sums, column_sums, rounded, rows_per_chunk};
use crate::ops::pointwise::{load, store, stream};
use crate::simd::{Kernel, Simd};
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
    fn tensor(self) -> Option<(&'static str, &'a Tensor<T>)> {
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
    let (sums, dy, dresidual) = match (joined, activation) {
        (None, _) => (g.sums(&dy), dy, None),
        (Some(_), None) => (g.sums(&dy), dy.clone(), Some(dy)),
        (Some(_), Some(_)) => {
            let (sums, dresidual) = residual_gradient(g, dy);
            (sums, dresidual.clone(), Some(dresidual))
        }
    };
    let [dgamma, dbeta] = parameter_gradients(&columns, sums);
    // What was stored as the residual's gradient need not be computed again.
    let activation = g.activation.filter(|_| dresidual.is_none());
    let dx = through_statistics(&columns, Gradient { activation, ..g }, dy, onto, [&dgamma, &dbeta]);
    Ok(BatchNormGradients { dx, dgamma: rounded([len], &dgamma, 1.0), dbeta: rounded([len], &dbeta, 1.0), dresidual })
}

/// g, in dy's buffer if it is not shared, and the column sums of g and g (x − mean), which are taken while a chunk's g
/// is at hand.
fn residual_gradient<T: Element>(g: Gradient<'_, T>, dy: Tensor<T>) -> (Buffer<f64>, Tensor<T>) {
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

/// g = dy · act′, computed where it is needed.
#[derive(Clone, Copy)]
pub(super) struct Gradient<'a, T: Element> {
    columns: Lanes<'a, T>,
    x: &'a [T],
    activation: Option<Activated<'a, T>>,
}

#[derive(Clone, Copy)]
struct Activated<'a, T> {
    activation: Activation,
    recompute: Saved<'a, T>,
}

/// The elements of a [`Recompute`].
#[derive(Clone, Copy)]
enum Saved<'a, T> {
    Normalized,
    Residual(&'a [T]),
    Output(&'a [T]),
}

impl<'a, T: Element> Saved<'a, T> {
    fn new(recompute: Recompute<'a, T>) -> Self {
        match recompute {
            Recompute::Normalized => Saved::Normalized,
            Recompute::Residual(residual) => Saved::Residual(residual.data()),
            Recompute::Output(y) => Saved::Output(y.data()),
        }
    }
}

impl<'a, T: Element> Saved<'a, T> {
    fn part(self, part: Range<usize>) -> Self {
        match self {
            Saved::Normalized => Saved::Normalized,
            Saved::Residual(residual) => Saved::Residual(&residual[part]),
            Saved::Output(y) => Saved::Output(&y[part]),
        }
    }
}

impl<'a, T: Element> Gradient<'a, T> {
    /// Of rows x to which no residual was added.
    pub(super) fn new(columns: Lanes<'a, T>, x: &'a [T], activation: Option<Activation>) -> Self {
        let activated = |activation| Activated { activation, recompute: Saved::Normalized };
        Gradient { columns, x, activation: activation.map(activated) }
    }

    /// For these elements, which are whole rows.
    fn part(self, part: Range<usize>) -> Self {
        let activation = self.activation.map(|Activated { activation, recompute }| Activated {
            activation,
            recompute: recompute.part(part.clone()),
        });
        Gradient { x: &self.x[part], activation, ..self }
    }

    /// The column sums of g and g (x − mean).
    fn sums(self, dy: &Tensor<T>) -> Buffer<f64> {
        column_sums(Summed { g: self, dy: dy.data() }, dy.shape().rows(), self.columns.len())
    }

    /// g and x − mean of `n` elements from `at` on, in column `c` and the following, from dy.
    #[inline(always)]
    fn at<S: Simd<T>>(&self, simd: S, dy: S::V, at: usize, c: usize, n: usize) -> (S::V, S::V) {
        let centred = self.columns.centre(simd, stream(simd, self.x, at, n), c, n);
        let Some(Activated { activation, recompute }) = self.activation else {
            return (dy, centred);
        };
        let saved = match recompute {
            Saved::Output(y) => stream(simd, y, at, n),
            Saved::Normalized | Saved::Residual(_) => {
                let mut v = self.columns.transform(simd, centred, c, n);
                if let Saved::Residual(residual) = recompute {
                    v = simd.add(v, stream(simd, residual, at, n));
                }
                if activation.saves_output() { activation.activate(simd, v) } else { v }
            }
        };
        (activation.differentiate(simd, saved, dy), centred)
    }
}

/// g and g (x − mean). The lanes behind the last column are 0, as those of dy are.
#[derive(Clone, Copy)]
pub(super) struct Summed<'a, T: Element> {
    pub g: Gradient<'a, T>,
    pub dy: &'a [T],
}

impl<T: Element> Terms<T, 2> for Summed<'_, T> {
    #[inline(always)]
    fn terms<S: Simd<T>>(self, simd: S, at: usize, column: usize, n: usize) -> [S::V; 2] {
        let (g, centred) = self.g.at(simd, stream(simd, self.dy, at, n), at, column, n);
        [g, simd.mul(g, centred)]
    }
}

/// out = g for whole rows. Without a dy, `out` holds it.
pub struct Store<'a, T: Element> {
    g: Gradient<'a, T>,
    dy: Option<&'a [T]>,
    out: &'a mut [T],
}

impl<T: Element> Kernel<T> for Store<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Store { g, dy, out } = self;
        let columns = g.columns.len();
        for start in (0..out.len()).step_by(columns) {
            for c in (0..columns).step_by(S::LANES) {
                let (at, n) = (start + c, S::LANES.min(columns - c));
                simd.ask_ahead(out, at);
                let dy = stream(simd, dy.unwrap_or(out), at, n);
                store(simd, g.at(simd, dy, at, c, n).0, out, at, n);
            }
        }
    }
}

/// dx = scale · dy for whole rows.
pub struct Scaled<'a, T: Element> {
    columns: Lanes<'a, T>,
    dy: &'a [T],
    dx: &'a mut [T],
}

impl<T: Element> Kernel<T> for Scaled<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Scaled { columns, dy, dx } = self;
        for start in (0..dx.len()).step_by(columns.len()) {
            for c in (0..columns.len()).step_by(S::LANES) {
                let (at, n) = (start + c, S::LANES.min(columns.len() - c));
                simd.ask_ahead(dx, at);
                store(simd, simd.mul(stream(simd, dy, at, n), load(simd, columns.scale, c, n)), dx, at, n);
            }
        }
    }
}

/// dx = scale · g + (slope · (x − mean) + shift) for whole rows, or added to dx. Without a dy, `dx` holds it.
pub struct Through<'a, T: Element> {
    pub(super) g: Gradient<'a, T>,
    pub(super) dy: Option<&'a [T]>,
    pub(super) slope: &'a [T],
    pub(super) shift: &'a [T],
    pub(super) adds: bool,
    pub(super) dx: &'a mut [T],
}

impl<T: Element> Kernel<T> for Through<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Through { g, dy, slope, shift, adds, dx } = self;
        let columns = g.columns.len();
        for start in (0..dx.len()).step_by(columns) {
            for c in (0..columns).step_by(S::LANES) {
                let (at, n) = (start + c, S::LANES.min(columns - c));
                simd.ask_ahead(dx, at);
                let dy = stream(simd, dy.unwrap_or(dx), at, n);
                let (g_here, centred) = g.at(simd, dy, at, c, n);
                let through = simd.mul_add(centred, load(simd, slope, c, n), load(simd, shift, c, n));
                let mut here = simd.mul_add(g_here, load(simd, g.columns.scale, c, n), through);
                if adds {
                    here = simd.add(here, load(simd, dx, at, n));
                }
                store(simd, here, dx, at, n);
            }
        }
    }
}
