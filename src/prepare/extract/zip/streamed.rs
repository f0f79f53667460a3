//! Members of a zip archive whose length follows them, in a data descriptor (4.3.9 of the APPNOTE), as Java,
//! macOS and all programs that write to a pipe make them. A deflated member shows its own end. Any other
//! member ends where a descriptor matches the bytes read so far and a header of the archive follows it.

use super::super::{
    BadRecord,
    archive::{Shared, Stream},
    source::BUFFER,
};
use flate2::{Crc, Decompress, FlushDecompress, Status};
use std::{
    io::{self, Read},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Length of the longest descriptor and the signature after it, in bytes.
const LOOK: usize = 24 + 4;

/// Bytes of a deflated member that are kept, to search them for its end if it is broken.
const TAIL: usize = 1 << 15;

/// Message for a member whose checksum does not match.
pub(super) const WRONG_CHECKSUM: &str = "the checksum is wrong";

/// Returns whether bytes begin with a header of an archive.
pub(super) fn is_header(bytes: &[u8]) -> bool {
    matches!(bytes, [b'P', b'K', 1, 2, ..] | [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5 | 6, 6, ..])
        || matches!(bytes, [b'P', b'K', 6, 8, ..])
}

struct Descriptor {
    length: usize,
    crc: u32,
}

/// Reads the descriptor that bytes begin with, if it matches a member of these lengths. It may have a
/// signature and, in archives of more than 4 GB, lengths of eight bytes.
fn descriptor(bytes: &[u8], packed: u64, unpacked: Option<u64>) -> Option<Descriptor> {
    // It is looked for at every byte, and nearly none has the length where it must be.
    let low = (packed as u32).to_le_bytes();
    if [4, 8].iter().all(|&at| bytes.get(at..at + 4) != Some(&low[..])) {
        return None;
    }
    let number = |at: usize, width: usize| {
        let bytes = bytes.get(at..at + width)?;
        Some(bytes.iter().rev().fold(0_u64, |number, &byte| number << 8 | u64::from(byte)))
    };
    let same = |found: Option<u64>, known: u64, width: usize| {
        found == Some(if width == 4 { known & u64::from(u32::MAX) } else { known })
    };
    let layouts = [(4, 8), (4, 4), (0, 8), (0, 4)];
    let (start, width) = layouts.into_iter().find(|&(start, width)| {
        same(number(start + 4, width), packed, width)
            && unpacked.is_none_or(|length| same(number(start + 4 + width, width), length, width))
            && (start == 0 || bytes.starts_with(b"PK\x07\x08"))
            && bytes.get(start + 4 + 2 * width..).is_some_and(is_header)
    })?;
    Some(Descriptor { length: start + 4 + 2 * width, crc: number(start, 4)? as u32 })
}

/// Skips the descriptor of a member whose length was known, if there is one.
pub(super) fn skip_descriptor(stream: &mut Stream, packed: u64) {
    let next = stream.source.peek(LOOK);
    if !is_header(next)
        && let Some(Descriptor { length, .. }) = descriptor(next, packed, None)
    {
        stream.source.consume(length);
    }
}

/// Way in which the end of a member is found.
enum Kind {
    Deflated(Decompress),
    Stored(Crc),
    /// The member is skipped: it is encrypted, compressed by another method, or broken.
    Opaque,
}

/// Reader of a member without a known length.
pub(super) struct Body {
    name: String,
    kind: Kind,
    /// Checksum of the decompressed bytes.
    crc: Crc,
    /// Number of bytes read from the archive.
    packed: u64,
    /// Last bytes read of a deflated member. The decoder of a broken one often reads beyond its end.
    tail: Vec<u8>,
    /// True once a deflated member was read to its end.
    inflated: bool,
    /// Length of the descriptor, once the end of the member is found.
    end: Option<usize>,
    broken: bool,
}

impl Body {
    /// Begins a member. Methods 0 and 8 can be read; a member of any other is skipped.
    pub(super) fn new(name: &str, method: Option<u16>) -> Self {
        let kind = match method {
            Some(0) => Kind::Stored(Crc::new()),
            Some(8) => Kind::Deflated(Decompress::new(false)),
            _ => Kind::Opaque,
        };
        Self {
            name: name.into(),
            kind,
            crc: Crc::new(),
            packed: 0,
            tail: Vec::new(),
            inflated: false,
            end: None,
            broken: false,
        }
    }

    fn read(&mut self, stream: &mut Stream, into: &mut [u8]) -> io::Result<usize> {
        if self.end.is_some() || self.broken || into.is_empty() {
            return Ok(0);
        }
        if matches!(self.kind, Kind::Deflated(_)) {
            self.inflate(stream, into)
        } else {
            self.scan(stream, into)
        }
    }

    fn inflate(&mut self, stream: &mut Stream, into: &mut [u8]) -> io::Result<usize> {
        let Kind::Deflated(decoder) = &mut self.kind else { return Ok(0) };
        while !self.inflated {
            let met = stream.source.fill().err();
            if let Some(bad_record) = met {
                return Err(self.lose(stream, bad_record));
            }
            let input = stream.source.fill().unwrap_or_default();
            let is_end = input.is_empty();
            let (read, written) = (decoder.total_in(), decoder.total_out());
            let status = decoder.decompress(input, into, FlushDecompress::None);
            let used = (decoder.total_in() - read) as usize;
            self.tail.extend_from_slice(&input[..used]);
            self.tail.drain(..self.tail.len().saturating_sub(TAIL));
            stream.source.consume(used);
            self.packed = decoder.total_in();
            let count = (decoder.total_out() - written) as usize;
            self.crc.update(&into[..count]);
            self.inflated = matches!(status, Ok(Status::StreamEnd));
            match status {
                Ok(_) if count > 0 => return Ok(count),
                Ok(_) if is_end && !self.inflated => {
                    let error = io::Error::other(self.truncated(stream));
                    return Err(self.fail(stream, error));
                }
                Ok(_) => {}
                Err(_) => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, "corrupt deflate stream");
                    return Err(self.fail(stream, error));
                }
            }
        }
        let next = stream.source.peek(LOOK);
        let found = descriptor(next, self.packed, Some(decoder.total_out()));
        // Some writers announce a descriptor and write none.
        self.end = if is_header(next) { Some(0) } else { found.as_ref().map(|found| found.length) };
        if self.end.is_none() {
            let reason = "the lengths that stand behind it are not its own";
            return Err(self.fail(stream, io::Error::new(io::ErrorKind::InvalidData, reason)));
        }
        if found.is_some_and(|found| found.crc != self.crc.sum()) {
            // Where it ends is known.
            self.broken = true;
            return Err(io::Error::new(io::ErrorKind::InvalidData, WRONG_CHECKSUM));
        }
        Ok(0)
    }

    /// Reads up to the descriptor, which is searched for at every byte.
    fn scan(&mut self, stream: &mut Stream, into: &mut [u8]) -> io::Result<usize> {
        let window = stream.source.peek(BUFFER);
        if window.is_empty() {
            // A bad record of what lies beneath is met by this.
            let met = stream.source.fill().err();
            return Err(match met {
                Some(bad_record) => self.lose(stream, bad_record),
                None => {
                    let bad_record = self.truncated(stream);
                    self.lose(stream, bad_record)
                }
            });
        }
        let whole = if window.len() == BUFFER { window.len() - LOOK } else { window.len() };
        let most = whole.min(into.len());
        let mut checked = 0;
        let mut found = None;
        for at in 0..=most {
            let length = self.packed + at as u64;
            let unpacked = matches!(self.kind, Kind::Stored(_)).then_some(length);
            let Some(descriptor) = descriptor(&window[at..], length, unpacked) else { continue };
            if let Kind::Stored(crc) = &mut self.kind {
                crc.update(&window[checked..at]);
                checked = at;
                if crc.sum() != descriptor.crc {
                    continue;
                }
            }
            found = Some((at, descriptor.length));
            break;
        }
        let count = found.map_or(most, |(at, _)| at);
        if let Kind::Stored(crc) = &mut self.kind {
            crc.update(&window[checked..count]);
        }
        into[..count].copy_from_slice(&window[..count]);
        stream.source.consume(count);
        self.packed += count as u64;
        self.end = found.map(|(_, length)| length);
        Ok(count)
    }

    fn truncated(&self, stream: &Stream) -> BadRecord {
        let reason = format!("the archive ends within `{}`", self.name);
        stream.source.bad_record(stream.source.offset(), reason)
    }

    /// Marks the archive as lost: no further member can be found.
    fn lose(&mut self, stream: &mut Stream, bad_record: BadRecord) -> io::Error {
        (self.broken, stream.lost) = (true, true);
        io::Error::other(bad_record)
    }

    /// Goes back to where the end of the member may be found.
    fn fail(&mut self, stream: &mut Stream, error: io::Error) -> io::Error {
        self.broken = true;
        let tail = std::mem::take(&mut self.tail);
        stream.source.unread(&tail);
        self.packed -= tail.len() as u64;
        error
    }

    /// Skips the rest of the member and its descriptor.
    ///
    /// # Errors
    /// The bad record of a member that is broken, unless it was already reported.
    pub(super) fn finish(&mut self, stream: &mut Stream) -> Result<(), BadRecord> {
        let mut rest = vec![0; BUFFER];
        let mut told = self.broken;
        let mut outcome = Ok(());
        while self.end.is_none() && !stream.lost {
            if self.broken {
                // Its length is right though its bytes are not.
                (self.kind, self.broken) = (Kind::Opaque, false);
            }
            if let Err(error) = self.read(stream, &mut rest)
                && !std::mem::replace(&mut told, true)
            {
                outcome = Err(error.downcast::<BadRecord>().unwrap_or_else(|error| {
                    stream.source.bad_record(stream.source.offset(), format!("`{}`: {error}", self.name))
                }));
            }
        }
        stream.source.consume(self.end.unwrap_or_default());
        outcome
    }
}

/// Body of the current member, shared by its reader and the archive's, which read from it in turn.
#[derive(Clone)]
pub(super) struct SharedBody(Arc<Mutex<Body>>);

impl SharedBody {
    pub(super) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(body)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Body> {
        // A body is as good after a panic of whoever had it as before.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct BodyReader {
    pub(super) shared: Shared,
    pub(super) body: SharedBody,
}

impl Read for BodyReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut stream = self.shared.lock();
        self.body.lock().read(&mut stream, into)
    }
}
