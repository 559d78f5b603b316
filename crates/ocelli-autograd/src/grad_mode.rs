//! Whether operations on this thread are recorded.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use ocelli_tensor::Element;

use crate::node::{Node, Origin};
use crate::switch;

thread_local! {
    static RECORDING: Cell<bool> = const { Cell::new(true) };
    static WATCH: RefCell<Option<Missed>> = const { RefCell::new(None) };
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

/// What a graph of something that was not recorded would have led to, by identity.
#[derive(Default)]
pub(crate) struct Missed {
    /// The parameters that were read, or were operands.
    pub parameters: BTreeSet<u64>,
    /// The nodes that were operands.
    pub nodes: BTreeSet<u64>,
}

/// As [`no_grad`], and what in `f` would have been recorded.
pub(crate) fn watched_no_grad<R>(f: impl FnOnce() -> R) -> (R, Missed) {
    let outer = WATCH.replace(Some(Missed::default()));
    let result = no_grad(f);
    (result, WATCH.replace(outer).unwrap_or_default())
}

/// Called for a node that is an operand of an operation that is not recorded.
pub(crate) fn miss<T: Element>(node: &Node<T>) {
    WATCH.with_borrow_mut(|watch| {
        let Some(missed) = watch else { return };
        missed.nodes.insert(node.id);
        if let Origin::Parameter(_) = node.origin {
            missed.parameters.insert(node.id);
        }
    });
}

/// Called for a parameter whose value is read.
pub(crate) fn read(parameter: u64) {
    WATCH.with_borrow_mut(|watch| watch.iter_mut().for_each(|missed| _ = missed.parameters.insert(parameter)));
}

/// Whether operations on this thread are recorded, so `false` inside [`no_grad`].
pub fn is_recording() -> bool {
    RECORDING.get()
}
