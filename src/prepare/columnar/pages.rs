//! Reads the pages of a column of a Parquet file instead of the library, which reserves memory for what a
//! page states. Here every number is compared with the bytes that are there before the library sees the page.

use super::{
    codecs, levels,
    thrift::{Reader, Wrong},
};
use datafusion::parquet::{
    basic::{Compression, Encoding, Type},
    column::page::{Page, PageMetadata, PageReader},
    errors::{ParquetError, Result},
    file::metadata::ColumnChunkMetaData,
};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    sync::{Arc, Mutex, PoisonError},
};

/// Number of bytes in which the header of a page is searched at first.
const HEADER: usize = 1 << 10;

/// Number of bytes that a value of fixed length may have although pages are shorter, as when all values are
/// null.
const SHORT: usize = 1 << 12;

/// Number of values that a page may have even if it is short, as when all values are the same.
const MANY: usize = 1 << 20;

/// A file that several columns read from in turn.
#[derive(Debug, Clone)]
pub(super) struct Shared(Arc<Mutex<File>>);

impl Shared {
    pub(super) fn new(file: File) -> Self {
        Self(Arc::new(Mutex::new(file)))
    }

    /// Reads bytes that are known to be within the file.
    pub(super) fn read(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(at))?;
        let mut bytes = Vec::with_capacity(length);
        file.by_ref().take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
    }
}

/// Header of a page.
#[derive(Debug, Default, Clone)]
struct Header {
    kind: i64,
    unpacked: usize,
    packed: usize,
    /// Fields of the header of a page of values, by their numbers.
    values: Option<[i64; 9]>,
    /// Fields of the header of a page of values of the second version, by their numbers.
    values_v2: Option<[i64; 9]>,
    /// Fields of the header of a dictionary page, by their numbers.
    dictionary: Option<[i64; 9]>,
}

/// Reader of the pages of a column in one row group.
pub(super) struct Pages {
    file: Shared,
    at: u64,
    end: u64,
    codec: Compression,
    kind: Type,
    /// Bytes of a value, if its type has a fixed length.
    width: usize,
    rep_level: i16,
    def_level: i16,
    rows: levels::RowCounter,
    next: Option<Header>,
    /// Bytes of the largest page so far.
    largest: usize,
}

fn broken(what: impl std::fmt::Display) -> ParquetError {
    ParquetError::General(what.to_string())
}

fn number(field: i64) -> Result<u32> {
    u32::try_from(field).map_err(|_| broken(format!("the number {field} in the header of a page")))
}

fn encoding(field: i64) -> Result<Encoding> {
    Ok(match field {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        3 => Encoding::RLE,
        #[expect(deprecated, reason = "old files have it")]
        4 => Encoding::BIT_PACKED,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        7 => Encoding::DELTA_BYTE_ARRAY,
        8 => Encoding::RLE_DICTIONARY,
        9 => Encoding::BYTE_STREAM_SPLIT,
        _ => return Err(broken(format!("the encoding {field} is unknown"))),
    })
}

impl Pages {
    /// Makes a reader of the pages of a column at `range` in the file, of which `rows` are read at a time.
    pub(super) fn new(file: &Shared, range: (u64, u64), column: &ColumnChunkMetaData, rows: usize) -> Self {
        let descriptor = column.column_descr();
        Self {
            file: file.clone(),
            at: range.0,
            end: range.1,
            codec: column.compression(),
            kind: descriptor.physical_type(),
            width: usize::try_from(descriptor.type_length()).unwrap_or_default(),
            rep_level: descriptor.max_rep_level(),
            def_level: descriptor.max_def_level(),
            rows: levels::RowCounter::new(rows),
            next: None,
            largest: 0,
        }
    }

