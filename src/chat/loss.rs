//! Conversations and texts to rows: tokens, and the weight of each in the loss.

use crate::{
    answers::{Part, Parts, Wanted},
    conversation::{Conversation, Message},
    encode::{ChatTokenizer, Rendered},
    refusal::{Reason, Refusal, Result},
    template::Ending,
    tokenizer::TokenRange,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Parts of a dialogue that are trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossOn {
    /// Every answer of the assistant.
    #[default]
    Answers,
    /// The assistant's last answer.
    LastAnswer,
    /// Every token but the first.
    All,
}

/// Action for rows that are longer than the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Truncation {
    /// Their end is cut off.
    #[default]
    Right,
    /// Their beginning is cut off.
    Left,
    /// They are bad rows.
    Error,
}

/// Settings by which dialogues become rows.
#[derive(Debug, Clone, Default)]
pub struct RowOptions {
    pub loss_on: LossOn,
    /// Weight of each role's text in the loss. If it is empty, `loss_on` decides. Messages may have weights of their
    /// own, by which these are multiplied.
    pub role_weights: BTreeMap<String, f64>,
    pub truncation: Truncation,
    /// Largest number of tokens in a row.
    pub limit: usize,
}

/// Tokens of a row, and the weight of each as a target.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    pub tokens: Vec<u32>,
    /// Weight of each token in the loss; 0 where it is no target.
    pub weights: Vec<f32>,
    /// Number of tokens that were cut off.
    pub cut: usize,
}

impl Row {
    /// Number of tokens that are targets.
    pub fn targets(&self) -> usize {
        self.weights.iter().filter(|weight| **weight != 0.0).count()
    }

    fn push(&mut self, tokens: impl IntoIterator<Item = u32>, weight: f32) {
        self.tokens.extend(tokens);
        self.weights.resize(self.tokens.len(), weight);
    }

    /// Truncates the row and checks that a target is left.
    ///
    /// # Errors
    /// A refusal of a row that is too long, or of one without targets.
    fn finish(mut self, options: &RowOptions) -> Result<Self> {
        // Nothing precedes the first token.
        if let Some(first) = self.weights.first_mut() {
            *first = 0.0;
        }
        if self.targets() == 0 {
            return Err(Refusal::new(Reason::NoTarget, "has no token that is trained: every weight is 0"));
        }
        let (length, limit) = (self.tokens.len(), options.limit);
        if length <= limit {
            return Ok(self);
        }
        self.cut = length - limit;
        match options.truncation {
            Truncation::Error => {
                let message = format!("has {length} tokens, but a row holds {limit}");
                return Err(Refusal::new(Reason::TooLong, message));
            }
            Truncation::Right => {
                self.tokens.truncate(limit);
                self.weights.truncate(limit);
            }
            Truncation::Left => {
                self.tokens.drain(..self.cut);
                self.weights.drain(..self.cut);
                if let Some(first) = self.weights.first_mut() {
                    *first = 0.0;
                }
            }
        }
        if self.targets() == 0 {
            let message =
                format!("has {length} tokens, and its answer is not among the {limit} that a row holds");
            return Err(Refusal::new(Reason::CutAway, message));
        }
        Ok(self)
    }
}

/// An answer, or the text before it: plain text or messages.
#[derive(Debug, Clone, PartialEq)]
pub enum Text {
    Plain(String),
    Messages(Vec<Message>),
}

impl ChatTokenizer {
    /// Makes the row of a conversation whose messages from `from` on are trained.
    ///
    /// # Errors
    /// A refusal by the template, of an unknown role, or of a row without targets.
    pub fn row(&self, conversation: &Conversation, from: usize, options: &RowOptions) -> Result<Row> {
        self.check_roles(conversation, options)?;
        let weigh = |message: usize| conversation.messages[message].weight();
        if !options.role_weights.is_empty() {
            let Parts { rendered, parts } = self.parts(conversation, Wanted::All { from })?;
            let of_role = |message: usize| {
                let role = conversation.messages[message].role();
                options.role_weights.get(role).map_or(0.0, |weight| *weight as f32)
            };
            let weigh = |message: usize| of_role(message) * weigh(message);
            return self.weighted(&rendered, &parts, 0.0, weigh)?.finish(options);
        }
        let last = conversation.messages.iter().rposition(Message::is_answer);
        let Some(last) = last.filter(|&last| last >= from) else {
            return Err(Refusal::new(
                Reason::NoTarget,
                "has no message of the role `assistant`, which is trained",
            ));
        };
        let from = match options.loss_on {
            LossOn::LastAnswer => last,
            LossOn::Answers | LossOn::All => from,
        };
        if options.loss_on == LossOn::All {
            let has_weights = conversation.messages.iter().any(|message| message.weight() != 1.0);
            let Parts { rendered, parts } = match has_weights {
                true => self.parts(conversation, Wanted::All { from: 0 })?,
                false => Parts { rendered: self.render(conversation, Ending::Closed)?, parts: Vec::new() },
            };
            return self.weighted(&rendered, &parts, 1.0, weigh)?.finish(options);
        }
        let Parts { rendered, parts } = self.parts(conversation, Wanted::Answers { from })?;
        self.weighted(&rendered, &parts, 0.0, weigh)?.finish(options)
    }

