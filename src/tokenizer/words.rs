//! GPT-2's pre-tokenizer: splits text into words that byte-pair merges never cross. It gives the same words
//! as the pattern `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+` (openai/gpt-2,
//! `src/encoder.py`), without a regular-expression engine in the inner loop.

use std::sync::{LazyLock, OnceLock};
use tokenizers::utils::SysRegex;

/// Classes of characters that the pattern distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Space,
    Letter,
    Number,
    Other,
}

/// Words of a text, in order. Concatenated they are the text.
pub(super) struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (word, rest) = self.rest.split_at(first_word(self.rest));
        self.rest = rest;
        Some(word)
    }
}

/// Length in bytes of the word at the start of a text that is not empty.
fn first_word(text: &str) -> usize {
    let bytes = text.as_bytes();
    if bytes[0] == b'\''
        && let Some(length) = contraction(&bytes[1..])
    {
        return 1 + length;
    }
    let prefix = usize::from(bytes[0] == b' ');
    match class_at(text, prefix) {
        Some((Class::Space, _)) | None => space(text),
        Some((class, length)) => run(text, prefix + length, class),
    }
}

/// Length in bytes of an English contraction (`'s`, `'ll`), without the apostrophe.
fn contraction(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b's' | b't' | b'm' | b'd', ..] => Some(1),
        [b'r' | b'v', b'e', ..] | [b'l', b'l', ..] => Some(2),
        _ => None,
    }
}

/// End of the run of characters of one class that reaches `end`.
fn run(text: &str, mut end: usize, class: Class) -> usize {
    while let Some((next, length)) = class_at(text, end)
        && next == class
    {
        end += length;
    }
    end
}

/// End of a run of white space. At the end of the text it includes all of it, otherwise all but the last
/// character, which belongs to the word that follows or stands alone.
fn space(text: &str) -> usize {
    let mut last = 0;
    let mut end = 0;
    while let Some((Class::Space, length)) = class_at(text, end) {
        last = end;
        end += length;
    }
    if end < text.len() && last > 0 { last } else { end }
}

/// Class and length in bytes of the character at `at`; `None` at the end of the text.
fn class_at(text: &str, at: usize) -> Option<(Class, usize)> {
    let byte = *text.as_bytes().get(at)?;
    if byte < 0x80 {
        return Some((ASCII[usize::from(byte)], 1));
    }
    let character = text[at..].chars().next()?;
    Some((class_of(character), character.len_utf8()))
}

const ASCII: [Class; 128] = {
    let mut table = [Class::Other; 128];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = match byte as u8 {
            b'\t'..=b'\r' | b' ' => Class::Space,
            b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
            b'0'..=b'9' => Class::Number,
            _ => Class::Other,
        };
        byte += 1;
    }
    table
};

/// Number of low bits of a code point that select a character within its page.
const PAGE_BITS: u32 = 8;
const PAGE: usize = 1 << PAGE_BITS;

/// Classes of characters by page. A page is filled by the regular-expression engine when its first character
/// is met, so that the classes match the engine's Unicode version and nothing is computed for scripts that do
/// not occur.
static PAGES: LazyLock<Vec<OnceLock<[Class; PAGE]>>> =
    LazyLock::new(|| (0..0x110000 >> PAGE_BITS).map(|_| OnceLock::new()).collect());

fn class_of(character: char) -> Class {
    let code = u32::from(character);
    let page = PAGES[(code >> PAGE_BITS) as usize].get_or_init(|| classify(code >> PAGE_BITS));
    page[code as usize & (PAGE - 1)]
}

fn classify(page: u32) -> [Class; PAGE] {
    let first = page << PAGE_BITS;
    let text: String = (first..first + PAGE as u32).filter_map(char::from_u32).collect();
    let mut classes = [Class::Other; PAGE];
    for (pattern, class) in [(r"\s", Class::Space), (r"\p{L}", Class::Letter), (r"\p{N}", Class::Number)] {
        // The patterns are fixed and valid; an engine that refused them would leave the class `Other`.
        let Ok(pattern) = SysRegex::new(pattern) else { continue };
        for (start, _) in pattern.find_iter(&text) {
            if let Some(character) = text[start..].chars().next() {
                classes[(u32::from(character) - first) as usize] = class;
            }
        }
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words that the pattern itself finds, with the engine that `tokenizers` uses.
    fn reference(text: &str) -> Vec<&str> {
        static PATTERN: LazyLock<SysRegex> = LazyLock::new(|| {
            SysRegex::new(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
                .unwrap()
        });
        PATTERN.find_iter(text).map(|(start, end)| &text[start..end]).collect()
    }

    #[test]
    fn cuts_where_the_pattern_cuts() {
        for text in [
            "Hello, world! It's 12 o'clock; they'll've gone, I'd say we're 'right'.",
            "  two  spaces   \n\n\tand\r\n tabs \n",
            "trailing   ",
            " ' 's ''s don''t 'S 'llama",
            "naïve café — 東京\u{3000}タワー ½ Ⅷ ٣ \u{a0}x\u{85}y\u{2028}z 🙂🙂 e\u{301} क्षि",
            "",
        ] {
            assert_eq!(Words::new(text).collect::<Vec<_>>(), reference(text), "{text:?}");
        }
    }

    #[test]
    fn agrees_on_characters_of_every_script() {
        // Beyond the alphabets, which U+3200 ends, some pages of every script are enough.
        for page in (0..0x32).chain((0x32..0x300).step_by(9)).chain((0x300..0x1100).step_by(0x80)) {
            let first = page << PAGE_BITS;
            let characters = (first..first + PAGE as u32).filter_map(char::from_u32);
            let text: String = characters.flat_map(|c| [c, 'a', c, ' ']).collect();
            assert_eq!(Words::new(&text).collect::<Vec<_>>(), reference(&text), "page {page}");
        }
    }
}
