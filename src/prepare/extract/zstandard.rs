//! zstd frames (RFC 8878): reads what their headers require, and decodes them with the dictionary of their
//! file.

use super::tape::Tape;
use std::io::{self, BufRead, Read};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// Maximum bytes of a frame's header.
pub(super) const HEADER: usize = 18;

/// Largest window that the library may use, as a power of two; whether a window is allowed is checked before.
const WINDOW_LOG_MAX: u32 = 31;

/// Maximum bytes of a dictionary. Those of crawls have one or two million.
const DICTIONARY: usize = 64 << 20;

/// Window and dictionary that the header of a frame requires.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Memory of the window, in bytes.
    pub(super) window: u64,
    /// Number of the dictionary, or 0 if none is named.
    pub(super) dictionary: u32,
}

/// Reads the header of a frame; `None` if the bytes do not begin with a complete one.
pub(super) fn header(bytes: &[u8]) -> Option<Header> {
    let rest = bytes.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])?;
    let (&descriptor, mut rest) = rest.split_first()?;
    let is_single = descriptor & 0x20 != 0;
    let mut number = |width: usize| {
        let (field, behind) = rest.split_at_checked(width)?;
        rest = behind;
        Some(field.iter().rev().fold(0_u64, |number, &byte| number << 8 | u64::from(byte)))
    };
    let log = if is_single { 0 } else { number(1)? };
    let dictionary = number([0, 1, 2, 4][usize::from(descriptor & 3)])?;
    let window = if is_single {
        // All of the content.
        number([1, 2, 4, 8][usize::from(descriptor >> 6)])? + if descriptor >> 6 == 1 { 256 } else { 0 }
    } else {
        let base = 1_u64 << (10 + (log >> 3));
        base + base / 8 * (log & 7)
    };
    Some(Header { window, dictionary: dictionary as u32 })
}

/// A dictionary, as the decoder that uses it, and its number.
pub(super) struct Dictionary {
    pub(super) decoder: Decoder<'static>,
    pub(super) number: u32,
}

/// Returns whether bytes begin with a skippable frame that may hold the dictionary of all later frames, as in
/// WARC files (<https://iipc.github.io/warc-specifications/specifications/warc-zstd/>).
pub(super) fn may_be_dictionary(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x5d, 0x2a, 0x4d, 0x18])
}

/// Reads the dictionary in a skippable frame, where it may itself be compressed, and skips the frame. `None`
/// if the frame holds something else or is truncated.
///
/// # Errors
/// A message if the dictionary is broken or too large.
pub(super) fn dictionary(tape: &mut Tape) -> Result<Option<Dictionary>, String> {
    let &[_, _, _, _, a, b, c, d] = tape.peek(8) else { return Ok(None) };
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length > DICTIONARY {
        return Ok(None);
    }
    let frame = tape.peek(8 + length);
    let Some(bytes) = frame.get(8..8 + length) else { return Ok(None) };
    let mut unpacked = Vec::new();
    let bytes = match header(bytes) {
        Some(_) => {
            let decoder = zstd::stream::read::Decoder::with_buffer(bytes);
            let read = decoder.and_then(|decoder| {
                decoder.single_frame().take(DICTIONARY as u64 + 1).read_to_end(&mut unpacked)
            });
            read.map_err(|error| format!("the zstd dictionary of the file is broken: {error}"))?;
            if unpacked.len() > DICTIONARY {
                return Err(format!("the zstd dictionary of the file has more than {DICTIONARY} bytes"));
            }
            &unpacked
        }
        None => bytes,
    };
    let &[0x37, 0xa4, 0x30, 0xec, a, b, c, d, ..] = bytes else { return Ok(None) };
    let number = u32::from_le_bytes([a, b, c, d]);
    let decoder = Decoder::with_dictionary(bytes)
        .map_err(|error| format!("the zstd dictionary of the file is broken: {error}"))?;
    tape.consume(8 + length);
    Ok(Some(Dictionary { decoder, number }))
}

/// Reader of a frame that is being decoded.
pub(super) struct Frame {
    tape: Tape,
    decoder: Decoder<'static>,
    ended: bool,
}

impl Frame {
    /// Begins to decode the frame at the tape's position.
    pub(super) fn new(tape: Tape, mut decoder: Decoder<'static>) -> io::Result<Self> {
        decoder.reinit()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
        Ok(Self { tape, decoder, ended: false })
    }

    pub(super) fn into_inner(self) -> (Tape, Decoder<'static>) {
        (self.tape, self.decoder)
    }
}

