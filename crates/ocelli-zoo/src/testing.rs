//! Gradient checks of blocks, in double precision.

use proptest::test_runner::TestCaseError;

use crate::nn::autograd::Parameter;
use crate::nn::autograd::gradcheck::GradCheck;
use crate::nn::tensor::Tensor;
use crate::nn::{Builder, Layer, Mode};

/// Checks the gradients of a block's input and parameters, some elements of each, in training and in evaluation.
pub fn check_block(block: &dyn Layer<f64>, b: &Builder<f64>, shape: [usize; 4]) -> Result<(), TestCaseError> {
    // Values that repeat nowhere, so that no two outputs tie under a kink.
    let input = Parameter::new(Tensor::from_fn(shape, |i| (i as f64 * 0.618_033_988_749_895).fract() * 2.0 - 1.0));
    let state = b.state();
    let mut parameters = vec![input.clone()];
    parameters.extend(state.parameters().map(|(_, parameter)| parameter.clone()));
    let check = GradCheck { samples: 4, ..GradCheck::default() };
    // Made anew each time, so that what is dropped at random is always the same.
    for training in [true, false] {
        let mode = || if training { Mode::train(0) } else { Mode::Eval };
        check
            .check_parameters(&parameters, || block.forward(&input.var(), &mode()))
            .map_err(|error| TestCaseError::fail(format!("training: {training}: {error}")))?;
    }
    Ok(())
}
