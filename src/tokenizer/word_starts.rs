//! Finds the tokens that begin a word, so that a word can be masked as a whole (whole-word masking, as in
//! BERT's later models, <https://github.com/google-research/bert>).

use super::{Tokenizer, alphabet};
use serde_json::Value;
use std::collections::HashMap;

/// Spelling of text by the tokens of a vocabulary.
pub(super) struct Spelling {
    /// Whether tokens are spelled in GPT-2's byte-level alphabet.
    is_byte_level: bool,
    /// Prefix of tokens that continue a word, if the vocabulary has one (`##`).
    inside: Option<String>,
    /// Whether every token without the prefix begins a word.
    only_inside: bool,
}

impl Spelling {
    pub(super) fn read(document: &Value) -> Self {
        let decoder = &document["decoder"];
        let is_byte_level = |decoder: &Value| decoder["type"] == "ByteLevel";
        let parts = decoder["decoders"].as_array();
        let inside = document["model"]["continuing_subword_prefix"].as_str();
        Self {
            is_byte_level: is_byte_level(decoder)
                || parts.is_some_and(|parts| parts.iter().any(is_byte_level)),
            inside: inside.filter(|prefix| !prefix.is_empty()).map(str::to_owned),
            only_inside: document["model"]["type"] == "WordPiece",
        }
    }

    /// Bytes that a token stands for.
    fn bytes(&self, token: &str) -> Box<[u8]> {
        if self.is_byte_level {
            return alphabet::read(token);
        }
        // SentencePiece writes bytes of characters that it does not know as `<0xE2>`.
        let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        match byte.and_then(|byte| u8::from_str_radix(byte, 16).ok()) {
            Some(byte) => [byte].into(),
            None => token.as_bytes().into(),
        }
    }
}

/// Word boundaries of a token.
#[derive(Clone, Copy)]
struct Token {
    start: Start,
    /// Whether the token ends inside a word: in a letter or digit.
    end: End,
}

#[derive(Clone, Copy, PartialEq)]
enum Start {
    /// The token begins with a character that is not part of a word, or always begins a word.
    Outside,
    /// The token begins with a letter or digit.
    Inside,
    /// The token continues a word by its prefix, or begins inside a character.
    Within,
    /// The token is only the first bytes of a character.
    Cut,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Inside,
    Outside,
    /// The token ends with the first bytes of a character, which are in [`WordStarts::cut`].
    Cut,
    /// The token is bytes from the middle or the end of a character.
    Unchanged,
}

/// Word boundaries of each token of a vocabulary.
pub(super) struct WordStarts {
    tokens: Vec<Token>,
    /// Bytes of the tokens that are not whole characters.
    cut: HashMap<usize, Box<[u8]>>,
}

const OUTSIDE: Token = Token { start: Start::Outside, end: End::Outside };

impl WordStarts {
    fn new(tokenizer: &Tokenizer) -> Self {
        let spelling = &tokenizer.inner.spelling;
        let mut table = Self { tokens: vec![OUTSIDE; tokenizer.vocab_size()], cut: HashMap::new() };
        for (text, id) in tokenizer.inner.hugging_face.get_vocab(true) {
            if tokenizer.is_special(id) {
                continue;
            }
            let id = id as usize;
            let rest = spelling.inside.as_deref().and_then(|prefix| text.strip_prefix(prefix));
            let bytes = spelling.bytes(rest.unwrap_or(&text));
            let mut token = describe(&bytes);
            match rest {
                Some(_) => token.start = Start::Within,
                None if spelling.only_inside => token.start = Start::Outside,
                None => {}
            }
            if std::str::from_utf8(&bytes).is_err() {
                table.cut.insert(id, bytes);
            }
            table.tokens[id] = token;
        }
        table
    }

    fn get(&self, token: i32) -> Token {
        usize::try_from(token).ok().and_then(|id| self.tokens.get(id)).copied().unwrap_or(OUTSIDE)
    }

