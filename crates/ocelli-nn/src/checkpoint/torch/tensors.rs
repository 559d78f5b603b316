//! Makes tensors of views into storages, with every claim of the pickle checked against the bytes.

use std::borrow::Cow;
use std::collections::HashMap;

use ocelli_autograd::tensor::{Shape, Tensor};

use super::value::{Heap, Storage, TensorView};
use crate::checkpoint::{Checkpoint, Dtype};
use crate::{Error, Result};

/// How many elements all tensors together may have for each byte of the file. Without sharing there is at most one;
/// the rest is for tensors that share storages, which a hostile file could otherwise multiply without end.
const ELEMENTS_PER_BYTE: usize = 4;

/// The checkpoint of these named views. `read` gives a storage's bytes, and is called once a storage.
pub(super) fn assemble<'a>(
    named: &[(&'a str, usize)],
    heap: &Heap<'a>,
    file_length: usize,
    mut read: impl FnMut(&Storage<'a>) -> Result<Cow<'a, [u8]>>,
) -> Result<Checkpoint> {
    let mut of_storage: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut keys = Vec::new();
    let mut budget = file_length.saturating_mul(ELEMENTS_PER_BYTE);
    for (i, &(name, tensor)) in named.iter().enumerate() {
        let view = &heap.tensors[tensor];
        let elements = Extent::of(view).filter(|extent| extent.end <= heap.storages[view.storage].len);
        let elements = elements.ok_or_else(|| bad(name, "reaches beyond its storage"))?;
        let needed = elements.count.max(elements.end - view.offset.min(elements.end));
        budget = budget.checked_sub(needed).ok_or_else(|| bad(name, "has more elements than the file has room for"))?;
        let key = heap.storages[view.storage].key;
        of_storage.entry(key).or_insert_with(|| (keys.push(key), Vec::new()).1).push(i);
    }

    let mut tensors: Vec<Option<(Dtype, Tensor<f32>)>> = vec![None; named.len()];
    for key in keys {
        let users = &of_storage[key];
        let Some(&first) = users.first() else { continue };
        let bytes = read(&heap.storages[heap.tensors[named[first].1].storage])?;
        for &i in users {
            let (name, tensor) = named[i];
            let view = &heap.tensors[tensor];
            let dtype = heap.storages[view.storage].dtype;
            tensors[i] = Some((dtype, gather(name, view, dtype, &bytes)?));
        }
    }

    let mut checkpoint = Checkpoint::new();
    for (&(name, _), tensor) in named.iter().zip(tensors) {
        if let Some((dtype, tensor)) = tensor {
            checkpoint.insert_as(name, dtype, tensor);
        }
    }
    Ok(checkpoint)
}

/// How many elements a view has, and the end of the part of the storage that it touches.
struct Extent {
    count: usize,
    end: usize,
}

impl Extent {
    /// `None` if a number overflows or the strides don't belong to the size.
    fn of(view: &TensorView) -> Option<Self> {
        if view.size.len() != view.stride.len() {
            return None;
        }
        let count = view.size.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        if count == 0 {
            return Some(Extent { count, end: 0 });
        }
        let steps = view.size.iter().zip(&view.stride);
        let last = steps.into_iter().try_fold(view.offset, |at, (d, s)| at.checked_add((d - 1).checked_mul(*s)?))?;
        Some(Extent { count, end: last.checked_add(1)? })
    }
}

/// Copies a view, which need not be contiguous, into a tensor.
fn gather(name: &str, view: &TensorView, dtype: Dtype, bytes: &[u8]) -> Result<Tensor<f32>> {
    let shape = Shape::new(&view.size).map_err(|e| bad(name, &e.to_string()))?;
    let extent = Extent::of(view).ok_or_else(|| bad(name, "reaches beyond its storage"))?;
    if extent.count == 0 {
        return Ok(Tensor::zeros(shape));
    }
    let end = extent.end.checked_mul(dtype.size());
    let touched = end.and_then(|end| bytes.get(view.offset * dtype.size()..end));
    let values = dtype.decode(touched.ok_or_else(|| bad(name, "reaches beyond the bytes of its storage"))?);
    if is_contiguous(view) {
        return Ok(Tensor::from_vec(shape, values)?);
    }
    let mut index = vec![0; view.size.len()];
    Ok(Tensor::from_fn(shape, |_| {
        let at: usize = index.iter().zip(&view.stride).map(|(i, s)| i * s).sum();
        for (i, &d) in index.iter_mut().zip(&view.size).rev() {
            *i += 1;
            if *i < d {
                break;
            }
            *i = 0;
        }
        values[at]
    }))
}

/// Whether the elements follow each other in row-major order; the stride of a dimension of one element is free.
fn is_contiguous(view: &TensorView) -> bool {
    let mut expected = 1;
    view.size.iter().zip(&view.stride).rev().all(|(&d, &s)| {
        let fits = d == 1 || s == expected;
        expected *= d;
        fits
    })
}

fn bad(name: &str, what: &str) -> Error {
    Error::checkpoint(format!("tensor {name:?} {what}"))
}
