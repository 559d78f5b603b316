//! Finding the operation that first produced a NaN or an infinity.

use std::cell::Cell;
use std::fmt;

use ocelli_tensor::{Element, Tensor};

use crate::{Error, Result, switch, trace};

thread_local! {
    static DETECTING: Cell<bool> = const { Cell::new(false) };
}

/// The direction in which an anomaly came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// A value.
    Forward,
    /// A gradient.
    Backward,
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pass::Forward => "forward",
            Pass::Backward => "backward",
        })
    }
}

/// Runs `f`, in which every operation's value is searched for NaN and infinity, and later every gradient of the graph
/// that it records: the first that is not finite becomes [`Error::Anomaly`], with the operation's name and its
/// [`scope`](crate::scope). It reads everything once more; outside of `f` there is no cost.
///
/// It holds for the calling thread, as [`no_grad`](crate::no_grad) does.
///
/// ```
/// use ocelli_autograd::{Tensor, Var, detect_anomalies, scope};
///
/// let x = Var::constant(Tensor::full([2], 1e30f32));
/// let error = detect_anomalies(|| scope("head", || x.mul(&x))).unwrap_err();
/// assert_eq!(error.to_string(), "mul in head: the forward pass gave a number that is not finite");
/// ```
pub fn detect_anomalies<R>(f: impl FnOnce() -> R) -> R {
    switch::with(&DETECTING, true, f)
}

/// Whether this thread is inside of [`detect_anomalies`].
pub(crate) fn is_detecting() -> bool {
    DETECTING.get()
}

/// Where the next operation is, for its record, if anomalies are looked for.
pub(crate) fn location() -> Option<String> {
    is_detecting().then(trace::path)
}

/// An error if a number is not finite.
pub(crate) fn check<T: Element>(x: &Tensor<T>, op: &'static str, scope: &str, pass: Pass) -> Result<()> {
    match x.data().iter().all(|x| x.is_finite()) {
        true => Ok(()),
        false => Err(Error::Anomaly { op, scope: scope.to_owned(), pass }),
    }
}
