//! Tar archives: POSIX's ustar and pax, GNU's long names, and the older format of Unix 7.

use super::{
    BadRecord,
    archive::{Member, Members, Shared, Stream},
};

pub(super) const BLOCK: usize = 512;
/// Maximum bytes of a name or of other fields in headers before a member.
const FIELDS: u64 = 1 << 20;

/// Returns whether a block is the header of a member, by its checksum.
pub(super) fn is_header(block: &[u8]) -> bool {
    let Some(block) = block.get(..BLOCK) else { return false };
    let Some(checksum) = octal(&block[148..156]) else { return false };
    // The checksum itself counts as spaces. Some old archivers took bytes for signed.
    let others = || block[..148].iter().chain(&block[156..]);
    let spaces = 8 * i64::from(b' ');
    let unsigned = others().map(|&byte| i64::from(byte)).sum::<i64>() + spaces;
    let signed = others().map(|&byte| i64::from(byte.cast_signed())).sum::<i64>() + spaces;
    block[0] != 0 && i64::try_from(checksum).is_ok_and(|checksum| [unsigned, signed].contains(&checksum))
}

/// Reads a number in octal digits or, if it is too large for its field, in binary (GNU).
fn octal(field: &[u8]) -> Option<u64> {
    if let [0x80, rest @ ..] = field {
        let (high, low) = rest.split_at(rest.len().saturating_sub(8));
        let low = low.iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
        return high.iter().all(|&byte| byte == 0).then_some(low);
    }
    // What stands behind the first zero is left over from something else, but some writers begin with zeros.
    let start = field.iter().position(|&byte| !matches!(byte, 0 | b' ')).unwrap_or(field.len());
    let field = &field[start..];
    let field = &field[..memchr::memchr(0, field).unwrap_or(field.len())];
    let digits = std::str::from_utf8(field).ok()?.trim_matches(' ');
    if digits.is_empty() { None } else { u64::from_str_radix(digits, 8).ok() }
}

