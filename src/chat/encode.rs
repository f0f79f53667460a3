//! Rendered conversations to tokens. Text of users never becomes a control token: what reads like one is
//! spelled in pieces.

use crate::{
    conversation::{self, Conversation, Message, Value},
    error::{Result, hint},
    marks::{self, Controls, Piece, Unmarked},
    template::{Ending, Template},
    tokenizer::{TokenRange, Tokenizer},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

/// A tokenizer with a chat template.
#[derive(Debug, Clone)]
pub struct ChatTokenizer {
    template: Template,
    tokenizer: Tokenizer,
    /// Texts of special tokens by the names that templates use.
    named: BTreeMap<String, String>,
    /// Tokens that stand for no text. Nobody's text becomes one of them.
    special: Controls,
    special_ids: BTreeSet<u32>,
    /// Those, and the other added tokens that the template writes, such as `<think>`, which only the model's own
    /// text may become.
    controls: Controls,
}

/// Authors whose text may become tokens like `<think>`, which are added but stand for text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The assistant's, which a model learns to generate.
    Answers,
    /// Nobody's, as with transformers' `sanitize_control_tokens`.
    Nobody,
}

/// A conversation as text and tokens.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    pub text: String,
    /// Parts that the template marks as generated, in bytes of the text.
    pub generated: Vec<Range<usize>>,
    pieces: Vec<Piece>,
}

impl ChatTokenizer {
    /// Combines a tokenizer and a template.
    pub fn new(template: Template, tokenizer: Tokenizer) -> Self {
        let added = tokenizer.added_tokens();
        let special = added.iter().filter(|token| token.is_special);
        let is_written = |text: &str| template.source().contains(text) && !text.trim().is_empty();
        let controls = added.iter().filter(|token| token.is_special || is_written(&token.text));
        Self {
            named: tokenizer.named_tokens(),
            special_ids: special.clone().map(|token| token.id).collect(),
            special: Controls::new(special.map(|token| token.text.clone())),
            controls: Controls::new(controls.map(|token| token.text.clone())),
            template,
            tokenizer,
        }
    }

    pub fn template(&self) -> &Template {
        &self.template
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Whether a token stands for no text.
    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id) || self.tokenizer.end_tokens().contains(&id)
    }

    /// Checks that the tokenizer has the tokens that the template writes.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`](crate::error::Error::ChatTemplate) with a control token, like `<|im_end|>`, that
    /// the tokenizer would spell in pieces, or with the name of one that it does not have.
    pub fn check_tokens(&self) -> Result<()> {
        let source = self.template.source();
        let controls = self.template.control_texts();
        let missing = controls.into_iter().find(|text| self.tokenizer.token_id(text).is_none());
        let is_unnamed =
            |name: &&str| source.contains(name) && !self.named.contains_key(*name) && !asks_for(source, name);
        let Some(text) = missing.or_else(|| ["bos_token", "eos_token"].into_iter().find(is_unnamed)) else {
            return Ok(());
        };
        let message = format!("writes `{text}`, but the tokenizer has no such token");
        let hint = hint![
            "take the template of the model, or another with ",
            hint::choose("chat.template", "NAME"),
            " (`plain` needs no token); a header that is to be spelled in pieces is put together from parts"
        ];
        Err(self.template.error(message, Some(hint)))
    }

    /// Warnings about the template: of a token that the tokenizer does not have, which a model's own template may write
    /// in some conversations only, and of answers that nothing ends.
    pub fn warnings(&self) -> Vec<String> {
        let missing = self.check_tokens().err();
        let spelled = missing.map(|error| format!("{error}, so that it is left out or spelled in pieces"));
        let endless = self.has_endless_answers().then(|| {
            let origin = self.template.origin();
            format!(
                "chat template {origin}: no end of the turn is among what is trained of an answer, so that a model does not \
                 learn to stop"
            )
        });
        spelled.into_iter().chain(endless).collect()
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] of the template, and for text that contains one of kiln's own
    /// [`marks`](crate::marks).
    pub fn render(&self, conversation: &Conversation, ending: Ending<'_>) -> Result<Rendered> {
        self.render_with(conversation, ending, Trust::Answers)
    }

    pub(crate) fn render_with(
        &self,
        conversation: &Conversation,
        ending: Ending<'_>,
        trust: Trust,
    ) -> Result<Rendered> {
        let marked = self.marked(conversation, trust)?;
        let text = self.template.render(&marked, ending, &self.named)?;
        let Unmarked { text, generated, pieces } = Unmarked::of(&text, &self.controls);
        Ok(Rendered { text, generated, pieces })
    }

    /// Renders a conversation whose text may become any token, as transformers does by default.
    pub(crate) fn render_trusting(
        &self,
        conversation: &Conversation,
        ending: Ending<'_>,
    ) -> Result<Rendered> {
        let text = self.template.render(conversation, ending, &self.named)?;
        let Unmarked { text, generated, pieces } = Unmarked::of(&text, &Controls::default());
        Ok(Rendered { text, generated, pieces })
    }

    /// Copy of a conversation in which text that reads like a control token is marked.
    fn marked(&self, conversation: &Conversation, trust: Trust) -> Result<Conversation> {
        let mut forged = None;
        conversation.visit_texts(&mut |text| forged = forged.or_else(|| marks::find(text)));
        if let Some(mark) = forged {
            let code = u32::from(mark);
            let message =
                format!("cannot render a text with the character U+{code:X}, by which kiln marks text");
            return Err(self.template.error(message, None));
        }
        let spell = |text: &str| self.controls.mark(text);
        let message = |message: &Message| match trust {
            Trust::Answers if message.is_answer() => message.with_texts(&|text| self.special.mark(text)),
            _ => message.with_texts(&spell),
        };
        let other = |value: &Value| conversation::with_texts(value, &spell);
        let variables = conversation.variables.iter().map(|(name, value)| (name.clone(), other(value)));
        Ok(Conversation {
            messages: conversation.messages.iter().map(message).collect(),
            tools: conversation.tools.as_ref().map(other),
            documents: conversation.documents.as_ref().map(other),
            variables: variables.collect(),
        })
    }

    /// Encodes a rendered conversation. Nothing is added to what the template writes.
    ///
    /// # Errors
    /// [`Error::Tokenizer`](crate::error::Error::Tokenizer) for a character that the tokenizer does not know.
    pub fn encode(&self, rendered: &Rendered) -> Result<Vec<TokenRange>> {
        encode_pieces(&self.tokenizer, &rendered.text, &rendered.pieces)
    }
}

