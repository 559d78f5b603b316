//! Inference plans: a recorded forward pass, compiled.
//!
//! Compiling folds batch normalisations into the convolutions before them, fuses bias, residual addition and activation
//! into the same step, packs weights once, and finds out from which step to which each value lives, so that those which
//! never live at once share memory. What an operation allows it says itself, as a [`Role`].

mod fuse;
mod grow;
mod int8;
mod layout;
mod means;
mod pair;
mod role;
mod slice;
mod step;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ocelli_tensor::ops::{self, Storage};
use ocelli_tensor::{Element, Shape, Tensor, threads};

pub use int8::QuantizedPlan;
pub use role::{Affine, Convolution, Deformable, Role};

use self::fuse::{Action, Fusion, Node, Operand, Weights};
use self::layout::Layout;
use crate::{Cost, Error, Result, Trace, Var};

/// A compiled forward pass from one input to one output. It holds the values that the parameters had when it was made.
///
/// Any number of threads may run a plan at once. A run keeps the values between its steps in an [arena](layout) of the
/// plan, of which there are as many as there have been runs at once; they stay for later runs, which then allocate
/// nothing but the output, and with [`run_into`](Self::run_into) not even that.
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
    output: Source<T>,
    /// The elements of each place of an arena, for the traced input. The last is that of the workspace, which a step needs
    /// while it runs.
    places: Vec<usize>,
    /// Those that no run is using.
    arenas: Mutex<Vec<Arena<T>>>,
}

/// The memory of one run: at each place the latest of its values, unless it is just being made.
type Arena<T> = Vec<Option<Tensor<T>>>;

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
    /// The output's place, and that of the means over its rows of pixels if they are wanted.
    output: usize,
    means: Option<usize>,
}

/// Where a step puts what it makes.
struct Made<'a, T: Element> {
    value: &'a mut Tensor<T>,
    means: Option<&'a mut Tensor<T>>,
}

enum Source<T: Element> {
    /// The plan's input.
    Input,
    /// What lies at a place of the arena.
    Place(usize),
    Constant(Tensor<T>),
}

impl<T: Element> Plan<T> {
    /// Compiles the part of `trace` that leads from `input` to `output`. Every other value becomes a constant, and
    /// dropout is left out.
    ///
    /// # Errors
    /// [`Error::NotTraced`] if no operation of the trace computed `output` from `input`, or what an operation returns.
    pub fn compile(trace: &Trace<T>, input: &Var<T>, output: &Var<T>) -> Result<Self> {
        Self::compile_with(Storage::Exact, trace, input, output)
    }

    /// As [`compile`](Self::compile), with weights kept in a certain way. With [`Storage::Half`], layers that wait for their
    /// weights take half of the memory for them, and less time; the output changes by about as much as the weights.
    ///
    /// # Errors
    /// Those of [`compile`](Self::compile).
    pub fn compile_with(storage: Storage, trace: &Trace<T>, input: &Var<T>, output: &Var<T>) -> Result<Self> {
        let mut fusion = fuse::fuse(trace, input.id(), output.id(), Weights { storage, origins: false })?;
        pair::pair(&mut fusion);
        grow::grow(&mut fusion);
        slice::slice(&mut fusion);
        means::average(&mut fusion);
        let Fusion { nodes, output } = fusion;
        let Layout { values, places } = Layout::new(&nodes, output.id());
        let source = |operand: Operand<T>| match operand {
            Operand::Value(id) if id == input.id() => Source::Input,
            Operand::Value(id) => Source::Place(values[&id]),
            Operand::Constant(value) => Source::Constant(value),
        };
        let step = |node: Node<T>| {
            let (inputs, output) = (node.inputs.into_iter().map(source).collect(), values[&node.output]);
            let means = node.means.map(|means| values[&means.id]);
            Planned { label: node.label, action: node.action, cost: node.cost, inputs, output, means }
        };
        let steps = nodes.into_iter().map(step).collect();
        Ok(Plan { input: *input.shape(), steps, output: source(output), places, arenas: Mutex::default() })
    }

    /// The output for `x`: of the traced input's shape but for the first dimension, the batch size, which is free if
    /// no operation fixes it.
    ///
    /// # Errors
    /// [`Error::PlanInput`] for an `x` of another height, width or number of channels.
    pub fn run(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let mut y = Tensor::default();
        self.run_into(x, &mut y)?;
        Ok(y)
    }

