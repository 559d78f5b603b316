//! A network as `../graph.py` writes it, for engines whose operations are called one by one.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::Deserialize;

use crate::floats;

#[derive(Deserialize)]
pub struct Graph {
    input: String,
    output: String,
    nodes: Vec<Node>,
    /// Where each weight begins in the file of weights, in numbers.
    weights: HashMap<String, Weight>,
}

#[derive(Deserialize)]
struct Node {
    operation: Operation,
    inputs: Vec<String>,
    output: String,
}

#[derive(Deserialize)]
struct Weight {
    shape: Vec<usize>,
    offset: usize,
}

/// ONNX's operations, and two that several of them were made into.
#[derive(Deserialize)]
pub enum Operation {
    Conv {
        stride: usize,
        padding: usize,
        groups: usize,
    },
    /// A batch normalization that no convolution takes: x · scale + shift, for each channel.
    Affine,
    Relu,
    Sigmoid,
    /// x · sigmoid(x).
    Silu,
    Add,
    Mul,
    MaxPool(Pool),
    AveragePool(Pool),
    GlobalAveragePool,
    Concat,
    Flatten,
    Gemm,
}

#[derive(Clone, Copy, Deserialize)]
pub struct Pool {
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    /// Further padding at the bottom and on the right, for rounding up the output's size.
    pub further: usize,
}

/// An engine whose operations a graph calls.
pub trait Engine {
    type Value: Clone;

    /// A weight as the operations want it; `affine` says that it is a scale or shift of [`Operation::Affine`].
    fn weight(&self, values: &[f32], shape: &[usize], affine: bool) -> Self::Value;

    fn apply(&self, operation: &Operation, inputs: Vec<Self::Value>) -> Self::Value;
}

/// A graph whose weights an engine has.
pub struct Loaded<E: Engine> {
    engine: E,
    graph: Graph,
    weights: HashMap<String, E::Value>,
    /// For each node's inputs, whether this is the value's last use.
    last: Vec<Vec<bool>>,
}

impl Graph {
    /// Reads `path`, and the weights from the file beside it that ends in `.weights`.
    pub fn load<E: Engine>(path: &Path, engine: E) -> Loaded<E> {
        let file = BufReader::new(File::open(path).expect("the graph's file"));
        let graph: Self = serde_json::from_reader(file).expect("a graph");
        let values = floats(path.with_extension("weights")).expect("the weights' file");
        let affine = |name: &String| {
            graph.nodes.iter().any(|node| matches!(node.operation, Operation::Affine) && node.inputs.contains(name))
        };
        let weights = graph.weights.iter().map(|(name, weight)| {
            let values = &values[weight.offset..][..weight.shape.iter().product()];
            (name.clone(), engine.weight(values, &weight.shape, affine(name)))
        });
        let (weights, last) = (weights.collect(), graph.last_uses());
        Loaded { engine, graph, weights, last }
    }

    fn last_uses(&self) -> Vec<Vec<bool>> {
        let last = |at: usize, name: &String| self.nodes[at + 1..].iter().all(|later| !later.inputs.contains(name));
        let of_node = |(at, node): (usize, &Node)| node.inputs.iter().map(|name| last(at, name)).collect();
        self.nodes.iter().enumerate().map(of_node).collect()
    }
}

impl<E: Engine> Loaded<E> {
    /// The network's output. What no later node wants is dropped, so that engines may write into it.
    pub fn run(&self, input: E::Value) -> E::Value {
        let mut values = HashMap::from([(&self.graph.input, input)]);
        for (node, last) in self.graph.nodes.iter().zip(&self.last) {
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for (name, last) in node.inputs.iter().zip(last) {
                inputs.push(match self.weights.get(name) {
                    Some(weight) => weight.clone(),
                    None if *last => values.remove(name).expect("a value that was computed"),
                    None => values[name].clone(),
                });
            }
            values.insert(&node.output, self.engine.apply(&node.operation, inputs));
        }
        values.remove(&self.graph.output).expect("an output")
    }
}
