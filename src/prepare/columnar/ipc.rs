//! Reads the rows of Arrow's files, which are also called Feather 2, and of its streams (the IPC format).
//! Every length in a message is compared with the bytes that are there before the library, which reserves
//! memory for it, sees the message.

use super::Opened;
use datafusion::arrow::{
    array::RecordBatch,
    buffer::{Buffer, MutableBuffer},
    ipc::{
        Block, CompressionType, Message, MessageHeader, convert::fb_to_schema, reader::FileDecoder,
        root_as_footer, root_as_message,
    },
};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    sync::Arc,
};

/// Bytes at the beginning of a file, padded to eight, and at its end, after the footer's length.
const MAGIC: &[u8] = b"ARROW1";
const START: u64 = 8;
const TAIL: u64 = 10;

/// Bytes before the length of a message, except in old files.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Number of rows that a column may have even if it has few bytes, as when all are null or the same.
const ROWS: u64 = 1 << 20;

/// Decompressed size of a buffer, in bytes, up to which it is not checked further.
const SMALL: u64 = 1 << 20;
/// Decompressed bytes for each byte of a buffer up to which it is not checked further.
const USUAL: u64 = 32;

/// Maximum bytes that a byte of lz4 can produce.
const LZ4: u64 = 255;

struct Ipc {
    file: File,
    length: u64,
    decoder: FileDecoder,
    rest: Rest,
}

/// Position of the next message.
enum Rest {
    Blocks(std::vec::IntoIter<Block>),
    Stream(u64),
}

type Result<T> = std::result::Result<T, String>;

fn failed(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Opens a file of `length` bytes that begins with [`MAGIC`].
///
/// # Errors
/// The reason why it cannot be read.
pub(super) fn open_file(mut file: File, length: u64) -> Result<Opened> {
    let truncated = || "the file does not end as an Arrow file: it may be truncated".to_string();
    let start = length.checked_sub(TAIL).filter(|&start| start >= START).ok_or_else(truncated)?;
    let tail = read(&mut file, start, TAIL as usize).map_err(failed)?;
    let &[a, b, c, d, ref magic @ ..] = &tail[..] else { return Err(truncated()) };
    if magic != MAGIC {
        return Err(truncated());
    }
    let footer = u32::from_le_bytes([a, b, c, d]);
    let start = start.checked_sub(footer.into()).filter(|&start| start >= START).ok_or_else(|| {
        format!("the footer of {footer} bytes is longer than the file: it may be truncated")
    })?;
    let bytes = read(&mut file, start, footer as usize).map_err(failed)?;
    let footer = root_as_footer(&bytes).map_err(|error| format!("the footer is broken: {error}"))?;
    let schema = footer.schema().ok_or("the footer has no schema")?;
    if !schema.endianness().equals_to_target_endianness() {
        return Err("the file has the byte order of another kind of machine".into());
    }
    let schema = Arc::new(fb_to_schema(schema));
    let decoder = FileDecoder::new(Arc::clone(&schema), footer.version());
    let blocks: Vec<Block> = footer.recordBatches().into_iter().flatten().copied().collect();
    let rest = Rest::Blocks(blocks.into_iter());
    let mut ipc = Ipc { file, length, decoder, rest };
    for block in footer.dictionaries().into_iter().flatten() {
        let (block, buffer) = ipc.block(block)?;
        ipc.decoder.read_dictionary(&block, &buffer).map_err(failed)?;
    }
    Ok(Opened { schema, batches: Box::new(ipc) })
}

/// Opens a stream of `length` bytes.
///
/// # Errors
/// The reason why it cannot be read.
pub(super) fn open_stream(mut file: File, length: u64) -> Result<Opened> {
    let (block, buffer) = message_at(&mut file, 0, length)?.ok_or("the file is empty")?;
    let message = parse(&buffer, &block)?;
    let schema = message.header_as_schema().ok_or("the first message of the stream is no schema")?;
    if !schema.endianness().equals_to_target_endianness() {
        return Err("the stream has the byte order of another kind of machine".into());
    }
    let schema = Arc::new(fb_to_schema(schema));
    let decoder = FileDecoder::new(Arc::clone(&schema), message.version());
    let rest = Rest::Stream(buffer.len() as u64);
    Ok(Opened { schema, batches: Box::new(Ipc { file, length, decoder, rest }) })
}

/// Reads bytes that are known to be within the file.
fn read(file: &mut File, at: u64, length: usize) -> io::Result<Buffer> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = MutableBuffer::from_len_zeroed(length);
    file.read_exact(&mut bytes)?;
    Ok(bytes.into())
}

/// Number of bytes of a message before its metadata.
fn prefix(bytes: &[u8]) -> usize {
    if bytes.starts_with(&CONTINUATION) { 8 } else { 4 }
}

fn parse<'a>(buffer: &'a Buffer, block: &Block) -> Result<Message<'a>> {
    let metadata = buffer.get(prefix(buffer)..block.metaDataLength() as usize);
    let metadata = metadata.ok_or("a message is truncated")?;
    root_as_message(metadata).map_err(|error| format!("a message is broken: {error}"))
}

