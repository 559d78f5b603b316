//! The restricted unpickler: pickle protocol 2, as `torch.save` writes it.
//!
//! The instructions are those of Python's `pickletools`. What is missing is missing on purpose: there is no
//! instruction here that makes an object of a class, and [`Global`] names all that may be called.

use std::collections::HashMap;

use ocelli_autograd::tensor::MAX_RANK;

use super::value::{Global, Heap, Storage, TensorView, Value};
use crate::{Error, Result};

/// Limits on what one pickle may build; a state dict of a thousand tensors needs a hundredth of each.
const MAX_STACK: usize = 1 << 20;
const MAX_OBJECTS: usize = 1 << 21;

/// Runs one pickle from the start of `bytes`: its value, what that refers to, and how many bytes it took.
pub(super) fn unpickle(bytes: &[u8]) -> Result<(Value<'_>, Heap<'_>, usize)> {
    let mut machine = Machine {
        input: bytes,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        heap: Heap::default(),
    };
    let value = machine.run()?;
    Ok((value, machine.heap, machine.at))
}

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack at the marks that are still open.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    heap: Heap<'a>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Value<'a>> {
        loop {
            let opcode = self.byte()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
            let objects = self.heap.sequences.len() + self.heap.dicts.len() + self.heap.tensors.len() + self.memo.len();
            if self.stack.len() > MAX_STACK || self.marks.len() > MAX_STACK || objects > MAX_OBJECTS {
                return Err(self.broken("builds more objects than any state dict"));
            }
        }
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            0x80 => match self.byte()? {
                0..=2 => {}
                protocol => return Err(self.broken(format!("has protocol {protocol}, and only 2 is supported"))),
            },
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'K' => self.number::<1>(|b| i64::from(b[0]))?,
            b'M' => self.number::<2>(|b| i64::from(u16::from_le_bytes(b)))?,
            b'J' => self.number::<4>(|b| i64::from(i32::from_le_bytes(b)))?,
            0x8a => self.long()?,
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::Float);
            }
            b'X' | b'T' => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                self.string(length)?;
            }
            b'U' => {
                let length = usize::from(self.byte()?);
                self.string(length)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let global =
                    Global::find(module, name).ok_or_else(|| Error::RefusedGlobal(format!("{module}.{name}")))?;
                self.stack.push(Value::Global(global));
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.pop()?;
                self.stack.extend([top, top]);
            }
            b'q' => {
                let slot = u32::from(self.byte()?);
                self.memo.insert(slot, self.top()?);
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.memo.insert(slot, self.top()?);
            }
            b'h' => {
                let slot = u32::from(self.byte()?);
                self.recall(slot)?;
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.recall(slot)?;
            }
            b')' => self.tuple(Vec::new()),
            0x85..=0x87 => {
                let items = self.pop_last(usize::from(opcode - 0x84))?;
                self.tuple(items);
            }
            b't' => {
                let items = self.pop_mark()?;
                self.tuple(items);
            }
            b']' => {
                self.heap.sequences.push(Vec::new());
                self.stack.push(Value::List(self.heap.sequences.len() - 1));
            }
            b'a' => {
                let items = self.pop_last(1)?;
                self.append(items)?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            b'}' => self.dict(),
            b's' => {
                let items = self.pop_last(2)?;
                self.set_items(items)?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(items)?;
            }
            b'Q' => self.persistent()?,
            b'R' => self.call()?,
            // Attributes of an ordered dict: PyTorch hangs its version metadata there, which is of no use here.
            b'b' => {
                self.pop()?;
                let Value::Dict(_) = self.top()? else { return Err(self.broken("sets attributes of a plain value")) };
            }
            _ => return Err(self.broken(format!("has the unsupported instruction {opcode:#04x}"))),
        }
        Ok(())
    }

    /// A reference to a storage: `("storage", class, key, device, length[, view])`.
    fn persistent(&mut self) -> Result<()> {
        let reference = self.pop()?;
        let Some(storage) = self.storage_reference(reference) else {
            return Err(self.broken("refers to a storage in an unknown form"));
        };
        self.heap.storages.push(storage);
        self.stack.push(Value::Storage(self.heap.storages.len() - 1));
        Ok(())
    }

    fn storage_reference(&self, reference: Value<'a>) -> Option<Storage<'a>> {
        match *self.items(reference)? {
            [
                Value::Str("storage"),
                Value::Global(Global::Storage(dtype)),
                Value::Str(key),
                Value::Str(_device),
                Value::Int(len),
                // A view of another storage, which PyTorch before 1.0 could write, is not supported.
                ref view @ ..,
            ] if matches!(view, [] | [Value::None]) => Some(Storage { key, dtype, len: usize::try_from(len).ok()? }),
            _ => None,
        }
    }

    fn call(&mut self) -> Result<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Some(items) = self.items(arguments) else { return Err(self.broken("calls without a tuple")) };
        match (function, items) {
            (Value::Global(Global::OrderedDict), []) => self.dict(),
            // The pairs of an ordered dict, as Python 2 wrote it: in a list that serves this call alone and is used up,
            // so that a pickle can't multiply its content by repeating the call.
            (Value::Global(Global::OrderedDict), &[Value::List(list)]) => {
                let pairs = std::mem::take(&mut self.heap.sequences[list]);
                let pair = |pair| match pair {
                    Value::Tuple(i) | Value::List(i) => self.heap.sequences[i].as_array::<2>().copied(),
                    _ => None,
                };
                let Some(pairs) = pairs.into_iter().map(pair).collect::<Option<Vec<_>>>() else {
                    return Err(self.broken("makes a dict of something else than pairs"));
                };
                self.dict();
                self.set_items(pairs.into_iter().flatten().collect())?;
            }
            (Value::Global(Global::RebuildParameter), &[tensor @ Value::Tensor(_), ..]) => self.stack.push(tensor),
            (
                Value::Global(Global::RebuildTensor),
                &[Value::Storage(storage), Value::Int(offset), size, stride, ..],
            ) => {
                let view = usize::try_from(offset).ok().zip(self.dimensions(size)).zip(self.dimensions(stride));
                let Some(((offset, size), stride)) = view else { return Err(self.broken("has a malformed tensor")) };
                self.heap.tensors.push(TensorView { storage, offset, size, stride });
                self.stack.push(Value::Tensor(self.heap.tensors.len() - 1));
            }
            _ => return Err(self.broken("makes a call with unexpected arguments")),
        }
        Ok(())
    }

    fn items(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match value {
            Value::Tuple(i) => Some(&self.heap.sequences[i]),
            _ => None,
        }
    }

    fn dimensions(&self, value: Value<'a>) -> Option<Vec<usize>> {
        let whole = |item: &Value<'a>| match item {
            Value::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        };
        self.items(value).filter(|items| items.len() <= MAX_RANK)?.iter().map(whole).collect()
    }

    fn tuple(&mut self, items: Vec<Value<'a>>) {
        self.heap.sequences.push(items);
        self.stack.push(Value::Tuple(self.heap.sequences.len() - 1));
    }

    fn dict(&mut self) {
        self.heap.dicts.push(Vec::new());
        self.stack.push(Value::Dict(self.heap.dicts.len() - 1));
    }

    fn append(&mut self, items: Vec<Value<'a>>) -> Result<()> {
        let Value::List(list) = self.top()? else { return Err(self.broken("appends to something else than a list")) };
        self.heap.sequences[list].extend(items);
        Ok(())
    }

    fn set_items(&mut self, items: Vec<Value<'a>>) -> Result<()> {
        let (pairs, []) = items.as_chunks::<2>() else { return Err(self.broken("sets a key without a value")) };
        let Value::Dict(dict) = self.top()? else {
            return Err(self.broken("sets items of something else than a dict"));
        };
        self.heap.dicts[dict].extend(pairs.iter().map(|&[key, value]| (key, value)));
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<()> {
        let Some(&value) = self.memo.get(&slot) else { return Err(self.broken("recalls what it has not stored")) };
        self.stack.push(value);
        Ok(())
    }

    /// The lowest value that may be popped: what lies under the last mark belongs to whoever set it.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Value<'a>> {
        self.stack[self.floor()..].last().copied().ok_or_else(|| self.broken("takes from an empty stack"))
    }

    fn pop(&mut self) -> Result<Value<'a>> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_last(&mut self, count: usize) -> Result<Vec<Value<'a>>> {
        let start = self.stack.len().checked_sub(count).filter(|&start| start >= self.floor());
        let start = start.ok_or_else(|| self.broken("takes from an empty stack"))?;
        Ok(self.stack.split_off(start))
    }

    fn pop_mark(&mut self) -> Result<Vec<Value<'a>>> {
        let start = self.marks.pop().ok_or_else(|| self.broken("closes a mark that it has not set"))?;
        Ok(self.stack.split_off(start))
    }

    fn number<const N: usize>(&mut self, value: impl Fn([u8; N]) -> i64) -> Result<()> {
        let bytes = self.array()?;
        self.stack.push(Value::Int(value(bytes)));
        Ok(())
    }

    /// A little-endian two's complement integer of any length, of which 64 bits are supported.
    fn long(&mut self) -> Result<()> {
        let length = usize::from(self.byte()?);
        let bytes = self.take(length)?;
        if length > 8 {
            return Err(self.broken("has an integer of more than 64 bits"));
        }
        let sign = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [sign; 8];
        wide[..length].copy_from_slice(bytes);
        self.stack.push(Value::Int(i64::from_le_bytes(wide)));
        Ok(())
    }

    fn string(&mut self, length: usize) -> Result<()> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| self.broken("has text that is not UTF-8"))?;
        self.stack.push(Value::Str(text));
        Ok(())
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.input[self.at..];
        let end = rest.iter().position(|&b| b == b'\n').ok_or_else(|| self.broken("ends in the middle"))?;
        let text = std::str::from_utf8(&rest[..end]).map_err(|_| self.broken("has text that is not UTF-8"))?;
        self.at += end + 1;
        Ok(text)
    }

    fn byte(&mut self) -> Result<u8> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let array = self.input[self.at..].first_chunk::<N>().ok_or_else(|| self.broken("ends in the middle"))?;
        self.at += N;
        Ok(*array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let bytes = self.input[self.at..].get(..length).ok_or_else(|| self.broken("ends in the middle"))?;
        self.at += length;
        Ok(bytes)
    }

    fn broken(&self, what: impl AsRef<str>) -> Error {
        Error::checkpoint(format!("the pickle {} (at its byte {})", what.as_ref(), self.at))
    }
}
