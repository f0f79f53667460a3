//! Splits text into sentences as spaCy's `sentencizer` does (3.8.18, MIT): a sentence ends after a mark such
//! as `.` and the punctuation that follows it.

use super::tokens::Token;

/// Indices of the tokens that begin a sentence.
fn starts(tokens: &[Token]) -> impl Iterator<Item = usize> {
    let mut ended = false;
    tokens.iter().enumerate().filter_map(move |(position, token)| {
        if token.is_end() {
            ended = true;
        } else if ended && !token.is_punctuation() {
            ended = false;
            return Some(position);
        }
        (position == 0).then_some(0)
    })
}

/// Counts the sentences; a text without words has one.
pub fn count(tokens: &[Token]) -> usize {
    starts(tokens).count().max(1)
}

/// Splits a text where its sentences end; the text after the last sentence belongs to it.
pub fn pieces<'a>(text: &'a str, tokens: &[Token]) -> Vec<&'a str> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for start in starts(tokens).filter(|&start| start > 0) {
        let end = tokens[start - 1].end();
        pieces.push(&text[from..end]);
        from = end;
    }
    pieces.push(&text[from..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::super::{language::Family, words::Words};
    use super::*;

    #[test]
    fn sentences_end_behind_their_marks() {
        let own = Words::default();
        let cut = |text| pieces(text, &own.tokens(Family::English, text)).join("|");
        assert_eq!(cut("One. Two (really?!) three. \n"), "One.| Two (really?!)| three.| \n");
        assert_eq!(cut("Wait... no. \"Yes.\" $5 it is."), "Wait... no. \"|Yes.\"| $5 it is.");
        assert_eq!(cut(""), "");
        let chinese = "你好。我们是中国人！再见";
        assert_eq!(count(&own.tokens(Family::Ideographic, chinese)), 3);
    }
}
