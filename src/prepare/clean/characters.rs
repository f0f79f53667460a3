//! Removes invisible characters: control characters, zero-width spaces, direction marks, soft hyphens, byte
//! order marks, noncharacters. Joiners are kept where a script or an emoji needs them.

use std::borrow::Cow;

const ZERO_WIDTH_NON_JOINER: char = '\u{200c}';
const ZERO_WIDTH_JOINER: char = '\u{200d}';
/// First character of the flag of a region, such as Scotland's; invisible letters follow it.
const BLACK_FLAG: char = '\u{1f3f4}';

/// Removes invisible characters.
pub fn remove_invisible(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let Some(first) = first_suspect(bytes) else { return Cow::Borrowed(text) };
    let mut cleaned = String::new();
    // The character before, and whether an emoji's invisible letters may follow.
    let (mut previous, mut in_flag) = (None, false);
    // Up to and without this everything was copied.
    let mut copied = 0;
    // Back by one character, which a joiner at `first` is judged by.
    let begin = text[..first].char_indices().next_back().map_or(first, |(at, _)| at);
    let mut characters =
        text[begin..].char_indices().map(|(at, character)| (begin + at, character)).peekable();
    while let Some((at, character)) = characters.next() {
        let is_tag = matches!(character, '\u{e0020}'..='\u{e007f}');
        in_flag = character == BLACK_FLAG || (in_flag && is_tag);
        let keep = match character {
            ZERO_WIDTH_NON_JOINER => previous.is_some_and(needs_joiners),
            ZERO_WIDTH_JOINER => {
                let next = characters.peek().map(|&(_, next)| next);
                previous.is_some_and(needs_joiners)
                    || (previous.is_some_and(is_emoji) && next.is_some_and(is_emoji))
            }
            _ if is_tag => in_flag,
            _ => !is_invisible(character),
        };
        if keep {
            previous = Some(character);
        } else {
            cleaned.push_str(&text[copied..at]);
            copied = at + character.len_utf8();
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    cleaned.push_str(&text[copied..]);
    Cow::Owned(cleaned)
}

/// Position of the first character that may have to be removed, found by a test of bytes that skips most
/// text.
fn first_suspect(bytes: &[u8]) -> Option<usize> {
    bytes.iter().enumerate().position(|(at, &byte)| match byte {
        b'\t' | b'\n' | b'\r' => false,
        0..0x20 | 0x7f => true,
        0xc2 => bytes.get(at + 1).is_some_and(|&next| next < 0xa0 || next == 0xad),
        0xcd => bytes.get(at + 1) == Some(&0x8f),
        0xd8 => bytes.get(at + 1) == Some(&0x9c),
        0xe2 => bytes.get(at + 1).is_some_and(|next| matches!(next, 0x80 | 0x81)),
        0xe1 => bytes.get(at + 1).is_some_and(|next| matches!(next, 0x85 | 0x9e | 0xa0)),
        0xe3 => bytes.get(at + 1) == Some(&0x85),
        0xef => true,
        0xf0..=0xf4 => true,
        _ => false,
    })
}

/// Returns whether a character shows nothing and changes nothing but direction or line breaks.
fn is_invisible(character: char) -> bool {
    let code = u32::from(character);
    matches!(
        code,
        // Controls other than tab, line feed and carriage return. U+0085 is a line break.
        0x00..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f..=0x84 | 0x86..=0x9f
        // Soft hyphen, grapheme joiner, Arabic letter mark, Hangul fillers, Khmer vowels, Mongolian separator.
        | 0xad | 0x34f | 0x61c | 0x115f | 0x1160 | 0x17b4 | 0x17b5 | 0x180e
        // Zero-width space, direction marks and embeddings, word joiner, invisible operators, isolates.
        | 0x200b | 0x200e | 0x200f | 0x202a..=0x202e | 0x2060..=0x206f
        | 0x3164 | 0xfeff | 0xffa0 | 0xfff0..=0xfffb | 0x1d173..=0x1d17a | 0xe0000..=0xe001f
    ) || matches!(code, 0xfdd0..=0xfdef)
        || code & 0xfffe == 0xfffe
}

/// Returns whether a character is of a script in which joiners change what is seen: Arabic and its neighbours
/// (Persian writes the zero-width non-joiner within words), Indic scripts, Sinhala, Myanmar, Khmer,
/// Mongolian.
fn needs_joiners(character: char) -> bool {
    matches!(u32::from(character),
        0x0600..=0x08ff | 0x0900..=0x0dff | 0x0f00..=0x109f | 0x1780..=0x18af | 0xa8e0..=0xa8ff
        | 0xa9e0..=0xa9ff | 0xaa60..=0xaa7f | 0xfb50..=0xfdcf | 0xfdf0..=0xfdff | 0xfe70..=0xfefc
        | 0x10a00..=0x10aff | 0x11000..=0x11fff | 0x1e900..=0x1e95f)
}

/// Returns whether a character may stand beside a joiner in an emoji; skin tones and the emoji selector may.
fn is_emoji(character: char) -> bool {
    matches!(u32::from(character),
        0x1f000..=0x1faff | 0x2190..=0x21ff | 0x2300..=0x27bf | 0x2934..=0x2935 | 0x2b00..=0x2bff | 0xfe0f
        | 0x20e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_goes() {
        assert_eq!(
            remove_invisible("a\0b\u{7f}c\u{200b}d\u{feff}e\u{ad}f\u{202e}g\u{2060}h\u{ffff}"),
            "abcdefgh"
        );
        assert_eq!(remove_invisible("\u{feff}\u{200d}a\u{200c}"), "a");
        assert_eq!(remove_invisible("\u{9b}\u{1b}[0m"), "[0m");
    }

    #[test]
    fn other_text_is_not_copied() {
        for text in ["plain\tlines\r\n", "“quotes” – and Füße", "日本語、한국어", "x\u{85}y", "👍🏽 \u{fffd}"]
        {
            assert!(matches!(remove_invisible(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn joiners_stay_where_they_are_needed() {
        for text in [
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "ශ්\u{200d}රී",
            "👨\u{200d}👩\u{200d}👧",
            "❤\u{fe0f}\u{200d}🔥",
            "👩🏽\u{200d}💻",
        ] {
            assert_eq!(remove_invisible(text), text);
        }
        assert_eq!(remove_invisible("a\u{200d}b\u{200c}c 👍\u{200d} x"), "abc 👍 x");
        let scotland = "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}";
        assert_eq!(remove_invisible(scotland), scotland);
        assert_eq!(remove_invisible("hidden\u{e0041}\u{e0042}"), "hidden");
    }
}
