//! Gradients of batch normalisation. With g = dy · act′ the gradient by the activation's input, and m rows:
//!
//! dβ = Σ g, dγ = Σ g x̂, d residual = g, and
//! dx = γ / √(var + eps) · (g − dβ / m − x̂ dγ / m) through mean and variance, or γ / √(var + eps) · g if they are
//! constants.
//!
//! In training these are two passes: one over x and dy for the column sums, one over them for dx. x̂ and the
//! activation's input are recomputed from x in registers.

use super::{Columns, Normalization, check_shape};
use crate::memory::Buffer;
use crate::ops::activation::Activation;
use crate::ops::columns::{Terms, add_in_order, chunk_sums, column_sums, rounded, rows_per_chunk};
use crate::ops::pointwise::{load, store};
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
    let columns = Columns::new(OP, x, Normalization { mean, var, gamma, beta: gamma, eps })?;
    check_shape(OP, "dy", x, dy)?;
    let g = Gradient { columns: &columns, x: x.data(), dy: dy.data(), activation: None };
    let [dgamma, dbeta] = parameter_gradients(g, column_sums(g, x.shape().rows(), columns.len()));
    let dx = through_statistics(g, x, &dgamma, &dbeta);
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
    let columns = Columns::new(OP, x, Normalization { mean, var, gamma, beta: gamma, eps })?;
    check_shape(OP, "dy", x, dy)?;
    let g = Gradient { columns: &columns, x: x.data(), dy: dy.data(), activation: None };
    let mut dx = Tensor::scratch(x.shape());
    let sums = sums_beside(g, &mut dx, |rows, dx| T::batch_norm_scaled(Scaled { g, first: rows, dx }));
    let [dgamma, dbeta] = parameter_gradients(g, sums);
    Ok((dx, rounded([columns.len()], &dgamma, 1.0), rounded([columns.len()], &dbeta, 1.0)))
}

/// The gradients of [`batch_norm_act`](super::batch_norm_act) in training, through mean and variance, which must be
/// those of x. Nothing normalised is kept for it: x̂ is recomputed from x, and the activation's input from x and what
/// `recompute` names.
///
/// Errors if a shape is not x's or a vector not `[C]`, or if the output is given for an activation whose gradient does
/// not read it.
pub fn batch_norm_act_backward<T: Element>(
    x: &Tensor<T>,
    normalization: Normalization<'_, T>,
    activation: Option<Activation>,
    recompute: Recompute<'_, T>,
    dy: &Tensor<T>,
) -> Result<BatchNormGradients<T>> {
    const OP: &str = "batch_norm_act_backward";
    let columns = Columns::new(OP, x, normalization)?;
    check_shape(OP, "dy", x, dy)?;
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
    let g = Gradient { columns: &columns, x: x.data(), dy: dy.data(), activation: activated };
    let (rows, len) = (x.shape().rows(), columns.len());
    let (sums, dresidual) = match (joined, activation) {
        (None, _) => (column_sums(g, rows, len), None),
        (Some(_), None) => (column_sums(g, rows, len), Some(dy.clone())),
        (Some(_), Some(_)) => {
            let mut dresidual = Tensor::scratch(x.shape());
            let sums = sums_beside(g, &mut dresidual, |first, out| T::batch_norm_store(Store { g, first, out }));
            (sums, Some(dresidual))
        }
    };
    let [dgamma, dbeta] = parameter_gradients(g, sums);
    // What was stored as the residual's gradient need not be computed again.
    let g = match &dresidual {
        Some(dresidual) => Gradient { dy: dresidual.data(), activation: None, ..g },
        None => g,
    };
    let dx = through_statistics(g, x, &dgamma, &dbeta);
    Ok(BatchNormGradients { dx, dgamma: rounded([len], &dgamma, 1.0), dbeta: rounded([len], &dbeta, 1.0), dresidual })
}

/// The column sums of g and g (x − mean), taken chunk by chunk beside `write`, which fills these rows of `out`, so that
/// what both read comes from memory once.
fn sums_beside<T: Element>(
    g: Gradient<'_, T>,
    out: &mut Tensor<T>,
    write: impl Fn(usize, &mut [T]) + Send + Sync,
) -> Buffer<f64> {
    let len = g.columns.len();
    let chunk = rows_per_chunk(len);
    let mut parts = Buffer::scratch(2 * len * out.shape().rows().div_ceil(chunk));
    threads::for_each_chunk2((out.data_mut(), chunk * len), (&mut parts, 2 * len), |i, out, sums| {
        let start = i * chunk * len;
        write(start, out);
        chunk_sums(g, start, out.len() / len, len, sums);
    });
    let mut sums = Buffer::zeros(2 * len);
    add_in_order(&mut sums, &parts);
    sums
}

/// (dγ, dβ) from the sums of g and g (x − mean).
fn parameter_gradients<T: Element>(g: Gradient<'_, T>, sums: Buffer<f64>) -> [Buffer<f64>; 2] {
    let len = g.columns.len();
    let dgamma = Buffer::from_fn(len, |c| sums[len + c] * g.columns.inverse[c]);
    [dgamma, Buffer::from_fn(len, |c| sums[c])]
}

