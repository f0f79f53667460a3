//! Zip archives, read from their start: the directory at their end is not needed.

mod names;
mod streamed;

use self::streamed::{Body, BodyReader, SharedBody, skip_descriptor};
use super::{
    BadRecord,
    archive::{Member, Members, Shared, Stream},
    source::BUFFER,
};
use flate2::Crc;
use std::io::{self, Read};

const HEADER: usize = 30;

pub(super) struct Zip {
    shared: Shared,
    /// True once the first member was found.
    begun: bool,
    ended: bool,
    /// The current member, if its length follows it.
    body: Option<SharedBody>,
    /// Length of the current member, if it is both before and after it.
    described: Option<u64>,
}

struct Entry {
    name: String,
    /// Compressed length; `None` if it follows the member.
    length: Option<u64>,
    /// Checksum; `None` if it follows the member.
    crc: Option<u32>,
    deflated: bool,
}

impl Zip {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared, begun: false, ended: false, body: None, described: None }
    }

    /// Skips the rest of the current member. Returns false if the position of the next one is unknown.
    fn leave(&mut self, stream: &mut Stream) -> Result<bool, BadRecord> {
        // Whatever goes wrong before the next member is found, there is no finding it.
        self.ended = true;
        let rest = std::mem::take(&mut stream.left);
        if stream.lost {
            return Ok(false);
        }
        skip(stream, rest)?;
        if let Some(length) = self.described.take() {
            skip_descriptor(stream, length);
        }
        if let Some(body) = self.body.take() {
            let outcome = body.lock().finish(stream);
            self.ended = stream.lost || outcome.is_ok();
            outcome?;
        }
        Ok(!stream.lost)
    }

    /// Finds the next member that is a file; `None` at the archive's directory.
    fn step(&mut self, stream: &mut Stream) -> Result<Option<Entry>, BadRecord> {
        while self.leave(stream)? {
            let start = stream.source.offset();
            match stream.source.peek(4) {
                b"PK\x03\x04" => {}
                b"PK\x01\x02" | b"PK\x05\x06" | b"PK\x06\x06" | b"PK\x06\x08" => return Ok(None),
                [] => return Err(stream.source.bad_record(start, "the archive is truncated")),
                _ if !self.begun => {
                    find_first(stream)?;
                    self.begun = true;
                    continue;
                }
                // Some writers fill up what lies between members and the directory.
                [0, ..] => {
                    skip_zeros(stream)?;
                    continue;
                }
                _ => return Err(stream.source.bad_record(start, "no zip header where one should be")),
            }
            self.begun = true;
            let header = read(stream, HEADER)?;
            let short = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
            let long = |at: usize| u32::from(short(at)) | u32::from(short(at + 2)) << 16;
            let (flags, method) = (short(6), short(8));
            let name = names::decode(read(stream, short(26).into())?);
            let extra = read(stream, short(28).into())?;
            let is_described = flags & 8 != 0;
            let length = match long(18) {
                u32::MAX => zip64_length(&extra, long(22) == u32::MAX).unwrap_or(if is_described {
                    0
                } else {
                    u32::MAX.into()
                }),
                length => length.into(),
            };
            let is_streamed = is_described && length == 0;
            self.described = (is_described && !is_streamed).then_some(length);
            let is_readable = flags & 1 == 0 && matches!(method, 0 | 8);
            self.body =
                is_streamed.then(|| SharedBody::new(Body::new(&name, Some(method).filter(|_| is_readable))));
            let reason = match method {
                _ if flags & 1 != 0 => format!("`{name}` is encrypted"),
                _ if name.ends_with('/') => {
                    stream.left = length;
                    continue;
                }
                0 | 8 => {
                    self.ended = false;
                    let length = (!is_streamed).then_some(length);
                    let crc = (!is_described).then(|| long(14));
                    return Ok(Some(Entry { name, length, crc, deflated: method == 8 }));
                }
                _ => format!("`{name}` is compressed by method {method}, which is not supported"),
            };
            stream.left = length;
            self.ended = false;
            return Err(stream.source.bad_record(start, reason));
        }
        Ok(None)
    }
}

