//! What a graph keeps of a value for its backward pass: the tensor, or how it was computed.

use std::fmt;
use std::sync::{Arc, OnceLock};

use ocelli_tensor::{Element, Tensor};

use crate::Result;
use crate::op::AnyOp;

/// A value that an operation keeps for its backward pass: as it is, or as a recipe, if the operation that computed it
/// [is done again](crate::Op::repeats). Clones share what they compute, which lives until the last of them is dropped.
#[derive(Clone)]
pub struct Kept<T: Element = f32>(Form<T>);

#[derive(Clone)]
enum Form<T: Element> {
    Value(Tensor<T>),
    Recipe(Arc<Recipe<T>>),
}

struct Recipe<T: Element> {
    op: Arc<dyn AnyOp<T>>,
    inputs: Vec<Kept<T>>,
    /// How many recipes may have to be followed, one inside the other.
    depth: usize,
    value: OnceLock<Tensor<T>>,
}

/// The longest chain of recipes. They are followed, and dropped, by recursion.
const DEEPEST: usize = 100;

impl<T: Element> Kept<T> {
    /// The operation with its inputs, in place of its value; unless that would make too long a chain.
    pub(crate) fn recipe(op: Arc<dyn AnyOp<T>>, inputs: Vec<Kept<T>>) -> Option<Self> {
        let depth = 1 + inputs.iter().map(Kept::depth).max().unwrap_or(0);
        let recipe = Recipe { op, inputs, depth, value: OnceLock::new() };
        (depth <= DEEPEST).then(|| Kept(Form::Recipe(Arc::new(recipe))))
    }

    /// Whether it is a recipe.
    pub fn is_recipe(&self) -> bool {
        matches!(self.0, Form::Recipe(_))
    }

    /// The value, computed again if it is a recipe that nobody has followed yet: the same bits, since operations and
    /// their attributes do not change.
    pub fn value(&self) -> Result<Tensor<T>> {
        let recipe = match &self.0 {
            Form::Value(value) => return Ok(value.clone()),
            Form::Recipe(recipe) => recipe,
        };
        if let Some(value) = recipe.value.get() {
            return Ok(value.clone());
        }
        let inputs = recipe.inputs.iter().map(Kept::value).collect::<Result<Vec<_>>>()?;
        let value = recipe.op.run(&inputs.iter().collect::<Vec<_>>())?;
        Ok(recipe.value.get_or_init(|| value).clone())
    }

    /// The value, if it need not be computed.
    pub fn at_hand(&self) -> Option<Tensor<T>> {
        match &self.0 {
            Form::Value(value) => Some(value.clone()),
            Form::Recipe(recipe) => recipe.value.get().cloned(),
        }
    }

    fn depth(&self) -> usize {
        match &self.0 {
            Form::Value(_) => 0,
            Form::Recipe(recipe) => recipe.depth,
        }
    }
}

impl<T: Element> From<Tensor<T>> for Kept<T> {
    fn from(value: Tensor<T>) -> Self {
        Kept(Form::Value(value))
    }
}

impl<T: Element> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Value(value) => value.fmt(f),
            Form::Recipe(recipe) => write!(f, "{:?} of {:?}", recipe.op, recipe.inputs),
        }
    }
}

#[cfg(test)]
mod tests;
