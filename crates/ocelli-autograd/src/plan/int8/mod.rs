//! Inference in eight bits: a plan whose convolutions multiply bytes.
//!
//! Post-training quantization: weights have one scale for each output channel, and every value that a convolution reads
//! has one scale for the whole tensor, which is chosen by running the plan in `f32` on calibration images ([`range`]). A
//! convolution writes bytes where another reads them, so that values between convolutions are bytes in memory too; other
//! operations read and write numbers.

mod range;
mod step;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fmt;

use ocelli_tensor::ops::Storage;
use ocelli_tensor::{Shape, Tensor, threads};

use self::range::Range;
use self::step::{Calibrated, QuantizedStep, Slot, Source};
use super::check_input;
use super::fuse::{self, Fusion, Node, Operand, Weights};
use crate::{Error, Result, Trace, Var};

/// A compiled forward pass from one input to one output, whose convolutions and fully connected layers multiply bytes.
///
/// ```
/// use ocelli_autograd::{Parameter, QuantizedPlan, Tensor, Var, tensor::ops::Window, trace};
///
/// let w = Parameter::new(Tensor::full([3, 3, 3, 8], 0.1f32));
/// let x = Var::constant(Tensor::full([1, 32, 32, 3], 1.0));
/// let (y, trace) = trace(|| x.conv2d(&w.var(), &Window::square(3).padding(1), 1)?.relu());
/// let y = y?;
/// let plan = QuantizedPlan::compile(&trace, &x, &y, &[x.value().clone()])?;
/// assert_eq!(plan.to_string(), "int8 conv2d + relu\n");
/// assert!(plan.run(x.value())?.relative_error(y.value()) < 0.01);
/// # Ok::<(), ocelli_autograd::Error>(())
/// ```
pub struct QuantizedPlan {
    input: Shape,
    steps: Vec<Planned>,
    values: usize,
    output: Source,
}

struct Planned {
    label: String,
    step: QuantizedStep,
    inputs: Vec<Source>,
    /// Values that no later step reads.
    last_uses: Vec<usize>,
    output: usize,
}

/// The number of the plan's input among the values.
const INPUT: usize = 0;

impl QuantizedPlan {
    /// Compiles the part of `trace` that leads from `input` to `output`, as [`Plan::compile`](super::Plan::compile) does,
    /// with the ranges that values have for the batches of `calibration`: inputs of the plan, of the kind that it will be
    /// used for.
    ///
    /// # Errors
    /// What [`Plan::compile`](super::Plan::compile) and [`Plan::run`](super::Plan::run) return, and
    /// [`Error::NotCalibrated`] without an image.
    pub fn compile(trace: &Trace<f32>, input: &Var<f32>, output: &Var<f32>, calibration: &[Tensor]) -> Result<Self> {
        let weights = Weights { storage: Storage::Exact, origins: true };
        let fusion = fuse::fuse(trace, input.id(), output.id(), weights)?;
        check_calibration(input.shape(), calibration)?;
        let graph = Graph::new(&fusion, input.id());
        let values = threads::install(|| graph.calibrate(calibration))?;
        let operands = |(i, node): (usize, &Node<f32>)| {
            let inputs: Vec<Source> = node.inputs.iter().map(|operand| graph.source(operand)).collect();
            (inputs, graph.last_uses(i, node))
        };
        let operands: Vec<_> = fusion.nodes.iter().enumerate().map(operands).collect();
        let (output, count) = (graph.source(&fusion.output), fusion.nodes.len() + 1);
        let mut steps = Vec::with_capacity(fusion.nodes.len());
        for (node, (inputs, last_uses)) in fusion.nodes.into_iter().zip(operands) {
            let output = steps.len() + 1;
            let read = match inputs.first() {
                Some(Source::Value(value)) => values.get(value),
                _ => None,
            };
            let label = node.label.clone();
            let step = QuantizedStep::new(node, read, values.get(&output).map(|value| value.quantization))?;
            let label = if step.is_quantized() { format!("int8 {label}") } else { label };
            steps.push(Planned { label, step, inputs, last_uses, output });
        }
        Ok(QuantizedPlan { input: *input.shape(), steps, values: count, output })
    }

    /// The output for `x`: of the traced input's shape but for the first dimension, the batch size.
    ///
    /// # Errors
    /// [`Error::PlanInput`] for an `x` of another height, width or number of channels.
    pub fn run(&self, x: &Tensor) -> Result<Tensor> {
        check_input(&self.input, x)?;
        threads::install(|| self.execute(x))
    }

    fn execute(&self, x: &Tensor) -> Result<Tensor> {
        let mut slots: Vec<Slot> = (0..self.values).map(|_| Slot::default()).collect();
        slots[INPUT] = Slot::of(x.clone());
        for Planned { step, inputs, last_uses, output, .. } in &self.steps {
            let y = step.run(inputs, &mut slots)?;
            last_uses.iter().for_each(|&value| slots[value] = Slot::default());
            slots[*output] = y;
        }
        Ok(self.output.floats(&mut slots))
    }
}

