//! Classes of characters as in Python.

/// Whether Python's `str.isspace` holds for a character. Unlike Rust it counts the separators 0x1c to 0x1f.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Whether a character is punctuation of Unicode (categories `P*`), by the blocks in which it stands.
pub fn is_punctuation(c: char) -> bool {
    matches!(c, '!'..='#' | '%'..='*' | ','..='/' | ':' | ';' | '?' | '@' | '['..=']' | '_' | '{' | '}')
        || matches!(c, '¡' | '§' | '«' | '¶' | '·' | '»' | '¿' | '،' | '؛' | '؟' | '۔' | '।' | '॥')
        || matches!(c, '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' if !matches!(c, '\u{2044}' | '\u{2052}'))
        || matches!(c, '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}' | '\u{3014}'..='\u{301f}' | '\u{30fb}')
        || matches!(c, '\u{ff01}'..='\u{ff03}' | '\u{ff05}'..='\u{ff0a}' | '\u{ff0c}'..='\u{ff0f}')
        || matches!(
            c,
            '\u{ff1a}' | '\u{ff1b}' | '\u{ff1f}' | '\u{ff20}' | '\u{ff3b}'..='\u{ff3d}' | '\u{ff3f}'
        )
        || matches!(c, '\u{ff5b}' | '\u{ff5d}' | '\u{ff5f}'..='\u{ff65}')
}

/// Number of parts that Python's `re.split(r"\s+", text)` returns.
pub fn count_words(text: &str) -> usize {
    let mut runs = 0;
    let mut in_run = false;
    for c in text.chars() {
        let is_space = is_space(c);
        runs += usize::from(is_space && !in_run);
        in_run = is_space;
    }
    runs + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_as_in_python() {
        assert_eq!(["", "a", " a  b\n", "a\u{1c}b"].map(count_words), [1, 1, 4, 2]);
    }
}
