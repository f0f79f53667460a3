//! Decompresses streams of gzip (with many members, as in WARC files) and zstd, up to two layers.
//!
//! A read that finds a broken member fails with a [`BadRecord`] inside its [`io::Error`]. Bytes decompressed
//! before were already returned, and the next read continues with the next member that looks intact.

use super::{
    BadRecord, codings,
    source::BUFFER,
    tape::Tape,
    zstandard::{self, Frame},
};
use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, Read};
use zstd::stream::raw;

/// Maximum layers of compression. A gz within a gz occurs by accident; more layers are a mistake or an
/// attack.
const LAYERS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    Gzip,
    Zstd,
}

impl Codec {
    fn of_name(name: &str) -> Option<Self> {
        let extension = name.rsplit_once('.')?.1.to_ascii_lowercase();
        match extension.as_str() {
            "gz" | "gzip" | "bgz" | "tgz" => Some(Self::Gzip),
            "zst" | "zstd" | "tzst" => Some(Self::Zstd),
            _ => None,
        }
    }

    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        [Self::Gzip, Self::Zstd].into_iter().find(|codec| codec.begins(bytes))
    }

    /// Returns whether bytes begin with a member; the first four bytes are enough.
    fn begins(self, bytes: &[u8]) -> bool {
        match self {
            // Method 8 is the only one; the upper three flags are reserved.
            Self::Gzip => matches!(bytes, [0x1f, 0x8b, 8, flags, ..] if flags & 0xe0 == 0),
            // The second is a frame to be skipped, which pzstd writes before each of its own.
            Self::Zstd => matches!(bytes, [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]),
        }
    }

    fn member(self) -> &'static str {
        match self {
            Self::Gzip => "gzip member",
            Self::Zstd => "zstd frame",
        }
    }
}

/// Decompresses a stream according to its first bytes and its name. Returns the stream, and the name without
/// the extensions of the compression that was removed. `window` is the maximum window of a zstd frame in
/// bytes.
pub fn decompress(name: &str, reader: Box<dyn Read + Send>, window: u64) -> (Box<dyn Read + Send>, String) {
    let mut inner = name.to_string();
    let mut reader = reader;
    for layer in 0..=LAYERS {
        let mut tape = Tape::new(reader);
        // An error is kept by the tape for the first read.
        let start = tape.peek(512);
        let named = Codec::of_name(&inner);
        let codec = match (Codec::of_bytes(start), named) {
            (Some(codec), _) => codec,
            // A first member with a broken head is a bad record; a file without bytes is the reader's.
            (None, Some(codec)) if layer == 0 && !start.is_empty() => codec,
            _ => {
                let refused = unsupported(start).or_else(|| unsupported_name(&inner, start));
                if named.is_some() {
                    inner = without_extension(&inner);
                }
                return match refused {
                    Some(kind) => (refuse(name, format!("{kind} is not supported")), inner),
                    None => (Box::new(tape), inner),
                };
            }
        };
        if layer == LAYERS {
            let reason = format!("{} within {LAYERS} layers of compression", codec.member());
            return (refuse(name, reason), inner);
        }
        if named == Some(codec) {
            inner = without_extension(&inner);
        }
        reader = Box::new(Members {
            name: name.into(),
            codec,
            state: State::Between(tape),
            start: 0,
            first: true,
            window,
            decoder: None,
            dictionary: 0,
            told: false,
        });
    }
    (reader, inner)
}

fn without_extension(name: &str) -> String {
    match name.rsplit_once('.') {
        // An extension for two.
        Some((stem, extension)) if extension.starts_with(['t', 'T']) => format!("{stem}.tar"),
        Some((stem, _)) => stem.into(),
        None => name.into(),
    }
}

/// Names a kind of archive or compression that is not supported and would otherwise be read as text.
fn unsupported(start: &[u8]) -> Option<&'static str> {
    match start {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz compression"),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => Some("bzip2 compression"),
        [b'7', b'z', 0xbc, 0xaf, ..] => Some("a 7z archive"),
        [b'P', b'A', b'R', b'1', ..] => Some("Parquet among text files"),
        [b'A', b'R', b'R', b'O', b'W', b'1', 0, 0, ..] => Some("Arrow among text files"),
        [0x1f, 0x9d, ..] => Some("the compression of `compress`"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some("lz4 compression"),
        [b'L', b'Z', b'I', b'P', 1, ..] => Some("lzip compression"),
        [0x89, b'L', b'Z', b'O', 0, ..] => Some("lzop compression"),
        [0xff, 6, 0, 0, b's', b'N', b'a', b'P', b'p', b'Y', ..] => Some("snappy compression"),
        [b'R', b'a', b'r', b'!', 0x1a, 7, ..] => Some("a RAR archive"),
        _ => None,
    }
}

