//! Samples to rows of tokens, with or without a template.

use crate::{
    conversation::{Conversation, Message},
    encode::{ChatTokenizer, encode_text},
    format::{Sample, SampleKind},
    loss::{LossOn, Row, RowOptions, Text, completion_row, prompt_row},
    refusal::{Reason, Refusal, Result},
    tokenizer::Tokenizer,
};

/// Turns samples of one kind into rows.
#[derive(Debug, Clone)]
pub struct RowMaker {
    tokenizer: Tokenizer,
    /// Tokens before a text without a template, such as `<s>`.
    first: Vec<u32>,
    chat: Option<ChatTokenizer>,
    kind: SampleKind,
    options: RowOptions,
}

impl RowMaker {
    /// Makes the rows of an objective. `chat` is needed if a sample has messages
    /// ([`Sample::needs_template`]). Which roles are trained is a matter of conversations alone: other
    /// objectives learn from the answers.
    pub fn new(
        tokenizer: Tokenizer,
        chat: Option<ChatTokenizer>,
        kind: SampleKind,
        mut options: RowOptions,
    ) -> Self {
        if kind != SampleKind::Conversations {
            options.loss_on = LossOn::Answers;
            options.role_weights.clear();
        }
        Self { first: tokenizer.first_tokens(), tokenizer, chat, kind, options }
    }

    /// Makes the rows of a sample: two of a pair, the chosen one first, otherwise one.
    ///
    /// # Errors
    /// A refusal of a sample that cannot be trained on.
    pub fn rows(&self, sample: &Sample) -> Result<Vec<Row>> {
        if self.kind == SampleKind::Prompts {
            return Ok(vec![self.prompt(sample)?]);
        }
        let rows: Vec<Row> =
            sample.answers.iter().map(|answer| self.row(sample, answer)).collect::<Result<_>>()?;
        if let [chosen, rejected] = &rows[..]
            && chosen.tokens == rejected.tokens
        {
            return Err(match chosen.cut > 0 || rejected.cut > 0 {
                true => {
                    Refusal::new(Reason::CutAway, "has two answers that differ only beyond the longest row")
                }
                false => Refusal::new(Reason::EqualAnswers, "has two answers with the same tokens"),
            });
        }
        Ok(rows)
    }

    fn row(&self, sample: &Sample, answer: &Text) -> Result<Row> {
        if let (Text::Plain(prompt), Text::Plain(answer)) = (&sample.prompt, answer) {
            let (prompt, answer) = (self.text(prompt, true)?, self.text(answer, false)?);
            let end = self.tokenizer.end_of_text();
            return completion_row(prompt, answer.into_iter().chain(end).collect(), &self.options);
        }
        let chat = self.chat()?;
        let (conversation, from) = conversation(sample, answer);
        chat.row(&readable(conversation, chat), from, &self.options)
    }

    /// The row of a prompt. A reference answer follows it if both fit; it is then a target.
    fn prompt(&self, sample: &Sample) -> Result<Row> {
        let row = match &sample.prompt {
            Text::Plain(prompt) => prompt_row(self.text(prompt, true)?, &self.options)?,
            Text::Messages(messages) => {
                let chat = self.chat()?;
                let conversation = sample.context.with_messages(messages.clone());
                chat.prompt(&readable(conversation, chat), &self.options)?
            }
        };
        let Some(answer) = sample.answers.first().filter(|_| row.cut == 0) else { return Ok(row) };
        let answered = self.row(sample, answer);
        Ok(answered.ok().filter(|answered| answered.cut == 0).unwrap_or(row))
    }

    /// Tokens of a text without a template.
    fn text(&self, text: &str, is_first: bool) -> Result<Vec<u32>> {
        let mut tokens = if is_first { self.first.clone() } else { Vec::new() };
        tokens.extend(encode_text(&self.tokenizer, text, is_first)?);
        Ok(tokens)
    }

    fn chat(&self) -> Result<&ChatTokenizer> {
        self.chat
            .as_ref()
            .ok_or_else(|| Refusal::new(Reason::Template, "has messages, but there is no template"))
    }
}

/// The conversation of a sample with one of its answers, and the number of messages before the answer.
pub fn conversation(sample: &Sample, answer: &Text) -> (Conversation, usize) {
    let mut messages = messages(&sample.prompt, "user");
    let from = messages.len();
    messages.extend(self::messages(answer, Message::ASSISTANT));
    (sample.context.with_messages(messages), from)
}

/// The conversation with one text for each list of parts, unless the template reads lists.
fn readable(conversation: Conversation, chat: &ChatTokenizer) -> Conversation {
    match chat.template().reads_parts() {
        true => conversation,
        false => {
            let messages = conversation.messages.iter().map(Message::with_joined_parts).collect();
            Conversation { messages, ..conversation }
        }
    }
}

/// Messages of a text; plain text is one message of this role.
fn messages(text: &Text, role: &str) -> Vec<Message> {
    match text {
        Text::Plain(text) if text.is_empty() => Vec::new(),
        Text::Plain(text) => vec![Message::new(role, text)],
        Text::Messages(messages) => messages.clone(),
    }
}

#[cfg(test)]
mod tests;
