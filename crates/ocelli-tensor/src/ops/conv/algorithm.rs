//! Which algorithm computes a convolution.

use std::cell::Cell;
use std::sync::LazyLock;

use super::{Geometry, winograd};
use crate::ops::Window;
use crate::{Result, Shape};

/// The algorithms for convolutions that are not depthwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// The gathered product.
    Direct,
    /// Winograd's F(4×4, 3×3), or one of its kind, where the geometry allows it; else direct.
    Winograd,
    /// The textbook form, for one group; else direct.
    Im2col,
}

/// The passes of a convolution, which have costs of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Forward with weights that are packed once.
    Inference,
    /// Forward, or backward to the input, with weights to be packed first.
    Training,
    /// Backward to the weights.
    Weight,
}

thread_local! {
    static FORCED: Cell<Option<Algorithm>> = const { Cell::new(None) };
}

/// Runs `f` with every convolution that it starts on this thread done by `algorithm`. Without it the algorithm is chosen
/// by shape, unless the environment's `OCELLI_CONV` says `direct`, `winograd` or `im2col`.
pub fn with_algorithm<R>(algorithm: Algorithm, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Algorithm>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    let _restore = Restore(FORCED.replace(Some(algorithm)));
    f()
}

fn forced() -> Option<Algorithm> {
    static ASKED: LazyLock<Option<Algorithm>> = LazyLock::new(|| match std::env::var("OCELLI_CONV").ok()?.as_str() {
        "direct" => Some(Algorithm::Direct),
        "winograd" => Some(Algorithm::Winograd),
        "im2col" => Some(Algorithm::Im2col),
        _ => None,
    });
    FORCED.get().or(*ASKED)
}

/// The algorithm that a pass of a convolution takes, which is not depthwise, for an input and weights of these shapes.
pub fn planned(pass: Pass, x: &Shape, w: &Shape, window: &Window, groups: usize) -> Result<Algorithm> {
    Ok(choose(&Geometry::new("conv2d", x, w, window, groups)?, pass))
}

/// The algorithm for a pass: the forced one if the geometry allows it, else the one that is faster.
pub(super) fn choose(g: &Geometry, pass: Pass) -> Algorithm {
    let winograd = winograd::applies(&g.window, g.groups, pass);
    match forced() {
        Some(Algorithm::Winograd) if winograd => Algorithm::Winograd,
        Some(Algorithm::Im2col) if g.groups == 1 => Algorithm::Im2col,
        Some(_) => Algorithm::Direct,
        None if winograd && winograd::wins(g, pass) => Algorithm::Winograd,
        None => Algorithm::Direct,
    }
}