/// Names a compression that only the name tells, if the first bytes are not text.
fn unsupported_name(name: &str, start: &[u8]) -> Option<&'static str> {
    let is_text = codings::is_text(start);
    match name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
        "br" if !is_text => Some("Brotli compression"),
        "lzma" if !is_text => Some("LZMA compression"),
        _ => None,
    }
}

fn broken(name: &str, offset: u64, reason: String) -> io::Error {
    io::Error::other(BadRecord { file: name.into(), offset, reason })
}

/// Makes a stream that consists of one bad record.
fn refuse(name: &str, reason: String) -> Box<dyn Read + Send> {
    struct Refused(Option<io::Error>);
    impl Read for Refused {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            self.0.take().map_or(Ok(0), Err)
        }
    }
    Box::new(Refused(Some(broken(name, 0, reason))))
}

/// Reader of the members of a compressed file, one after the other.
struct Members {
    name: String,
    codec: Codec,
    state: State,
    /// Position of the current member in the file.
    start: u64,
    first: bool,
    /// Maximum bytes of a zstd window.
    window: u64,
    /// Decoder of the frame before, which keeps its dictionary.
    decoder: Option<raw::Decoder<'static>>,
    /// Number of the decoder's dictionary, or 0 if it has none.
    dictionary: u32,
    /// True once a missing dictionary was reported, which is the same for all frames of a file.
    told: bool,
}

enum State {
    Between(Tape),
    Gzip(Box<GzDecoder<Tape>>),
    Zstd(Box<Frame>),
    /// After a bad record: the next member has to be found.
    Lost(Tape),
    Ended,
}

impl Members {
    /// Searches for the next member from the tape's position on.
    fn search(&mut self, mut tape: Tape) -> State {
        loop {
            let bytes = tape.peek(BUFFER);
            if bytes.len() < 4 {
                // An error of what lies beneath is handed on by a read that goes on with it.
                return if tape.waiting.is_some() { State::Between(tape) } else { State::Ended };
            }
            let found = bytes.windows(4).position(|window| self.codec.begins(window));
            let count = found.unwrap_or(bytes.len() - 3);
            tape.consume(count);
            tape.cut();
            if found.is_some() {
                return State::Between(tape);
            }
        }
    }

    /// Begins to read the member at the tape's position.
    fn begin(&mut self, mut tape: Tape) -> io::Result<State> {
        tape.cut();
        self.start = tape.position();
        let is_first = std::mem::replace(&mut self.first, false);
        let start = tape.peek(4);
        if self.codec.begins(start) {
            return match self.codec {
                Codec::Gzip => Ok(State::Gzip(Box::new(GzDecoder::new(tape)))),
                Codec::Zstd => self.begin_frame(tape),
            };
        }
        let nothing = start.is_empty();
        if let Some(error) = tape.waiting.take() {
            self.state = State::Lost(tape);
            return Err(error);
        }
        if nothing {
            return Ok(State::Ended);
        }
        // Tapes and block devices fill up with zeros.
        if !is_first {
            loop {
                let count = tape.peek(BUFFER).iter().take_while(|&&byte| byte == 0).count();
                if count == 0 {
                    break;
                }
                tape.consume(count);
                tape.cut();
            }
            if tape.peek(1).is_empty() && tape.waiting.is_none() {
                return Ok(State::Ended);
            }
            if self.codec.begins(tape.peek(4)) {
                return Ok(State::Between(tape));
            }
        }
        self.state = State::Lost(tape);
        let member = self.codec.member();
        let reason =
            if is_first { format!("no {member}") } else { format!("no {member} where one should follow") };
        Err(broken(&self.name, self.start, reason))
    }

