//! tract: reads ONNX.

use ocelli_peers::Job;
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;

fn main() -> TractResult<()> {
    let job = Job::from_arguments();
    if job.threads > 1 {
        set_default_executor(Executor::multithread(job.threads));
    }
    let model = tract_onnx::onnx().model_for_path(&job.model)?.into_optimized()?.into_runnable()?;
    let input: TValue = tract_ndarray::Array4::from_shape_vec(job.shape, job.input.clone())?.into_tensor().into();
    job.measure(|| {
        let outputs = model.run(tvec!(input.clone())).expect("tract's output");
        outputs[0].to_plain_array_view().expect("numbers").iter().copied().collect()
    });
    Ok(())
}