/// Reads the compressed length from a header's extra fields; with `both`, it comes after the uncompressed
/// one.
fn zip64_length(mut extra: &[u8], both: bool) -> Option<u64> {
    loop {
        let (head, rest) = extra.split_at_checked(4)?;
        let (field, rest) = rest.split_at_checked(u16::from_le_bytes([head[2], head[3]]).into())?;
        if head[..2] == [1, 0] {
            let at = if both { 8 } else { 0 };
            return Some(u64::from_le_bytes(field.get(at..at + 8)?.try_into().ok()?));
        }
        extra = rest;
    }
}

/// Skips the program of a self-extracting archive, up to the first member.
fn find_first(stream: &mut Stream) -> Result<(), BadRecord> {
    let start = stream.source.offset();
    loop {
        let window = stream.source.peek(BUFFER);
        let found = memchr::memmem::find(window, b"PK\x03\x04");
        let count = found.unwrap_or(window.len().saturating_sub(3));
        stream.source.consume(count);
        if found.is_some() {
            return Ok(());
        }
        if count == 0 {
            // The bytes that are left may stand before a bad record.
            let left = stream.source.fill()?.len();
            stream.source.consume(left);
            stream.source.fill()?;
            return Err(stream.source.bad_record(start, "no zip header where one should be"));
        }
    }
}

fn skip_zeros(stream: &mut Stream) -> Result<(), BadRecord> {
    loop {
        let bytes = stream.source.fill()?;
        let count = bytes.iter().take_while(|&&byte| byte == 0).count();
        stream.source.consume(count);
        if count == 0 {
            return Ok(());
        }
    }
}

fn truncated(stream: &Stream) -> BadRecord {
    stream.source.bad_record(stream.source.offset(), "the archive is truncated")
}

fn read(stream: &mut Stream, count: usize) -> Result<Vec<u8>, BadRecord> {
    let mut bytes = Vec::new();
    stream.source.read_up_to(count, &mut bytes)?;
    if bytes.len() < count { Err(truncated(stream)) } else { Ok(bytes) }
}

fn skip(stream: &mut Stream, count: u64) -> Result<(), BadRecord> {
    if stream.source.skip(count)? < count { Err(truncated(stream)) } else { Ok(()) }
}

impl Members for Zip {
    fn next_member(&mut self) -> Option<Result<Member, BadRecord>> {
        if self.ended {
            return None;
        }
        let shared = self.shared.clone();
        let mut stream = shared.lock();
        let step = self.step(&mut stream);
        drop(stream);
        let Entry { name, length, crc, deflated } = match step {
            Ok(entry) => entry?,
            Err(bad_record) => return Some(Err(bad_record)),
        };
        let mut member = shared.member(&name, length.unwrap_or_default());
        if let Some(body) = self.body.clone() {
            member.reader = Box::new(BodyReader { shared, body });
            return Some(Ok(member));
        }
        if deflated {
            member.reader = Box::new(flate2::read::DeflateDecoder::new(member.reader));
        }
        let reader = Checked { reader: member.reader, crc: Crc::new(), expected: crc };
        member.reader = Box::new(UntilError { reader, failed: false });
        Some(Ok(member))
    }
}

/// Reader that compares a member with its checksum at its end.
struct Checked<R> {
    reader: R,
    crc: Crc,
    expected: Option<u32>,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(into)?;
        self.crc.update(&into[..count]);
        if count == 0 && !into.is_empty() && self.expected.is_some_and(|crc| crc != self.crc.sum()) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, streamed::WRONG_CHECKSUM));
        }
        Ok(count)
    }
}

/// Reader that ends with the first error: after it, a decoder returns another error for every read.
struct UntilError<R> {
    reader: R,
    failed: bool,
}

