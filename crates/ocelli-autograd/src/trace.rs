//! Recording every operation that runs, with or without gradients: what summaries, cost counts and plans are made of.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fmt::{self, Debug};
use std::sync::Arc;

use ocelli_tensor::ops::Window;
use ocelli_tensor::{Element, Shape, Tensor};

use crate::op::AnyOp;
use crate::{Cost, Op, Var, anomaly, profile};

thread_local! {
    static TRACING: Cell<bool> = const { Cell::new(false) };
    static TRACE: RefCell<Box<dyn Any>> = RefCell::new(Box::new(()));
    static SCOPE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The operations on elements of type `T` that ran on this thread during a call of [`trace`], in order.
pub struct Trace<T: Element = f32> {
    entries: Vec<Entry<T>>,
    outputs: HashSet<u64>,
    /// The values that no recorded operation computed: inputs, parameters, constants.
    outside: HashMap<u64, Tensor<T>>,
}

/// An operation of a [`Trace`].
pub struct Entry<T: Element = f32> {
    scope: String,
    pub(crate) op: Arc<dyn AnyOp<T>>,
    pub(crate) inputs: Vec<u64>,
    pub(crate) input_shapes: Vec<Shape>,
    pub(crate) output: u64,
    output_shape: Shape,
}

/// Runs `f` and records the operations on `T` that it applies on this thread, except those inside of another `trace`.
/// [`threads::install`](ocelli_tensor::threads::install), which changes threads, goes around it, not inside.
///
/// ```
/// use ocelli_autograd::{Tensor, Var, scope, trace};
///
/// let x = Var::constant(Tensor::full([2, 3], 2.0f32));
/// let (_, trace) = trace::<f32, _>(|| scope("head", || scope("fc", || x.relu())));
/// let entry = &trace.entries()[0];
/// assert_eq!((entry.scope(), entry.name()), ("head.fc", "relu"));
/// ```
pub fn trace<T: Element, R>(f: impl FnOnce() -> R) -> (R, Trace<T>) {
    struct Restore(bool, Box<dyn Any>);
    impl Drop for Restore {
        fn drop(&mut self) {
            TRACING.set(self.0);
            TRACE.replace(std::mem::replace(&mut self.1, Box::new(())));
        }
    }
    let empty = Trace::<T> { entries: Vec::new(), outputs: HashSet::new(), outside: HashMap::new() };
    let restore = Restore(TRACING.replace(true), TRACE.replace(Box::new(empty)));
    let result = f();
    let trace = TRACE.replace(Box::new(()));
    drop(restore);
    (result, *trace.downcast().expect("the trace that was put there above"))
}

/// Runs `f` with `name` added to the dotted path that a [`Trace`], an [anomaly](crate::detect_anomalies) or a
/// [profile](crate::profile()) shows for the operations inside; when none is asked for it only runs `f`.
pub fn scope<R>(name: &str, f: impl FnOnce() -> R) -> R {
    struct Restore(usize);
    impl Drop for Restore {
        fn drop(&mut self) {
            SCOPE.with_borrow_mut(|path| path.truncate(self.0));
        }
    }
    if !TRACING.get() && !anomaly::is_detecting() && !profile::is_on() {
        return f();
    }
    let _restore = SCOPE.with_borrow_mut(|path| {
        let outer = path.len();
        if outer > 0 {
            path.push('.');
        }
        path.push_str(name);
        Restore(outer)
    });
    f()
}

/// The names of the scopes around, with dots between.
pub(crate) fn path() -> String {
    SCOPE.with_borrow(String::clone)
}

/// Whether operations are recorded, which then must run at once.
pub(crate) fn is_tracing() -> bool {
    TRACING.get()
}

/// Called for every operation that has run.
pub(crate) fn record<T: Element, O: Op<T>>(op: &Arc<O>, inputs: &[&Var<T>], output: (u64, &Tensor<T>)) {
    if !TRACING.get() {
        return;
    }
    TRACE.with_borrow_mut(|trace| {
        // A trace of f32 does not see what happens in f64.
        let Some(trace) = trace.downcast_mut::<Trace<T>>() else { return };
        for x in inputs.iter().filter(|x| !trace.outputs.contains(&x.id())) {
            trace.outside.insert(x.id(), x.value().clone());
        }
        trace.outputs.insert(output.0);
        trace.entries.push(Entry {
            scope: SCOPE.with_borrow(String::clone),
            op: op.clone(),
            inputs: inputs.iter().map(|x| x.id()).collect(),
            input_shapes: inputs.iter().map(|x| *x.shape()).collect(),
            output: output.0,
            output_shape: *output.1.shape(),
        });
    });
}

impl<T: Element> Trace<T> {
    /// The operations, in the order in which they ran.
    pub fn entries(&self) -> &[Entry<T>] {
        &self.entries
    }

    /// The cost of all operations together.
    pub fn cost(&self) -> Cost {
        self.entries.iter().map(Entry::cost).sum()
    }

    /// The value of an operand that no recorded operation computed.
    pub(crate) fn outside(&self, id: u64) -> Option<&Tensor<T>> {
        self.outside.get(&id)
    }
}

impl<T: Element> Entry<T> {
    /// The names of the [`scope`]s around the operation, outermost first, with dots between; empty outside of any.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// The operation's name.
    pub fn name(&self) -> &'static str {
        self.op.name()
    }

    /// The operation with its attributes, for people to read.
    pub fn op(&self) -> &dyn Debug {
        &self.op
    }

    /// Which values the operands are: an operand that is another entry's value has that one's [`output`](Self::output).
    pub fn inputs(&self) -> &[u64] {
        &self.inputs
    }

    /// Which value the entry makes.
    pub fn output(&self) -> u64 {
        self.output
    }

    /// The window that the operation slides over images, if it does.
    pub fn window(&self) -> Option<Window> {
        self.op.window()
    }

    /// The shapes of the operands.
    pub fn input_shapes(&self) -> &[Shape] {
        &self.input_shapes
    }

    /// The shape of the value.
    pub fn output_shape(&self) -> &Shape {
        &self.output_shape
    }

    /// The work.
    pub fn cost(&self) -> Cost {
        self.op.cost(&self.input_shapes, &self.output_shape)
    }
}

impl<T: Element> Debug for Trace<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.entries).finish()
    }
}

impl<T: Element> Debug for Entry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?} {:?} -> {}", self.scope, self.op, self.input_shapes, self.output_shape)
    }
}
