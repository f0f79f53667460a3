//! Decodes UTF-16 and UTF-32, whole texts and streams. They are recognised by their byte order mark or,
//! without one, by their zero bytes.

use std::io::{self, Read};

/// Maximum bytes that are examined in a text without a byte order mark.
const LOOK: usize = 1 << 16;
/// A text of fewer bytes was read completely, so that it does not end within a unit.
const WHOLE: usize = 1 << 10;
/// Bytes that are decoded at a time.
const BLOCK: usize = 1 << 15;

/// An encoding with units of two or four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wide {
    Utf16Le,
    Utf16Be,
    Utf32Le,
    Utf32Be,
}

impl Wide {
    const ALL: [Self; 4] = [Self::Utf32Le, Self::Utf32Be, Self::Utf16Le, Self::Utf16Be];

    /// Finds the encoding of a text from its beginning, and the length of its byte order mark (0 without
    /// one).
    pub fn of(start: &[u8]) -> Option<(Self, usize)> {
        // The mark of UTF-32 begins with that of UTF-16.
        let marked = Self::ALL.into_iter().find_map(|wide| {
            let mark = wide.mark();
            start.starts_with(mark).then_some((wide, mark.len()))
        });
        marked.or_else(|| Self::by_zeros(&start[..start.len().min(LOOK)]).map(|wide| (wide, 0)))
    }

    /// Finds the encoding of a text without a byte order mark. A text without a zero byte is in none of these
    /// encodings: UTF-16 has zero bytes in line breaks, digits and spaces, whatever the script.
    fn by_zeros(start: &[u8]) -> Option<Self> {
        memchr::memchr(0, start)?;
        // Bytes that no text of one byte a unit has many of.
        let controls = start.iter().filter(|&&byte| byte < 0x20 && !is_layout(byte.into())).count();
        // Cut within a character, it is UTF-8 all the same. Of UTF-16 in any script about half are bytes of ASCII.
        let is_utf_8 = std::str::from_utf8(start).map_or_else(|error| error.error_len().is_none(), |_| true);
        let ascii =
            start.iter().filter(|byte| (0x20..0x7f).contains(*byte) || is_layout((**byte).into())).count();
        let is_narrow = controls * 10 < start.len() && (is_utf_8 || ascii * 10 >= start.len() * 8);
        if is_narrow {
            return None;
        }
        let readings = Self::ALL.into_iter().filter_map(|wide| Some((wide, wide.breaks(start)?)));
        // The first of equals: a text that is UTF-32 is none in UTF-16.
        readings.rev().max_by_key(|&(_, breaks)| breaks).map(|(wide, _)| wide)
    }