impl<R: Read> Read for UntilError<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.failed {
            return Ok(0);
        }
        let outcome = self.reader.read(into);
        self.failed = outcome.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ExtractConfig, tests::*};
    use std::io::Write;

    fn member(name: &str, bytes: &[u8], method: u16, flags: u16) -> Vec<u8> {
        let packed = match method {
            8 => {
                let mut encoder =
                    flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            _ => bytes.to_vec(),
        };
        // A descriptor with or without its signature, and lengths in eight bytes as in archives of many GB.
        let (is_streamed, has_mark, is_wide) = (flags & 8 != 0, flags & 0x4000 != 0, flags & 0x2000 != 0);
        let flags = flags & 0x1fff;
        let length = if is_streamed { 0 } else { packed.len() as u32 };
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        let mut behind = if has_mark { b"PK\x07\x08".to_vec() } else { Vec::new() };
        behind.extend(crc.sum().to_le_bytes());
        for length in [packed.len() as u64, bytes.len() as u64] {
            behind.extend(&length.to_le_bytes()[..if is_wide { 8 } else { 4 }]);
        }
        behind.truncate(if is_streamed { behind.len() } else { 0 });
        let mut member = b"PK\x03\x04\x14\0".to_vec();
        for short in [flags, method, 0, 0] {
            member.extend(short.to_le_bytes());
        }
        member.extend(if is_streamed { 0 } else { crc.sum() }.to_le_bytes());
        member.extend(length.to_le_bytes());
        member.extend((bytes.len() as u32).to_le_bytes());
        member.extend((name.len() as u16).to_le_bytes());
        [&member[..], &[0, 0], name.as_bytes(), &packed, &behind].concat()
    }

    fn read(bytes: &[u8]) -> (Vec<(String, String)>, Vec<String>) {
        let (documents, bad_records) = read_all("a.zip", bytes, &ExtractConfig::default());
        let documents = documents.into_iter().map(|document| (document.source, document.text)).collect();
        (
            documents,
            bad_records
                .into_iter()
                .map(|bad_record| format!("{}: {}", bad_record.file, bad_record.reason))
                .collect(),
        )
    }

    const END: &[u8] = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

    #[test]
    fn members_are_files() {
        let bytes = [
            member("d/", b"", 0, 0),
            member("d/a.txt", b"one", 0, 0),
            member("secret", b"x", 0, 1),
            member("b.jsonl", b"{\"text\": \"two\"}", 8, 0),
            member("c.txt", b"lzma", 14, 0),
            member("d.tar.zip", b"PK\x03\x04", 8, 0),
            member("e.txt", b"three", 8, 0),
            END.to_vec(),
        ];
        let (documents, bad_records) = read(&bytes.concat());
        let found: Vec<_> = documents.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(found, [("a.zip!d/a.txt", "one"), ("a.zip!b.jsonl", "two"), ("a.zip!e.txt", "three")]);
        assert_eq!(
            bad_records,
            [
                "a.zip: `secret` is encrypted",
                "a.zip: `c.txt` is compressed by method 14, which is not supported",
                "a.zip!d.tar.zip: nested archives are not read: unpack it first",
            ]
        );
    }

    #[test]
    fn what_is_broken_or_cut_is_one_bad_record() {
        let (one, two) = (member("a.txt", b"one", 0, 0), member("b.txt", &noise(5000, 7), 8, 0));
        for cut in [one.len(), one.len() + 10, one.len() + 32, one.len() + 2000] {
            let (documents, bad_records) = read(&[&one[..], &two].concat()[..cut]);
            assert_eq!(documents[0].1, "one");
            assert_eq!(bad_records.len(), 1, "{cut} {bad_records:?}");
        }
        let mut broken = member("b.txt", &b"two ".repeat(1000), 8, 0);
        broken[35..40].fill(0xff);
        let (documents, bad_records) = read(&[&broken[..], &one, END].concat());
        assert_eq!((documents.last().map(|found| found.1.as_str()), bad_records.len()), (Some("one"), 1));
        assert!(read(b"PK\x03\x04rest").1[0].ends_with("the archive is truncated"));
    }

    #[test]
    fn members_whose_length_stands_behind_them_are_read() {
        let inner = [member("x.txt", b"within", 0, 8), END.to_vec()].concat();
        let long = "the heron stood in the water ".repeat(9000);
        let picture = [&b"\x89PNG\0"[..], &noise(100_000, 3)].concat();
        for layout in [0, 0x4000, 0x2000, 0x6000] {
            for method in [0, 8] {
                let streamed = |name: &str, bytes: &[u8]| member(name, bytes, method, 8 | layout);
                let looks = b"PK\x01\x02 and PK\x07\x08, which PK\x03\x04 begins no member";
                let bytes = [
                    streamed("d/", b""),
                    streamed("a.txt", b"one"),
                    streamed("b.txt", looks),
                    streamed("c.zip", &inner),
                    streamed("picture", &picture),
                    member("secret.txt", b"x", method, 9 | layout),
                    member("lzma.txt", b"unread", 14, 8 | layout),
                    streamed("e.txt", b""),
                    member("f.txt", b"two", method, 0),
                    streamed("g.txt", long.as_bytes()),
                    END.to_vec(),
                ];
                let (documents, bad_records) = read(&bytes.concat());
                let texts: Vec<&str> = documents.iter().map(|(_, text)| text.as_str()).collect();
                assert_eq!(
                    texts,
                    ["one", std::str::from_utf8(looks).unwrap(), "two", &long],
                    "{bad_records:?}"
                );
                assert_eq!(
                    bad_records,
                    [
                        "a.zip!c.zip: nested archives are not read: unpack it first",
                        "a.zip: `secret.txt` is encrypted",
                        "a.zip: `lzma.txt` is compressed by method 14, which is not supported",
                        "a.zip!e.txt: the file is empty",
                    ]
                );
            }
        }
    }

    #[test]
    fn a_streamed_member_that_is_broken_or_cut_is_one_bad_record() {
        let (one, two) = (member("a.txt", b"one", 0, 0x4008), member("b.txt", b"two", 8, 8));
        let text = "the heron stood in the water ".repeat(400);
        let broken = |from_end: usize| {
            let mut broken = member("c.txt", text.as_bytes(), 8, 0x4008);
            let at = broken.len() - from_end;
            broken[at] ^= 0x55;
            broken
        };
        // Its bytes are damaged, then its lengths.
        for broken in [broken(56), broken(8)] {
            let (documents, bad_records) = read(&[&one[..], &broken, &two, END].concat());
            assert_eq!(documents[0].1, "one");
            assert_eq!(bad_records.len(), 1, "{bad_records:?}");
        }
        let (documents, bad_records) = read(&[&one[..], &broken(56), &two, END].concat());
        assert_eq!((documents.last().map(|found| found.1.as_str()), bad_records.len()), (Some("two"), 1));
        for method in [0, 8] {
            let member = member("c.txt", text.as_bytes(), method, 0x4008);
            let (documents, bad_records) = read(&[&one[..], &member[..member.len() - 30]].concat());
            assert_eq!((documents[0].1.as_str(), bad_records.len()), ("one", 1), "{bad_records:?}");
        }
    }

    #[test]
    fn damage_to_streamed_members_ends_in_bad_records() {
        let text = "the heron stood in the water ".repeat(50);
        let sound = [
            member("a.txt", text.as_bytes(), 8, 8),
            member("b.txt", text.as_bytes(), 0, 0x4008),
            member("c/", b"", 0, 0x6008),
            member("d.txt", text.as_bytes(), 8, 0x6008),
            END.to_vec(),
        ]
        .concat();
        for round in 0..400 {
            let random = noise(12, 1 + round);
            let mut bytes = sound.clone();
            for pair in random.chunks_exact(3).take(1 + round as usize % 4) {
                let at = (usize::from(pair[0]) << 8 | usize::from(pair[1])) % bytes.len();
                bytes[at] = pair[2];
                if round % 5 == 0 {
                    bytes.truncate(at + 1);
                }
            }
            let (documents, bad_records) = read(&bytes);
            assert!(documents.len() + bad_records.len() < 10, "{bad_records:?}");
        }
    }
}
