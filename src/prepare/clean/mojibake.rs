//! Repairs text that was decoded with the wrong encoding (`Ã©` for `é`), as ftfy does, with `plsfix`.

use plsfix::TextFixerConfig;
use std::borrow::Cow;

/// Maximum bytes of a piece that is repaired as a whole; pieces end at the end of a line if they can.
const PIECE: usize = 1 << 16;

/// Repairs wrong decoding and nothing else: entities, quotes, ligatures and normalization forms stay as they
/// are.
pub fn repair(text: &str) -> Cow<'_, str> {
    if !is_suspect(text.as_bytes()) {
        return Cow::Borrowed(text);
    }
    let config = TextFixerConfig {
        unescape_html: Some(false),
        remove_terminal_escapes: false,
        fix_encoding: true,
        restore_byte_a0: true,
        replace_lossy_sequences: true,
        decode_inconsistent_utf8: true,
        fix_c1_controls: true,
        fix_latin_ligatures: false,
        fix_character_width: false,
        uncurl_quotes: false,
        fix_line_breaks: false,
        remove_control_chars: false,
        normalization: None,
        ..TextFixerConfig::default()
    };
    let mut repaired = String::with_capacity(text.len());
    for piece in Pieces(text) {
        if is_suspect(piece.as_bytes()) {
            repaired.push_str(&plsfix::fix_text(piece, Some(&config)));
        } else {
            repaired.push_str(piece);
        }
    }
    if repaired == text { Cow::Borrowed(text) } else { Cow::Owned(repaired) }
}

/// Returns whether a text has characters that wrong decoding leaves behind. Each UTF-8 sequence begins with a
/// byte from C2 to F4. Read as Latin-1 or a relative, such a byte is a character from U+0080 to U+02FF; as
/// KOI8 or windows-1251, a Cyrillic one; as Mac Roman, one of a few symbols. Text without any of them needs
/// no repair.
fn is_suspect(bytes: &[u8]) -> bool {
    // An accented letter alone is no sign: two characters beyond ASCII must stand side by side.
    let mut at = 0;
    while let Some(next) = bytes[at..].iter().position(|&byte| byte >= 0x80) {
        at += next;
        let length = match bytes[at] {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            _ => 4,
        };
        // A C1 control alone is Windows' punctuation in Latin-1's clothes.
        if bytes[at] == 0xc2 && bytes.get(at + 1).is_some_and(|&byte| byte < 0xa0) {
            return true;
        }
        let european = matches!(bytes[at], 0xc2..=0xcb | 0xd0 | 0xd1 | 0xe2 | 0xef);
        // UTF-8 in a single-byte encoding may have a space, as NBSP or plain, for one of its bytes.
        if european
            && bytes
                .get(at + length)
                .is_some_and(|&byte| byte >= 0x80 || matches!(bytes[at..], [0xc3, 0x83 | 0xa0, ..]))
        {
            return true;
        }
        at = (at + length).min(bytes.len());
    }
    false
}

/// Iterator over the pieces of a text, which are whole lines unless a line is very long.
struct Pieces<'a>(&'a str);

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let end = match memchr::memchr(b'\n', self.0.as_bytes()) {
            Some(end) if end < PIECE => end + 1,
            _ => self.0.floor_char_boundary(PIECE.min(self.0.len())),
        };
        let (piece, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_decoding_is_undone() {
        assert_eq!(repair("Le cafÃ© est trÃ¨s bon"), "Le café est très bon");
        assert_eq!(repair("Itâ€™s here\nand â€œthereâ€\u{9d}"), "It’s here\nand “there”");
        assert_eq!(repair("l'humanitÃ\u{a0} Ã  la"), "l'humanità à la");
        assert_eq!(repair("ÐŸÑ€Ð¸Ð²ÐµÑ‚"), "Привет");
        assert_eq!(repair("it\u{92}s"), "it’s");
    }

    #[test]
    fn right_text_stays() {
        for text in [
            "plain &amp; ﬁne",
            "“Füße” – l’été à côté",
            "Съешь же ещё",
            "日本語の文章",
            "می‌خواهم",
            "naïve café",
        ] {
            assert!(matches!(repair(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let text = "é—".repeat(60_000);
        assert_eq!(Pieces(&text).collect::<String>(), text);
        assert_eq!(repair(&text), text);
    }
}
