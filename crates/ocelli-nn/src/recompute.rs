//! Activation checkpointing of parts of a network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ocelli_autograd::Var;
use ocelli_autograd::tensor::Element;

use crate::{Mode, Result};

/// `f` of `inputs`, a part of a network, which the backward pass computes again rather than keep what it needs of it:
/// [`ocelli_autograd::checkpoint`] with a [`Mode`]. Values, gradients, what is random and running statistics are the
/// same bits as those of `f` itself.
///
/// ```
/// use std::sync::Arc;
///
/// use ocelli_nn::autograd::Var;
/// use ocelli_nn::tensor::Tensor;
/// use ocelli_nn::{Builder, Layer, Linear, LinearOptions, Mode, checkpoint};
///
/// let b = Builder::<f32>::new(1);
/// let layer = Arc::new(Linear::new(&b.enter("fc"), 3, 2, LinearOptions::default())?);
/// let x = Var::constant(Tensor::full([4, 3], 1.0));
/// let y = checkpoint(&[&x], &Mode::train(0), move |x, mode| layer.forward(&x[0], mode))?;
/// y.sum()?.backward()?;
/// # Ok::<(), ocelli_nn::Error>(())
/// ```
pub fn checkpoint<T: Element>(
    inputs: &[&Var<T>],
    mode: &Mode,
    f: impl Fn(&[Var<T>], &Mode) -> Result<Var<T>> + Send + Sync + 'static,
) -> Result<Var<T>> {
    let (start, drawn) = (mode.fork(), Arc::new(AtomicU64::new(0)));
    let count = drawn.clone();
    let y = ocelli_autograd::checkpoint(inputs, move |x| {
        // Every run draws the seeds of the first.
        let mode = start.fork();
        let y = f(x, &mode);
        count.store(mode.drawn(), Ordering::Relaxed);
        y
    })?;
    mode.skip_to(drawn.load(Ordering::Relaxed));
    Ok(y)
}