    fn find(&self, row: &[i32]) -> Vec<bool> {
        let mut inside = false;
        let mut starts = Vec::with_capacity(row.len());
        for (position, &id) in row.iter().enumerate() {
            let token = self.get(id);
            // The character at the end of the token, which the next tokens complete.
            let cut_is_inside = || self.cut_character(&row[position..]).is_some_and(char::is_alphanumeric);
            starts.push(match token.start {
                Start::Outside => true,
                Start::Inside => !inside,
                Start::Within => false,
                Start::Cut => !inside || !cut_is_inside(),
            });
            match token.end {
                End::Inside => inside = true,
                End::Outside => inside = false,
                End::Cut => inside = cut_is_inside(),
                End::Unchanged => {}
            }
        }
        starts
    }

    /// The character that begins at the end of the first of these tokens and ends in a later one.
    fn cut_character(&self, row: &[i32]) -> Option<char> {
        let bytes_of = |id: i32| self.cut.get(&usize::try_from(id).ok()?);
        let first = bytes_of(*row.first()?)?;
        let mut bytes = first[incomplete_character(first)?..].to_vec();
        for &id in &row[1..] {
            // What completes a character begins inside it, and so is not whole characters.
            let more = bytes_of(id)?;
            bytes.extend(more.iter().take_while(|byte| is_continuation(**byte)));
            match std::str::from_utf8(&bytes) {
                Ok(text) => return text.chars().next(),
                Err(error) if error.error_len().is_some() => return None,
                Err(_) => {}
            }
        }
        None
    }
}

/// Finds the word boundaries of a token from its bytes.
fn describe(bytes: &[u8]) -> Token {
    let text = String::from_utf8_lossy(bytes);
    let is_inside = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
    let cut = incomplete_character(bytes);
    let start = match bytes.first() {
        Some(&byte) if is_continuation(byte) => Start::Within,
        _ if cut == Some(0) => Start::Cut,
        _ if is_inside(text.chars().next()) => Start::Inside,
        _ => Start::Outside,
    };
    let end = match cut {
        Some(_) => End::Cut,
        None if !bytes.is_empty() && bytes.iter().all(|&byte| is_continuation(byte)) => End::Unchanged,
        None if is_inside(text.chars().next_back()) => End::Inside,
        None => End::Outside,
    };
    Token { start, end }
}

/// Whether a byte is the second, third or fourth byte of a UTF-8 character.
fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

/// Start of the incomplete character at the end of the bytes, if there is one.
fn incomplete_character(bytes: &[u8]) -> Option<usize> {
    let start = bytes.iter().rposition(|&byte| !is_continuation(byte))?;
    let is_incomplete = std::str::from_utf8(&bytes[start..]).is_err_and(|error| error.error_len().is_none());
    is_incomplete.then_some(start)
}