    /// As [`run`](Self::run), in exchange for an earlier output, whose memory becomes that of a later one. Runs for
    /// inputs of one shape then allocate nothing from the third on.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub fn run_into(&self, x: &Tensor<T>, y: &mut Tensor<T>) -> Result<()> {
        self.execute(x, y, Planned::run)
    }

    /// As [`run`](Self::run), and tells `each` of every step.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub fn profile(&self, x: &Tensor<T>, mut each: impl FnMut(StepTime<'_>) + Send) -> Result<Tensor<T>> {
        let mut y = Tensor::default();
        self.execute(x, &mut y, |planned, inputs, workspace, made| {
            let start = Instant::now();
            planned.run(inputs, workspace, made)?;
            let Planned { label, cost, .. } = planned;
            each(StepTime { label, algorithm: planned.algorithm(), cost: *cost, time: start.elapsed() });
            Ok(())
        })?;
        Ok(y)
    }

    /// How each step computes, where there is a choice; else empty. Names of those with weights in 16 bits end in ` f16`.
    pub fn algorithms(&self) -> impl Iterator<Item = &'static str> {
        self.steps.iter().map(Planned::algorithm)
    }

    /// An arena for inputs of the shape of `x`.
    fn arena(&self, x: &Tensor<T>) -> Arena<T> {
        let (batch, traced) = (x.shape()[0], self.input[0].max(1));
        self.places.iter().map(|elements| Some(Tensor::scratch([elements * batch / traced]))).collect()
    }

    /// Runs the steps with `run`, which is given the inputs, a workspace and what is to be made.
    fn execute(
        &self,
        x: &Tensor<T>,
        y: &mut Tensor<T>,
        mut run: impl FnMut(&Planned<T>, &[&Tensor<T>], &mut Tensor<T>, Made<'_, T>) -> Result<()> + Send,
    ) -> Result<()> {
        check_input(&self.input, x)?;
        let arenas = || self.arenas.lock().unwrap_or_else(PoisonError::into_inner);
        let mut arena = arenas().pop().unwrap_or_else(|| self.arena(x));
        threads::install(|| -> Result<()> {
            let mut workspace = arena.pop().flatten().unwrap_or_default();
            for planned in &self.steps {
                let mut value = arena[planned.output].take().unwrap_or_default();
                let mut means = planned.means.map(|place| arena[place].take().unwrap_or_default());
                with_values(&planned.inputs, x, &arena, |inputs| {
                    run(planned, inputs, &mut workspace, Made { value: &mut value, means: means.as_mut() })
                })?;
                arena[planned.output] = Some(value);
                if let Some(place) = planned.means {
                    arena[place] = means;
                }
            }
            arena.push(Some(workspace));
            Ok(())
        })?;
        match &self.output {
            Source::Place(place) => std::mem::swap(y, arena[*place].get_or_insert_default()),
            constant => *y = constant.value(x, &arena).clone(),
        }
        // Operations may have made their values of others' memory.
        arena.iter_mut().for_each(|value| drop(value.take_if(|value| !value.is_unique())));
        arenas().push(arena);
        Ok(())
    }
}

/// Calls `f` with the values of some sources.
fn with_values<T: Element, R>(
    sources: &[Source<T>],
    x: &Tensor<T>,
    arena: &Arena<T>,
    f: impl FnOnce(&[&Tensor<T>]) -> R,
) -> R {
    // As many as all steps have but the widest concatenations.
    const FEW: usize = 8;
    if sources.len() > FEW {
        return f(&sources.iter().map(|source| source.value(x, arena)).collect::<Vec<_>>());
    }
    let mut values = [x; FEW];
    values.iter_mut().zip(sources).for_each(|(value, source)| *value = source.value(x, arena));
    f(&values[..sources.len()])
}

/// Whether `x` is of the shape that a plan was made for, but for the batch size.
fn check_input<T: Element>(expected: &Shape, x: &Tensor<T>) -> Result<()> {
    if x.shape().rank() == expected.rank() && x.shape()[1..] == expected[1..] {
        return Ok(());
    }
    Err(Error::PlanInput { expected: *expected, got: *x.shape() })
}

impl<T: Element> Planned<T> {
    /// Makes the output, and the means. A value that grows is what an earlier step has made of it.
    fn run(&self, inputs: &[&Tensor<T>], workspace: &mut Tensor<T>, made: Made<'_, T>) -> Result<()> {
        let Made { value, means } = made;
        let mut first = match &self.action {
            Action::Run(step) if let Some(means) = means => {
                return step.run_with_means(inputs[0], workspace, [value, means]);
            }
            Action::Run(step) | Action::Concat(step) => return step.run(inputs, workspace, value),
            Action::Slice(conv, slice) => return Ok(conv.run_columns_into(inputs[0], workspace, value, *slice)?),
            Action::Append(first) => *first,
            Action::Widen(columns) => {
                let shape = inputs[0].shape().with_columns(*columns);
                // Other steps may have put their columns there.
                if *value.shape() != shape {
                    value.resize(shape);
                }
                0
            }
        };
        for part in inputs {
            ops::put_columns(value, first, part)?;
            first += part.shape().columns();
        }
        Ok(())
    }

    fn algorithm(&self) -> &'static str {
        match &self.action {
            Action::Run(step) | Action::Concat(step) => step.algorithm(),
            Action::Slice(conv, _) => conv.algorithm(),
            Action::Widen(_) | Action::Append(_) => "in place",
        }
    }
}

impl<T: Element> Source<T> {
    fn value<'a>(&'a self, x: &'a Tensor<T>, arena: &'a Arena<T>) -> &'a Tensor<T> {
        match self {
            Source::Input => x,
            Source::Place(place) => arena[*place].as_ref().expect("a value lives until its last use"),
            Source::Constant(value) => value,
        }
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
        f.debug_struct("Plan").field("input", &self.input).field("steps", &steps).field("places", &self.places).finish()
    }
}

#[cfg(test)]
mod tests;
