//! What a pickle may build: plain data, and tensors that view storages.
//!
//! Values are small and refer to their contents by index into one [`Heap`], so sharing, cycles and any depth of
//! nesting cost nothing: copying is flat, and nothing is walked or dropped recursively.

use crate::checkpoint::Dtype;

/// One slot of the machine's stack.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// A number that no tensor needs, such as a learning rate that was saved beside them.
    Float,
    Str(&'a str),
    Global(Global),
    /// Of [`Heap::sequences`].
    Tuple(usize),
    /// Of [`Heap::sequences`].
    List(usize),
    /// Of [`Heap::dicts`].
    Dict(usize),
    /// Of [`Heap::storages`].
    Storage(usize),
    /// Of [`Heap::tensors`].
    Tensor(usize),
}

/// The names from Python that a pickle may refer to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

impl Global {
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
            ("torch", "DoubleStorage") => Global::Storage(Dtype::F64),
            ("torch", "FloatStorage") => Global::Storage(Dtype::F32),
            ("torch", "HalfStorage") => Global::Storage(Dtype::F16),
            ("torch", "BFloat16Storage") => Global::Storage(Dtype::Bf16),
            ("torch", "LongStorage") => Global::Storage(Dtype::I64),
            ("torch", "IntStorage") => Global::Storage(Dtype::I32),
            ("torch", "ShortStorage") => Global::Storage(Dtype::I16),
            ("torch", "CharStorage") => Global::Storage(Dtype::I8),
            ("torch", "ByteStorage") => Global::Storage(Dtype::U8),
            ("torch", "BoolStorage") => Global::Storage(Dtype::Bool),
            _ => return None,
        })
    }
}

/// A run of elements in the file, which tensors view.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Storage<'a> {
    pub(super) key: &'a str,
    pub(super) dtype: Dtype,
    /// In elements, as the pickle claims.
    pub(super) len: usize,
}

/// A strided view into a storage, all in elements, as the pickle claims.
#[derive(Debug, Clone)]
pub(super) struct TensorView {
    /// Of [`Heap::storages`].
    pub(super) storage: usize,
    pub(super) offset: usize,
    pub(super) size: Vec<usize>,
    pub(super) stride: Vec<usize>,
}

/// The contents of all values.
#[derive(Debug, Default)]
pub(super) struct Heap<'a> {
    pub(super) sequences: Vec<Vec<Value<'a>>>,
    pub(super) dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    pub(super) storages: Vec<Storage<'a>>,
    pub(super) tensors: Vec<TensorView>,
}