    /// Begins to read a zstd frame, unless its window or dictionary is not available.
    fn begin_frame(&mut self, mut tape: Tape) -> io::Result<State> {
        if zstandard::may_be_dictionary(tape.peek(4)) {
            match zstandard::dictionary(&mut tape) {
                Ok(Some(dictionary)) => {
                    (self.decoder, self.dictionary) = (Some(dictionary.decoder), dictionary.number);
                    return Ok(State::Between(tape));
                }
                Ok(None) => {}
                // No frame behind it can be decoded.
                Err(reason) => return Err(broken(&self.name, self.start, reason)),
            }
        }
        if let Some(zstandard::Header { window, dictionary }) =
            zstandard::header(tape.peek(zstandard::HEADER))
        {
            if window > self.window {
                let (needed, most) = (window.div_ceil(1 << 20), self.window >> 20);
                return Err(self.refuse_frame(tape, format!(
                    "a zstd frame that needs a window of {needed} MB, more than `source.zstd_window_mb` ({most})"
                )));
            }
            if dictionary != 0 && dictionary != self.dictionary {
                if std::mem::replace(&mut self.told, true) {
                    tape.rewind(self.start);
                    return Ok(State::Lost(tape));
                }
                return Err(self.refuse_frame(
                    tape,
                    format!(
                        "zstd frames that need dictionary {dictionary}, which the file does not begin with"
                    ),
                ));
            }
        }
        let decoder = match self.decoder.take() {
            Some(decoder) => decoder,
            None => raw::Decoder::new()?,
        };
        Ok(State::Zstd(Box::new(Frame::new(tape, decoder)?)))
    }

    fn refuse_frame(&mut self, mut tape: Tape, reason: String) -> io::Error {
        tape.rewind(self.start);
        self.state = State::Lost(tape);
        broken(&self.name, self.start, reason)
    }

    /// Leaves a broken member; `tape` comes from its decoder.
    fn fail(&mut self, mut tape: Tape, error: io::Error) -> io::Error {
        if error.get_ref().is_some_and(|inner| inner.is::<BadRecord>()) {
            self.state = State::Lost(tape);
            return error;
        }
        tape.rewind(self.start);
        let truncated = error.kind() == io::ErrorKind::UnexpectedEof;
        let what = if truncated { "is truncated".into() } else { format!("is broken ({error})") };
        self.state = State::Lost(tape);
        broken(&self.name, self.start, format!("a {} {what}", self.codec.member()))
    }
}

