//! Classes of characters as in Python 3.11 (Unicode 14), spaCy and datatrove, and splitting into lines and
//! pieces by them. Rust's classes differ: `char::is_whitespace` lacks U+001C to U+001F, `char::is_alphabetic`
//! also has marks and letter numbers, and `str::lines` knows only one kind of line end.

use std::sync::LazyLock;

/// White space of Python's `str.isspace`, `str.strip`, `str.split` and `\s`.
pub const SPACE: u32 = 1;
/// Characters at which Python's `str.splitlines` splits.
pub const LINE_END: u32 = 1 << 1;
/// Letters of Python's `str.isalpha`: the Unicode categories Lu, Ll, Lt, Lm, Lo.
pub const LETTER: u32 = 1 << 2;
/// Marks: the Unicode categories Mn, Mc, Me.
pub const MARK: u32 = 1 << 3;
/// Decimal digits, `\d`: the Unicode category Nd.
pub const DECIMAL: u32 = 1 << 4;
/// Characters of words, `\w`.
pub const WORD: u32 = 1 << 5;
/// Punctuation: the Unicode categories that begin with P.
pub const PUNCTUATION: u32 = 1 << 6;
/// Characters that end a sentence for spaCy's sentencizer.
pub const SENTENCE_END: u32 = 1 << 7;
/// Characters of datatrove's `TERMINAL_PUNCTUATION`.
pub const TERMINAL: u32 = 1 << 8;
/// Characters of datatrove's `PUNCTUATION_SET`; words made of these alone do not count as words.
pub const SYMBOL: u32 = 1 << 9;
/// Letters of spaCy's `ALPHA`, `ALPHA_LOWER` and `ALPHA_UPPER`; letters without case are in all three.
pub const ALPHA: u32 = 1 << 10;
pub const ALPHA_LOWER: u32 = 1 << 11;
pub const ALPHA_UPPER: u32 = 1 << 12;
/// Characters of spaCy's `CONCAT_QUOTES`.
pub const QUOTE: u32 = 1 << 13;
/// Characters of spaCy's `ICONS`.
pub const ICON: u32 = 1 << 14;
/// Characters that spaCy cuts from the start of a word.
pub const PREFIX: u32 = 1 << 15;
/// Characters that spaCy cuts from the end of a word.
pub const SUFFIX: u32 = 1 << 16;
/// Characters after which spaCy cuts off a full stop.
pub const BEFORE_PERIOD: u32 = 1 << 17;

/// Names of the classes in `characters.txt`, in the order of the bits above.
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

/// Table with one line a class: its name, a tab, and ranges of hexadecimal code points. A script made it from
/// Python 3.11, spaCy 3.8.18 (MIT) and datatrove 0.10.1 (Apache-2.0).
const RANGES: &str = include_str!("characters.txt");

const PAGE_BITS: u32 = 7;
const PAGE: usize = 1 << PAGE_BITS;

/// Classes of all characters, in pages of 128 characters; equal pages are stored once.
pub struct Classes {
    ascii: [u32; 128],
    /// Index into `pages` for each value of `code >> PAGE_BITS`.
    index: Vec<u16>,
    pages: Vec<[u32; PAGE]>,
}

impl Classes {
    pub fn get() -> &'static Self {
        static CLASSES: LazyLock<Classes> = LazyLock::new(Classes::parse);
        &CLASSES
    }

    /// Classes of a character, as bits.
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

/// Counts the characters (code points) of a text.
pub fn count(text: &str) -> usize {
    text.chars().count()
}

/// Removes white space at both ends, as Python's `str.strip`.
pub fn strip(text: &str) -> &str {
    let classes = Classes::get();
    text.trim_matches(|character| classes.is(character, SPACE))
}

/// Removes white space at the start, as Python's `str.lstrip`.
pub fn strip_start(text: &str) -> &str {
    let classes = Classes::get();
    text.trim_start_matches(|character| classes.is(character, SPACE))
}

/// Removes white space at the end, as Python's `str.rstrip`.
pub fn strip_end(text: &str) -> &str {
    let classes = Classes::get();
    text.trim_end_matches(|character| classes.is(character, SPACE))
}

/// Splits at white space, as Python's `str.split` without an argument.
pub fn split_space(text: &str) -> impl Iterator<Item = &str> {
    let classes = Classes::get();
    text.split(|character| classes.is(character, SPACE)).filter(|piece| !piece.is_empty())
}

/// Splits into lines, as Python's `str.splitlines`: carriage return and line feed are one line end, and no
/// line begins after the last one.
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

/// Position of the first line end, and its length in bytes.
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

/// Splits at runs of at least `least` line feeds; as in Python's `re.split`, runs at the edges leave empty
/// pieces.
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
