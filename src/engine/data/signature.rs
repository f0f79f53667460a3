//! Recognises files that are not text by their first bytes.

/// Format of a file, and a way to extract its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// Name of the format as it continues "it is", such as "a PDF" or "compressed by gzip".
    pub name: &'static str,
    pub way: Way,
}

/// A way to extract the text of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Unpack it with this command; `kiln data run` also reads it directly.
    Unpack(&'static str),
    /// Unpack it with this command; `kiln data run` does not read it.
    UnpackOnly(&'static str),
    /// Use `kiln data run`, which reads its columns or its text.
    Prepare,
    /// Export the text with another program.
    Export,
    /// There is no text in it.
    None,
}

/// First bytes of formats that contain text, compressed or in columns, and of the most common ones that
/// contain none.
const SIGNATURES: [(&[u8], Signature); 24] = {
    const fn is(name: &'static str, way: Way) -> Signature {
        Signature { name, way }
    }
    [
        (b"\x1f\x8b", is("compressed by gzip", Way::Unpack("gunzip -k"))),
        (b"\x28\xb5\x2f\xfd", is("compressed by zstd", Way::Unpack("unzstd"))),
        (b"PK\x03\x04", is("a zip archive", Way::Unpack("unzip"))),
        (b"PK\x05\x06", is("an empty zip archive", Way::None)),
        (b"BZh9", is("compressed by bzip2", Way::UnpackOnly("bunzip2 -k"))),
        (b"\xfd7zXZ\0", is("compressed by xz", Way::UnpackOnly("unxz -k"))),
        (b"\x04\x22\x4d\x18", is("compressed by lz4", Way::UnpackOnly("unlz4"))),
        (b"7z\xbc\xaf\x27\x1c", is("a 7-Zip archive", Way::UnpackOnly("7z x"))),
        (b"Rar!\x1a\x07", is("a RAR archive", Way::UnpackOnly("unrar x"))),
        (b"PAR1", is("a Parquet file", Way::Prepare)),
        (b"ARROW1", is("an Arrow file", Way::Prepare)),
        (b"FEA1", is("a Feather file", Way::Prepare)),
        (b"Obj\x01", is("an Avro file", Way::Export)),
        (b"%PDF-", is("a PDF", Way::Export)),
        (b"{\\rtf", is("an RTF document", Way::Export)),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", is("an old Office document", Way::Export)),
        (b"SQLite format 3\0", is("an SQLite database", Way::Export)),
        (b"\x93NUMPY", is("a NumPy array", Way::Export)),
        (b"\x89HDF\r\n\x1a\n", is("an HDF5 file", Way::Export)),
        (b"GGUF", is("a GGUF model", Way::None)),
        (b"\x89PNG\r\n\x1a\n", is("an image", Way::None)),
        (b"\xff\xd8\xff", is("an image", Way::None)),
        (b"GIF8", is("an image", Way::None)),
        (b"\x7fELF", is("a program", Way::None)),
    ]
};

impl Signature {
    /// Finds the format that the first bytes of a file belong to; `None` if it may be text.
    pub fn of(start: &[u8]) -> Option<Self> {
        let tar = start.get(257..262).is_some_and(|magic| magic == b"ustar");
        let tar = tar.then_some(Self { name: "a tar archive", way: Way::Unpack("tar -xf") });
        tar.or_else(|| {
            SIGNATURES.into_iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, signature)| signature)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_first_bytes() {
        let name = |start: &[u8]| Signature::of(start).map(|signature| signature.name);
        assert_eq!(name(b"\x1f\x8b\x08\0"), Some("compressed by gzip"));
        assert_eq!(name(b"PAR1\x15"), Some("a Parquet file"));
        assert_eq!(name(b"%PDF-1.7"), Some("a PDF"));
        let mut tar = vec![b'x'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(name(&tar), Some("a tar archive"));
        for text in [&b"PKZIP was a program"[..], b"{\"text\": 1}", b"Object", b"", b"GI"] {
            assert_eq!(name(text), None);
        }
    }
}
