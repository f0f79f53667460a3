//! Finds words in scripts without spaces between them (Chinese, Japanese, Thai, Lao, Khmer, Burmese) with the
//! dictionary and the models of ICU (crate `icu_segmenter`, Unicode annex 29).

use super::{
    characters::{Classes, SPACE},
    tokens::Token,
};
use icu_segmenter::{WordSegmenter, options::WordBreakInvariantOptions};

/// Splits a text into words, punctuation marks and runs of white space.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let classes = Classes::get();
    let segmenter = WordSegmenter::new_auto(WordBreakInvariantOptions::default());
    let mut tokens: Vec<Token> = Vec::with_capacity(text.len() / 5);
    let mut start = 0;
    for end in segmenter.segment_str(text) {
        let piece = &text[start..end];
        // Marks of several characters, such as `……`, come as one piece each.
        if piece.starts_with(|first| classes.is(first, SPACE)) {
            tokens.push(Token::space(start, end));
        } else if !piece.is_empty() {
            tokens.push(Token::word(piece, 0).at(start));
        }
        start = end;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::super::words::words_of;

    #[test]
    fn words_without_spaces_are_found() {
        assert_eq!(words_of("zh", "我们是中国人。 你好").join("|"), "我们|是|中国人|。|你好");
        assert!(words_of("th", "สวัสดีชาวโลก").len() > 1);
        assert!(words_of("ja", "今日は天気がいいですね。").len() > 4);
        assert!(words_of("my", "မြန်မာစကားပြောသည်။").len() > 1);
        assert!(words_of("km", "ភាសាខ្មែរជាភាសាផ្លូវការ").len() > 1);
        assert!(words_of("lo", "ພາສາລາວເປັນພາສາ").len() > 1);
    }
}
