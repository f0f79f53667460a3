//! The tokens of a row with their weights: in colours on a terminal, otherwise with marks.

use crate::tokenizer::Tokenizer;
use serde_json::{Value, json};
use std::{fmt::Write, path::Path};

/// Whether weights are shown by colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Colour,
    Plain,
}

/// Colours of trained tokens, of those with another weight than 1, and of masked ones. Neighbours differ, so
/// that one sees where a token ends.
const TRAINED: [&str; 2] = ["30;42", "30;102"];
const WEIGHTED: [&str; 2] = ["30;43", "30;103"];
const MASKED: [&str; 2] = ["90", "37"];

impl Style {
    /// Colours on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
    pub fn of(is_terminal: bool) -> Self {
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if is_terminal && !is_unwanted { Self::Colour } else { Self::Plain }
    }

    /// Explanation of the marks.
    pub fn legend(self) -> String {
        match self {
            Self::Plain => "[trained], [trained×weight], masked·masked·".into(),
            Self::Colour => {
                let shown = |colour: &str, text: &str| format!("\x1b[{colour}m{text}\x1b[0m");
                format!(
                    "{} {} {}",
                    shown(TRAINED[0], "trained"),
                    shown(WEIGHTED[0], "weighted"),
                    shown(MASKED[0], "masked")
                )
            }
        }
    }
}

/// Character that stands for bytes which are no whole character.
const INCOMPLETE: char = char::REPLACEMENT_CHARACTER;

/// A row of tokens.
pub struct Row<'a> {
    pub tokenizer: &'a Tokenizer,
    pub path: &'a Path,
    pub line: usize,
    /// `chosen` or `rejected`, of a pair.
    pub name: Option<&'static str>,
    pub tokens: Vec<u32>,
    /// Weight of each token in the loss.
    pub weights: Vec<f32>,
    /// Label, margin or score.
    pub value: Option<f32>,
}

/// Largest number of tokens that one character is spelled with: the bytes of UTF-8.
const LONGEST_CHARACTER: usize = 4;

impl Row<'_> {
    /// Where the row is from, and how much of it is trained.
    pub fn title(&self) -> String {
        let trained = self.weights.iter().filter(|weight| **weight != 0.0).count();
        let name = self.name.map_or_else(String::new, |name| format!(", {name}"));
        let value = self.value.map_or_else(String::new, |value| format!(", value {value}"));
        let (path, line, tokens) = (self.path.display(), self.line, self.tokens.len());
        format!("`{path}` line {line}{name}: {tokens} tokens, {trained} of them trained{value}")
    }

    /// The tokens, one behind the other. A line break is shown, and broken after.
    pub fn tokens(&self, style: Style) -> String {
        let mut text = String::new();
        for (index, (token, &weight)) in self.texts().iter().zip(&self.weights).enumerate() {
            let token = visible(token);
            let breaks = token.ends_with('⏎');
            // Writing into a String cannot fail.
            let _ = match (style, weight) {
                (Style::Plain, 0.0) => write!(text, "{token}·"),
                (Style::Plain, 1.0) => write!(text, "[{token}]"),
                (Style::Plain, _) => write!(text, "[{token}×{weight}]"),
                (Style::Colour, _) => {
                    let colours = match weight {
                        0.0 => MASKED,
                        1.0 => TRAINED,
                        _ => WEIGHTED,
                    };
                    write!(text, "\x1b[{}m{token}\x1b[0m", colours[index % 2])
                }
            };
            if breaks {
                text.push('\n');
            }
        }
        text.truncate(text.trim_end_matches('\n').len());
        text
    }

    /// Texts of the tokens. A character that several tokens spell stands at the last of them, behind `…` at the others.
    fn texts(&self) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        // Index of the first token of an incomplete character.
        let mut start = 0;
        for (index, &id) in self.tokens.iter().enumerate() {
            let own = self.tokenizer.token_text(id).unwrap_or_default();
            if !own.contains(INCOMPLETE) || index - start >= LONGEST_CHARACTER {
                start = index;
            }
            texts.push(own);
            let whole = self.tokenizer.decode(&self.tokens[start..=index]).unwrap_or_default();
            if index > start && !whole.contains(INCOMPLETE) {
                let mut shown = 0;
                for text in &mut texts[start..index] {
                    *text = text.replace(INCOMPLETE, "…");
                    shown += text.trim_end_matches('…').len();
                }
                texts[index] = whole.get(shown..).unwrap_or(&whole).to_owned();
                start = index + 1;
            } else if !texts[index].contains(INCOMPLETE) {
                start = index + 1;
            }
        }
        texts
    }

    pub fn to_json(&self) -> Value {
        let tokens = self.tokens.iter().zip(&self.weights).map(
            |(&id, &weight)| json!({ "id": id, "text": self.tokenizer.token_text(id), "weight": weight }),
        );
        json!({
            "path": self.path,
            "line": self.line,
            "name": self.name,
            "value": self.value,
            "tokens": tokens.collect::<Vec<_>>(),
        })
    }
}

/// The text of a token with visible line breaks, and without characters that control a terminal.
fn visible(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => '⏎',
        '\t' => '⇥',
        c if c.is_control() => '␦',
        c => c,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{TokenizerConfig, TokenizerKind};

    #[test]
    fn trained_tokens_are_marked() {
        let config = TokenizerConfig { kind: TokenizerKind::Char, vocab_size: 0, path: None };
        let tokenizer = Tokenizer::train(&config, &["<end>".to_owned()], ["ab\n\u{1b}"]).unwrap();
        let row = Row {
            tokenizer: &tokenizer,
            path: Path::new("x.jsonl"),
            line: 7,
            name: Some("chosen"),
            tokens: tokenizer.encode("ab\na<end>\u{1b}\n").unwrap(),
            weights: vec![0.0, 0.0, 0.0, 1.0, 0.5, 0.0, 0.0],
            value: Some(0.25),
        };
        assert_eq!(row.title(), "`x.jsonl` line 7, chosen: 7 tokens, 2 of them trained, value 0.25");
        assert_eq!(row.tokens(Style::Plain), "a·b·⏎·\n[a][<end>×0.5]␦·⏎·");
        let colours = row.tokens(Style::Colour);
        assert!(
            colours.starts_with("\x1b[90ma\x1b[0m\x1b[37mb\x1b[0m\x1b[90m⏎\x1b[0m\n\x1b[30;102ma\x1b[0m"),
            "{colours:?}"
        );
        assert_eq!(Style::of(false), Style::Plain);
        assert_eq!(row.to_json()["tokens"][4]["weight"], 0.5);
    }

    #[test]
    fn characters_of_several_tokens_are_shown_whole() {
        let config = TokenizerConfig { kind: TokenizerKind::Byte, vocab_size: 0, path: None };
        let tokenizer = Tokenizer::train(&config, &["<end>".to_owned()], [""]).unwrap();
        let mut tokens = tokenizer.encode("aé日<end>").unwrap();
        // A character that is cut off, and one that a text really has.
        tokens.push(0xE6);
        tokens.extend(tokenizer.encode("b\u{FFFD}").unwrap());
        let weights = vec![1.0; tokens.len()];
        let row = Row {
            tokenizer: &tokenizer,
            path: Path::new("x"),
            line: 1,
            name: None,
            tokens,
            weights,
            value: None,
        };
        assert_eq!(row.tokens(Style::Plain), "[a][…][é][…][…][日][<end>][�][b][�][�][�]");
    }
}
