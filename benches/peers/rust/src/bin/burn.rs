//! Burn on its Flex backend: its operations are called one by one. `RAYON_NUM_THREADS` says how many threads they have.

use burn::prelude::*;
use burn::tensor::TensorData;
use burn::tensor::activation::{relu, sigmoid, silu};
use burn::tensor::module::{avg_pool2d, conv2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use ocelli_peers::Job;
use ocelli_peers::graph::{Engine, Graph, Operation};

struct Burn(Device);

/// A tensor, whose type says how many dimensions it has.
#[derive(Clone)]
enum Value {
    Images(Tensor<4>),
    Matrix(Tensor<2>),
    Vector(Tensor<1>),
}

impl Value {
    fn images(self) -> Tensor<4> {
        let Self::Images(images) = self else { panic!("images are wanted") };
        images
    }

    fn matrix(self) -> Tensor<2> {
        let Self::Matrix(matrix) = self else { panic!("a matrix is wanted") };
        matrix
    }

    fn vector(self) -> Tensor<1> {
        let Self::Vector(vector) = self else { panic!("a vector is wanted") };
        vector
    }
}

impl Engine for Burn {
    type Value = Value;

    fn weight(&self, values: &[f32], shape: &[usize], affine: bool) -> Value {
        let data = TensorData::new(values.to_vec(), shape.to_vec());
        match shape.len() {
            4 => Value::Images(Tensor::from_data(data, &self.0)),
            2 => Value::Matrix(Tensor::from_data(data, &self.0)),
            _ if affine => Value::Images(Tensor::<1>::from_data(data, &self.0).reshape([1, values.len(), 1, 1])),
            _ => Value::Vector(Tensor::from_data(data, &self.0)),
        }
    }

    fn apply(&self, operation: &Operation, inputs: Vec<Value>) -> Value {
        let mut inputs = inputs.into_iter();
        let mut next = || inputs.next().expect("an input");
        Value::Images(match operation {
            Operation::Conv { stride, padding, groups } => {
                let options = ConvOptions::new([*stride; 2], [*padding; 2], [1, 1], *groups);
                let (x, weight) = (next().images(), next().images());
                conv2d(x, weight, inputs.next().map(Value::vector), options)
            }
            Operation::Affine => next().images() * next().images() + next().images(),
            Operation::Relu => match next() {
                Value::Matrix(x) => return Value::Matrix(relu(x)),
                x => relu(x.images()),
            },
            Operation::Sigmoid => sigmoid(next().images()),
            Operation::Silu => silu(next().images()),
            Operation::Add => next().images() + next().images(),
            Operation::Mul => next().images() * next().images(),
            Operation::MaxPool(pool) => {
                let options = MaxPoolOptions::new([pool.kernel; 2]).with_stride([pool.stride; 2]);
                max_pool2d(next().images(), options.with_padding([pool.padding; 2]).with_ceil_mode(pool.further > 0))
            }
            Operation::AveragePool(pool) => {
                let options = AvgPoolOptions::new([pool.kernel; 2]).with_stride([pool.stride; 2]);
                avg_pool2d(next().images(), options.with_padding([pool.padding; 2]))
            }
            Operation::GlobalAveragePool => next().images().mean_dims(&[2, 3]),
            Operation::Concat => Tensor::cat(inputs.map(Value::images).collect(), 1),
            Operation::Flatten => return Value::Matrix(next().images().flatten(1, 3)),
            Operation::Gemm => {
                let (x, weight, bias) = (next().matrix(), next().matrix(), next().vector());
                return Value::Matrix(x.matmul(weight.transpose()) + bias.unsqueeze());
            }
        })
    }
}

fn main() {
    let job = Job::from_arguments();
    let device = Device::flex();
    let input = Tensor::<4>::from_data(TensorData::new(job.input.clone(), job.shape), &device);
    let graph = Graph::load(&job.model, Burn(device));
    job.measure(|| graph.run(Value::Images(input.clone())).matrix().try_into_vec_as::<f32>().expect("logits"));
}
