//! Properties of a document's language that the rules need.

use std::cmp::Ordering;

/// Groups of languages that the rules treat alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// English: spaCy's tokenizer splits words, and every rule applies.
    English,
    /// Other languages with spaces between words: rules about English words do not apply.
    Spaced,
    /// Chinese and Japanese: words come from a dictionary and have one or two characters, and lines have few
    /// characters.
    Ideographic,
    /// Khmer and Burmese: words come from a model, and sentences have end marks.
    Unspaced,
    /// Thai and Lao: words come from a model, and sentences have no end mark.
    Unmarked,
}

impl Family {
    /// Finds the family of a language or, if the language is not known, of the text.
    pub fn of(language: &str, text: &str) -> Self {
        let code = language.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
        match code.as_str() {
            "en" | "eng" => Self::English,
            "zh" | "zho" | "chi" | "cmn" | "yue" | "wuu" | "ja" | "jpn" => Self::Ideographic,
            "km" | "khm" | "my" | "mya" | "bur" => Self::Unspaced,
            "th" | "tha" | "lo" | "lao" => Self::Unmarked,
            "" | "und" | "unknown" => Self::of_script(text),
            _ => Self::Spaced,
        }
    }

    /// Returns whether white space separates words.
    pub fn has_spaces(self) -> bool {
        matches!(self, Self::English | Self::Spaced)
    }

    /// Returns whether lists of English words apply.
    pub fn is_english(self) -> bool {
        self == Self::English
    }

    /// Returns whether sentences and lines end in a mark.
    pub fn has_end_marks(self) -> bool {
        self != Self::Unmarked
    }

    /// Converts a number of English characters to the number that says as much in this family. Chinese takes
    /// about a third: 1.7 characters a word where English takes 5 and a space.
    pub fn scale(self, characters: usize) -> usize {
        if self == Self::Ideographic { characters / 3 } else { characters }
    }

    /// Finds the family of a text by the scripts of its first letters.
    fn of_script(text: &str) -> Self {
        let (mut latin, mut ideographic, mut unspaced, mut unmarked, mut other) = (0, 0, 0, 0, 0);
        for character in text.chars().filter(|character| character.is_alphabetic()).take(2000) {
            *match u32::from(character) {
                0..=0x24F => &mut latin,
                0x0E00..=0x0EFF => &mut unmarked,
                0x1000..=0x109F | 0x1780..=0x17FF => &mut unspaced,
                0x3040..=0x30FF | 0x3400..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF => &mut ideographic,
                _ => &mut other,
            } += 1;
        }
        // Latin names and code are common in such texts and take more letters, so a third is enough.
        let most = ideographic.max(unspaced).max(unmarked);
        match (3 * most).cmp(&(latin + other + most)) {
            Ordering::Greater if most == ideographic => Self::Ideographic,
            Ordering::Greater if most == unspaced => Self::Unspaced,
            Ordering::Greater => Self::Unmarked,
            _ if other > latin => Self::Spaced,
            _ => Self::English,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_scripts_name_a_family() {
        assert_eq!(Family::of("eng_Latn", ""), Family::English);
        assert_eq!(Family::of("zh-TW", "any"), Family::Ideographic);
        assert_eq!(Family::of("de", "any"), Family::Spaced);
        assert_eq!(Family::of("", "Plain words."), Family::English);
        assert_eq!(Family::of("", "今日は天気がいいですね。"), Family::Ideographic);
        assert_eq!(Family::of("und", "สวัสดีชาวโลก"), Family::Unmarked);
        assert_eq!(Family::of("", "Привет, мир"), Family::Spaced);
        assert_eq!(Family::of("", "မြန်မာဘာသာ"), Family::Unspaced);
        assert_eq!(Family::of("", ""), Family::English);
    }
}
