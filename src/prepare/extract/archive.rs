//! Reads archives: the members one after the other, each as a file `ARCHIVE!MEMBER` with its own format and
//! compression. Nothing is unpacked to disk, and no member is in memory as a whole.

use super::{BadRecord, Document, ExtractConfig, Records, source::Source, tar, zip};
use std::{
    io::{self, Read},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tar,
    Zip,
}

/// Number of bytes that [`Kind::of`] needs.
pub(super) const START: usize = tar::BLOCK;

impl Kind {
    /// Finds the kind of an archive by its first bytes or, if these belong to no other kind of file, by its
    /// name.
    pub(super) fn of(name: &str, start: &[u8]) -> Option<Self> {
        let named = |extension: &str| {
            name.rsplit_once('.').is_some_and(|(_, found)| found.eq_ignore_ascii_case(extension))
        };
        match start {
            [b'P', b'K', 3 | 5, 4 | 6, ..] => Some(Self::Zip),
            [] => None,
            _ if tar::is_header(start) || named("tar") => Some(Self::Tar),
            // One that unpacks itself begins with a program.
            _ if named("zip") => Some(Self::Zip),
            _ => None,
        }
    }
}

/// Opens the reader of an archive; an archive within another one is refused.
pub(super) fn open(kind: Kind, source: Source, config: &ExtractConfig, within: bool) -> Box<dyn Records> {
    let refused = |reason: &str| Box::new(std::iter::once(Err(source.bad_record(0, reason))));
    match kind {
        _ if within => refused("nested archives are not read: unpack it first"),
        Kind::Tar => Box::new(ArchiveReader::new(tar::Tar::new(Shared::new(source)), config)),
        Kind::Zip => Box::new(ArchiveReader::new(zip::Zip::new(Shared::new(source)), config)),
    }
}

/// Stream of an archive, shared by the archive's reader and that of the current member, which read from it in
/// turn.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Stream>>);

pub(super) struct Stream {
    pub(super) source: Source,
    /// Bytes of the current member that are not read yet.
    pub(super) left: u64,
    /// True if the stream ended or broke within a member, so that the next one cannot be found.
    pub(super) lost: bool,
    member: String,
}

impl Shared {
    fn new(source: Source) -> Self {
        Self(Arc::new(Mutex::new(Stream { source, left: 0, lost: false, member: String::new() })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Stream> {
        // The stream is as good after a panic of whoever had it as before.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a member of `length` bytes.
    pub(super) fn member(&self, name: &str, length: u64) -> Member {
        let mut stream = self.lock();
        let file = format!("{}!{name}", stream.source.name());
        stream.member = name.into();
        stream.left = length;
        Member { name: file, reader: Box::new(MemberReader(self.clone())) }
    }
}

pub(super) struct Member {
    pub(super) name: String,
    pub(super) reader: Box<dyn Read + Send>,
}

struct MemberReader(Shared);

impl Read for MemberReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut stream = self.0.lock();
        if stream.left == 0 || into.is_empty() {
            return Ok(0);
        }
        let left = usize::try_from(stream.left).unwrap_or(usize::MAX);
        let count = match stream.source.fill() {
            Ok(bytes) => {
                let count = bytes.len().min(into.len()).min(left);
                into[..count].copy_from_slice(&bytes[..count]);
                Ok(count)
            }
            Err(bad_record) => Err(bad_record),
        };
        let bad_record = match count {
            Ok(0) => {
                let reason = format!("the archive ends within `{}`", stream.member);
                stream.source.bad_record(stream.source.offset(), reason)
            }
            Ok(count) => {
                stream.source.consume(count);
                stream.left -= count as u64;
                return Ok(count);
            }
            Err(bad_record) => bad_record,
        };
        (stream.left, stream.lost) = (0, true);
        Err(io::Error::other(bad_record))
    }
}

/// Reader that finds the members of one kind of archive.
pub(super) trait Members: Send {
    /// Skips the rest of the current member and finds the next one.
    fn next_member(&mut self) -> Option<Result<Member, BadRecord>>;
}

struct ArchiveReader<M> {
    members: M,
    config: ExtractConfig,
    current: Option<Box<dyn Records>>,
    /// Number of members without text, and of records skipped in members that were read.
    skipped: u64,
}

impl<M: Members> ArchiveReader<M> {
    fn new(members: M, config: &ExtractConfig) -> Self {
        Self { members, config: config.clone(), current: None, skipped: 0 }
    }
}

impl<M: Members> Records for ArchiveReader<M> {
    fn skipped(&self) -> u64 {
        self.skipped + self.current.as_ref().map_or(0, |current| current.skipped())
    }
}

impl<M: Members> Iterator for ArchiveReader<M> {
    type Item = Result<Document, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(current) = &mut self.current {
                if let Some(record) = current.next() {
                    return Some(record);
                }
                self.skipped += current.skipped();
                self.current = None;
            }
            match self.members.next_member()? {
                Ok(Member { name, reader }) => match super::records(&name, reader, &self.config, true) {
                    Some(records) => self.current = Some(records),
                    None => self.skipped += 1,
                },
                Err(bad_record) => return Some(Err(bad_record)),
            }
        }
    }
}
