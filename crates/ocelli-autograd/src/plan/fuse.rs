//! Choosing the steps: which operations of a trace are needed, which vanish, and which become one convolution.

use std::collections::{HashMap, HashSet};

use ocelli_tensor::ops::{Activation, PackedConv, Storage, Window};
use ocelli_tensor::{Element, Shape, Tensor};

use super::role::{Convolution, Role};
use super::step::{Forward, Pointwise, Scale, Step, fused};
use crate::trace::Entry;
use crate::{Cost, Error, Result, Trace};

/// The steps in order, with values named by identity.
pub(super) struct Fusion<T: Element> {
    pub nodes: Vec<Node<T>>,
    pub output: Operand<T>,
}

impl<T: Element> Fusion<T> {
    /// How often each value is read, as the plan's output too.
    pub fn readers(&self) -> HashMap<u64, usize> {
        let mut readers = HashMap::new();
        let ids = self.nodes.iter().flat_map(|node| &node.inputs).chain([&self.output]).filter_map(Operand::id);
        ids.for_each(|id| *readers.entry(id).or_default() += 1);
        readers
    }
}

pub(super) struct Node<T: Element> {
    pub label: String,
    pub action: Action<T>,
    pub cost: Cost,
    pub inputs: Vec<Operand<T>>,
    pub output: u64,
    /// Of the output.
    pub shape: Shape,
    /// What other steps may be made of in its place; of a convolution if that was asked for.
    pub origin: Option<Origin<T>>,
    /// A second output, if it is wanted: the means over each row of the output's pixels.
    pub means: Option<Means>,
}

/// A value, and its shape `[N, H, 1, C]`.
#[derive(Clone, Copy)]
pub(super) struct Means {
    pub id: u64,
    pub shape: Shape,
}

/// What an operation, or several, were.
pub(super) enum Origin<T: Element> {
    /// A convolution, what follows it, and the shape of its input.
    Convolution(Box<Convolution<T>>, Option<Activation>, Shape),
    /// Maximum pooling.
    MaxPool { window: Window, ceil_mode: bool },
    /// The mean over an image's pixels.
    Mean,
}

/// What a plan does at once.
pub(super) enum Action<T: Element> {
    /// Makes a value.
    Run(Box<dyn Step<T>>),
    /// Joins the inputs' columns.
    Concat(Box<dyn Step<T>>),
    /// Joins the inputs' columns at the beginning of a value of so many columns.
    Widen(usize),
    /// Puts the inputs' columns into the output, which is there already, from that column on.
    Append(usize),
    /// Makes some columns of a value: so many it has, and from which on they are.
    Slice(Box<PackedConv<T>>, [usize; 2]),
}

impl<T: Element> Node<T> {
    pub fn is_concat(&self) -> bool {
        matches!(self.action, Action::Concat(_))
    }

    /// The elements of the step's workspace.
    pub fn workspace(&self) -> usize {
        match &self.action {
            Action::Run(step) | Action::Concat(step) => step.workspace(),
            Action::Slice(conv, _) => conv.workspace(),
            Action::Widen(_) | Action::Append(_) => 0,
        }
    }

    /// The convolution that the step is, if it adds no residual.
    pub fn convolution(&self) -> Option<&PackedConv<T>> {
        match &self.action {
            Action::Run(step) if self.inputs.len() == 1 => step.convolution(),
            _ => None,
        }
    }

    /// Whether the step can make the means over each row of its output's pixels as well.
    pub fn averages_rows(&self) -> bool {
        matches!(&self.action, Action::Run(step) if self.inputs.len() == 1 && step.averages_rows())
    }

    /// Whether the first input may have more columns than the step reads.
    pub fn reads_columns(&self) -> bool {
        matches!(&self.action, Action::Run(step) if step.reads_columns())
    }
}

#[derive(Clone)]
pub(super) enum Operand<T: Element> {
    Value(u64),
    Constant(Tensor<T>),
}

