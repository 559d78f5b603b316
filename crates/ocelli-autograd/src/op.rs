//! The contract of a differentiable operation.

use std::fmt::Debug;

use ocelli_tensor::ops::{GradientSums, Window};
use ocelli_tensor::{Element, Shape, Tensor};

use crate::plan::Role;
use crate::{Gate, Kept, Result, Target};

/// One gradient for each input of an operation; `None` for an input that needs none.
pub type Gradients<T> = Vec<Option<Tensor<T>>>;

/// A differentiable operation: a struct that holds its attributes, applied to values by [`Var::apply`].
///
/// `needs[i]` says whether input `i` requires a gradient. It is the same in `forward` and `backward`, so that an
/// operation keeps only what the gradients that will be asked for depend on, and computes only those. All of it is
/// `false` when nothing is recorded.
///
/// ```
/// use ocelli_autograd::{Gradients, Op, Parameter, Result, Tensor, Var};
///
/// /// y = x³, whose gradient is dx = 3 x² · dy
/// #[derive(Debug)]
/// struct Cube;
///
/// impl Op<f32> for Cube {
///     type Saved = Option<Tensor>;
///
///     fn name(&self) -> &'static str {
///         "cube"
///     }
///
///     fn forward(&self, inputs: &[&Tensor], needs: &[bool]) -> Result<(Tensor, Self::Saved)> {
///         Ok((inputs[0].map(|x| x * x * x), needs[0].then(|| inputs[0].clone())))
///     }
///
///     fn backward(&self, x: Self::Saved, dy: Tensor, _: &[bool]) -> Result<Gradients<f32>> {
///         let dx = x.map(|x| Tensor::from_fn(x.shape(), |i| 3.0 * x.data()[i].powi(2) * dy.data()[i]));
///         Ok(vec![dx])
///     }
/// }
///
/// let x = Parameter::new(Tensor::scalar(2.0));
/// Var::apply(Cube, &[&x.var()])?.backward()?;
/// assert_eq!(x.grad(), Some(Tensor::scalar(12.0)));
/// # Ok::<(), ocelli_autograd::Error>(())
/// ```
///
/// [`Var::apply`]: crate::Var::apply
pub trait Op<T: Element>: Debug + Send + Sync + 'static {
    /// What the backward pass needs of the forward pass: tensors, shapes, an argmax. `()` for nothing.
    type Saved: Send + 'static;

    /// The operation's name, as summaries and errors show it.
    fn name(&self) -> &'static str;

    /// Computes the value, and what `backward` will need of it.
    fn forward(&self, inputs: &[&Tensor<T>], needs: &[bool]) -> Result<(Tensor<T>, Self::Saved)>;

    /// Computes the value alone, as inference plans do, into `y`, whose memory is that of an earlier value: an operation
    /// that [resizes](Tensor::resize) `y`, rather than to replace it, allocates nothing when it is repeated.
    fn forward_into(&self, inputs: &[&Tensor<T>], y: &mut Tensor<T>) -> Result<()> {
        *y = self.forward(inputs, &vec![false; inputs.len()])?.0;
        Ok(())
    }

    /// The gradients of the inputs that need one, each of its input's shape, from the gradient `dy` of the value.
    fn backward(&self, saved: Self::Saved, dy: Tensor<T>, needs: &[bool]) -> Result<Gradients<T>>;

    /// As [`backward`](Self::backward), with what each input's gradient is so far, and what is to be done to it: the
    /// operation may do some of that by itself.
    fn backward_onto(
        &self,
        saved: Self::Saved,
        dy: Tensor<T>,
        needs: &[bool],
        _targets: &mut [Target<'_, T>],
    ) -> Result<Gradients<T>> {
        self.backward(saved, dy, needs)
    }

    /// What the value's gradient goes through first, before anything else is done with it, if the operation that completes
    /// the gradient may see to that.
    fn gate(&self, _saved: &Self::Saved) -> Result<Option<Gate<T>>> {
        Ok(None)
    }

    /// Told before `backward` that `dy` will have gone through the [gate](Self::gate), and what its sums are.
    fn passed(&self, _saved: &mut Self::Saved, _sums: GradientSums) {}

    /// Whether a backward pass computes the value again where it is needed, so that the graph does not keep it: for what
    /// is cheap and whose inputs, which are kept in place of it, take no more memory.
    fn repeats(&self, _inputs: &[Kept<T>]) -> bool {
        false
    }

    /// Puts inputs, and the value, into `saved` as the graph keeps them, in place of the tensors that `forward` put
    /// there. Called once for every operation that is recorded; an operation that keeps none of them, or only small
    /// ones, has nothing to do.
    fn keep(&self, _saved: &mut Self::Saved, _inputs: &[Kept<T>], _value: &Kept<T>) {}

    /// The work of one forward pass.
    fn cost(&self, inputs: &[Shape], output: &Shape) -> Cost {
        Cost::streaming::<T>(inputs, output)
    }

    /// The window that the operation slides over images, if it does.
    fn window(&self) -> Option<Window> {
        None
    }

    /// How an inference plan may treat the operation, given the values of those inputs that are constant.
    fn role(&self, _constants: &[Option<&Tensor<T>>]) -> Result<Role<T>> {
        Ok(Role::Opaque)
    }
}