    /// Counts white space with full stops, and ASCII characters, in a text read in this encoding; `None` if
    /// it is no text. In the wrong byte order, ideographs become ASCII letters, but hardly any character
    /// becomes white space.
    fn breaks(self, start: &[u8]) -> Option<(usize, usize)> {
        let whole = start.len() / self.unit() * self.unit();
        if whole < start.len() && start.len() < WHOLE {
            return None;
        }
        let (mut breaks, mut ascii) = (0, 0);
        let mut units = start[..whole].chunks_exact(self.unit()).map(|unit| self.number(unit)).peekable();
        while let Some(unit) = units.next() {
            let code = match unit {
                0xd800..=0xdbff if self.unit() == 2 => match units.next() {
                    Some(low @ 0xdc00..=0xdfff) => 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00),
                    // Cut within a pair.
                    None => break,
                    Some(_) => return None,
                },
                unit => unit,
            };
            let character = char::from_u32(code)?;
            let is_control = character.is_control() && !is_layout(code);
            if is_control || code & 0xfffe == 0xfffe || (0xe000..0xf900).contains(&code) {
                return None;
            }
            let is_stop = matches!(character, '\u{3000}'..='\u{3002}' | '\u{ff0c}');
            breaks += usize::from(is_stop || character.is_ascii_whitespace());
            ascii += usize::from(character.is_ascii());
        }
        (breaks + ascii > 0).then_some((breaks, ascii))
    }

    fn mark(self) -> &'static [u8] {
        match self {
            Self::Utf16Le => b"\xff\xfe",
            Self::Utf16Be => b"\xfe\xff",
            Self::Utf32Le => b"\xff\xfe\0\0",
            Self::Utf32Be => b"\0\0\xfe\xff",
        }
    }

    /// Bytes in a unit.
    fn unit(self) -> usize {
        match self {
            Self::Utf16Le | Self::Utf16Be => 2,
            Self::Utf32Le | Self::Utf32Be => 4,
        }
    }

    fn number(self, unit: &[u8]) -> u32 {
        let join = |number: u32, &byte: &u8| number << 8 | u32::from(byte);
        match self {
            Self::Utf16Be | Self::Utf32Be => unit.iter().fold(0, join),
            Self::Utf16Le | Self::Utf32Le => unit.iter().rev().fold(0, join),
        }
    }

    /// Name of the encoding as in the WHATWG's Encoding Standard, which has no name for UTF-32.
    pub fn name(self) -> &'static str {
        match self {
            Self::Utf16Le => "UTF-16LE",
            Self::Utf16Be => "UTF-16BE",
            Self::Utf32Le => "UTF-32LE",
            Self::Utf32Be => "UTF-32BE",
        }
    }

    /// Decodes a complete text without its byte order mark. The flag is true if invalid units became U+FFFD.
    pub fn decode(self, bytes: &[u8]) -> (String, bool) {
        let mut text = String::with_capacity(bytes.len() / self.unit());
        let rest = self.decode_units(bytes, &mut text);
        let mut replaced = rest.replaced;
        if rest.used < bytes.len() {
            text.push(char::REPLACEMENT_CHARACTER);
            replaced = true;
        }
        (text, replaced)
    }

    /// Decodes complete units and, in UTF-16, complete pairs.
    fn decode_units(self, bytes: &[u8], text: &mut String) -> Decoded {
        let unit = self.unit();
        let (mut used, mut replaced) = (0, false);
        while let Some(first) = bytes.get(used..used + unit) {
            let code = self.number(first);
            used += unit;
            let mut character = char::from_u32(code);
            if unit == 2 && (0xd800..0xdc00).contains(&code) {
                let Some(second) = bytes.get(used..used + unit) else {
                    used -= unit;
                    break;
                };
                let low = self.number(second);
                if (0xdc00..0xe000).contains(&low) {
                    character = char::from_u32(0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00));
                    used += unit;
                }
            }
            replaced |= character.is_none();
            text.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        Decoded { used, replaced }
    }
}

/// Number of bytes that were decoded, and whether some were invalid.
struct Decoded {
    used: usize,
    replaced: bool,
}

/// Returns whether a control character is part of a text's layout, such as a tab or line break.
fn is_layout(code: u32) -> bool {
    matches!(code, 0x09..=0x0d | 0x1b | 0x85)
}

/// A reader that decodes a stream of UTF-16 or UTF-32 to UTF-8.
pub struct WideReader<R> {
    reader: R,
    wide: Wide,
    /// Bytes that are not decoded yet.
    bytes: Vec<u8>,
    text: Vec<u8>,
    /// Bytes of `text` that were already returned.
    used: usize,
    ended: bool,
}

impl<R: Read> WideReader<R> {
    /// Makes a reader of the rest of a text, after its byte order mark.
    pub fn new(reader: R, wide: Wide) -> Self {
        Self { reader, wide, bytes: Vec::new(), text: Vec::new(), used: 0, ended: false }
    }
}

