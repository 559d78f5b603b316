//! Values side by side that are put there when somebody reads them: a normalisation takes them as they are.

use std::sync::{Arc, OnceLock};

use ocelli_tensor::{Element, Shape, Tensor, ops};

use crate::node::next_id;
use crate::ops::Concat;
use crate::var::Value;
use crate::{Cost, Pass, Result, Var, profile};

/// The value of a concatenation, and what it joins: no concatenations again.
pub(crate) struct Joined<T: Element> {
    pub parts: Vec<Var<T>>,
    pub shape: Shape,
    value: OnceLock<Tensor<T>>,
}

impl<T: Element> Joined<T> {
    pub fn value(&self) -> &Tensor<T> {
        self.value.get_or_init(|| {
            let parts: Vec<&Tensor<T>> = self.parts.iter().map(Var::value).collect();
            let value = profile::aside("concat", Pass::Forward, || ops::concat_columns(&parts));
            value.expect("parts of shapes that were checked")
        })
    }
}

impl<T: Element> Var<T> {
    /// The concatenation of these values.
    pub(crate) fn joined(values: &[&Var<T>]) -> Result<Var<T>> {
        let shapes: Vec<Shape> = values.iter().map(|value| *value.shape()).collect();
        let shape = ops::concat_shape(shapes.iter())?;
        if let [value] = values {
            return Ok((*value).clone());
        }
        let parts = values.iter().flat_map(|value| value.parts()).cloned().collect();
        let label = profile::label("concat", || Cost::streaming::<T>(&shapes, &shape));
        let columns = shapes.iter().map(Shape::columns).collect();
        let joined = Value::Joined(Arc::new(Joined { parts, shape, value: OnceLock::new() }));
        Ok(Var::made((Arc::new(Concat), columns), values, (next_id(), joined), label))
    }
}
