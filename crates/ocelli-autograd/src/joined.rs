//! Values side by side that are put there when somebody reads them: a normalisation takes them as they are.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ocelli_tensor::{Element, Shape, Tensor, ops};

use crate::node::next_id;
use crate::ops::Concat;
use crate::var::Value;
use crate::{Cost, Pass, Result, Var, profile};

/// The value of a concatenation.
pub(crate) struct Joined<T: Element> {
    pub shape: Shape,
    /// What it joins, no concatenations again; let go when there is a value.
    parts: Mutex<Vec<Var<T>>>,
    value: OnceLock<Tensor<T>>,
}

impl<T: Element> Joined<T> {
    pub fn value(&self) -> &Tensor<T> {
        self.value.get_or_init(|| {
            let parts = std::mem::take(&mut *self.parts.lock().unwrap_or_else(PoisonError::into_inner));
            let tensors: Vec<&Tensor<T>> = parts.iter().map(Var::value).collect();
            let value = profile::aside("concat", Pass::Forward, || ops::concat_columns(&tensors));
            value.expect("parts of shapes that were checked")
        })
    }

    /// The parts, if they have not been put together.
    pub fn parts(&self) -> Option<Vec<Var<T>>> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        (!parts.is_empty()).then(|| parts.clone())
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
        let parts = values.iter().flat_map(|value| value.parts()).collect();
        let label = profile::label("concat", || Cost::streaming::<T>(&shapes, &shape));
        let columns = shapes.iter().map(Shape::columns).collect();
        let joined = Value::Joined(Arc::new(Joined { shape, parts: Mutex::new(parts), value: OnceLock::new() }));
        Ok(Var::made((Arc::new(Concat), columns), values, (next_id(), joined), label))
    }
}