/// dx = scale · g + (slope · (x − mean) + shift)
fn through_statistics<T: Element>(g: Gradient<'_, T>, x: &Tensor<T>, dgamma: &[f64], dbeta: &[f64]) -> Tensor<T> {
    let Columns { gamma, inverse, .. } = g.columns;
    let (rows, len) = (x.shape().rows() as f64, inverse.len());
    let scale = |c: usize| gamma[c].to_f64() * inverse[c];
    let slope = Buffer::from_fn(len, |c| T::from_f64(-scale(c) * inverse[c] * dgamma[c] / rows));
    let shift = Buffer::from_fn(len, |c| T::from_f64(-scale(c) * dbeta[c] / rows));
    let mut dx = Tensor::scratch(x.shape());
    let chunk = threads::rows_per_chunk(len) * len;
    threads::for_each_chunk(dx.data_mut(), chunk, |i, dx| {
        T::batch_norm_through(Through { g, first: i * chunk, slope: &slope, shift: &shift, dx });
    });
    dx
}

/// g = dy · act′, computed where it is needed.
#[derive(Clone, Copy)]
struct Gradient<'a, T: Element> {
    columns: &'a Columns<'a, T>,
    x: &'a [T],
    dy: &'a [T],
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

impl<T: Element> Gradient<'_, T> {
    /// g and x − mean of `n` elements from `at` on, in column `c` and the following.
    #[inline(always)]
    fn load<S: Simd<T>>(&self, simd: S, at: usize, c: usize, n: usize) -> (S::V, S::V) {
        let centred = self.columns.centre(simd, load(simd, self.x, at, n), c, n);
        let dy = load(simd, self.dy, at, n);
        let Some(Activated { activation, recompute }) = self.activation else {
            return (dy, centred);
        };
        let saved = match recompute {
            Saved::Output(y) => load(simd, y, at, n),
            Saved::Normalized | Saved::Residual(_) => {
                let mut v = self.columns.transform(simd, centred, c, n);
                if let Saved::Residual(residual) = recompute {
                    v = simd.add(v, load(simd, residual, at, n));
                }
                if activation.saves_output() { activation.activate(simd, v) } else { v }
            }
        };
        (activation.differentiate(simd, saved, dy), centred)
    }
}

/// g and g (x − mean). The lanes behind the last column are 0, as those of dy are.
impl<T: Element> Terms<T, 2> for Gradient<'_, T> {
    #[inline(always)]
    fn terms<S: Simd<T>>(self, simd: S, at: usize, column: usize, n: usize) -> [S::V; 2] {
        let (g, centred) = self.load(simd, at, column, n);
        [g, simd.mul(g, centred)]
    }
}

/// out = g for whole rows from element `first` on.
pub struct Store<'a, T: Element> {
    g: Gradient<'a, T>,
    first: usize,
    out: &'a mut [T],
}

impl<T: Element> Kernel<T> for Store<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Store { g, first, out } = self;
        let columns = g.columns.len();
        for start in (0..out.len()).step_by(columns) {
            for c in (0..columns).step_by(S::LANES) {
                let (at, n) = (start + c, S::LANES.min(columns - c));
                store(simd, g.load(simd, first + at, c, n).0, out, at, n);
            }
        }
    }
}

/// dx = scale · g for whole rows from element `first` on.
pub struct Scaled<'a, T: Element> {
    g: Gradient<'a, T>,
    first: usize,
    dx: &'a mut [T],
}

impl<T: Element> Kernel<T> for Scaled<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Scaled { g, first, dx } = self;
        let columns = g.columns.len();
        for start in (0..dx.len()).step_by(columns) {
            for c in (0..columns).step_by(S::LANES) {
                let (at, n) = (start + c, S::LANES.min(columns - c));
                let scale = load(simd, &g.columns.scale, c, n);
                store(simd, simd.mul(g.load(simd, first + at, c, n).0, scale), dx, at, n);
            }
        }
    }
}

/// dx = scale · g + (slope · (x − mean) + shift) for whole rows from element `first` on.
pub struct Through<'a, T: Element> {
    g: Gradient<'a, T>,
    first: usize,
    slope: &'a [T],
    shift: &'a [T],
    dx: &'a mut [T],
}

impl<T: Element> Kernel<T> for Through<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Through { g, first, slope, shift, dx } = self;
        let columns = g.columns.len();
        for start in (0..dx.len()).step_by(columns) {
            for c in (0..columns).step_by(S::LANES) {
                let (at, n) = (start + c, S::LANES.min(columns - c));
                let (g_here, centred) = g.load(simd, first + at, c, n);
                let through = simd.mul_add(centred, load(simd, slope, c, n), load(simd, shift, c, n));
                let scale = load(simd, &g.columns.scale, c, n);
                store(simd, simd.mul_add(g_here, scale, through), dx, at, n);
            }
        }
    }
}
