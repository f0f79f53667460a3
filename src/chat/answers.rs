//! Finds the parts of a rendered conversation that each message has written: by the template's marks or, where
//! it has none, by rendering the conversation up to the message and comparing.

use crate::{
    conversation::{Conversation, Message},
    encode::{ChatTokenizer, Rendered},
    error::hint,
    refusal::{Reason, Refusal, Result},
    template::Ending,
};
use std::ops::Range;

/// A part of a text that a message has written, with the end of its turn and without its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Index of the message.
    pub message: usize,
    /// Bytes of the text.
    pub bytes: Range<usize>,
    /// Whether the end of the turn may be followed by white space that a model need not generate.
    pub is_loose: bool,
}

/// Messages that are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Answers of the assistant from this message on.
    Answers { from: usize },
    /// Every message from this one on.
    All { from: usize },
}

/// A conversation as text, and the parts that its messages have written.
#[derive(Debug, Clone)]
pub struct Parts {
    pub rendered: Rendered,
    pub parts: Vec<Part>,
}

impl ChatTokenizer {
    /// Renders a conversation and finds the parts of its messages.
    ///
    /// # Errors
    /// A refusal if the template fails, or if it has no marks and renders earlier messages differently once
    /// others follow.
    pub fn parts(&self, conversation: &Conversation, wanted: Wanted) -> Result<Parts> {
        let rendered = self.render(conversation, Ending::Closed)?;
        let has_marks = self.template().has_marks();
        let mut parts = match (has_marks, wanted) {
            (true, Wanted::Answers { from }) => return self.parts_by_marks(conversation, rendered, from),
            (true, Wanted::All { from }) => self.parts_by_marks(conversation, rendered.clone(), from)?.parts,
            (false, _) => Vec::new(),
        };
        for (index, message) in conversation.messages.iter().enumerate() {
            let is_wanted = match wanted {
                Wanted::Answers { from } => index >= from && message.is_answer(),
                Wanted::All { from } => index >= from && !(has_marks && message.is_answer()),
            };
            if is_wanted {
                parts.extend(self.part(conversation, &rendered.text, index)?);
            }
        }
        parts.sort_by_key(|part| part.bytes.start);
        Ok(Parts { rendered, parts })
    }

    /// Finds the answers from message `from` on by the template's marks.
    fn parts_by_marks(&self, conversation: &Conversation, rendered: Rendered, from: usize) -> Result<Parts> {
        let mut parts = Vec::new();
        // Marks do not say which message is theirs; those of the messages before tell how many are not.
        let mut before = 0;
        let answers: Vec<usize> = conversation
            .messages
            .iter()
            .enumerate()
            .filter(|(index, message)| *index >= from && message.is_answer())
            .map(|(index, _)| index)
            .collect();
        if answers.is_empty() && from > 0 {
            return Ok(Parts { rendered, parts });
        }
        if let Some(&first) = answers.first().filter(|&&first| first > 0) {
            let start = conversation.with_messages(conversation.messages[..first].to_vec());
            before = match start.messages.iter().any(Message::is_answer) {
                true => self.render(&start, Ending::Closed)?.generated.len(),
                false => 0,
            };
        }
        let spans = rendered.generated.iter().skip(before);
        for bytes in spans.filter(|bytes| !bytes.is_empty()) {
            parts.push(Part {
                message: answers.first().copied().unwrap_or(0),
                bytes: bytes.clone(),
                is_loose: false,
            });
        }
        Ok(Parts { rendered, parts })
    }

    /// Finds the part of one message by rendering the conversation up to it.
    fn part(&self, conversation: &Conversation, whole: &str, index: usize) -> Result<Option<Part>> {
        let message = &conversation.messages[index];
        let up_to = |count: usize, ending: Ending<'_>| -> Result<String> {
            if count == conversation.messages.len() && ending == Ending::Closed {
                return Ok(whole.to_owned());
            }
            let start = conversation.with_messages(conversation.messages[..count].to_vec());
            Ok(self.render(&start, ending)?.text)
        };
        let after = up_to(index + 1, Ending::Closed)?;
        let start = match (message.is_answer(), index) {
            (true, 0) => self.header_end(conversation, &after),
            (true, _) => {
                let before = up_to(index, Ending::Prompt)?;
                after.starts_with(&before).then_some(before.len())
            }
            (false, 0) => Some(content_start(message, &after, 0)),
            (false, _) => {
                let before = up_to(index, Ending::Closed)?;
                after.starts_with(&before).then(|| content_start(message, &after, before.len()))
            }
        };
        match start.filter(|_| whole.starts_with(&after)) {
            Some(start) if start < after.len() => {
                Ok(Some(Part { message: index, bytes: start..after.len(), is_loose: true }))
            }
            // A template may leave a message out.
            Some(_) if !message.is_answer() => Ok(None),
            Some(_) => {
                let origin = self.template().origin();
                let message =
                    format!("chat template {origin} writes nothing for the answer in message {}", index + 1);
                Err(Refusal::new(Reason::NoTarget, message))
            }
            None => Err(self.rewritten(index)),
        }
    }

    /// End of the header of an answer that nothing precedes.
    fn header_end(&self, conversation: &Conversation, text: &str) -> Option<usize> {
        let first = conversation.with_messages(conversation.messages[..1].to_vec());
        let closed = self.render(&first, Ending::Closed).ok()?.text;
        let prompt = self.render(&first, Ending::Prompt).ok()?.text;
        let header = prompt.strip_prefix(&closed).filter(|header| !header.is_empty())?;
        text.find(header).map(|at| at + header.len())
    }

    fn rewritten(&self, index: usize) -> Refusal {
        let origin = self.template().origin();
        let number = index + 1;
        let message = format!(
            "chat template {origin} rewrites the history at message {number}: what it writes up to there changes with what \
             follows"
        );
        Refusal::new(Reason::RewrittenHistory, message).with_hint(hint![
            "mark answers in the template with `{% generation %}`, or train on the end with ",
            hint::set("chat.loss_on", "last-answer"),
            " or on everything with ",
            hint::set("chat.loss_on", "all")
        ])
    }
}

/// Where the content of a message begins in a text, after `from`; `from` itself if it is not written as it is.
fn content_start(message: &Message, text: &str, from: usize) -> usize {
    let content = message.text().map(str::trim).filter(|content| !content.is_empty());
    content.and_then(|content| text[from..].find(content)).map_or(from, |at| from + at)
}