    /// Makes the row of a prompt that a model answers, of which no token is a target. The newest tokens are
    /// kept where it is too long.
    ///
    /// # Errors
    /// A refusal by the template, or of an unknown role.
    pub fn prompt(&self, conversation: &Conversation, options: &RowOptions) -> Result<Row> {
        self.check_roles(conversation, options)?;
        let rendered = self.render(conversation, Ending::Prompt)?;
        let tokens: Vec<u32> = self.encode(&rendered)?.into_iter().map(|token| token.id).collect();
        prompt_row(tokens, options)
    }

    /// Weighs the tokens that belong to parts of a text by their messages; `rest` is the weight of the others. A
    /// token on the border of a part belongs to it.
    fn weighted(
        &self,
        rendered: &Rendered,
        parts: &[Part],
        rest: f32,
        weigh: impl Fn(usize) -> f32,
    ) -> Result<Row> {
        let tokens = self.encode(rendered)?;
        let mut weights = vec![rest; tokens.len()];
        for part in parts {
            let bytes = &part.bytes;
            let is_of_part =
                |token: &TokenRange| token.bytes.start < bytes.end && token.bytes.end > bytes.start;
            let first = tokens.iter().position(is_of_part);
            let last = tokens.iter().rposition(is_of_part);
            let (Some(first), Some(mut last)) = (first, last) else { continue };
            if part.is_loose {
                last = self.without_spaces(&rendered.text, &tokens[..=last], first).unwrap_or(last);
            }
            weights[first..=last].fill(weigh(part.message));
        }
        Ok(Row { tokens: tokens.iter().map(|token| token.id).collect(), weights, cut: 0 })
    }

    /// Index of the special token that ends a turn, if only white space follows it. A line break that a
    /// template writes behind it is not what a model has to generate.
    fn without_spaces(&self, text: &str, tokens: &[TokenRange], first: usize) -> Option<usize> {
        // A token may be a part of a character.
        let is_space = |token: &&TokenRange| {
            text.get(token.bytes.clone()).is_some_and(|own| !own.is_empty() && own.trim().is_empty())
        };
        let spaces = tokens[first..].iter().rev().take_while(is_space).count();
        let end = (tokens.len() - 1).checked_sub(spaces).filter(|end| *end >= first)?;
        self.is_special(tokens[end].id).then_some(end)
    }

    /// Refuses a message of a role that neither the template nor a weight names.
    fn check_roles(&self, conversation: &Conversation, options: &RowOptions) -> Result<()> {
        const KNOWN: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];
        let is_known = |role: &str| {
            KNOWN.contains(&role) || self.template().quotes(role) || options.role_weights.contains_key(role)
        };
        let unknown = conversation.messages.iter().map(Message::role).find(|role| !is_known(role));
        match unknown {
            None => Ok(()),
            Some(role) => {
                let message = format!("has a message of the role `{role}`, which is unknown");
                let known = KNOWN.map(|role| format!("`{role}`")).join(", ");
                Err(Refusal::new(Reason::UnknownRole, message)
                    .with_hint(format!("roles are {known}, and those that the chat template names")))
            }
        }
    }
}

/// Makes the row of a prompt of tokens, of which the newest are kept where it is too long.
///
/// # Errors
/// A refusal of a prompt without tokens, or of one that is too long.
pub fn prompt_row(mut tokens: Vec<u32>, options: &RowOptions) -> Result<Row> {
    let (length, limit) = (tokens.len(), options.limit);
    if length == 0 {
        return Err(Refusal::new(Reason::NoTarget, "has an empty prompt"));
    }
    if length > limit && options.truncation == Truncation::Error {
        return Err(Refusal::new(Reason::TooLong, format!("has {length} tokens, but a row holds {limit}")));
    }
    let cut = length.saturating_sub(limit);
    tokens.drain(..cut);
    Ok(Row { weights: vec![0.0; tokens.len()], tokens, cut })
}

/// Makes the row of a text and its continuation, which is trained; with [`LossOn::All`] both are.
///
/// # Errors
/// A refusal of a row without targets.
pub fn completion_row(prompt: Vec<u32>, completion: Vec<u32>, options: &RowOptions) -> Result<Row> {
    let mut row = Row::default();
    row.push(prompt, if options.loss_on == LossOn::All { 1.0 } else { 0.0 });
    row.push(completion, 1.0);
    row.finish(options)
}
