//! Classes of characters, as Python 3.11 (Unicode 14), spaCy and datatrove draw them, and the cuts
//! into lines and runs that follow from them. Rust's own differ: `char::is_whitespace` lacks U+001C to
//! U+001F, `char::is_alphabetic` also has marks and letter numbers, `str::lines` knows one line end.

use std::sync::LazyLock;

/// `str.isspace`, `str.strip`, `str.split` and `\s` of Python.
pub const SPACE: u32 = 1;
/// Where `str.splitlines` cuts.
pub const LINE_END: u32 = 1 << 1;
/// `str.isalpha`: the categories Lu, Ll, Lt, Lm, Lo.
pub const LETTER: u32 = 1 << 2;
/// The categories M*.
pub const MARK: u32 = 1 << 3;
/// Category Nd: `\d`.
pub const DECIMAL: u32 = 1 << 4;
/// `\w`.
pub const WORD: u32 = 1 << 5;
/// The categories P*.
pub const PUNCTUATION: u32 = 1 << 6;
/// Characters that end a sentence for spaCy's sentencizer.
pub const SENTENCE_END: u32 = 1 << 7;
/// datatrove's `TERMINAL_PUNCTUATION`.
pub const TERMINAL: u32 = 1 << 8;
/// datatrove's `PUNCTUATION_SET`, of which words that count have a character outside.
pub const SYMBOL: u32 = 1 << 9;
/// spaCy's `ALPHA`, `ALPHA_LOWER` and `ALPHA_UPPER`; letters without case are in all three.
pub const ALPHA: u32 = 1 << 10;
pub const ALPHA_LOWER: u32 = 1 << 11;
pub const ALPHA_UPPER: u32 = 1 << 12;
/// spaCy's `CONCAT_QUOTES`.
pub const QUOTE: u32 = 1 << 13;
/// spaCy's `ICONS`.
pub const ICON: u32 = 1 << 14;
/// Characters that spaCy cuts from the start of a word.
pub const PREFIX: u32 = 1 << 15;
/// Characters that spaCy cuts from the end of a word.
pub const SUFFIX: u32 = 1 << 16;
/// Characters before a full stop that spaCy cuts off.
pub const BEFORE_PERIOD: u32 = 1 << 17;

/// In the order of the bits above.
const NAMES: [&str; 18] = [
    "space",
    "line_end",
    "letter",
    "mark",
    "decimal",
    "word",
    "punctuation",
    "sentence_end",
    "terminal",
    "symbol",
    "alpha",
    "alpha_lower",
    "alpha_upper",
    "quote",
    "icon",
    "prefix",
    "suffix",
    "before_period",
];

/// Lines of a class's name, a tab and ranges of hexadecimal code points. Made by a script from
/// Python 3.11, spaCy 3.8.18 (MIT) and datatrove 0.10.1 (Apache-2.0).
const RANGES: &str = include_str!("characters.txt");

const PAGE_BITS: u32 = 7;
const PAGE: usize = 1 << PAGE_BITS;

/// Classes of all characters: pages of 128 characters, of which equal ones are kept once.
pub struct Classes {
    ascii: [u32; 128],
    /// Which page holds the characters of the same `code >> PAGE_BITS`.
    index: Vec<u16>,
    pages: Vec<[u32; PAGE]>,
}

impl Classes {
    pub fn get() -> &'static Self {
        static CLASSES: LazyLock<Classes> = LazyLock::new(Classes::parse);
        &CLASSES
    }

    /// The classes of a character, as bits.
    #[inline]
    pub fn of(&self, character: char) -> u32 {
        let code = character as usize;
        if code < 128 {
            self.ascii[code]
        } else {
            self.pages[usize::from(self.index[code >> PAGE_BITS])][code & (PAGE - 1)]
        }
    }

    #[inline]
    pub fn is(&self, character: char, classes: u32) -> bool {
        self.of(character) & classes != 0
    }

    fn parse() -> Self {
        let mut all = vec![[0; PAGE]; 0x110000 >> PAGE_BITS];
        for line in RANGES.lines() {
            let Some((name, ranges)) = line.split_once('\t') else { continue };
            let Some(bit) = NAMES.iter().position(|known| *known == name) else { continue };
            for range in ranges.split(' ') {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let (Ok(first), Ok(last)) =
                    (usize::from_str_radix(first, 16), usize::from_str_radix(last, 16))
                else {
                    continue;
                };
                for code in first..=last {
                    all[code >> PAGE_BITS][code & (PAGE - 1)] |= 1 << bit;
                }
            }
        }
        let mut pages: Vec<[u32; PAGE]> = Vec::new();
        let mut seen = rustc_hash::FxHashMap::default();
        let index = all.iter().map(|page| {
            *seen.entry(*page).or_insert_with(|| {
                pages.push(*page);
                pages.len() as u16 - 1
            })
        });
        let index = index.collect();
        Self { ascii: all[0], index, pages }
    }
}