impl<R: Read> Read for WideReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.used == self.text.len() && !self.ended {
            let length = self.bytes.len();
            self.bytes.resize(length + BLOCK, 0);
            let outcome = self.reader.read(&mut self.bytes[length..]);
            self.bytes.truncate(length + *outcome.as_ref().unwrap_or(&0));
            let mut text = String::new();
            if outcome? == 0 {
                self.ended = true;
                text = self.wide.decode(&std::mem::take(&mut self.bytes)).0;
            } else {
                let Decoded { used, .. } = self.wide.decode_units(&self.bytes, &mut text);
                self.bytes.drain(..used);
            }
            (self.text, self.used) = (text.into_bytes(), 0);
        }
        let rest = &self.text[self.used..];
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.used += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_zero_does_not_make_a_text_wide() {
        let quoted = b"It\x92s a plain text of windows-1252, and it\x92s a long one. ".repeat(20);
        let czech = "Příliš žluťoučký kůň úpěl ďábelské ódy. ".repeat(20).into_bytes();
        let russian = "Серая цапля стоит в воде. ".repeat(20).into_bytes();
        for text in [quoted, czech, russian] {
            // Ends within characters too.
            for (place, end) in (3..200).flat_map(|place| (400..406).map(move |end| (place, end))) {
                let is_character =
                    std::str::from_utf8(&text[..place]).is_ok() || text[..place].contains(&0x92);
                let start = [&text[..place], &[0], &text[place..end]].concat();
                assert!(!is_character || Wide::of(&start).is_none(), "{place} {end}");
            }
        }
    }

    fn encode(wide: Wide, text: &str) -> Vec<u8> {
        match wide {
            Wide::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Wide::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            Wide::Utf32Le => text.chars().flat_map(|character| (character as u32).to_le_bytes()).collect(),
            Wide::Utf32Be => text.chars().flat_map(|character| (character as u32).to_be_bytes()).collect(),
        }
    }

    #[test]
    fn texts_of_all_scripts_are_known_with_and_without_their_mark() {
        for text in [
            "plain text",
            "a",
            "Съешь же ещё этих мягких французских булок.",
            "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία",
            "ชาวประมงเฒ่า นั่งอยู่ริมแม่น้ำ",
            "这是一个很长的句子。\n一二三\n",
            "Ducks 🦆 and 𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
            "{\"text\": \"Füße\"}\n",
        ] {
            for wide in Wide::ALL {
                let bytes = encode(wide, text);
                assert_eq!(Wide::of(&bytes), Some((wide, 0)), "{text}");
                assert_eq!(wide.decode(&bytes), (text.to_owned(), false));
                let marked = [wide.mark(), &bytes].concat();
                assert_eq!(Wide::of(&marked), Some((wide, wide.mark().len())), "{text}");
            }
        }
    }

    #[test]
    fn other_bytes_are_not_taken_for_such_a_text() {
        for bytes in [
            &b""[..],
            b"plain text",
            b"one zero\0 in a text of some length\n\0",
            "Füße und ein\0 Nullbyte in einem Text".as_bytes(),
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\0\0\0\x01\0\x08\x02",
            b"\0\0\0\0\0\0\0\0",
            b"PAR1\x15\x04\x15\x10\0\0\x01\0",
            b"a\0\0\0b\x01\x02",
            "这是一个".as_bytes(),
        ] {
            assert_eq!(Wide::of(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn what_means_nothing_is_replaced() {
        assert_eq!(Wide::Utf16Le.decode(b"a\0\x3e\xd8b\0\x86\xdd"), ("a\u{fffd}b\u{fffd}".into(), true));
        assert_eq!(Wide::Utf16Be.decode(b"\0a\0"), ("a\u{fffd}".into(), true));
        assert_eq!(Wide::Utf16Be.decode(b"\xd8\x3e"), ("\u{fffd}".into(), true));
        assert_eq!(Wide::Utf32Le.decode(b"a\0\0\0\0\0\x11\0"), ("a\u{fffd}".into(), true));
    }

    #[test]
    fn a_stream_may_be_cut_anywhere() {
        /// Returns one byte more with each read, from 1 to 5.
        struct Slow<'a>(&'a [u8], usize);
        impl Read for Slow<'_> {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                self.1 = self.1 % 5 + 1;
                let count = self.1.min(self.0.len()).min(into.len());
                into[..count].copy_from_slice(&self.0[..count]);
                self.0 = &self.0[count..];
                Ok(count)
            }
        }
        let text = "Füße 🦆 一二三 ".repeat(40);
        for wide in Wide::ALL {
            let mut read = String::new();
            WideReader::new(Slow(&encode(wide, &text), 0), wide).read_to_string(&mut read).unwrap();
            assert_eq!(read, text);
        }
        let mut read = String::new();
        WideReader::new(&b"a\0b"[..], Wide::Utf16Le).read_to_string(&mut read).unwrap();
        assert_eq!(read, "a\u{fffd}");
    }
}
