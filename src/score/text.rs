//! White space as Python's `str.split` and `str.strip` define it.

/// Whether Python's `str.isspace` is true for a character.
///
/// This is Unicode's `White_Space` and, in addition, the four ASCII separators U+001C to U+001F.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Words of a text that white space separates, as `str.split()` gives them.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[c for c in map(chr, range(0x110000)) if c.isspace()]` has 29 members, and
    /// `" a\x1cb\x85c\u3000d\u200be\tf\n".split()` gives the words below.
    #[test]
    fn white_space_is_that_of_python() {
        assert_eq!(('\0'..=char::MAX).filter(|&c| is_space(c)).count(), 29);
        let found: Vec<_> = words(" a\x1cb\u{85}c\u{3000}d\u{200b}e\tf\n").collect();
        assert_eq!(found, ["a", "b", "c", "d\u{200b}e", "f"]);
        assert_eq!(words(" \t\n").count(), 0);
    }
}
