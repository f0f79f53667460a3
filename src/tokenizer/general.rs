//! Encoding with the `tokenizers` crate, for tokenizers that Kiln has no faster code for. If the tokenizer
//! gives the same tokens for the pieces, a long text is split into pieces that are encoded in parallel, which
//! bounds the memory of the crate's offset tables.

use serde_json::Value;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Result,
    Tokenizer, parallelism,
};

/// Minimum length of a piece, in bytes.
const PIECE: usize = 32 << 10;

/// Number of pieces that are encoded at once, per thread.
const PIECES_PER_THREAD: usize = 4;

pub(super) struct General {
    /// Whether a text may be split at [`line_cut`]s.
    cuts_at_lines: bool,
}

impl General {
    /// Makes the codec of a tokenizer; `document` is the tokenizer as JSON.
    pub(super) fn new(document: &Value, tokenizer: &Tokenizer) -> Self {
        // An added token with a line break could be cut; one that takes the white space to its left
        // could lose it to the piece before.
        let is_harmless = |token: &Value| {
            token["lstrip"] == false && token["content"].as_str().is_some_and(|text| !text.contains('\n'))
        };
        let added = document["added_tokens"].as_array();
        let cuts_at_lines = added.is_none_or(|tokens| tokens.iter().all(is_harmless))
            && words_end_at_lines(tokenizer).unwrap_or(false);
        Self { cuts_at_lines }
    }

    /// Whether a text may be split at line breaks.
    pub(super) fn cuts_at_lines(&self) -> bool {
        self.cuts_at_lines
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, tokenizer: &Tokenizer, text: &str, tokens: &mut Vec<u32>) -> Result<()> {
        if !self.cuts_at_lines || text.len() <= PIECE {
            tokens.extend_from_slice(tokenizer.encode_fast(text, false)?.get_ids());
            return Ok(());
        }
        let at_once = PIECES_PER_THREAD * parallelism::current_num_threads();
        let mut pieces = pieces(text, PIECE).peekable();
        while pieces.peek().is_some() {
            let batch: Vec<&str> = pieces.by_ref().take(at_once).collect();
            for encoding in tokenizer.encode_batch_fast(batch, false)? {
                tokens.extend_from_slice(encoding.get_ids());
            }
        }
        Ok(())
    }
}

/// Splits a text at [`line_cut`]s into pieces of at least `length` bytes (the last may be shorter).
/// Concatenated they are the text.
pub(super) fn pieces(text: &str, length: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = rest.split_at(line_cut(rest, length));
        rest = after;
        Some(piece)
    })
}

/// Position after the first line break at or after `from` that has no white space on either side, or the end
/// of the text. Pre-tokenizers that know line breaks end a word there.
fn line_cut(text: &str, from: usize) -> usize {
    let mut from = from;
    while let Some(at) = text.as_bytes().get(from..).and_then(|bytes| bytes.iter().position(|&b| b == b'\n'))
    {
        let line_break = from + at;
        let before = text[..line_break].chars().next_back();
        let after = text[line_break + 1..].chars().next();
        if [before, after].iter().all(|c| c.is_some_and(|c| !c.is_whitespace())) {
            return line_break + 1;
        }
        from = line_break + 1;
    }
    text.len()
}

/// Whether a tokenizer gives the same words for two lines together as for each line alone. Tested on
/// combinations of what may stand at the end and at the beginning of a line. Tokenizers that do not end a
/// word at a line break (SentencePiece without a pre-tokenizer) or that add something at the beginning of a
/// text do not pass.
fn words_end_at_lines(tokenizer: &Tokenizer) -> Result<bool> {
    if tokenizer.get_pre_tokenizer().is_none() {
        return Ok(false);
    }
    for before in ["word", "Word.", "9", "é", "語", "\"", ")", "_", "\u{301}"] {
        for after in ["word", "Word", "7", "é", "語", "'s", "(", "_", "\u{301}", "<"] {
            let first = format!("the {before}\n");
            let second = format!("{after} end");
            let mut apart = words(tokenizer, &first)?;
            apart.extend(words(tokenizer, &second)?);
            if words(tokenizer, &(first + &second))? != apart {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn words(tokenizer: &Tokenizer, text: &str) -> Result<Vec<String>> {
    let split = split_words(tokenizer, text)?;
    let splits = split.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
    Ok(splits.into_iter().map(|(word, ..)| word.to_owned()).collect())
}

/// Normalizes a text and splits it into words, without looking for added tokens.
pub(super) fn split_words(tokenizer: &Tokenizer, text: &str) -> Result<PreTokenizedString> {
    let mut normalized = NormalizedString::from(text);
    if let Some(normalizer) = tokenizer.get_normalizer() {
        normalizer.normalize(&mut normalized)?;
    }
    let mut split = PreTokenizedString::from(normalized);
    if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut split)?;
    }
    Ok(split)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_only_between_lines_of_text() {
        let text = "one\ntwo\n\nthree \nfour\n five\nsix\r\nseven\n";
        let cut: Vec<&str> = pieces(text, 0).collect();
        assert_eq!(cut, ["one\n", "two\n\nthree \nfour\n five\n", "six\r\nseven\n"]);
        assert_eq!(pieces(text, 4).next(), Some("one\ntwo\n\nthree \nfour\n five\n"));
        assert_eq!(pieces("", 4).next(), None);
        assert_eq!(pieces("é\né", 1).count(), 2);
    }
}
