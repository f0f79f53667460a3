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
    /// Answers of the assistant from this message on. Those of weight 0 are left out unless marks tell of them.
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
                Wanted::Answers { from } => index >= from && message.is_answer() && message.weight() != 0.0,
                Wanted::All { from } => index >= from && !(has_marks && message.is_answer()),
            };
            if is_wanted {
                parts.extend(self.part(conversation, &rendered.text, index)?);
            }
        }
        parts.sort_by_key(|part| part.bytes.start);
        Ok(Parts { rendered, parts })
    }

    /// Finds the answers from message `from` on by the template's marks. Unless their weights differ, all parts are
    /// of the first of these answers.
    fn parts_by_marks(&self, conversation: &Conversation, rendered: Rendered, from: usize) -> Result<Parts> {
        let messages = &conversation.messages;
        let answers: Vec<usize> =
            (from..messages.len()).filter(|&index| messages[index].is_answer()).collect();
        if answers.is_empty() && (from > 0 || messages.is_empty()) {
            return Ok(Parts { rendered, parts: Vec::new() });
        }
        // Marks do not say which message is theirs; the number of those before a message tells.
        let marks_before = |index: usize| -> Result<usize> {
            let start = conversation.with_messages(messages[..index].to_vec());
            match start.messages.iter().any(Message::is_answer) {
                true => Ok(self.render(&start, Ending::Closed)?.generated.len()),
                false => Ok(0),
            }
        };
        let first = answers.first().copied().unwrap_or(0);
        let mut first_marks = vec![(marks_before(first)?, first)];
        let weight = messages.get(first).map_or(1.0, Message::weight);
        if answers.iter().any(|&answer| messages[answer].weight() != weight) {
            for &answer in &answers[1..] {
                first_marks.push((marks_before(answer)?, answer));
            }
        }
        if let Some(pair) = first_marks.windows(2).find(|pair| pair[0].0 > pair[1].0) {
            return Err(self.rewritten(pair[1].1));
        }
        let part = |(number, bytes): (usize, &Range<usize>)| {
            let (_, message) = first_marks.iter().rfind(|(first, _)| *first <= number)?;
            (!bytes.is_empty()).then(|| Part { message: *message, bytes: bytes.clone(), is_loose: false })
        };
        let parts = rendered.generated.iter().enumerate().filter_map(part).collect();
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

/// Place where the content of a message begins in a text, after `from`; `from` itself if it is not written as it is.
fn content_start(message: &Message, text: &str, from: usize) -> usize {
    let content = message.text().map(str::trim).filter(|content| !content.is_empty());
    content.and_then(|content| text[from..].find(content)).map_or(from, |at| from + at)
}
