//! Hostile and malformed pickles, written instruction by instruction.

use super::{machine, state_dict, tensors};
use crate::checkpoint::Checkpoint;
use crate::{Error, Result};
use std::borrow::Cow;

/// A pickle in the making.
#[derive(Clone)]
struct Pickle(Vec<u8>);

impl Pickle {
    fn new() -> Self {
        Pickle(vec![0x80, 2])
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        let length = (text.len() as u32).to_le_bytes();
        self.raw(b"X").raw(&length).raw(text.as_bytes())
    }

    fn int(self, value: i32) -> Self {
        self.raw(b"J").raw(&value.to_le_bytes())
    }

    fn ints(self, values: &[i32]) -> Self {
        values.iter().fold(self.raw(b"("), |pickle, &value| pickle.int(value)).raw(b"t")
    }

    fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    /// `torch._utils._rebuild_tensor_v2` on a storage "0" of `length` floats.
    fn tensor(self, length: i32, offset: i32, size: &[i32], stride: &[i32]) -> Self {
        let storage = self.global("torch._utils", "_rebuild_tensor_v2").raw(b"((").text("storage");
        let storage = storage.global("torch", "FloatStorage").text("0").text("cpu").int(length).raw(b"tQ");
        storage.int(offset).ints(size).ints(stride).raw(b"\x89NtR")
    }

    /// Runs the finished pickle on a file whose storage "0" is four floats, 0 to 3.
    fn read(self) -> Result<Checkpoint> {
        let pickle = self.raw(b".").0;
        let (root, heap, length) = machine::unpickle(&pickle)?;
        assert_eq!(length, pickle.len());
        let bytes: Vec<u8> = [0f32, 1.0, 2.0, 3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut reads = 0;
        let checkpoint = tensors::assemble(&state_dict::find(root, &heap)?, &heap, 16, |_| {
            reads += 1;
            Ok(Cow::Owned(bytes.clone()))
        });
        assert!(reads <= 1, "a storage is read once");
        checkpoint
    }
}

fn one(length: i32, offset: i32, size: &[i32], stride: &[i32]) -> Result<Checkpoint> {
    Pickle::new().raw(b"}(").text("w").tensor(length, offset, size, stride).raw(b"u").read()
}

#[test]
fn views_are_checked_against_their_storage() {
    let read = |size: &[i32], stride: &[i32]| one(4, 0, size, stride).unwrap().get("w").unwrap().tensor.data().to_vec();
    assert_eq!(read(&[2, 2], &[2, 1]), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(read(&[2, 2], &[1, 2]), [0.0, 2.0, 1.0, 3.0]);
    assert_eq!(read(&[3], &[0]), [0.0; 3]);
    assert_eq!(read(&[1, 2], &[900, 3]), [0.0, 3.0]);
    let beyond = r#"not a readable checkpoint: tensor "w" reaches beyond its storage"#;
    for (offset, size, stride) in [
        (1, &[4][..], &[1][..]),
        (0, &[2, 2], &[3, 1]),
        (5, &[1], &[1]),
        (0, &[2], &[1, 1]),
        (0, &[i32::MAX; 6], &[i32::MAX; 6]),
    ] {
        assert_eq!(one(4, offset, size, stride).unwrap_err().to_string(), beyond, "{offset} {size:?} {stride:?}");
    }
    let error = one(400, 0, &[400], &[1]).unwrap_err().to_string();
    assert_eq!(error, r#"not a readable checkpoint: tensor "w" has more elements than the file has room for"#);
    let error = one(8, 0, &[8], &[1]).unwrap_err().to_string();
    assert_eq!(error, r#"not a readable checkpoint: tensor "w" reaches beyond the bytes of its storage"#);
    for (offset, size) in [(-1, &[1][..]), (0, &[-1]), (0, &[1; 7])] {
        assert!(one(4, offset, size, &vec![1; size.len()]).unwrap_err().to_string().contains("malformed tensor"));
    }
}

#[test]
fn repeated_views_run_into_the_budget() {
    let mut pickle = Pickle::new().raw(b"}(");
    for i in 0..64 {
        pickle = pickle.text(&format!("w{i}")).tensor(4, 0, &[4], &[1]);
    }
    assert!(pickle.raw(b"u").read().unwrap_err().to_string().contains("more elements than the file has room for"));
}

#[test]
fn nothing_but_a_state_dict_is_built() {
    for (module, name) in [("os", "system"), ("builtins", "eval"), ("torch", "load"), ("collections", "deque")] {
        let error = Pickle::new().global(module, name).text("ls").raw(b"\x85R").read().unwrap_err();
        assert!(matches!(error, Error::RefusedGlobal(global) if global == format!("{module}.{name}")));
    }
    // INST, OBJ, NEWOBJ, EXT1, persistent ids as text, protocol 4's stack global.
    for opcode in [&b"i"[..], b"o", b"\x81", b"\x82", b"P", b"\x93"] {
        let error = Pickle::new().raw(b"N").raw(opcode).read().unwrap_err().to_string();
        assert!(error.contains("unsupported instruction"), "{error}");
    }
    let error = Pickle::new().global("torch", "FloatStorage").raw(b")R").read().unwrap_err().to_string();
    assert!(error.contains("a call with unexpected arguments"), "{error}");
    let error = Pickle(vec![0x80, 5]).read().unwrap_err().to_string();
    assert!(error.contains("has protocol 5"), "{error}");
}

#[test]
fn the_stack_and_the_memo_hold_only_what_was_put_there() {
    for program in [
        &b""[..],
        b"0",
        b"(0",
        b"2",
        b"t",
        b"N\x86",
        b"(N(\x86",
        b"h\x00",
        b"q\x00",
        b"Na",
        b"NNNs",
        b"}(Nu",
        b"NNb",
        b"Q",
        b"NQ",
    ] {
        assert!(Pickle::new().raw(program).read().is_err(), "{program:?}");
    }
}

#[test]
fn deep_and_cyclic_values_are_harmless() {
    let deep = (0..500_000).fold(Pickle::new().raw(b")"), |pickle, _| pickle.raw(b"\x85"));
    assert!(deep.read().unwrap_err().to_string().contains("holds no state dict"));
    let endless = Pickle::new().raw(&[b'N'; 2_000_000]);
    assert!(endless.read().unwrap_err().to_string().contains("more objects than any state dict"));
    // A dict that is its own state dict.
    let cyclic = Pickle::new().raw(b"}q\x00(").text("state_dict").raw(b"h\x00u");
    assert!(cyclic.read().unwrap_err().to_string().contains("holds no state dict"));
}

#[test]
fn python_2_wrote_ordered_dicts_and_strings_differently() {
    let dict = || Pickle::new().global("collections", "OrderedDict").raw(b"](");
    let pair = |open: &[u8], close: &[u8]| dict().raw(open).raw(b"U\x01w").tensor(4, 0, &[4], &[1]).raw(close);
    for pair in [pair(b"](", b"e"), pair(b"", b"\x86")] {
        assert_eq!(pair.raw(b"e\x85R").read().unwrap().get("w").unwrap().tensor.len(), 4);
    }
    assert!(dict().raw(b"Ne\x85R").read().is_err());
}