impl<T: Element> Operand<T> {
    pub fn id(&self) -> Option<u64> {
        match self {
            Operand::Value(id) => Some(*id),
            Operand::Constant(_) => None,
        }
    }

    fn constant(&self) -> Option<&Tensor<T>> {
        match self {
            Operand::Value(_) => None,
            Operand::Constant(value) => Some(value),
        }
    }
}

/// An operation that depends on the plan's input.
struct Call<'a, T: Element> {
    entry: &'a Entry<T>,
    role: Role<T>,
    inputs: Vec<Operand<T>>,
}

impl<T: Element> Call<'_, T> {
    /// Whether the second operand is a number for each image and channel of the first, `[N, 1, …, 1, C]`, in batches of any
    /// size: a constant has only so many.
    fn is_per_image(&self) -> bool {
        let (x, y) = (self.entry.input_shapes()[1], self.entry.output_shape());
        let last = y.rank().saturating_sub(1);
        let fits = |d: usize| x[d] == if d == 0 || d == last { y[d] } else { 1 };
        let depends = self.inputs.iter().all(|operand| operand.id().is_some());
        depends && x.rank() == y.rank() && last > 0 && (0..=last).all(fits)
    }
}

/// What becomes of weights.
#[derive(Clone, Copy)]
pub(super) struct Weights {
    pub storage: Storage,
    /// Whether nodes keep what they are made of, weights included.
    pub origins: bool,
}

pub(super) fn fuse<T: Element>(trace: &Trace<T>, input: u64, output: u64, weights: Weights) -> Result<Fusion<T>> {
    let (calls, output) = calls(trace, input, output)?;
    let mut chains = Chains::new(&calls, output.id(), weights);
    let mut nodes: Vec<(usize, Node<T>)> = Vec::new();
    for (i, call) in calls.iter().enumerate() {
        if let Role::Convolution(convolution) = &call.role {
            nodes.push(chains.convolution(i, convolution.clone())?);
        }
    }
    for i in 0..calls.len() {
        nodes.extend(chains.pointwise(i));
    }
    for (i, call) in calls.iter().enumerate().filter(|(i, _)| !chains.taken[*i]) {
        let step = Box::new(Forward(call.entry.op.clone()));
        let action = if matches!(call.role, Role::Concat) { Action::Concat(step) } else { Action::Run(step) };
        let mut node = node(call.entry, call.entry.name(), action, call.entry.cost(), call.inputs.clone());
        node.origin = match call.role {
            Role::MaxPool { window, ceil_mode } => Some(Origin::MaxPool { window, ceil_mode }),
            Role::Mean => Some(Origin::Mean),
            _ => None,
        };
        nodes.push((i, node));
    }
    // A chain runs where its last operation did, when the residual has been computed.
    nodes.sort_by_key(|(position, _)| *position);
    Ok(Fusion { nodes: nodes.into_iter().map(|(_, node)| node).collect(), output })
}

/// The operations between input and output, in order, without those that vanish: identities, and what depends on
/// constants alone.
fn calls<T: Element>(trace: &Trace<T>, input: u64, output: u64) -> Result<(Vec<Call<'_, T>>, Operand<T>)> {
    let mut needed = HashSet::from([output]);
    let mut entries: Vec<&Entry<T>> = Vec::new();
    for entry in trace.entries().iter().rev() {
        if entry.output != input && needed.contains(&entry.output) {
            needed.extend(&entry.inputs);
            entries.push(entry);
        }
    }
    if !needed.contains(&input) {
        return Err(Error::NotTraced);
    }
    let mut known: HashMap<u64, Operand<T>> = HashMap::from([(input, Operand::Value(input))]);
    let mut calls = Vec::with_capacity(entries.len());
    for entry in entries.into_iter().rev() {
        let operand = |id: &u64| match known.get(id) {
            Some(operand) => Ok(operand.clone()),
            None => trace.outside(*id).cloned().map(Operand::Constant).ok_or(Error::NotTraced),
        };
        let inputs = entry.inputs.iter().map(operand).collect::<Result<Vec<_>>>()?;
        let constants: Vec<_> = inputs.iter().map(Operand::constant).collect();
        let role = entry.op.role(&constants)?;
        let value = if matches!(role, Role::Identity) {
            inputs[0].clone()
        } else if let Some(constants) = constants.into_iter().collect::<Option<Vec<_>>>() {
            Operand::Constant(entry.op.run(&constants)?)
        } else {
            calls.push(Call { entry, role, inputs });
            Operand::Value(entry.output)
        };
        known.insert(entry.output, value);
    }
    let output = known.remove(&output).ok_or(Error::NotTraced)?;
    Ok((calls, output))
}