impl Read for Members {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Ok(0),
                State::Lost(tape) => self.state = self.search(tape),
                State::Between(tape) => self.state = self.begin(tape)?,
                State::Gzip(mut decoder) => match decoder.read(into) {
                    Ok(0) => self.state = State::Between(decoder.into_inner()),
                    Ok(count) => {
                        self.state = State::Gzip(decoder);
                        return Ok(count);
                    }
                    Err(error) => return Err(self.fail(decoder.into_inner(), error)),
                },
                State::Zstd(mut frame) => match frame.read(into) {
                    Ok(count) if count > 0 => {
                        self.state = State::Zstd(frame);
                        return Ok(count);
                    }
                    outcome => {
                        let (tape, decoder) = frame.into_inner();
                        self.decoder = Some(decoder);
                        match outcome {
                            Ok(_) => self.state = State::Between(tape),
                            Err(error) => return Err(self.fail(tape, error)),
                        }
                    }
                },
            }
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::{ExtractConfig, tests::*};
    use std::io::Write;

    pub fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    pub fn zstandard(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn line(text: &str) -> Vec<u8> {
        format!("{{\"text\": \"{text}\"}}\n").into_bytes()
    }

    fn read(name: &str, bytes: &[u8]) -> (Vec<String>, Vec<(u64, String)>) {
        let (documents, bad_records) = read_all(name, bytes, &ExtractConfig::default());
        let texts = documents.into_iter().map(|document| document.text).collect();
        (texts, bad_records.into_iter().map(|bad_record| (bad_record.offset, bad_record.reason)).collect())
    }

    #[test]
    fn members_follow_one_another_and_the_magic_counts_more_than_the_name() {
        for pack in [gzip, zstandard] {
            let bytes = [pack(&line("one")), pack(b""), pack(&line("two"))].concat();
            for name in ["a.jsonl.gz", "a.jsonl.zst", "a.jsonl", "a"] {
                assert_eq!(read(name, &bytes), (vec!["one".into(), "two".into()], vec![]), "{name}");
            }
        }
        let padded = [gzip(&line("one")), vec![0; 1000]].concat();
        assert_eq!(read("a.jsonl.gz", &padded), (vec!["one".into()], vec![]));
        let padded = [padded, gzip(&line("two"))].concat();
        assert_eq!(read("a.jsonl.gz", &padded), (vec!["one".into(), "two".into()], vec![]));
    }

    #[test]
    fn a_broken_member_costs_itself_only() {
        for (pack, what) in [(gzip as fn(&[u8]) -> Vec<u8>, "gzip member"), (zstandard, "zstd frame")] {
            let (one, mut two, three) = (pack(&line("one")), pack(&line("two")), pack(&line("three")));
            // Its checksum is wrong: what it held was read before.
            let last = two.len() - if what == "gzip member" { 5 } else { 1 };
            two[last] ^= 1;
            let (texts, bad_records) = read("a.jsonl.gz", &[&one[..], &two, &three].concat());
            assert!(
                texts.contains(&"one".into()) && texts.contains(&"three".into()),
                "{texts:?} {bad_records:?}"
            );
            assert_eq!(bad_records.len(), 1, "{bad_records:?}");
            assert_eq!(bad_records[0].0, one.len() as u64);
            assert!(bad_records[0].1.contains(what), "{bad_records:?}");
            // It ends in its middle, and the next follows at once.
            let cut = &two[..two.len() / 2];
            let (texts, bad_records) = read("a.jsonl.gz", &[&one[..], cut, &three].concat());
            assert!(
                texts.contains(&"one".into()) && texts.contains(&"three".into()),
                "{texts:?} {bad_records:?}"
            );
            assert_eq!(bad_records[0].0, one.len() as u64);
        }
    }

    #[test]
    fn what_was_decompressed_before_the_break_is_kept() {
        let lines: Vec<u8> = (0..20_000).flat_map(|index| line(&format!("text {index}"))).collect();
        for pack in [gzip, zstandard] {
            let bytes = pack(&lines);
            let (texts, bad_records) = read("a.jsonl", &bytes[..bytes.len() - 100]);
            assert!(texts.len() > 10_000 && texts.len() < 20_000, "{}", texts.len());
            assert_eq!(bad_records.len(), 1);
            assert_eq!(bad_records[0].0, 0);
            assert!(bad_records[0].1.contains("truncated"), "{bad_records:?}");
            // A text file is one document, of what there is.
            let (texts, bad_records) = read("a.txt", &bytes[..bytes.len() - 100]);
            assert_eq!((texts.len(), bad_records.len()), (1, 1));
        }
    }

    #[test]
    fn what_is_no_member_is_a_bad_record() {
        let (texts, bad_records) = read("a.jsonl.gz", b"no gzip at all");
        assert_eq!((texts.len(), bad_records), (0, vec![(0, "no gzip member".into())]));
        let one = gzip(&line("one"));
        let (texts, bad_records) = read("a.jsonl.gz", &[&one[..], b"garbage", &gzip(&line("two"))].concat());
        assert_eq!(texts, ["one", "two"]);
        assert_eq!(bad_records, [(one.len() as u64, "no gzip member where one should follow".into())]);
    }

    #[test]
    fn one_nested_layer_is_taken_off_and_more_is_refused() {
        let nested = gzip(&zstandard(&line("one")));
        assert_eq!(read("a.jsonl.zst.gz", &nested), (vec!["one".into()], vec![]));
        assert_eq!(read("a.jsonl.gz", &gzip(&gzip(&line("one")))), (vec!["one".into()], vec![]));
        let (texts, bad_records) = read("a.jsonl.gz", &gzip(&nested));
        assert!(texts.is_empty());
        assert_eq!(bad_records, [(0, "zstd frame within 2 layers of compression".into())]);
        // The outer one is broken.
        let (texts, bad_records) = read("a.jsonl.gz", &nested[..nested.len() - 9]);
        assert!(!bad_records.is_empty(), "{texts:?}");
    }

    #[test]
    fn archives_are_named() {
        for (name, bytes, kind) in [
            ("a.7z", &b"7z\xbc\xafrest"[..], "a 7z archive"),
            ("a.txt.Z", b"\x1f\x9d\x90rest", "the compression of `compress`"),
            ("a.jsonl.lz4", b"\x04\x22\x4d\x18rest", "lz4 compression"),
            ("a.txt.br", b"\x0b\x02\x80text\x03", "Brotli compression"),
            ("a.txt", b"ARROW1\0\0rest", "Arrow among text files"),
        ] {
            assert_eq!(read(name, bytes).1, [(0, format!("{kind} is not supported"))]);
        }
        assert_eq!(read("song.br", b"text").0, ["text"]);
    }
}