/// Any [`Op`], whatever it saves: what a trace and a plan hold.
pub(crate) trait AnyOp<T: Element>: Debug + Send + Sync {
    fn name(&self) -> &'static str;
    fn run(&self, inputs: &[&Tensor<T>]) -> Result<Tensor<T>>;
    fn run_into(&self, inputs: &[&Tensor<T>], y: &mut Tensor<T>) -> Result<()>;
    fn cost(&self, inputs: &[Shape], output: &Shape) -> Cost;
    fn window(&self) -> Option<Window>;
    fn role(&self, constants: &[Option<&Tensor<T>>]) -> Result<Role<T>>;
}

impl<T: Element, O: Op<T>> AnyOp<T> for O {
    fn name(&self) -> &'static str {
        Op::name(self)
    }

    fn run(&self, inputs: &[&Tensor<T>]) -> Result<Tensor<T>> {
        self.forward(inputs, &vec![false; inputs.len()]).map(|(value, _)| value)
    }

    fn run_into(&self, inputs: &[&Tensor<T>], y: &mut Tensor<T>) -> Result<()> {
        self.forward_into(inputs, y)
    }

    fn cost(&self, inputs: &[Shape], output: &Shape) -> Cost {
        Op::cost(self, inputs, output)
    }

    fn window(&self) -> Option<Window> {
        Op::window(self)
    }

    fn role(&self, constants: &[Option<&Tensor<T>>]) -> Result<Role<T>> {
        Op::role(self, constants)
    }
}

/// What a forward pass of an operation costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Multiplications with an addition, as papers count them: convolutions and matrix products only.
    pub macs: u64,
    /// Bytes of all inputs and of the output.
    pub bytes: u64,
}

impl Cost {
    /// An operation that reads its inputs and writes its output, once, and multiplies no matrices.
    pub fn streaming<T: Element>(inputs: &[Shape], output: &Shape) -> Self {
        let elements: usize = inputs.iter().chain([output]).map(Shape::len).sum();
        Cost { macs: 0, bytes: (elements * size_of::<T>()) as u64 }
    }

    /// As [`streaming`](Self::streaming), with products.
    pub fn products<T: Element>(macs: usize, inputs: &[Shape], output: &Shape) -> Self {
        Cost { macs: macs as u64, ..Cost::streaming::<T>(inputs, output) }
    }
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Self {
        costs.fold(Cost::default(), |a, b| Cost { macs: a.macs + b.macs, bytes: a.bytes + b.bytes })
    }
}
