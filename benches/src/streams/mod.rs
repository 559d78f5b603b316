//! Kernels with little arithmetic, on tensors that no cache holds.

mod depthwise;
mod norm;
mod pixelwise;
mod pool;
mod reorder;

use std::hint::black_box;

use ocelli_tensor::{Result, Shape};

/// A call of a kernel, on operands that it owns.
pub type Call = Box<dyn FnMut()>;

/// A kernel and the shape that it is timed on.
pub struct Stream {
    /// The kernel's name.
    pub kernel: String,
    /// The shape of its input.
    pub shape: Shape,
    /// Bytes that it must move: each read and each write of a tensor.
    pub bytes: f64,
    /// Makes the operands.
    pub prepare: Box<dyn FnOnce() -> Call>,
}

/// All of them.
pub fn all() -> Vec<Stream> {
    [pixelwise::streams(), norm::streams(), pool::streams(), reorder::streams(), depthwise::streams()]
        .into_iter()
        .flatten()
        .collect()
}

/// A kernel that moves so many times the bytes of its input.
fn stream(kernel: &str, shape: impl Into<Shape>, times: f64, prepare: impl FnOnce(&Shape) -> Call + 'static) -> Stream {
    let shape = shape.into();
    let bytes = times * (size_of::<f32>() * shape.len()) as f64;
    Stream { kernel: kernel.into(), shape, bytes, prepare: Box::new(move || prepare(&shape)) }
}

/// A call whose result is of no interest.
fn call<R>(mut f: impl FnMut() -> R + 'static) -> Call {
    Box::new(move || drop(black_box(f())))
}

/// A call that succeeds.
fn sound<R>(mut f: impl FnMut() -> Result<R> + 'static) -> Call {
    call(move || f().expect("the operands fit"))
}

/// The output of the residual blocks of ResNet-50's first stage, for 32 images: 98 MiB.
const BLOCK: [usize; 4] = [32, 56, 56, 256];

/// The output of ResNet's stem, for 32 images: 98 MiB.
const STEM: [usize; 4] = [32, 112, 112, 64];
