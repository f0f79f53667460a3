//! The stream that readers take records from: buffered, with the position of every byte, and with the bad
//! records of the layers beneath it (decompression, the disk).

use super::BadRecord;
use std::io::{self, Read};

pub(super) const BUFFER: usize = 1 << 16;
/// Number of bytes that are kept of a piece over the limit, its last ones: a separator may be among them.
const TAIL: usize = 1 << 10;

pub(super) struct Source {
    name: String,
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were consumed.
    used: usize,
    /// Position in the stream of the first byte that was not consumed.
    offset: u64,
    /// A bad record that [`Source::peek`] found and that is not reported yet.
    waiting: Option<BadRecord>,
    /// Number of bad records of the layers beneath that were reported.
    bad_records: u64,
    ended: bool,
    limit: usize,
}

/// Outcome of [`Source::read_until`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// The piece ends with the requested byte, which it includes.
    Whole,
    /// The piece ends with the stream; it may be empty.
    End,
    /// The piece has more bytes than the limit; only its last bytes are kept.
    TooLong,
}

/// Appends up to 64 KB from the reader to the buffer and returns their number.
pub(super) fn read_behind(reader: &mut dyn Read, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let length = buffer.len();
    buffer.resize(length + BUFFER, 0);
    let outcome = loop {
        match reader.read(&mut buffer[length..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => break outcome,
        }
    };
    buffer.truncate(length + *outcome.as_ref().unwrap_or(&0));
    outcome
}

impl Source {
    pub(super) fn new(name: &str, reader: Box<dyn Read + Send>, limit: usize) -> Self {
        Self {
            name: name.into(),
            reader,
            buffer: Vec::new(),
            used: 0,
            offset: 0,
            waiting: None,
            bad_records: 0,
            ended: false,
            limit,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Maximum bytes of a record.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Number of bad records of the layers beneath that were reported.
    pub(super) fn bad_records(&self) -> u64 {
        self.bad_records
    }

    pub(super) fn bad_record(&self, offset: u64, reason: impl Into<String>) -> BadRecord {
        BadRecord { file: self.name.clone(), offset, reason: reason.into() }
    }

    /// Makes the bad record of a file that has no record.
    pub(super) fn nothing(&self) -> BadRecord {
        let is_empty = self.offset == 0;
        self.bad_record(0, if is_empty { "the file is empty" } else { "there is no text in the file" })
    }

    /// Reads once more into the buffer. Returns false if the stream has ended or a bad record is waiting.
    fn read_more(&mut self) -> bool {
        if self.ended || self.waiting.is_some() {
            return false;
        }
        if self.used > 0 {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        let length = self.buffer.len();
        match read_behind(&mut *self.reader, &mut self.buffer) {
            Ok(0) => self.ended = true,
            Ok(_) => return true,
            Err(error) => {
                // Decompression finds its way after a bad record of its own; a disk that fails is given up.
                let bad_record = error.get_ref().and_then(|inner| inner.downcast_ref::<BadRecord>()).cloned();
                self.ended = bad_record.is_none();
                let at = self.offset + length as u64;
                self.waiting = Some(
                    bad_record.unwrap_or_else(|| self.bad_record(at, format!("cannot be read: {error}"))),
                );
            }
        }
        false
    }

    /// Returns the buffered bytes, after reading some if there are none; they are empty at the end of the
    /// stream.
    pub(super) fn fill(&mut self) -> Result<&[u8], BadRecord> {
        if self.used == self.buffer.len()
            && !self.read_more()
            && let Some(bad_record) = self.waiting.take()
        {
            self.bad_records += 1;
            return Err(bad_record);
        }
        Ok(&self.buffer[self.used..])
    }

    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.buffer.len() - self.used);
        self.used += count;
        self.offset += count as u64;
    }

    /// Returns the next bytes without consuming them: `count`, or fewer before the end or a bad record.
    pub(super) fn peek(&mut self, count: usize) -> &[u8] {
        while self.buffer.len() - self.used < count && self.read_more() {}
        let end = self.buffer.len().min(self.used + count);
        &self.buffer[self.used..end]
    }

    /// Returns whether nothing is left, not even a bad record.
    pub(super) fn at_end(&mut self) -> bool {
        self.peek(1).is_empty() && self.waiting.is_none()
    }

    /// Puts back the bytes that were consumed last.
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        self.buffer.splice(..self.used, bytes.iter().copied());
        self.used = 0;
        self.offset -= bytes.len() as u64;
    }

    /// Appends bytes up to and including `byte`. Over the limit, it reads on and keeps only the last bytes.
    pub(super) fn read_until(&mut self, byte: u8, into: &mut Vec<u8>) -> Result<Piece, BadRecord> {
        let mut too_long = false;
        loop {
            let limit = self.limit;
            let bytes = self.fill()?;
            let ended = bytes.is_empty();
            let found = memchr::memchr(byte, bytes);
            let length = found.map_or(bytes.len(), |at| at + 1);
            // The end of a line is not counted, so that a record of just the limit is kept.
            if !too_long && into.len() + length - usize::from(found.is_some()) > limit {
                too_long = true;
                *into = into.split_off(into.len().saturating_sub(TAIL));
            }
            if too_long {
                into.extend_from_slice(&bytes[length.saturating_sub(TAIL)..length]);
                into.drain(..into.len().saturating_sub(TAIL));
            } else {
                into.extend_from_slice(&bytes[..length]);
            }
            self.consume(length);
            if found.is_some() || ended {
                return Ok(match (too_long, found) {
                    (true, _) => Piece::TooLong,
                    (false, Some(_)) => Piece::Whole,
                    (false, None) => Piece::End,
                });
            }
        }
    }

    /// Appends up to `count` bytes: fewer at the end of the stream, or before a bad record, which the next
    /// read reports.
    pub(super) fn read_up_to(&mut self, count: usize, into: &mut Vec<u8>) -> Result<(), BadRecord> {
        let mut left = count;
        while left > 0 {
            let bytes = self.fill()?;
            if bytes.is_empty() {
                break;
            }
            let length = bytes.len().min(left);
            into.extend_from_slice(&bytes[..length]);
            self.consume(length);
            left -= length;
        }
        Ok(())
    }

    /// Skips up to `count` bytes and returns their number.
    pub(super) fn skip(&mut self, count: u64) -> Result<u64, BadRecord> {
        let mut left = count;
        while left > 0 {
            let length = self.fill()?.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if length == 0 {
                break;
            }
            self.consume(length);
            left -= length as u64;
        }
        Ok(count - left)
    }
}

/// Lets a stream be decoded before records are taken from it. An error contains the bad record, for the next
/// [`Source`].
impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill().map_err(io::Error::other)?;
        let count = bytes.len().min(into.len());
        into[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}
