//! Buffer beneath compressed streams, which can be rewound if a member turns out to be broken.

use super::{BadRecord, source::read_behind};
use std::io::{self, BufRead, Read};

/// Bytes of a member that are kept, to search them for the next member if it is broken: such a member often
/// ends before its decoder notices. Members of crawls are much smaller.
const TAPE: usize = 1 << 20;

/// A buffered stream that can be rewound to the beginning of the current member.
pub(super) struct Tape {
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// Position of `buffer[0]` in the stream.
    base: u64,
    /// Bytes of `buffer` that were consumed.
    used: usize,
    pub(super) waiting: Option<io::Error>,
    ended: bool,
}

impl Tape {
    pub(super) fn new(reader: Box<dyn Read + Send>) -> Self {
        Self { reader, buffer: Vec::new(), base: 0, used: 0, waiting: None, ended: false }
    }

    pub(super) fn position(&self) -> u64 {
        self.base + self.used as u64
    }

    /// Drops the bytes that were consumed.
    pub(super) fn cut(&mut self) {
        self.buffer.drain(..self.used);
        self.base += self.used as u64;
        self.used = 0;
    }

    fn read_more(&mut self) -> bool {
        if self.ended || self.waiting.is_some() {
            return false;
        }
        if self.used > TAPE {
            self.cut();
        }
        match read_behind(&mut *self.reader, &mut self.buffer) {
            Ok(0) => self.ended = true,
            Ok(_) => return true,
            Err(error) => {
                // Only bad records of decompression are followed by more.
                self.ended = !error.get_ref().is_some_and(|inner| inner.is::<BadRecord>());
                self.waiting = Some(error);
            }
        }
        false
    }

    /// Rewinds as far as the tape goes, but to the byte after the position `start`: the member that begins
    /// there is known to be broken.
    pub(super) fn rewind(&mut self, start: u64) {
        self.used = if self.base == start { 1.min(self.buffer.len()) } else { 0 };
    }

    /// Returns the next bytes without consuming them: `count`, or fewer before the end or an error.
    pub(super) fn peek(&mut self, count: usize) -> &[u8] {
        while self.buffer.len() - self.used < count && self.read_more() {}
        let end = self.buffer.len().min(self.used + count);
        &self.buffer[self.used..end]
    }
}

impl Read for Tape {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(into.len());
        into[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Tape {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.buffer.len()
            && !self.read_more()
            && let Some(error) = self.waiting.take()
        {
            return Err(error);
        }
        Ok(&self.buffer[self.used..])
    }

    fn consume(&mut self, count: usize) {
        self.used = (self.used + count).min(self.buffer.len());
    }
}