    /// Reads the header at the current position, unless it was already read.
    fn header(&mut self) -> Result<Option<&Header>> {
        while self.next.is_none() && self.at < self.end {
            let left = (self.end - self.at) as usize;
            let mut length = HEADER.min(left);
            let (mut header, used) = loop {
                let bytes = self.file.read(self.at, length)?;
                match parse(&bytes) {
                    Ok(found) => break found,
                    Err(Wrong::Truncated) if length < left => length = (length * 4).min(left),
                    Err(Wrong::Truncated) => return Err(broken("the header of a page is truncated")),
                    Err(Wrong::Broken(what)) => {
                        return Err(broken(format!("the header of a page is broken: {what}")));
                    }
                }
            };
            self.at += used as u64;
            let left = self.end - self.at;
            if header.packed as u64 > left {
                let packed = header.packed;
                return Err(broken(format!("a page of {packed} bytes where {left} are left")));
            }
            if header.kind == 1 {
                // An index, which nobody writes.
                self.at += std::mem::take(&mut header.packed) as u64;
                continue;
            }
            self.next = Some(header);
        }
        Ok(self.next.as_ref())
    }

    /// Reads and decompresses a page; its first `levels` bytes are not compressed.
    fn unpack(&mut self, header: &Header, levels: usize, is_packed: bool) -> Result<Vec<u8>> {
        let bytes = self.file.read(self.at, header.packed)?;
        self.at += header.packed as u64;
        if !is_packed || self.codec == Compression::UNCOMPRESSED {
            self.largest = self.largest.max(bytes.len());
            return Ok(bytes);
        }
        let (plain, packed) = bytes
            .split_at_checked(levels)
            .filter(|_| levels <= header.unpacked)
            .ok_or_else(|| broken("the levels of a page are longer than it"))?;
        let mut unpacked = plain.to_vec();
        codecs::unpack(self.codec, packed, header.unpacked - levels, &mut unpacked).map_err(broken)?;
        self.largest = self.largest.max(unpacked.len());
        Ok(unpacked)
    }

    /// Checks that the bytes can contain as many values as the page states.
    fn check_values(&self, values: &[u8], encoding: Encoding, count: u32) -> Result<()> {
        let is_fixed = self.kind == Type::FIXED_LEN_BYTE_ARRAY;
        if is_fixed && self.width > self.largest.max(SHORT) {
            let (width, largest) = (self.width, self.largest);
            return Err(broken(format!("values of {width} bytes in pages of {largest}")));
        }
        let announced = match encoding {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => levels::delta(values)?.0,
            Encoding::DELTA_BYTE_ARRAY => {
                let (prefixes, end) = levels::delta(values)?;
                let (suffixes, _) = levels::delta(values.get(end..).unwrap_or_default())?;
                prefixes.max(suffixes)
            }
            _ => 0,
        };
        let most = (8 * values.len()).max(MANY).min(count as usize);
        if announced > most as u64 {
            return Err(broken(format!("{announced} values in {} bytes of a page", values.len())));
        }
        Ok(())
    }

    fn dictionary(&mut self, header: &Header, fields: [i64; 9]) -> Result<Page> {
        let (num_values, encoding) = (number(fields[1])?, encoding(fields[2])?);
        let bytes = self.unpack(header, 0, true)?;
        let least = match self.kind {
            Type::INT64 | Type::DOUBLE => 8,
            Type::INT96 => 12,
            Type::FIXED_LEN_BYTE_ARRAY => self.width.max(1),
            Type::BOOLEAN => 1,
            // A byte array has its length before it.
            Type::INT32 | Type::FLOAT | Type::BYTE_ARRAY => 4,
        };
        if num_values as usize > bytes.len() / least {
            let length = bytes.len();
            return Err(broken(format!("a dictionary of {num_values} values in {length} bytes")));
        }
        Ok(Page::DictionaryPage { buf: bytes.into(), num_values, encoding, is_sorted: false })
    }

    fn values(&mut self, header: &Header, fields: [i64; 9]) -> Result<Page> {
        let (num_values, values) = (number(fields[1])?, encoding(fields[2])?);
        let (def_level_encoding, rep_level_encoding) = (encoding(fields[3])?, encoding(fields[4])?);
        let bytes = self.unpack(header, 0, true)?;
        let mut rest = &bytes[..];
        if self.rep_level > 0 {
            let (levels, behind) = levels::split(rest, rep_level_encoding, self.rep_level, num_values)?;
            self.rows.count(levels, rep_level_encoding, self.rep_level, num_values)?;
            rest = behind;
        }
        if self.def_level > 0 {
            rest = levels::split(rest, def_level_encoding, self.def_level, num_values)?.1;
        }
        self.check_values(rest, values, num_values)?;
        Ok(Page::DataPage {
            buf: bytes.into(),
            num_values,
            encoding: values,
            def_level_encoding,
            rep_level_encoding,
            statistics: None,
        })
    }