impl Tokenizer {
    /// Whether each token of a sequence begins a word. If the tokenizer marks the tokens that continue a word
    /// (WordPiece's `##`), all others begin one. Otherwise a word is a run of letters and digits, and a token
    /// begins one unless it continues the run: tokens that begin with white space (`▁`, `Ġ`) or punctuation,
    /// or follow it, begin a word. The later bytes of a character never begin a word; special tokens always
    /// do.
    pub fn word_starts(&self, tokens: &[i32]) -> Vec<bool> {
        self.inner.word_starts.get_or_init(|| WordStarts::new(self)).find(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{TokenizerConfig, TokenizerKind};
    use serde_json::json;

    /// The text with a bar before each token that begins a word.
    fn marked(tokenizer: &Tokenizer, tokens: &[u32]) -> String {
        let row: Vec<i32> = tokens.iter().map(|&id| id as i32).collect();
        let starts = tokenizer.word_starts(&row);
        assert_eq!(starts.len(), row.len());
        let mut bytes = Vec::new();
        let table = tokenizer.inner.codec.token_bytes();
        for (&id, start) in tokens.iter().zip(starts) {
            bytes.extend(start.then_some(b'|'));
            match table.and_then(|table| table.get(id as usize)) {
                Some(token) => bytes.extend_from_slice(token),
                None => bytes.extend(tokenizer.inner.hugging_face.id_to_token(id).unwrap().bytes()),
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn characters_and_bytes_begin_words_alike() {
        let text = "It's 2 cafés—naïve 東京 🙂!";
        let special = ["[MASK]".to_owned()];
        for kind in [TokenizerKind::Char, TokenizerKind::Byte] {
            let config = TokenizerConfig { kind, ..TokenizerConfig::default() };
            let tokenizer = Tokenizer::train(&config, &special, [text]).unwrap();
            assert_eq!(
                marked(&tokenizer, &tokenizer.encode(text).unwrap()),
                "|It|'|s| |2| |cafés|—|naïve| |東京| |🙂|!",
            );
            let masked = tokenizer.encode("caf[MASK]s").unwrap();
            assert_eq!(marked(&tokenizer, &masked), "|caf|[MASK]|s");
        }
    }

    #[test]
    fn byte_level_tokens_begin_words_with_their_space() {
        let tokenizer = Tokenizer::from_gpt2(
            include_bytes!("../../tests/fixtures/gpt2/encoder.json"),
            include_bytes!("../../tests/fixtures/gpt2/vocab.bpe"),
        )
        .unwrap();
        let mark = |text: &str| marked(&tokenizer, &tokenizer.encode(text).unwrap());
        // Antidisestablishmentarianism and naïveté are several tokens.
        assert_eq!(
            mark("Antidisestablishmentarianism, it isn't naïveté\n\nYes"),
            "|Antidisestablishmentarianism|,| it| isn|'t| naïveté|\n|\n|Yes"
        );
        // Characters of three and four bytes in two or three tokens; the first holds the space too.
        assert_eq!(mark("see 東京\u{2003}🦀🦀x"), "|see| 東京|\u{2003}|🦀|🦀|x");
        // Ends in the middle of a character, and what completes it is missing.
        let mut crab = tokenizer.encode("a🦀").unwrap();
        crab.truncate(2);
        let row: Vec<i32> = crab.iter().map(|&id| id as i32).collect();
        assert_eq!(tokenizer.word_starts(&row), [true, true]);
        assert_eq!(tokenizer.word_starts(&[-100, 50_256, 99_999, row[0]]), [true; 4]);
        assert!(tokenizer.word_starts(&[]).is_empty());
    }

    /// A tokenizer with these tokens, in order of id.
    fn of_tokens(model: Value, decoder: Value, tokens: &[&str]) -> Tokenizer {
        let mut model = model;
        model["vocab"] =
            tokens.iter().zip(0u32..).map(|(text, id)| (text.to_string(), Value::from(id))).collect();
        let document = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null, "decoder": decoder,
            "model": model,
        });
        Tokenizer::from_bytes(document.to_string().as_bytes(), "test").unwrap()
    }

    #[test]
    fn word_pieces_are_told_by_their_mark() {
        let tokens = ["[UNK]", "play", "##ing", "##s", ",", "well"];
        let model = json!({ "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100 });
        let tokenizer =
            of_tokens(model, json!({ "type": "WordPiece", "prefix": "##", "cleanup": true }), &tokens);
        let row = [1, 2, 3, 4, 5, 1, 2, 0];
        assert_eq!(tokenizer.word_starts(&row), [true, false, false, true, true, true, false, true]);
    }

    #[test]
    fn sentence_pieces_are_told_by_their_space() {
        let tokens = ["▁play", "ing", "▁", ".", "s", "<0xC3>", "<0xA9>"];
        let model = json!({ "type": "BPE", "dropout": null, "unk_token": null, "fuse_unk": false,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "byte_fallback": true,
            "ignore_merges": false, "merges": [] });
        let tokenizer = of_tokens(model, json!({ "type": "ByteFallback" }), &tokens);
        // ▁play ing ▁ s é s . s
        let row = [0, 1, 2, 4, 5, 6, 4, 3, 4];
        assert_eq!(tokenizer.word_starts(&row), [true, false, true, true, false, false, false, true, true]);
    }
}
