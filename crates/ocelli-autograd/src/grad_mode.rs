//! Whether operations on this thread are recorded.

use std::cell::Cell;

use crate::switch;

thread_local! {
    static RECORDING: Cell<bool> = const { Cell::new(true) };
    /// Whether an operation that was not recorded would have been.
    static MISSED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` without recording anything: operations keep nothing for a backward pass, whatever their inputs require.
///
/// It holds for the calling thread, until `f` returns or panics; so [`threads::install`], which changes threads, goes
/// around it, not inside.
///
/// ```
/// use ocelli_autograd::{Parameter, Tensor, no_grad};
///
/// let w = Parameter::new(Tensor::full([3], 2.0f32));
/// let y = no_grad(|| w.var().sum())?;
/// assert!(!y.requires_grad() && w.var().sum()?.requires_grad());
/// # Ok::<(), ocelli_autograd::Error>(())
/// ```
///
/// [`threads::install`]: ocelli_tensor::threads::install
pub fn no_grad<R>(f: impl FnOnce() -> R) -> R {
    switch::with(&RECORDING, false, f)
}

/// The opposite, inside of `no_grad` too.
pub(crate) fn with_grad<R>(f: impl FnOnce() -> R) -> R {
    switch::with(&RECORDING, true, f)
}

/// As [`no_grad`], and whether anything in `f` would have been recorded.
pub(crate) fn watched_no_grad<R>(f: impl FnOnce() -> R) -> (R, bool) {
    let outer = MISSED.replace(false);
    let result = no_grad(f);
    (result, MISSED.replace(outer))
}

/// Called for an operation that was not recorded although an input requires a gradient.
pub(crate) fn miss() {
    MISSED.set(true);
}

/// Whether operations on this thread are recorded, so `false` inside [`no_grad`].
pub fn is_recording() -> bool {
    RECORDING.get()
}
