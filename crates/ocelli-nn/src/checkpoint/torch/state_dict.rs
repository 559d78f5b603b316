//! Finds the state dict in what a pickle built: the dict itself, or one inside a training checkpoint.

use super::value::{Heap, Value};
use crate::{Error, Result};

/// Where training scripts keep the state dict, the more specific names first.
const KEYS: [&str; 5] = ["state_dict", "model_state_dict", "model", "net", "weights"];

/// How deep the state dict may lie.
const MAX_DEPTH: usize = 4;

/// What `torch.nn.DataParallel` puts before every name.
const PARALLEL_PREFIX: &str = "module.";

/// The names and tensors (of [`Heap::tensors`]), in order.
pub(super) fn find<'a>(root: Value<'a>, heap: &Heap<'a>) -> Result<Vec<(&'a str, usize)>> {
    let mut value = root;
    for _ in 0..MAX_DEPTH {
        let Value::Dict(dict) = value else { break };
        let items = &heap.dicts[dict];
        let mut tensors: Vec<_> = items.iter().filter_map(named_tensor).collect();
        if !tensors.is_empty() {
            if tensors.iter().all(|(name, _)| name.starts_with(PARALLEL_PREFIX)) {
                tensors.iter_mut().for_each(|(name, _)| *name = &name[PARALLEL_PREFIX.len()..]);
            }
            return Ok(tensors);
        }
        let inner = |key: &str| items.iter().find(|(k, v)| *k == Value::Str(key) && matches!(v, Value::Dict(_)));
        let Some(&(_, next)) = KEYS.iter().find_map(|key| inner(key)) else { break };
        value = next;
    }
    Err(Error::checkpoint(format!("it holds no state dict (a dict of tensors, itself or under one of {KEYS:?})")))
}

fn named_tensor<'a>(item: &(Value<'a>, Value<'a>)) -> Option<(&'a str, usize)> {
    match *item {
        (Value::Str(name), Value::Tensor(tensor)) => Some((name, tensor)),
        _ => None,
    }
}