fn check_calibration(input: &Shape, calibration: &[Tensor]) -> Result<()> {
    calibration.iter().try_for_each(|x| check_input(input, x))?;
    if calibration.iter().all(Tensor::is_empty) { Err(Error::NotCalibrated) } else { Ok(()) }
}

/// The steps in `f32`, and what is known of their values: the input is number 0, the output of node `i` number `i + 1`.
struct Graph<'a> {
    fusion: &'a Fusion<f32>,
    numbers: HashMap<u64, usize>,
    /// The values that convolutions on bytes read, as their input or as their residual.
    read_as_bytes: HashSet<usize>,
    /// The last node that reads each value.
    last_use: HashMap<usize, usize>,
}

impl<'a> Graph<'a> {
    fn new(fusion: &'a Fusion<f32>, input: u64) -> Self {
        let outputs = fusion.nodes.iter().enumerate().map(|(i, node)| (node.output, i + 1));
        let numbers: HashMap<u64, usize> = outputs.chain([(input, INPUT)]).collect();
        let (mut read_as_bytes, mut last_use) = (HashSet::new(), HashMap::new());
        // Backwards, since a maximum reads bytes if its own value is read as bytes.
        for (i, node) in fusion.nodes.iter().enumerate().rev() {
            let reads_bytes =
                step::multiplies_bytes(node) || step::max_pool(node).is_some() && read_as_bytes.contains(&(i + 1));
            for value in node.inputs.iter().filter_map(Operand::id).map(|id| numbers[&id]) {
                last_use.entry(value).or_insert(i);
                if reads_bytes {
                    read_as_bytes.insert(value);
                }
            }
        }
        last_use.extend(fusion.output.id().map(|id| (numbers[&id], fusion.nodes.len())));
        Graph { fusion, numbers, read_as_bytes, last_use }
    }

    fn source(&self, operand: &Operand<f32>) -> Source {
        match operand {
            Operand::Value(id) => Source::Value(self.numbers[id]),
            Operand::Constant(value) => Source::Constant(value.clone()),
        }
    }

    /// The values that node `i` is the last to read.
    fn last_uses(&self, i: usize, node: &Node<f32>) -> Vec<usize> {
        let mut values: Vec<usize> = node.inputs.iter().filter_map(Operand::id).map(|id| self.numbers[&id]).collect();
        values.retain(|value| self.last_use[value] == i);
        values.sort_unstable();
        values.dedup();
        values
    }

    /// Every value that is read as bytes.
    fn calibrate(&self, calibration: &[Tensor]) -> Result<HashMap<usize, Calibrated>> {
        let mut ranges: HashMap<usize, Range> = self.read_as_bytes.iter().map(|&value| (value, Range::new())).collect();
        for look in [Range::widen, Range::count] {
            for x in calibration {
                let mut slots: Vec<Option<Tensor>> = vec![None; self.fusion.nodes.len() + 1];
                let mut see = |value: usize, x: &Tensor| {
                    ranges.get_mut(&value).into_iter().for_each(|range| look(range, x));
                };
                see(INPUT, x);
                slots[INPUT] = Some(x.clone());
                for (i, node) in self.fusion.nodes.iter().enumerate() {
                    let sources: Vec<Source> = node.inputs.iter().map(|operand| self.source(operand)).collect();
                    let inputs: Vec<&Tensor> = sources.iter().map(|source| source.recorded(&slots)).collect();
                    let mut y = Tensor::default();
                    step::on_numbers(node).run(&inputs, &mut Tensor::default(), &mut y)?;
                    see(i + 1, &y);
                    self.last_uses(i, node).into_iter().for_each(|value| slots[value] = None);
                    slots[i + 1] = Some(y);
                }
            }
        }
        let calibrated = |range: &Range| Calibrated { quantization: range.quantization(), mean: range.means() };
        let mut values: HashMap<usize, Calibrated> =
            ranges.iter().map(|(&value, range)| (value, calibrated(range))).collect();
        // A maximum of bytes is one of them.
        for (i, node) in self.fusion.nodes.iter().enumerate().filter(|(_, node)| step::max_pool(node).is_some()) {
            let input = node.inputs[0].id().and_then(|id| values.get(&self.numbers[&id]));
            let input = input.map(|input| input.quantization);
            values.get_mut(&(i + 1)).into_iter().zip(input).for_each(|(own, input)| own.quantization = input);
        }
        Ok(values)
    }
}

/// One line a step, as of [`Plan`](super::Plan); those on bytes begin with `int8`.
impl fmt::Display for QuantizedPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{}", step.label))
    }
}

impl fmt::Debug for QuantizedPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<&str> = self.steps.iter().map(|step| step.label.as_str()).collect();
        f.debug_struct("QuantizedPlan").field("input", &self.input).field("steps", &steps).finish()
    }
}
