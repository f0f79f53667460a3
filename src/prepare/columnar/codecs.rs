//! Decompresses the pages of Parquet files without trusting their stated length: it takes no more memory than
//! the decompressed bytes need, or than the codec can produce from the compressed ones.

use super::super::extract::codings;
use datafusion::parquet::basic::Compression;
use std::io::{self, Read};

/// Bytes that are reserved for a page even if its compressed bytes are few.
const RESERVED: usize = 1 << 16;

/// Largest window of a zstd frame, as a power of two: a page that is a frame with a single segment needs a
/// window of its own size.
const WINDOW_LOG_MAX: u32 = 31;

/// Maximum bytes that a byte of Snappy can produce.
const SNAPPY: usize = 22;
/// Maximum bytes that a byte of lz4 can produce.
const LZ4: usize = 255;

/// Decompresses `packed`, which must give `length` bytes, and appends them.
///
/// # Errors
/// A message if there are more or fewer bytes, if they are broken, or if the codec is not supported.
pub(super) fn unpack(
    codec: Compression,
    packed: &[u8],
    length: usize,
    into: &mut Vec<u8>,
) -> Result<(), String> {
    if length == 0 {
        // A page of nulls.
        return Ok(());
    }
    let start = into.len();
    match codec {
        Compression::UNCOMPRESSED => into.extend_from_slice(packed),
        Compression::SNAPPY => {
            let announced = snap::raw::decompress_len(packed).map_err(broken)?;
            if announced != length {
                return Err(other_length(length, announced));
            }
            let buffer = reserve(packed, length, SNAPPY, into)?;
            let written = snap::raw::Decoder::new().decompress(packed, buffer).map_err(broken)?;
            into.truncate(start + written);
        }
        Compression::LZ4_RAW => {
            let buffer = reserve(packed, length, LZ4, into)?;
            let written = lz4_flex::block::decompress_into(packed, buffer).map_err(broken)?;
            into.truncate(start + written);
        }
        Compression::LZ4 => lz4(packed, length, into)?,
        Compression::GZIP(_) => {
            read(flate2::bufread::MultiGzDecoder::new(packed), packed, length, into).map_err(broken)?;
        }
        Compression::ZSTD(_) => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(broken)?;
            decoder.window_log_max(WINDOW_LOG_MAX).map_err(broken)?;
            read(decoder, packed, length, into).map_err(broken)?;
        }
        Compression::BROTLI(_) => {
            let unpacked = codings::brotli(packed, length)?;
            if let Some(error) = unpacked.error {
                return Err(broken(error));
            }
            into.extend_from_slice(&unpacked.bytes);
        }
        Compression::LZO => return Err("LZO compression is not supported".into()),
    }
    let found = into.len() - start;
    if found == length { Ok(()) } else { Err(other_length(length, found)) }
}

fn broken(error: impl std::fmt::Display) -> String {
    format!("a page is broken: {error}")
}

fn other_length(length: usize, found: usize) -> String {
    format!("a page of {length} bytes has {found}")
}

/// Appends a buffer of `length` bytes, if `packed` can give as many. Each of its bytes gives at most `most`.
fn reserve<'a>(
    packed: &[u8],
    length: usize,
    most: usize,
    into: &'a mut Vec<u8>,
) -> Result<&'a mut [u8], String> {
    if length / most > packed.len() {
        return Err(format!("a page of {length} bytes cannot be packed in {}", packed.len()));
    }
    let start = into.len();
    into.resize(start + length, 0);
    Ok(&mut into[start..])
}

/// Reads up to one byte more than `length`, so that the caller can see whether there are too many.
fn read(decoder: impl Read, packed: &[u8], length: usize, into: &mut Vec<u8>) -> io::Result<usize> {
    into.reserve(length.min(packed.len().saturating_mul(4).max(RESERVED)));
    decoder.take(length as u64 + 1).read_to_end(into)
}

