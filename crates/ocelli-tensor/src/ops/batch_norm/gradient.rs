//! The gradient g = dy · act′ by the activation's input, and the kernels that sum it, store it or turn it into dx.

use std::ops::Range;

use super::{Lanes, Recompute};
use crate::memory::Buffer;
use crate::ops::activation::Activation;
use crate::ops::columns::{Terms, column_sums};
use crate::ops::pointwise::{ask, load, store, stream};
use crate::simd::{Kernel, Simd};
use crate::{Element, Tensor};

/// g = dy · act′, computed where it is needed.
#[derive(Clone, Copy)]
pub(super) struct Gradient<'a, T: Element> {
    pub columns: Lanes<'a, T>,
    pub x: &'a [T],
    pub activation: Option<Activated<'a, T>>,
}

/// The activation behind the normalisation, and what its input is known from.
#[derive(Clone, Copy)]
pub(super) struct Activated<'a, T> {
    pub activation: Activation,
    pub recompute: Saved<'a, T>,
}

/// The elements of a [`Recompute`].
#[derive(Clone, Copy)]
pub(crate) enum Saved<'a, T> {
    Normalized,
    Residual(&'a [T]),
    Output(&'a [T]),
}

impl<'a, T: Element> Saved<'a, T> {
    pub fn new(recompute: Recompute<'a, T>) -> Self {
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
    pub fn new(columns: Lanes<'a, T>, x: &'a [T], activation: Option<Activation>) -> Self {
        let activated = |activation| Activated { activation, recompute: Saved::Normalized };
        Gradient { columns, x, activation: activation.map(activated) }
    }

    /// For these elements, which are whole rows.
    pub fn part(self, part: Range<usize>) -> Self {
        let activation = self.activation.map(|Activated { activation, recompute }| Activated {
            activation,
            recompute: recompute.part(part.clone()),
        });
        Gradient { x: &self.x[part], activation, ..self }
    }

    /// The column sums of g and g (x − mean).
    pub fn sums(self, dy: &Tensor<T>) -> Buffer<f64> {
        column_sums(Summed { g: self, dy: dy.data() }, dy.shape().rows(), self.columns.len())
    }

    /// g and x − mean of `n` elements from `at` on, in column `c` and the following, from dy.
    #[inline(always)]
    fn at<S: Simd<T>>(&self, simd: S, dy: S::V, at: usize, c: usize, n: usize) -> (S::V, S::V) {
        let centred = self.columns.centre(simd, load(simd, self.x, at, n), c, n);
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

    /// Asks for the memory that [`at`](Self::at) reads of element `at`, if there is one.
    #[inline(always)]
    fn ask<S: Simd<T>>(&self, simd: S, at: usize) {
        ask(simd, self.x, at);
        if let Some(Activated { recompute: Saved::Output(other) | Saved::Residual(other), .. }) = self.activation {
            ask(simd, other, at);
        }
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
        let (g, centred) = self.g.at(simd, load(simd, self.dy, at, n), at, column, n);
        [g, simd.mul(g, centred)]
    }

    #[inline(always)]
    fn ask<S: Simd<T>>(self, simd: S, at: usize) {
        self.g.ask(simd, at);
        ask(simd, self.dy, at);
    }
}

/// out = g for whole rows. Without a dy, `out` holds it.
pub struct Store<'a, T: Element> {
    pub(super) g: Gradient<'a, T>,
    pub(super) dy: Option<&'a [T]>,
    pub(super) out: &'a mut [T],
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
                g.ask(simd, at + S::PAGE);
                simd.ask_ahead(out, at);
                let dy = stream(simd, dy.unwrap_or(out), at, n);
                store(simd, g.at(simd, dy, at, c, n).0, out, at, n);
            }
        }
    }
}

/// dx = scale · dy for whole rows.
pub struct Scaled<'a, T: Element> {
    pub(super) columns: Lanes<'a, T>,
    pub(super) dy: &'a [T],
    pub(super) dx: &'a mut [T],
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
                g.ask(simd, at + S::PAGE);
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
