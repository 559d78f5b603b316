//! Where the time and the memory of a training step go, operation by operation.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use ocelli_tensor::pool;

use crate::{Cost, Pass, is_recomputing, switch, trace};

thread_local! {
    static PROFILING: Cell<bool> = const { Cell::new(false) };
    static TIMED: RefCell<Vec<Timed>> = const { RefCell::new(Vec::new()) };
}

/// One operation's forward or backward pass.
#[derive(Debug, Clone)]
pub struct Timed {
    /// The operation's name.
    pub op: &'static str,
    /// The names of the [`scope`](crate::scope)s around it, with dots between.
    pub scope: String,
    /// The direction. What a backward pass computes again belongs to it.
    pub pass: Pass,
    /// How long it took. A backward pass includes the values that it computed again.
    pub time: Duration,
    /// The work: in the backward pass one product for each operand that needs a gradient.
    pub cost: Cost,
    /// How much more memory was in use when the next operation began, in bytes: what is kept for the backward pass, less
    /// what was freed meanwhile.
    pub kept: i64,
}

/// Runs `f`, and tells of each operation that ran on this thread, forward or backward, in order. Reading the clock costs
/// little; outside of `f` there is no cost. [`threads::install`](ocelli_tensor::threads::install), which changes threads,
/// goes around it, not inside.
///
/// ```
/// use ocelli_autograd::{Parameter, Pass, Tensor, profile, scope};
///
/// let x = Parameter::new(Tensor::full([2, 3], 2.0f32));
/// let (result, timed) = profile(|| scope("head", || x.var().relu())?.sum()?.backward());
/// result?;
/// let told: Vec<_> = timed.iter().map(|t| (t.scope.as_str(), t.op, t.pass)).collect();
/// assert_eq!(told[0], ("head", "relu", Pass::Forward));
/// assert_eq!(told[3], ("head", "relu", Pass::Backward));
/// # Ok::<(), ocelli_autograd::Error>(())
/// ```
pub fn profile<R>(f: impl FnOnce() -> R) -> (R, Vec<Timed>) {
    let outer = TIMED.take();
    let (result, used) = switch::with(&PROFILING, true, || (f(), used()));
    let mut timed = TIMED.replace(outer);
    // So far `kept` is what was in use when the operation began.
    let ends: Vec<i64> = timed.iter().skip(1).map(|timed| timed.kept).chain([used]).collect();
    timed.iter_mut().zip(ends).for_each(|(timed, end)| timed.kept = end - timed.kept);
    (result, timed)
}

/// Whether this thread is inside of [`profile`].
pub(crate) fn is_on() -> bool {
    PROFILING.get()
}

/// An operation that is running.
pub(crate) struct Clock {
    begin: Instant,
    used: i64,
}

/// Begins an operation, if there is a profile to be made.
pub(crate) fn start() -> Option<Clock> {
    is_on().then(|| Clock { used: used(), begin: Instant::now() })
}

/// What the backward pass of an operation will be told as.
pub(crate) struct Label {
    op: &'static str,
    scope: String,
    cost: Cost,
}

/// What the backward pass of an operation that runs later, if at all, will be told as, if there is a profile to be made.
pub(crate) fn label(op: &'static str, cost: impl FnOnce() -> Cost) -> Option<Label> {
    is_on().then(|| Label { op, scope: trace::path(), cost: cost() })
}

impl Clock {
    /// Ends an operation's forward pass.
    pub fn forward(self, op: &'static str, cost: Cost) -> Label {
        let time = self.begin.elapsed();
        let (label, pass) =
            (Label { op, scope: trace::path(), cost }, if is_recomputing() { Pass::Backward } else { Pass::Forward });
        self.tell(&label, pass, time, cost);
        label
    }

    /// Ends its backward pass, in which so many operands needed a gradient.
    pub fn backward(self, label: &Label, needed: usize) {
        let time = self.begin.elapsed();
        // A product has two factors; what else there is, such as a bias, is summed.
        let cost = Cost { macs: label.cost.macs * needed.min(2) as u64, bytes: label.cost.bytes };
        self.tell(label, Pass::Backward, time, cost);
    }

    /// Ends what belongs to a pass but to no operation of the graph.
    fn aside(self, op: &'static str, pass: Pass) {
        let (time, cost) = (self.begin.elapsed(), Cost::default());
        let label = Label { op, scope: trace::path(), cost };
        self.tell(&label, pass, time, cost);
    }

    fn tell(self, label: &Label, pass: Pass, time: Duration, cost: Cost) {
        let Label { op, scope, .. } = label;
        let timed = Timed { op, scope: scope.clone(), pass, time, cost, kept: self.used };
        TIMED.with_borrow_mut(|all| all.push(timed));
    }
}

/// Runs `f`, which belongs to a pass but to no operation of the graph, and tells of it as `op`.
pub(crate) fn aside<R>(op: &'static str, pass: Pass, f: impl FnOnce() -> R) -> R {
    let clock = start();
    let result = f();
    if let Some(clock) = clock {
        clock.aside(op, pass);
    }
    result
}

fn used() -> i64 {
    pool::stats().used_bytes as i64
}
