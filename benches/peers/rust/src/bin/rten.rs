//! RTen: reads ONNX; its weights are packed once.

use std::sync::Arc;

use ocelli_peers::Job;
use rten::{ModelOptions, RunOptions, ThreadPool};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;

fn main() {
    let job = Job::from_arguments();
    let model = ModelOptions::with_all_ops().prepack_weights(true).load_file(&job.model).expect("a model");
    let input = NdTensor::from_data(job.shape, job.input.clone());
    let threads = Arc::new(ThreadPool::with_num_threads(job.threads.try_into().expect("a number of threads")));
    job.measure(|| {
        let options = RunOptions::default().with_thread_pool(Some(threads.clone()));
        let output = model.run_one(input.view().into(), Some(options)).expect("RTen's output");
        NdTensor::<f32, 2>::try_from(output).expect("logits").to_vec()
    });
}