/// Reads a message of a stream, which states its own length; `None` at the end.
fn message_at(file: &mut File, at: u64, length: u64) -> Result<Option<(Block, Buffer)>> {
    let left = length.saturating_sub(at);
    if left == 0 {
        return Ok(None);
    }
    let truncated = || format!("the stream is truncated: it has {left} more bytes, and a message needs more");
    let start = read(file, at, left.min(8) as usize).map_err(failed)?;
    let prefix = prefix(&start);
    let field = start.get(prefix - 4..prefix).ok_or_else(truncated)?;
    let metadata = u32::from_le_bytes(field.try_into().map_err(failed)?);
    if metadata == 0 {
        return Ok(None);
    }
    let metadata = prefix as u64 + u64::from(metadata);
    let metadata_length = i32::try_from(metadata).ok().filter(|_| metadata <= left).ok_or_else(truncated)?;
    let head = read(file, at, metadata as usize).map_err(failed)?;
    let body = parse(&head, &Block::new(0, metadata_length, 0))?.bodyLength();
    let body = u64::try_from(body).ok().filter(|&body| body <= left - metadata).ok_or_else(truncated)?;
    let buffer = read(file, at, (metadata + body) as usize).map_err(failed)?;
    Ok(Some((Block::new(0, metadata_length, body.cast_signed()), buffer)))
}

impl Ipc {
    /// Reads the message at the place that the footer states.
    fn block(&mut self, block: &Block) -> Result<(Block, Buffer)> {
        let metadata = u64::try_from(block.metaDataLength()).ok();
        let (at, body) = (u64::try_from(block.offset()).ok(), u64::try_from(block.bodyLength()).ok());
        let length = metadata.and_then(|metadata| metadata.checked_add(body?));
        let end = at.and_then(|at| at.checked_add(length?));
        let (Some(at), Some(length), Some(_)) = (at, length, end.filter(|&end| end <= self.length)) else {
            return Err("a message goes on behind the end of the file".into());
        };
        let buffer = read(&mut self.file, at, length as usize).map_err(failed)?;
        check(&buffer, block)?;
        Ok((*block, buffer))
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let (block, buffer) = match &mut self.rest {
                Rest::Blocks(blocks) => match blocks.next() {
                    Some(block) => self.block(&block)?,
                    None => return Ok(None),
                },
                Rest::Stream(at) => {
                    let Some((block, buffer)) = message_at(&mut self.file, *at, self.length)? else {
                        return Ok(None);
                    };
                    *at += buffer.len() as u64;
                    check(&buffer, &block)?;
                    (block, buffer)
                }
            };
            match parse(&buffer, &block)?.header_type() {
                MessageHeader::DictionaryBatch => {
                    self.decoder.read_dictionary(&block, &buffer).map_err(failed)?;
                }
                _ => {
                    let batch = self.decoder.read_record_batch(&block, &buffer).map_err(failed)?;
                    if batch.is_some() {
                        return Ok(batch);
                    }
                }
            }
        }
    }
}

impl Iterator for Ipc {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batch().transpose()
    }
}

/// Compares the lengths stated in a message with its bytes.
fn check(buffer: &Buffer, block: &Block) -> Result<()> {
    let message = parse(buffer, block)?;
    let dictionary = message.header_as_dictionary_batch().map(|dictionary| dictionary.data());
    let batch = match (message.header_as_record_batch(), dictionary) {
        (Some(batch), _) => batch,
        (None, Some(batch)) => batch.ok_or("a dictionary without values")?,
        (None, None) => return Ok(()),
    };
    let body = &buffer[block.metaDataLength() as usize..];
    let codec = batch.compression().map(|compression| compression.codec());
    let (mut taken, mut unpacked) = (0, 0);
    for range in batch.buffers().into_iter().flatten() {
        let start = usize::try_from(range.offset()).ok();
        let end = start.and_then(|start| start.checked_add(usize::try_from(range.length()).ok()?));
        let bytes = start.and_then(|start| body.get(start..end?));
        let bytes = bytes.ok_or("a buffer goes on behind the end of its message")?;
        taken += bytes.len();
        unpacked += codec.map_or(Ok(bytes.len() as u64), |codec| check_packed(codec, bytes))?;
    }
    // Else the same bytes are unpacked again and again.
    if codec.is_some() && taken > body.len() {
        return Err("buffers that overlap".into());
    }
    let most = unpacked.saturating_mul(8).max(ROWS);
    let too_long = |length: i64| u64::try_from(length).map_or(true, |length| length > most);
    let mut lengths = batch.nodes().into_iter().flatten().map(|node| node.length()).chain([batch.length()]);
    if let Some(length) = lengths.find(|&length| too_long(length)) {
        return Err(format!("a column of {length} rows in {unpacked} bytes"));
    }
    Ok(())
}

/// Returns the number of bytes of a buffer after decompression, and checks that it can have as many.
fn check_packed(codec: CompressionType, bytes: &[u8]) -> Result<u64> {
    if bytes.is_empty() {
        return Ok(0);
    }
    let (length, packed) = bytes.split_first_chunk().ok_or("a packed buffer without its length")?;
    let length = match i64::from_le_bytes(*length) {
        // It is not packed.
        -1 => return Ok(packed.len() as u64),
        length => u64::try_from(length).map_err(|_| format!("a buffer of {length} bytes"))?,
    };
    let available = packed.len() as u64;
    let refused = || format!("a buffer of {length} bytes cannot be packed in {available}");
    if length <= SMALL.max(USUAL * available) {
        return Ok(length);
    }
    let is_right = match codec {
        CompressionType::LZ4_FRAME => length / LZ4 <= available,
        // Nothing says how much zstd gives but unpacking it.
        _ => count_zstd(packed, length).map_err(|_| refused())? == length,
    };
    if is_right { Ok(length) } else { Err(refused()) }
}

/// Counts the bytes that zstd decompresses to, up to one more than `most`.
fn count_zstd(packed: &[u8], most: u64) -> io::Result<u64> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
    decoder.window_log_max(31)?;
    io::copy(&mut decoder.take(most.saturating_add(1)), &mut io::sink())
}
