//! Candle: its operations are called one by one. `RAYON_NUM_THREADS` says how many threads they have.

use candle_core::{Device, Result, Tensor};
use ocelli_peers::Job;
use ocelli_peers::graph::{Engine, Graph, Operation, Pool};

struct Candle;

impl Engine for Candle {
    type Value = Tensor;

    fn weight(&self, values: &[f32], shape: &[usize], _affine: bool) -> Tensor {
        Tensor::from_slice(values, shape, &Device::Cpu).expect("a weight")
    }

    fn apply(&self, operation: &Operation, inputs: Vec<Tensor>) -> Tensor {
        apply(operation, &inputs).expect("Candle's operation")
    }
}

fn apply(operation: &Operation, inputs: &[Tensor]) -> Result<Tensor> {
    let x = &inputs[0];
    match operation {
        Operation::Conv { stride, padding, groups } => {
            let y = x.conv2d(&inputs[1], *padding, *stride, 1, *groups)?;
            match inputs.get(2) {
                Some(bias) => y.broadcast_add(&of_channels(bias)?),
                None => Ok(y),
            }
        }
        Operation::Affine => x.broadcast_mul(&of_channels(&inputs[1])?)?.broadcast_add(&of_channels(&inputs[2])?),
        Operation::Relu => x.relu(),
        Operation::Sigmoid => candle_nn::ops::sigmoid(x),
        Operation::Silu => x.silu(),
        Operation::Add => x + &inputs[1],
        Operation::Mul => x.broadcast_mul(&inputs[1]),
        Operation::MaxPool(pool) => padded(x, pool)?.max_pool2d_with_stride(pool.kernel, pool.stride),
        Operation::AveragePool(pool) => padded(x, pool)?.avg_pool2d_with_stride(pool.kernel, pool.stride),
        Operation::GlobalAveragePool => x.mean_keepdim((2, 3)),
        Operation::Concat => Tensor::cat(inputs, 1),
        Operation::Flatten => x.flatten_from(1),
        Operation::Gemm => x.matmul(&inputs[1].t()?)?.broadcast_add(&inputs[2]),
    }
}

/// `[C]` as `[1, C, 1, 1]`.
fn of_channels(values: &Tensor) -> Result<Tensor> {
    values.reshape((1, (), 1, 1))
}

/// Candle's pools have no padding. Zeros serve: these networks pool what a ReLU has made.
fn padded(x: &Tensor, pool: &Pool) -> Result<Tensor> {
    let (before, behind) = (pool.padding, pool.padding + pool.further);
    if behind == 0 {
        return Ok(x.clone());
    }
    x.pad_with_zeros(2, before, behind)?.pad_with_zeros(3, before, behind)
}

fn main() -> Result<()> {
    let job = Job::from_arguments();
    let graph = Graph::load(&job.model, Candle);
    let input = Tensor::from_slice(&job.input, &job.shape, &Device::Cpu)?;
    job.measure(|| graph.run(input.clone()).flatten_all().and_then(|y| y.to_vec1()).expect("logits"));
    Ok(())
}
