//! Inference plans: a recorded forward pass, compiled.
//!
//! Compiling folds batch normalisations into the convolutions before them, fuses bias, residual addition and activation
//! into the same step, packs weights once, and finds out after which step each value is needed no more, so that its
//! buffer goes back to the pool. What an operation allows it says itself, as a [`Role`].

mod fuse;
mod grow;
mod int8;
mod role;
mod step;

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use ocelli_tensor::{Element, Shape, Tensor, ops, threads};

pub use int8::QuantizedPlan;
pub use role::{Affine, Convolution, Deformable, Role};

use self::fuse::{Action, Fusion, Operand};
use crate::{Cost, Error, Result, Trace, Var};

/// A compiled forward pass from one input to one output. It holds the values that the parameters had when it was made.
///
/// ```
/// use ocelli_autograd::{Parameter, Plan, Tensor, Var, tensor::ops::Window, trace};
///
/// let w = Parameter::new(Tensor::full([3, 3, 3, 8], 0.1f32));
/// let x = Var::constant(Tensor::full([1, 32, 32, 3], 1.0));
/// let (y, trace) = trace(|| x.conv2d(&w.var(), &Window::square(3).padding(1), 1)?.relu());
/// let y = y?;
/// let plan = Plan::compile(&trace, &x, &y)?;
/// assert_eq!(plan.to_string(), "conv2d + relu\n");
/// let batch = Tensor::full([4, 32, 32, 3], 1.0);
/// assert_eq!(**plan.run(&batch)?.shape(), [4, 32, 32, 8]);
/// # Ok::<(), ocelli_autograd::Error>(())
/// ```
pub struct Plan<T: Element = f32> {
    input: Shape,
    steps: Vec<Planned<T>>,
    slots: usize,
    output: Source<T>,
}

/// A step of a plan, and how long it took in one run.
#[derive(Debug, Clone, Copy)]
pub struct StepTime<'a> {
    /// The scope of its last operation, and the names of the operations that it does.
    pub label: &'a str,
    /// How it does them, where there is a choice; else empty.
    pub algorithm: &'static str,
    /// The work, for the batch size that the plan was traced with.
    pub cost: Cost,
    /// The time on the clock.
    pub time: Duration,
}

struct Planned<T: Element> {
    label: String,
    action: Action<T>,
    cost: Cost,
    inputs: Vec<Source<T>>,
    /// Slots whose value no later step reads.
    last_uses: Vec<usize>,
    output: usize,
}

enum Source<T: Element> {
    Slot(usize),
    Constant(Tensor<T>),
}

/// The slot of the plan's input.
const INPUT: usize = 0;

impl<T: Element> Plan<T> {
    /// Compiles the part of `trace` that leads from `input` to `output`. Every other value becomes a constant, and
    /// dropout is left out.
    ///
    /// # Errors
    /// [`Error::NotTraced`] if no operation of the trace computed `output` from `input`, or what an operation returns.
    pub fn compile(trace: &Trace<T>, input: &Var<T>, output: &Var<T>) -> Result<Self> {
        let mut fusion = fuse::fuse(trace, input.id(), output.id(), false)?;
        grow::grow(&mut fusion);
        let Fusion { nodes, output } = fusion;
        let mut last_use = HashMap::new();
        for (i, node) in nodes.iter().enumerate() {
            last_use.extend(node.inputs.iter().filter_map(Operand::id).map(|id| (id, i)));
        }
        last_use.extend(output.id().map(|id| (id, nodes.len())));

        let mut slots = Slots { of: HashMap::from([(input.id(), INPUT)]), free: Vec::new(), count: 1 };
        let mut steps = Vec::with_capacity(nodes.len());
        for (i, node) in nodes.into_iter().enumerate() {
            let mut done: Vec<u64> =
                node.inputs.iter().filter_map(Operand::id).filter(|id| last_use[id] == i).collect();
            done.sort_unstable();
            done.dedup();
            let inputs = node.inputs.into_iter().map(|operand| slots.source(operand)).collect();
            let last_uses = done.into_iter().map(|id| slots.release(id)).collect();
            let output = match node.action {
                Action::Append(_) => slots.of[&node.output],
                _ => slots.assign(node.output),
            };
            steps.push(Planned { label: node.label, action: node.action, cost: node.cost, inputs, last_uses, output });
        }
        let output = slots.source(output);
        Ok(Plan { input: *input.shape(), steps, slots: slots.count, output })
    }