/// How many times more numbers an image must have than the weights that are scaled in its place.
const FEWER: usize = 4;

/// Which operations follow which, and which have been fused.
struct Chains<'a, T: Element> {
    calls: &'a [Call<'a, T>],
    /// The operations that read a value, once for each time; `None` is the reader of the plan's output.
    readers: HashMap<u64, Vec<Option<usize>>>,
    taken: Vec<bool>,
    weights: Weights,
}

impl<'a, T: Element> Chains<'a, T> {
    fn new(calls: &'a [Call<'a, T>], output: Option<u64>, weights: Weights) -> Self {
        let mut readers: HashMap<u64, Vec<_>> = HashMap::new();
        for (i, call) in calls.iter().enumerate() {
            call.inputs.iter().filter_map(Operand::id).for_each(|id| readers.entry(id).or_default().push(Some(i)));
        }
        output.into_iter().for_each(|id| readers.entry(id).or_default().push(None));
        Chains { calls, readers, taken: vec![false; calls.len()], weights }
    }

    /// The convolution at `start` with as much as fits into one step, and the position of its last operation: the weights
    /// of its input's channels in front of it; behind it affine maps, then a residual, then an activation, each the only
    /// reader of the one before.
    fn convolution(&mut self, start: usize, mut convolution: Convolution<T>) -> Result<(usize, Node<T>)> {
        let operands = convolution.operands();
        let mut inputs: Vec<_> = operands.iter().map(|&i| self.calls[start].inputs[i].clone()).collect();
        let mut names = vec![self.calls[start].entry.name()];
        let scale = self.channel_weights(start, &convolution);
        if let Some(product) = scale {
            inputs = self.calls[product].inputs.clone();
            names.insert(0, self.calls[product].entry.name());
            self.taken[product] = true;
        }
        let unsummed = inputs.len();
        let mut activation = None;
        let mut last = start;
        self.taken[start] = true;
        while let Some(next) = self.only_reader(self.calls[last].entry.output) {
            let (call, value) = (&self.calls[next], self.calls[last].entry.output);
            match &call.role {
                Role::Affine(affine) if inputs.len() == unsummed => convolution = convolution.then(affine)?,
                Role::Sum if inputs.len() == unsummed && same_shapes(call.entry) => {
                    inputs.extend(call.inputs.iter().filter(|operand| operand.id() != Some(value)).cloned());
                }
                Role::Activation(curve) => activation = Some(*curve),
                _ => break,
            }
            names.push(call.entry.name());
            self.taken[next] = true;
            last = next;
            if activation.is_some() {
                break;
            }
        }
        let entry = self.calls[last].entry;
        let first = self.calls[start].entry;
        let step = fused(self.weights.storage, &convolution, scale.is_some(), activation, &first.input_shapes()[0])?;
        let residuals = (inputs.len() - unsummed) * entry.output_shape().len() * size_of::<T>();
        let cost = Cost { bytes: first.cost().bytes + residuals as u64, ..first.cost() };
        let mut node = node(entry, &names.join(" + "), Action::Run(step), cost, inputs);
        if self.weights.origins {
            node.origin = Some(Origin::Convolution(Box::new(convolution), activation, first.input_shapes()[0]));
        }
        Ok((last, node))
    }

    /// The product with a number for each image and channel that only the convolution at `start` reads, if that can scale
    /// its weights instead and they are much fewer.
    fn channel_weights(&self, start: usize, convolution: &Convolution<T>) -> Option<usize> {
        let pointwise =
            convolution.window == Window::square(1) && convolution.groups == 1 && convolution.deformable.is_none();
        let id = self.calls[start].inputs[0].id().filter(|_| pointwise && !self.weights.origins)?;
        let product = self.calls[..start].iter().rposition(|call| call.entry.output == id)?;
        let call = &self.calls[product];
        let &[_, height, width, _] = &**call.entry.output_shape() else { return None };
        let few = FEWER * convolution.weight.shape().columns() <= height * width;
        let fits = matches!(call.role, Role::Product) && call.is_per_image() && few;
        (fits && self.only_reader(id) == Some(start)).then_some(product)
    }

    /// The operation at `start`, if it is one of channels or a sum that no convolution took, with the residual and the
    /// activation that follow. A lone sum or product stays what it is.
    fn pointwise(&mut self, start: usize) -> Option<(usize, Node<T>)> {
        if self.taken[start] {
            return None;
        }
        let first = &self.calls[start];
        let (mut scale, mut shift) = (Scale::One, None);
        let (mut inputs, mut residual) = (vec![first.inputs[0].clone()], None);
        match &first.role {
            Role::Affine(affine) => {
                scale = affine.scale.clone().map_or(Scale::One, Scale::Constant);
                shift.clone_from(&affine.shift);
            }
            Role::Product if first.is_per_image() => {
                scale = Scale::Input;
                inputs.push(first.inputs[1].clone());
            }
            Role::Sum if same_shapes(first.entry) => residual = Some(first.inputs[1].clone()),
            _ => return None,
        }
        let (mut names, mut activation, mut chain) = (vec![first.entry.name()], None, vec![start]);
        let mut last = start;
        while let Some(next) = self.only_reader(self.calls[last].entry.output).filter(|_| activation.is_none()) {
            let (call, value) = (&self.calls[next], self.calls[last].entry.output);
            match &call.role {
                Role::Sum if residual.is_none() && same_shapes(call.entry) => {
                    residual = call.inputs.iter().find(|operand| operand.id() != Some(value)).cloned();
                }
                Role::Activation(curve) => activation = Some(*curve),
                _ => break,
            }
            names.push(call.entry.name());
            chain.push(next);
            last = next;
        }
        if last == start && !matches!(first.role, Role::Affine(_)) {
            return None;
        }
        chain.into_iter().for_each(|i| self.taken[i] = true);
        let entry = self.calls[last].entry;
        let columns = entry.output_shape().columns();
        let step = Pointwise { columns, scale, shift, has_residual: residual.is_some(), activation };
        inputs.extend(residual);
        let shapes: Vec<_> = vec![*entry.output_shape(); inputs.len()];
        let cost = Cost::streaming::<T>(&shapes, entry.output_shape());
        Some((last, node(entry, &names.join(" + "), Action::Run(Box::new(step)), cost, inputs)))
    }

    /// The operation that reads a value, if that is the only one and still free.
    fn only_reader(&self, value: u64) -> Option<usize> {
        match self.readers.get(&value)?.as_slice() {
            [Some(reader)] if !self.taken[*reader] => Some(*reader),
            _ => None,
        }
    }
}

fn node<T: Element>(last: &Entry<T>, names: &str, action: Action<T>, cost: Cost, inputs: Vec<Operand<T>>) -> Node<T> {
    let label = label(last.scope(), names);
    Node { label, action, cost, inputs, output: last.output, shape: *last.output_shape(), origin: None, means: None }
}

fn same_shapes<T: Element>(entry: &Entry<T>) -> bool {
    let same = |shape: &Shape| shape == entry.output_shape();
    entry.input_shapes().iter().all(same)
}

fn label(scope: &str, names: &str) -> String {
    if scope.is_empty() { names.to_owned() } else { format!("{scope}: {names}") }
}