    fn values_v2(&mut self, header: &Header, fields: [i64; 9]) -> Result<Page> {
        let (num_values, num_nulls, num_rows) = (number(fields[1])?, number(fields[2])?, number(fields[3])?);
        let (def_length, rep_length) = (number(fields[5])?, number(fields[6])?);
        let (encoding, is_compressed) = (encoding(fields[4])?, fields[7] != 0);
        let levels = def_length as usize + rep_length as usize;
        let bytes = self.unpack(header, levels, is_compressed)?;
        let values = bytes.get(levels..).ok_or_else(|| broken("the levels of a page are longer than it"))?;
        if self.rep_level > 0 {
            let levels = &bytes[..rep_length as usize];
            self.rows.count(levels, Encoding::RLE, self.rep_level, num_values)?;
        }
        self.check_values(values, encoding, num_values)?;
        Ok(Page::DataPageV2 {
            buf: bytes.into(),
            num_values,
            encoding,
            num_nulls,
            num_rows,
            def_levels_byte_len: def_length,
            rep_levels_byte_len: rep_length,
            is_compressed,
            statistics: None,
        })
    }
}

/// Reads the header of a page and returns it with its length in bytes.
fn parse(bytes: &[u8]) -> std::result::Result<(Header, usize), Wrong> {
    let mut reader = Reader::new(bytes);
    let mut header = Header { kind: -1, ..Header::default() };
    let mut last = 0;
    let size = |reader: &mut Reader| {
        let length = reader.integer()?;
        let length = usize::try_from(length).ok().filter(|&length| length <= i32::MAX as usize);
        length.ok_or(Wrong::Broken("a page of a negative length"))
    };
    while let Some((id, wire)) = reader.field(last)? {
        last = id;
        match (id, wire) {
            (1, 5) => header.kind = reader.integer()?,
            (2, 5) => header.unpacked = size(&mut reader)?,
            (3, 5) => header.packed = size(&mut reader)?,
            (5, 12) => header.values = Some(fields(&mut reader)?),
            (7, 12) => header.dictionary = Some(fields(&mut reader)?),
            (8, 12) => header.values_v2 = Some(fields(&mut reader)?),
            (1..=3 | 5 | 7 | 8, _) => return Err(Wrong::Broken("a field of another type than its own")),
            _ => reader.skip(wire, 64)?,
        }
    }
    Ok((header, bytes.len() - reader.rest().len()))
}

/// Reads the numbers of a structure, by the numbers of their fields. A missing field is -1; a boolean is 1 or
/// 0.
fn fields(reader: &mut Reader) -> std::result::Result<[i64; 9], Wrong> {
    let mut fields = [-1; 9];
    let mut last = 0;
    while let Some((id, wire)) = reader.field(last)? {
        last = id;
        let field = usize::try_from(id).ok().and_then(|id| fields.get_mut(id));
        match (field, wire) {
            (Some(field), 1) => *field = 1,
            (Some(field), 2) => *field = 0,
            (Some(field), 5) => *field = reader.integer()?,
            _ => reader.skip(wire, 64)?,
        }
    }
    Ok(fields)
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.header()?;
        let Some(header) = self.next.take() else { return Ok(None) };
        let missing = || broken("the header of a page lacks a part");
        match header.kind {
            0 => self.values(&header, header.values.ok_or_else(missing)?),
            2 => self.dictionary(&header, header.dictionary.ok_or_else(missing)?),
            3 => self.values_v2(&header, header.values_v2.ok_or_else(missing)?),
            kind => Err(broken(format!("a page of the unknown type {kind}"))),
        }
        .map(Some)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        let Some(header) = self.header()? else { return Ok(None) };
        let fields = header.values_v2.or(header.values).unwrap_or_default();
        let is_v2 = header.values_v2.is_some();
        Ok(Some(PageMetadata {
            num_rows: is_v2.then(|| number(fields[3])).transpose()?.map(|rows| rows as usize),
            num_levels: Some(number(fields[1].max(0))? as usize),
            is_dict: header.kind == 2,
        }))
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.get_next_page().map(|_| ())
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}