/// Encodes a text without a template, in which special tokens are spelled in pieces. `is_first` says whether
/// nothing stands before it, since some tokenizers put a space before the first word.
///
/// # Errors
/// [`Error::Tokenizer`](crate::error::Error::Tokenizer) for a character that the tokenizer does not know.
pub fn encode_text(tokenizer: &Tokenizer, text: &str, is_first: bool) -> Result<Vec<u32>> {
    let special = tokenizer.added_tokens().into_iter().filter(|token| token.is_special);
    let special = Controls::new(special.map(|token| token.text));
    let pieces = Unmarked::of(&special.mark(text), &special).pieces;
    let mut tokens = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        match number {
            0 if is_first => tokens = encode_pieces(tokenizer, text, &pieces[..1])?,
            _ => encode_later(tokenizer, text, piece, &mut tokens)?,
        }
    }
    Ok(tokens.into_iter().map(|token| token.id).collect())
}

fn encode_pieces(tokenizer: &Tokenizer, text: &str, pieces: &[Piece]) -> Result<Vec<TokenRange>> {
    let mut tokens = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        match number {
            0 if !piece.is_spelled => tokens = tokenizer.encode_with_ranges(&text[piece.bytes.clone()])?,
            _ => encode_later(tokenizer, text, piece, &mut tokens)?,
        }
    }
    Ok(tokens)
}

/// Encodes a piece that follows others. It is encoded behind a line break, so that no space is put before its
/// first word, and without one where the line break becomes a part of the first token.
fn encode_later(
    tokenizer: &Tokenizer,
    text: &str,
    piece: &Piece,
    tokens: &mut Vec<TokenRange>,
) -> Result<()> {
    let own = &text[piece.bytes.clone()];
    let encode = |text: &str| match piece.is_spelled {
        true => tokenizer.encode_plain(text),
        false => tokenizer.encode_with_ranges(text),
    };
    let later = |own: &str| -> Result<Vec<TokenRange>> {
        // A tokenizer of characters may have none.
        let Ok(line_break) = tokenizer.encode("\n") else { return encode(own) };
        let mut encoded = encode(&format!("\n{own}"))?;
        let begins = encoded.len() >= line_break.len()
            && encoded.iter().zip(&line_break).all(|(token, id)| token.id == *id);
        if !begins {
            return encode(own);
        }
        encoded.drain(..line_break.len());
        for token in &mut encoded {
            token.bytes = token.bytes.start.saturating_sub(1)..token.bytes.end.saturating_sub(1);
        }
        Ok(encoded)
    };
    let mut encoded = later(own)?;
    // Some models have the text of a special token among the words that they compose text of.
    if piece.is_spelled
        && let Some(id) = tokenizer.token_id(own)
        && encoded.iter().any(|token| token.id == id)
    {
        let first = own.chars().next().map_or(0, char::len_utf8);
        encoded = encode(&own[..first])?;
        let rest = encode(&own[first..])?;
        encoded.extend(rest.into_iter().map(|token| shifted(token, first)));
    }
    tokens.extend(encoded.into_iter().map(|token| shifted(token, piece.bytes.start)));
    Ok(())
}

fn shifted(token: TokenRange, by: usize) -> TokenRange {
    TokenRange { id: token.id, bytes: token.bytes.start + by..token.bytes.end + by }
}

/// Whether a template asks if a variable has a value.
fn asks_for(source: &str, name: &str) -> bool {
    let behind = |word: &str| source.contains(&format!("{name} {word}"));
    behind("is defined") || behind("is not none") || behind("or ") || source.contains(&format!("if {name}"))
}