/// Reads a field up to its first zero.
fn text(field: &[u8]) -> String {
    let end = memchr::memchr(0, field).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// Values from the headers before a member, which override those of its own header.
#[derive(Debug, Default)]
struct Fields {
    name: Option<String>,
    length: Option<u64>,
    sparse: bool,
}

impl Fields {
    /// Reads pax records: `LENGTH KEY=VALUE\n`, where the length is that of the whole record.
    fn add_pax(&mut self, mut bytes: &[u8]) {
        while let Some(at) = memchr::memchr(b' ', bytes) {
            let length =
                std::str::from_utf8(&bytes[..at]).ok().and_then(|length| length.parse::<usize>().ok());
            // Shorter than its own length field would go on for ever.
            let length = length.filter(|&length| length > at);
            let Some((record, rest)) = length.and_then(|length| bytes.split_at_checked(length)) else {
                return;
            };
            let record = String::from_utf8_lossy(record.get(at + 1..).unwrap_or_default());
            match record.trim_end_matches('\n').split_once('=') {
                Some(("path" | "GNU.sparse.name", name)) => self.name = Some(name.into()),
                Some(("size", length)) => self.length = length.parse().ok(),
                Some((key, _)) => self.sparse |= key.starts_with("GNU.sparse."),
                None => {}
            }
            bytes = rest;
        }
    }
}

pub(super) struct Tar {
    shared: Shared,
    /// Name from a global pax header, for all members after it that have no pax name of their own.
    global_name: Option<String>,
    /// Bytes that fill the last block of the current member.
    padding: u64,
    /// True once a block of zeros, the end mark of an archive, was read.
    marked: bool,
    ended: bool,
}

enum Step {
    Member { name: String, length: u64 },
    Ended,
}

impl Tar {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared, global_name: None, padding: 0, marked: false, ended: false }
    }

    /// Reads the next header; a run of blocks that are no headers is one bad record. `None` at the end.
    fn read_header(&mut self, stream: &mut Stream) -> Result<Option<Vec<u8>>, BadRecord> {
        let mut wrong = None;
        loop {
            let start = stream.source.offset();
            let mut block = Vec::new();
            let next = stream.source.peek(BLOCK);
            if is_header(next) {
                if let Some(at) = wrong {
                    return Err(stream.source.bad_record(at, "no tar header where one should be"));
                }
                self.marked = false;
                stream.source.read_up_to(BLOCK, &mut block)?;
                return Ok(Some(block));
            }
            stream.source.read_up_to(BLOCK, &mut block)?;
            if block.len() < BLOCK {
                let reason = "the archive ends without an end mark: it may be truncated";
                return match wrong {
                    Some(at) => Err(stream.source.bad_record(at, "no tar header where one should be")),
                    None if block.is_empty() && self.marked => Ok(None),
                    None => {
                        self.marked = true;
                        Err(stream.source.bad_record(start, reason))
                    }
                };
            }
            let zeros = block.iter().all(|&byte| byte == 0);
            self.marked |= zeros;
            if !zeros {
                wrong = wrong.or(Some(start));
            }
        }
    }

    /// Finds the next member that is a file.
    fn step(&mut self, stream: &mut Stream) -> Result<Step, BadRecord> {
        let rest = stream.left.saturating_add(self.padding);
        (stream.left, self.padding) = (0, 0);
        if stream.lost {
            return Ok(Step::Ended);
        }
        self.pass(stream, rest)?;
        let mut fields = Fields::default();
        loop {
            let Some(header) = self.read_header(stream)? else { return Ok(Step::Ended) };
            let start = stream.source.offset() - BLOCK as u64;
            let Some(length) = octal(&header[124..136]).or(fields.length) else {
                return Err(stream.source.bad_record(start, "a tar header without a length"));
            };
            let kind = header[156];
            // Solaris writes `X` for `x`.
            if matches!(kind, b'x' | b'X' | b'g' | b'L') {
                let mut bytes = Vec::new();
                if length > FIELDS {
                    let reason = format!("{length} bytes of fields before a member, more than {FIELDS}");
                    self.pass(stream, padded(length))?;
                    return Err(stream.source.bad_record(start, reason));
                }
                stream.source.read_up_to(length as usize, &mut bytes)?;
                self.pass(stream, padded(length) - bytes.len() as u64)?;
                match kind {
                    b'L' => fields.name = Some(text(&bytes)),
                    b'g' => {
                        let mut all = Fields::default();
                        all.add_pax(&bytes);
                        self.global_name = all.name.or(self.global_name.take());
                    }
                    _ => fields.add_pax(&bytes),
                }
                continue;
            }
            // The name that a link leads to.
            if kind == b'K' {
                self.pass(stream, padded(length))?;
                continue;
            }
            let Fields { name, length: own, sparse } = std::mem::take(&mut fields);
            let length = own.unwrap_or(length);
            let name = name.or_else(|| self.global_name.clone()).unwrap_or_else(|| {
                let prefix =
                    if header[257..263] == *b"ustar\0" { text(&header[345..500]) } else { String::new() };
                let name = text(&header[..100]);
                if prefix.is_empty() { name } else { format!("{prefix}/{name}") }
            });
            match kind {
                b'S' => {
                    // Blocks with more of its map, each of which says whether another one follows.
                    let mut goes_on = header[482] != 0;
                    while goes_on {
                        let mut block = Vec::new();
                        stream.source.read_up_to(BLOCK, &mut block)?;
                        goes_on = block.get(504).is_some_and(|&byte| byte != 0);
                    }
                    sparse_bad_record(self, stream, start, &name, length)?;
                }
                _ if sparse => sparse_bad_record(self, stream, start, &name, length)?,
                // Links have a length in some archives, and no bytes.
                b'1' | b'2' => {}
                // Devices, folders and pipes; of GNU, Solaris and star what says something of others.
                b'3'..=b'6' | b'A' | b'D' | b'E' | b'I' | b'M' | b'N' | b'V' => {
                    self.pass(stream, padded(length))?;
                }
                // In Unix 7 a directory is a file whose name ends so. POSIX: a kind that is not known is a file.
                _ if name.ends_with('/') => self.pass(stream, padded(length))?,
                _ => {
                    self.padding = padded(length) - length;
                    return Ok(Step::Member { name, length });
                }
            }
        }
    }

    /// Skips bytes; it is an error if there are fewer.
    fn pass(&mut self, stream: &mut Stream, count: u64) -> Result<(), BadRecord> {
        let passed = stream.source.skip(count)?;
        if passed < count {
            self.marked = true;
            return Err(stream.source.bad_record(stream.source.offset(), "the archive is truncated"));
        }
        Ok(())
    }
}

