//! Whether operations on this thread are recorded.

use std::cell::Cell;

thread_local! {
    static RECORDING: Cell<bool> = const { Cell::new(true) };
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
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            RECORDING.set(self.0);
        }
    }
    let _restore = Restore(RECORDING.replace(false));
    f()
}

/// Whether operations on this thread are recorded, so `false` inside [`no_grad`].
pub fn is_recording() -> bool {
    RECORDING.get()
}