impl Read for Frame {
    /// Decodes the next bytes; returns 0 at the end of the frame.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !self.ended && !into.is_empty() {
            let input = self.tape.fill_buf()?;
            let is_end = input.is_empty();
            let (mut source, mut sink) = (InBuffer::around(input), OutBuffer::around(&mut *into));
            let hint = self.decoder.run(&mut source, &mut sink)?;
            let (read, written) = (source.pos(), sink.pos());
            self.tape.consume(read);
            self.ended = hint == 0;
            if written > 0 {
                return Ok(written);
            }
            if is_end && !self.ended {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "incomplete frame"));
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ExtractConfig, compressed::tests::zstandard, open, tests::*};
    use super::*;
    use std::io::{Cursor, Write};

    /// Dictionary of a file of `warcio` records that Python's zstandard 0.25 compressed.
    fn trained() -> Vec<u8> {
        let file = include_bytes!("../../../tests/reports/warc-zst-dictionary/dictionary.warc.zst");
        let length = u32::from_le_bytes(file[4..8].try_into().unwrap()) as usize;
        file[8..8 + length].to_vec()
    }

    fn line(index: u32) -> Vec<u8> {
        format!("{{\"text\": \"the heron number {index} stood in water of {} feet\"}}\n", index * 7 % 13)
            .into_bytes()
    }

    fn frame(dictionary: &[u8], index: u32, name_dictionary: bool) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::with_dictionary(Vec::new(), 3, dictionary).unwrap();
        encoder.include_dictid(name_dictionary).unwrap();
        encoder.write_all(&line(index)).unwrap();
        encoder.finish().unwrap()
    }

    fn skippable(kind: u8, bytes: &[u8]) -> Vec<u8> {
        [&[kind, 0x2a, 0x4d, 0x18][..], &(bytes.len() as u32).to_le_bytes(), bytes].concat()
    }

    #[test]
    fn a_dictionary_before_all_frames_is_used() {
        let dictionary = trained();
        let frames: Vec<u8> = (0..9).flat_map(|index| frame(&dictionary, index, index % 2 == 0)).collect();
        let packed = zstd::bulk::compress(&dictionary, 3).unwrap();
        for dictionary in [&dictionary, &packed, &zstandard(&dictionary)] {
            let bytes = [skippable(0x5d, dictionary), frames.clone()].concat();
            let (documents, bad_records) = read_all("a.jsonl.zst", &bytes, &ExtractConfig::default());
            assert_eq!((documents.len(), bad_records), (9, vec![]));
            // Files that are joined.
            let (documents, bad_records) =
                read_all("a.jsonl.zst", &[&bytes[..], &bytes].concat(), &ExtractConfig::default());
            assert_eq!((documents.len(), bad_records), (18, vec![]));
        }
    }

    #[test]
    fn a_dictionary_that_is_missing_or_broken_is_one_bad_record() {
        let dictionary = trained();
        let frames: Vec<u8> = (0..9).flat_map(|index| frame(&dictionary, index, true)).collect();
        let plain = zstandard(&line(99));
        let number = u32::from_le_bytes(dictionary[4..8].try_into().unwrap());
        let (documents, bad_records) =
            read_all("a.jsonl.zst", &[&frames[..], &plain].concat(), &ExtractConfig::default());
        assert_eq!((documents.len(), bad_records.len()), (1, 1), "{bad_records:?}");
        assert!(bad_records[0].reason.contains(&format!("need dictionary {number}")), "{bad_records:?}");
        // Something else in the frame that is to be skipped, and a dictionary that is cut.
        let (documents, bad_records) = read_all(
            "a.jsonl.zst",
            &[skippable(0x5d, b"abc"), plain.clone(), skippable(0x50, b""), plain].concat(),
            &ExtractConfig::default(),
        );
        assert_eq!((documents.len(), bad_records), (2, vec![]));
        let mut packed = zstandard(&dictionary);
        packed[60] ^= 0xff;
        let bytes = [skippable(0x5d, &packed), frames].concat();
        let (documents, bad_records) = read_all("a.jsonl.zst", &bytes, &ExtractConfig::default());
        assert_eq!((documents.len(), bad_records.len()), (0, 1), "{bad_records:?}");
        assert!(bad_records[0].reason.contains("dictionary of the file is broken"), "{bad_records:?}");
    }

    #[test]
    fn headers_are_read() {
        assert_eq!(
            header(&[0x28, 0xb5, 0x2f, 0xfd, 0, 0xa8]),
            Some(Header { window: 1 << 31, dictionary: 0 })
        );
        let single = header(&[0x28, 0xb5, 0x2f, 0xfd, 0x61, 7, 0, 1]);
        assert_eq!(single, Some(Header { window: 512, dictionary: 7 }));
        assert_eq!(header(&[0x28, 0xb5, 0x2f, 0xfd, 0x61, 7, 0]), None);
        assert_eq!(header(b"text"), None);
    }

    #[test]
    fn long_windows_are_decoded_up_to_the_limit_which_is_named() {
        let packed = |log: u32| {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(log).unwrap();
            encoder.long_distance_matching(true).unwrap();
            encoder.write_all(&line(1)).unwrap();
            encoder.finish().unwrap()
        };
        for log in [27, 28] {
            let (documents, bad_records) = read_all("a.jsonl.zst", &packed(log), &ExtractConfig::default());
            assert_eq!((documents.len(), bad_records), (1, vec![]), "{log}");
        }
        let config = ExtractConfig { zstd_window: 128 << 20, ..Default::default() };
        let bytes = [packed(28), packed(20), packed(28)].concat();
        let bad_records: Vec<_> = open("a.jsonl.zst", Box::new(Cursor::new(bytes)), &config)
            .map(|record| record.err().map(|bad_record| bad_record.reason))
            .collect();
        let reason = "a zstd frame that needs a window of 256 MB, more than `source.zstd_window_mb` (128)";
        assert_eq!(bad_records, [Some(reason.into()), None, Some(reason.into())]);
    }
}
