//! Files that are truncated, damaged or hostile give an error and nothing else.

use super::{fixture, parse};
use crate::{Gguf, TensorType};

fn error(bytes: &[u8]) -> String {
    match Gguf::parse(bytes, "model.gguf".as_ref()) {
        Ok(_) => panic!("it is read"),
        Err(error) => {
            assert!(error.hint().is_some(), "{error}");
            error.to_string()
        }
    }
}

/// Reads everything that a file may hold.
fn read_all(file: &Gguf<'_>) {
    let _ = (file.config(), file.generation_config(), file.tokenizer_config(), file.tokenizer());
    for tensor in file.model_tensors().unwrap_or_default() {
        tensor.read();
    }
}

/// A header that is put together by hand.
struct Header(Vec<u8>);

impl Header {
    fn new(version: u32, tensors: u64, keys: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(version).u64(tensors).u64(keys)
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn text(self, text: &str) -> Self {
        let mut longer = self.u64(text.len() as u64);
        longer.0.extend(text.as_bytes());
        longer
    }

    fn tensor(self, name: &str, sizes: &[u64], kind: u32, offset: u64) -> Self {
        let header = self.text(name).u32(sizes.len() as u32);
        sizes.iter().fold(header, |header, size| header.u64(*size)).u32(kind).u64(offset)
    }

    /// Pads the header and appends data.
    fn data(mut self, bytes: usize) -> Vec<u8> {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + bytes, 0);
        self.0
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let new = || Header::new(3, 1, 0);
    for (bytes, part) in [
        (vec![], "too short for a GGUF file"),
        (b"GGU".to_vec(), "too short"),
        (b"PK\x03\x04 a zip".to_vec(), "does not begin with `GGUF`"),
        (Header::new(1, 0, 0).0, "version 1 of the format, but kiln reads 2 and 3"),
        (Header::new(4, 0, 0).0, "version 4"),
        (Header::new(0x0300_0000, 0, 0).0, "big-endian"),
        (Header::new(3, u64::MAX, 0).0, "counts 18446744073709551615 tensors"),
        (Header::new(3, 0, 1 << 50).0, "counts 1125899906842624 keys"),
        (Header::new(3, 0, 1).text("k").u32(4).u32(1).0[..30].to_vec(), "truncated"),
        (Header::new(3, 0, 2).text("k").u32(4).u32(1).text("k").u32(4).u32(1).0, "`k` is there twice"),
        (Header::new(3, 0, 1).text("k").u32(77).u64(1).0, "`k`: its type has the number 77"),
        (Header::new(3, 0, 1).text("general.alignment").u32(4).u32(24).0, "`general.alignment` is 24"),
        (Header::new(3, 0, 1).text("general.alignment").u32(4).u32(0).0, "`general.alignment` is 0"),
        (new().tensor("t", &[4; 5], 0, 0).data(4096), "tensor `t` has 5 dimensions"),
        (new().tensor("t", &[], 0, 0).data(64), "tensor `t` has 0 dimensions"),
        (new().tensor("t", &[0], 0, 0).data(64), "tensor `t` cannot have type F32 and the sizes [0]"),
        (new().tensor("t", &[1 << 33, 1 << 33], 0, 0).data(64), "the sizes [8589934592, 8589934592]"),
        (new().tensor("t", &[1 << 62], 2, 0).data(64), "the sizes [4611686018427387904]"),
        (new().tensor("t", &[48], 8, 0).data(64), "tensor `t` cannot have type Q8_0 and the sizes [48]"),
        (new().tensor("t", &[256], 23, 0).data(512), "tensor `t` has type IQ4_XS"),
        (new().tensor("t", &[256], 999, 0).data(512), "a type with the number 999"),
        (new().tensor("t", &[4], 0, 16).data(64), "begins at 16, which is no multiple of 32"),
        (
            new().tensor("t", &[8], 0, 32).data(63),
            "tensor `t` has 32 bytes from byte 32 of the data on, of which the file has 63",
        ),
        (new().tensor("t", &[8], 0, u64::MAX - 31).data(64), "truncated"),
        (
            Header::new(3, 2, 0).tensor("a", &[9], 0, 0).tensor("b", &[9], 0, 32).data(128),
            "tensors `a` and `b` overlap",
        ),
        (
            Header::new(3, 2, 0).tensor("a", &[8], 0, 0).tensor("a", &[8], 0, 32).data(128),
            "tensor `a` is there twice",
        ),
    ] {
        let error = error(&bytes);
        assert!(error.starts_with("checkpoint `model.gguf`: ") && error.contains(part), "{part}: {error}");
    }
}

#[test]
fn every_part_of_a_file_is_refused() {
    for name in ["qwen2.gguf", "vocabulary-spm.gguf"] {
        let whole = fixture(name);
        let header =
            whole.len() - parse(&whole).tensors.iter().map(|tensor| tensor.data.len()).sum::<usize>();
        let data = (header..whole.len()).step_by(997);
        for length in (0..header.saturating_sub(32)).chain(data).chain([whole.len() - 32]) {
            // A vocabulary has no tensors after its header and its padding.
            if length + 32 >= whole.len() && name != "qwen2.gguf" {
                continue;
            }
            assert!(Gguf::parse(&whole[..length], "x".as_ref()).is_err(), "{name} {length}");
        }
    }
}

#[test]
fn damaged_bits_are_an_error_or_other_numbers() {
    for name in ["qwen2.gguf", "llama3.gguf", "vocabulary-spm.gguf", "vocabulary-smollm.gguf"] {
        let mut bytes = fixture(name);
        let header =
            bytes.len() - parse(&bytes).tensors.iter().map(|tensor| tensor.data.len()).sum::<usize>();
        for at in (0..128).chain((128..header).step_by(13)) {
            // All bits of the first lengths and counts, and of the rest some.
            let bits = if at < 128 { 0..8 } else { at % 8..at % 8 + 1 };
            for bit in bits {
                bytes[at] ^= 1 << bit;
                if let Ok(file) = Gguf::parse(&bytes, "x".as_ref()) {
                    read_all(&file);
                }
                bytes[at] ^= 1 << bit;
            }
        }
    }
}

#[test]
fn versions_two_and_three_are_the_same() {
    let mut bytes = fixture("qwen2.gguf");
    bytes[4] = 2;
    let file = parse(&bytes);
    assert_eq!((file.version, file.tensors[0].kind), (2, TensorType::F32));
}