    /// The output for `x`: of the traced input's shape but for the first dimension, the batch size, which is free if
    /// no operation fixes it.
    ///
    /// # Errors
    /// [`Error::PlanInput`] for an `x` of another height, width or number of channels.
    pub fn run(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        check_input(&self.input, x)?;
        threads::install(|| self.execute(x, |planned, inputs, own| planned.run(inputs, own)))
    }

    /// As [`run`](Self::run), and tells `each` of every step.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub fn profile(&self, x: &Tensor<T>, mut each: impl FnMut(StepTime<'_>) + Send) -> Result<Tensor<T>> {
        check_input(&self.input, x)?;
        let timed = |planned: &Planned<T>, inputs: &[&Tensor<T>], own| {
            let start = Instant::now();
            let y = planned.run(inputs, own)?;
            let Planned { label, cost, .. } = planned;
            each(StepTime { label, algorithm: planned.algorithm(), cost: *cost, time: start.elapsed() });
            Ok(y)
        };
        threads::install(|| self.execute(x, timed))
    }

    fn execute(
        &self,
        x: &Tensor<T>,
        mut run: impl FnMut(&Planned<T>, &[&Tensor<T>], Option<Tensor<T>>) -> Result<Tensor<T>>,
    ) -> Result<Tensor<T>> {
        let mut slots = vec![None; self.slots];
        slots[INPUT] = Some(x.clone());
        for planned in &self.steps {
            let Planned { action, inputs, last_uses, output, .. } = planned;
            let own = if matches!(action, Action::Append(_)) { slots[*output].take() } else { None };
            let inputs: Vec<_> = inputs.iter().map(|source| source.value(&slots)).collect();
            let y = run(planned, &inputs, own)?;
            last_uses.iter().for_each(|&slot| slots[slot] = None);
            slots[*output] = Some(y);
        }
        Ok(self.output.value(&slots).clone())
    }
}

/// Whether `x` is of the shape that a plan was made for, but for the batch size.
fn check_input<T: Element>(expected: &Shape, x: &Tensor<T>) -> Result<()> {
    if x.shape().rank() == expected.rank() && x.shape()[1..] == expected[1..] {
        return Ok(());
    }
    Err(Error::PlanInput { expected: *expected, got: *x.shape() })
}

impl<T: Element> Planned<T> {
    /// The output; `own` is what the slot of an output that grows held before.
    fn run(&self, inputs: &[&Tensor<T>], own: Option<Tensor<T>>) -> Result<Tensor<T>> {
        let (mut whole, mut first) = match (&self.action, own) {
            (Action::Run(step) | Action::Concat(step), _) => return step.run(inputs),
            (Action::Append(first), Some(own)) => (own, *first),
            (Action::Append(_), None) => unreachable!("what grows has been widened"),
            (Action::Widen(columns), _) => (Tensor::scratch(inputs[0].shape().with_columns(*columns)), 0),
        };
        for part in inputs {
            ops::put_columns(&mut whole, first, part)?;
            first += part.shape().columns();
        }
        Ok(whole)
    }

    fn algorithm(&self) -> &'static str {
        match &self.action {
            Action::Run(step) | Action::Concat(step) => step.algorithm(),
            Action::Widen(_) | Action::Append(_) => "in place",
        }
    }
}

impl<T: Element> Source<T> {
    fn value<'a>(&'a self, slots: &'a [Option<Tensor<T>>]) -> &'a Tensor<T> {
        match self {
            Source::Slot(slot) => slots[*slot].as_ref().expect("a value lives until its last use"),
            Source::Constant(value) => value,
        }
    }
}

/// Gives each value a slot, and gives slots out again.
struct Slots {
    of: HashMap<u64, usize>,
    free: Vec<usize>,
    count: usize,
}

impl Slots {
    fn source<T: Element>(&self, operand: Operand<T>) -> Source<T> {
        match operand {
            Operand::Value(id) => Source::Slot(self.of[&id]),
            Operand::Constant(value) => Source::Constant(value),
        }
    }

    fn assign(&mut self, id: u64) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.count += 1;
            self.count - 1
        });
        self.of.insert(id, slot);
        slot
    }

    fn release(&mut self, id: u64) -> usize {
        let slot = self.of[&id];
        self.free.push(slot);
        slot
    }
}

/// One line a step: the scope of its last operation, and the names of the operations that it does.
impl<T: Element> fmt::Display for Plan<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{}", step.label))
    }
}

impl<T: Element> fmt::Debug for Plan<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<&str> = self.steps.iter().map(|step| step.label.as_str()).collect();
        f.debug_struct("Plan").field("input", &self.input).field("steps", &steps).field("slots", &self.slots).finish()
    }
}

#[cfg(test)]
mod tests;