/// Decompresses the codec called lz4 before `LZ4_RAW`: Hadoop's frames, those of lz4, or a bare block, which
/// old writers stored under the same name.
fn lz4(packed: &[u8], length: usize, into: &mut Vec<u8>) -> Result<(), String> {
    let start = into.len();
    if hadoop(packed, length, into).is_none() {
        into.truncate(start);
        let framed = read(lz4_flex::frame::FrameDecoder::new(packed), packed, length, into);
        if framed.is_err() || into.len() != start + length {
            into.truncate(start);
            return unpack(Compression::LZ4_RAW, packed, length, into);
        }
    }
    Ok(())
}

/// Decompresses frames of Hadoop's codec: the length before and after compression, most significant byte
/// first, then the block.
fn hadoop(mut packed: &[u8], length: usize, into: &mut Vec<u8>) -> Option<()> {
    let end = into.len() + length;
    while !packed.is_empty() {
        let (lengths, rest) = packed.split_at_checked(8)?;
        let number = |at: usize| Some(u32::from_be_bytes(lengths.get(at..at + 4)?.try_into().ok()?) as usize);
        let (frame, rest) = rest.split_at_checked(number(4)?)?;
        let unpacked = number(0)?;
        if unpacked > end - into.len() {
            return None;
        }
        let buffer = reserve(frame, unpacked, LZ4, into).ok()?;
        if lz4_flex::block::decompress_into(frame, buffer).ok()? != unpacked {
            return None;
        }
        packed = rest;
    }
    (into.len() == end).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn packed(codec: Compression, bytes: &[u8]) -> Vec<u8> {
        match codec {
            Compression::SNAPPY => snap::raw::Encoder::new().compress_vec(bytes).unwrap(),
            Compression::LZ4_RAW => lz4_flex::block::compress(bytes),
            Compression::GZIP(_) => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::ZSTD(_) => zstd::bulk::compress(bytes, 3).unwrap(),
            _ => bytes.to_vec(),
        }
    }

    const CODECS: [fn() -> Compression; 5] = [
        || Compression::UNCOMPRESSED,
        || Compression::SNAPPY,
        || Compression::LZ4_RAW,
        || Compression::GZIP(Default::default()),
        || Compression::ZSTD(Default::default()),
    ];

    #[test]
    fn a_page_has_the_bytes_that_it_says_it_has() {
        let bytes = b"the heron stood in the water ".repeat(5000);
        for codec in CODECS {
            let packed = packed(codec(), &bytes);
            let mut unpacked = b"levels".to_vec();
            unpack(codec(), &packed, bytes.len(), &mut unpacked).unwrap();
            assert!(unpacked == [b"levels", &bytes[..]].concat());
            for length in [1, bytes.len() - 1, bytes.len() + 1, i32::MAX as usize] {
                let mut unpacked = Vec::new();
                assert!(unpack(codec(), &packed, length, &mut unpacked).is_err(), "{:?} {length}", codec());
                assert!(unpacked.capacity() < 1 << 20, "{:?} {length}", codec());
            }
        }
        assert!(unpack(Compression::LZO, b"abc", 3, &mut Vec::new()).is_err());
    }

    #[test]
    fn three_forms_of_lz4_have_one_name() {
        let bytes = b"the heron stood in the water ".repeat(100);
        let block = lz4_flex::block::compress(&bytes);
        let lengths = [bytes.len() as u32, block.len() as u32].map(u32::to_be_bytes).concat();
        let mut framed = lz4_flex::frame::FrameEncoder::new(Vec::new());
        framed.write_all(&bytes).unwrap();
        for packed in [[&lengths[..], &block].concat(), framed.finish().unwrap(), block] {
            let mut unpacked = Vec::new();
            unpack(Compression::LZ4, &packed, bytes.len(), &mut unpacked).unwrap();
            assert!(unpacked == bytes);
        }
    }
}