/// Number of characters.
pub fn count(text: &str) -> usize {
    text.chars().count()
}

/// Python's `str.strip`.
pub fn strip(text: &str) -> &str {
    let classes = Classes::get();
    text.trim_matches(|character| classes.is(character, SPACE))
}

/// Python's `str.lstrip`.
pub fn strip_start(text: &str) -> &str {
    let classes = Classes::get();
    text.trim_start_matches(|character| classes.is(character, SPACE))
}

/// Python's `str.rstrip`.
pub fn strip_end(text: &str) -> &str {
    let classes = Classes::get();
    text.trim_end_matches(|character| classes.is(character, SPACE))
}

/// Python's `str.split` without an argument: what white space separates.
pub fn split_space(text: &str) -> impl Iterator<Item = &str> {
    let classes = Classes::get();
    text.split(|character| classes.is(character, SPACE)).filter(|piece| !piece.is_empty())
}

/// Python's `str.splitlines`: carriage return and line feed are one end, and the last end begins no
/// further line.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (line, end) = match line_end(rest.as_bytes()) {
            Some((at, length)) => (&rest[..at], at + length),
            None => (rest, rest.len()),
        };
        rest = &rest[end..];
        Some(line)
    })
}

/// Where the first line ends, and the length of its end.
fn line_end(bytes: &[u8]) -> Option<(usize, usize)> {
    for (at, &byte) in bytes.iter().enumerate() {
        // Two comparisons pass nearly all text.
        if byte > 0x1E && byte < 0xC2 {
            continue;
        }
        let length = match byte {
            b'\r' if bytes.get(at + 1) == Some(&b'\n') => 2,
            b'\n' | 0x0B | 0x0C | b'\r' | 0x1C..=0x1E => 1,
            // U+0085, U+2028 and U+2029.
            0xC2 if bytes.get(at + 1) == Some(&0x85) => 2,
            0xE2 if bytes.get(at + 1) == Some(&0x80) && matches!(bytes.get(at + 2), Some(0xA8 | 0xA9)) => 3,
            _ => continue,
        };
        return Some((at, length));
    }
    None
}

/// Splits at runs of at least `least` line feeds; runs at the edges leave empty pieces, as
/// Python's `re.split` does.
pub fn split_line_feeds(text: &str, least: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let piece = rest?;
        let bytes = piece.as_bytes();
        let mut from = 0;
        while let Some(start) = memchr::memchr(b'\n', &bytes[from..]) {
            let start = from + start;
            let length = bytes[start..].iter().take_while(|&&byte| byte == b'\n').count();
            if length >= least {
                rest = Some(&piece[start + length..]);
                return Some(&piece[..start]);
            }
            from = start + length;
        }
        rest = None;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_python() {
        let classes = Classes::get();
        assert!(
            classes.is('\u{1c}', SPACE) && classes.is('\u{3000}', SPACE) && !classes.is('\u{200b}', SPACE)
        );
        assert!(classes.is('ß', LETTER) && classes.is('字', LETTER));
        assert!(!classes.is('Ⅷ', LETTER) && !classes.is('\u{345}', LETTER));
        assert!(classes.is('٣', DECIMAL) && classes.is('½', WORD) && !classes.is('½', DECIMAL));
        assert!(classes.is('。', TERMINAL) && classes.is('。', SENTENCE_END) && !classes.is('…', TERMINAL));
        assert!(classes.is('!', SYMBOL) && classes.is('「', SYMBOL) && !classes.is('‘', SYMBOL));
        assert!(
            classes.is('\u{1f642}', ICON) && classes.is('字', ALPHA_LOWER) && classes.is('字', ALPHA_UPPER)
        );
        assert_eq!(classes.of('\u{10ffff}'), 0);
    }

    #[test]
    fn lines_end_where_python_ends_them() {
        let text = "a\nb\r\nc\rd\u{b}e\u{c}f\u{1c}g\u{85}h\u{2028}i\u{2029}\u{1f}j\n";
        let expected = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "\u{1f}j"];
        assert_eq!(lines(text).collect::<Vec<_>>(), expected);
        assert_eq!(lines("").count(), 0);
        assert_eq!(lines("\n\n").collect::<Vec<_>>(), ["", ""]);
    }

    #[test]
    fn runs_of_line_feeds_separate() {
        let pieces = |text, least| split_line_feeds(text, least).collect::<Vec<_>>();
        assert_eq!(pieces("\na\n\nb\nc\n", 1), ["", "a", "b", "c", ""]);
        assert_eq!(pieces("a\nb\n\n\nc", 2), ["a\nb", "c"]);
        assert_eq!(pieces("", 1), [""]);
        assert_eq!(strip("\u{1f} a \u{85}"), "a");
        assert_eq!(split_space(" a\u{1c}b \u{3000} c").collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