fn sparse_bad_record(
    tar: &mut Tar,
    stream: &mut Stream,
    start: u64,
    name: &str,
    length: u64,
) -> Result<(), BadRecord> {
    tar.pass(stream, padded(length))?;
    Err(stream.source.bad_record(start, format!("`{name}` is sparse, which is not supported")))
}

/// Rounds a length up to whole blocks.
fn padded(length: u64) -> u64 {
    length.div_ceil(BLOCK as u64).saturating_mul(BLOCK as u64)
}

impl Members for Tar {
    fn next_member(&mut self) -> Option<Result<Member, BadRecord>> {
        if self.ended {
            return None;
        }
        let shared = self.shared.clone();
        let mut stream = shared.lock();
        let before = stream.source.bad_records();
        let step = self.step(&mut stream);
        // Behind bytes that are missing, blocks begin who knows where.
        self.ended = stream.source.bad_records() > before || stream.source.at_end();
        let (name, length) = match step {
            Ok(Step::Member { name, length }) => (name, length),
            Ok(Step::Ended) => {
                self.ended = true;
                return None;
            }
            Err(bad_record) => return Some(Err(bad_record)),
        };
        self.ended = false;
        drop(stream);
        Some(Ok(shared.member(&name, length)))
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::{
        ExtractConfig,
        compressed::tests::{gzip, zstandard},
        tests::*,
    };
    use super::*;

    type Pairs = Vec<(String, String)>;

    pub fn header(name: &str, kind: u8, length: usize) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..135].copy_from_slice(format!("{length:011o}").as_bytes());
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }

    pub fn member(name: &str, bytes: &[u8]) -> Vec<u8> {
        raw(name, b'0', bytes)
    }

    fn raw(name: &str, kind: u8, bytes: &[u8]) -> Vec<u8> {
        let mut member = [header(name, kind, bytes.len()), bytes.to_vec()].concat();
        member.resize(member.len().next_multiple_of(BLOCK), 0);
        member
    }

    pub fn archive(members: &[Vec<u8>]) -> Vec<u8> {
        [members.concat(), vec![0; 2 * BLOCK]].concat()
    }

    fn read(name: &str, bytes: &[u8]) -> (Pairs, Pairs) {
        let (documents, bad_records) = read_all(name, bytes, &ExtractConfig::default());
        let documents = documents.into_iter().map(|document| (document.source, document.text));
        (
            documents.collect(),
            bad_records.into_iter().map(|bad_record| (bad_record.file, bad_record.reason)).collect(),
        )
    }

    fn pairs(pairs: &[(&str, &str)]) -> Pairs {
        pairs.iter().map(|&(left, right)| (left.into(), right.into())).collect()
    }

    fn sample() -> Vec<Vec<u8>> {
        let long = format!("{}/c.txt", "long".repeat(60));
        vec![
            raw("docs/", b'5', b""),
            member("docs/a.md", b"one"),
            member("docs/b.jsonl.gz", &gzip(b"{\"text\": \"two\"}\n{\"text\": \"three\"}\n")),
            raw("././@LongLink", b'L', format!("{long}\0").as_bytes()),
            member("short", b"four"),
            raw("pax", b'x', b"17 path=p/d.json\n"),
            member("short", b"[{\"text\": \"five\"}]"),
            raw("link", b'2', b""),
            member("picture.png", b"\x89PNG\0\0\0"),
        ]
    }

    #[test]
    fn members_are_files_of_their_own_format_and_compression() {
        let bytes = archive(&sample());
        let long = "long".repeat(60);
        for (name, bytes) in [
            ("a.tar", bytes.clone()),
            ("a.tar.gz", gzip(&bytes)),
            ("a.tgz", gzip(&bytes)),
            ("a.tar.zst", zstandard(&bytes)),
            ("a", bytes.clone()),
        ] {
            let (documents, bad_records) = read(name, &bytes);
            let wanted = pairs(&[
                (&format!("{name}!docs/a.md"), "one"),
                (&format!("{name}!docs/b.jsonl.gz"), "two"),
                (&format!("{name}!docs/b.jsonl.gz"), "three"),
                (&format!("{name}!{long}/c.txt"), "four"),
                (&format!("{name}!p/d.json"), "five"),
            ]);
            assert_eq!((documents, bad_records), (wanted, vec![]), "{name}");
        }
        let mut reader = super::super::open(
            "a.tar",
            Box::new(std::io::Cursor::new(archive(&sample()))),
            &ExtractConfig::default(),
        );
        assert!(reader.by_ref().count() >= 5);
        assert_eq!(reader.skipped(), 1);
    }

    #[test]
    fn an_archive_within_an_archive_costs_itself_only() {
        let inner = archive(&[member("a.txt", b"inner")]);
        let members = [
            member("a.tar", &inner),
            member("b.tgz", &gzip(&inner)),
            member("c.zip", b"PK\x03\x04rest"),
            member("d.txt", b"outer"),
        ];
        let (documents, bad_records) = read("o.tar", &archive(&members));
        assert_eq!(documents, pairs(&[("o.tar!d.txt", "outer")]));
        let reason = "nested archives are not read: unpack it first";
        assert_eq!(
            bad_records,
            pairs(&[("o.tar!a.tar", reason), ("o.tar!b.tgz", reason), ("o.tar!c.zip", reason)])
        );
    }

    #[test]
    fn a_truncated_archive_is_one_bad_record_and_keeps_what_there_is() {
        let bytes = archive(&[member("a.txt", b"one"), member("b.txt", &b"two ".repeat(500))]);
        // Within the second member, its header, its padding, and behind it.
        let bad_records_at = |cut: usize| read("a.tar", &bytes[..cut]);
        let (documents, bad_records) = bad_records_at(3 * BLOCK + 100);
        assert_eq!(documents.len(), 2);
        assert_eq!(bad_records, pairs(&[("a.tar", "the archive ends within `b.txt`")]));
        for cut in [2 * BLOCK + 100, 2 * BLOCK, 3 * BLOCK + 2010, 7 * BLOCK] {
            let (documents, bad_records) = bad_records_at(cut);
            assert_eq!(
                (documents.len(), bad_records.len()),
                (if cut > 3 * BLOCK { 2 } else { 1 }, 1),
                "{cut}"
            );
            assert!(bad_records[0].1.contains("truncated"), "{bad_records:?}");
        }
        let packed = gzip(&archive(&[member("a.txt", b"one"), member("b.txt", &noise(50_000, 3))]));
        let (documents, bad_records) = read("a.tar.gz", &packed[..packed.len() / 2]);
        assert_eq!(documents[0].1, "one");
        assert_eq!(bad_records.len(), 1, "{bad_records:?}");
    }

    #[test]
    fn a_broken_header_costs_its_member() {
        let mut members = [member("a.txt", b"one"), member("b.txt", b"two"), member("c.txt", b"three")];
        members[1][130] ^= 1;
        let (documents, bad_records) = read("a.tar", &archive(&members));
        assert_eq!(documents, pairs(&[("a.tar!a.txt", "one"), ("a.tar!c.txt", "three")]));
        assert_eq!(bad_records, pairs(&[("a.tar", "no tar header where one should be")]));
        let (documents, bad_records) = read("a.tar", b"this is no archive");
        assert_eq!((documents.len(), bad_records.len()), (0, 1));
    }

    #[test]
    fn headers_of_other_writers_are_read() {
        let mut signed = member("gr\u{f6}\u{df}e.txt", b"signed");
        let sum: i32 = header("gr\u{f6}\u{df}e.txt", b'0', 6)
            .iter()
            .enumerate()
            .map(|(at, &byte)| if (148..156).contains(&at) { 32 } else { i32::from(byte as i8) })
            .sum();
        signed[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let members = [
            raw("all", b'g', b"12 path=all\n"),
            raw("solaris", b'X', b"16 path=solaris\n"),
            member("a.txt", b"one"),
            raw("b.txt", b'Z', b"unknown kind"),
            raw("label", b'V', b"no file"),
        ];
        let (documents, bad_records) = read("a.tar", &archive(&members));
        let wanted = pairs(&[("a.tar!solaris", "one"), ("a.tar!all", "unknown kind")]);
        assert_eq!((documents, bad_records), (wanted, vec![]));
        let (documents, _) = read("a.tar", &archive(&[signed]));
        assert_eq!(documents, pairs(&[("a.tar!gr\u{f6}\u{df}e.txt", "signed")]));
        assert_eq!(octal(b"10\x009999"), Some(8));
        assert_eq!(octal(b"\0\0 10 \0"), Some(8));
        assert_eq!(octal(b"\0\0"), None);
    }

    #[test]
    fn a_limit_and_broken_fields_do_no_harm() {
        let config = ExtractConfig { record_limit: 100, ..Default::default() };
        let members = [member("a.txt", &[b'x'; 10_000]), member("b.txt", b"two")];
        let (documents, bad_records) = read_all("a.tar", &archive(&members), &config);
        assert_eq!((texts(&documents), bad_records.len()), (vec!["two"], 1));
        let huge = [header("x", b'x', 1 << 32), archive(&[member("a.txt", b"one")])].concat();
        assert_eq!(read("a.tar", &huge).1.len(), 1);
        let mut fields = Fields::default();
        for wrong in
            [&b"999 path=a\n"[..], b"x path=a\n", b"3 path", b"0 path=a\n", b"18446744073709551615 a"]
        {
            fields.add_pax(wrong);
        }
        assert_eq!(octal(b"\x80\0\0\0\0\0\0\0\0\0\x01\0"), Some(256));
    }

    #[test]
    fn what_is_not_supported_costs_itself_only() {
        let sum = |block: &mut Vec<u8>, signed: bool| {
            block[148..156].fill(b' ');
            let value = |&byte: &u8| if signed { i32::from(byte.cast_signed()) } else { i32::from(byte) };
            let sum: i32 = block[..BLOCK].iter().map(value).sum();
            block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        };
        // A sparse file of old GNU tar with two more blocks of its map.
        let mut sparse = header("s.txt", b'S', 3);
        sparse[482] = 1;
        sum(&mut sparse, false);
        let mut map = vec![0; 2 * BLOCK];
        map[504] = 1;
        sparse.extend([&map[..], b"abc", &[0; BLOCK - 3]].concat());
        let mut signed = member("\u{e4}.txt", b"one");
        sum(&mut signed, true);
        let members = [
            sparse,
            signed,
            raw("././@LongLink", b'L', b"long.txt\0"),
            raw("././@LongLink", b'K', b"target\0"),
            raw("pax_global_header", b'g', b"14 comment=ab\n"),
            member("short", b"two"),
        ];
        let (documents, bad_records) = read("a.tar", &archive(&members));
        assert_eq!(documents, pairs(&[("a.tar!\u{e4}.txt", "one"), ("a.tar!long.txt", "two")]));
        assert_eq!(bad_records, pairs(&[("a.tar", "`s.txt` is sparse, which is not supported")]));
    }
}
