//! Records of files to samples: messages, ShareGPT, Alpaca, prompts and completions, preferences, labels.

mod detect;
mod fields;
mod preference;
mod turns;

pub use detect::{describe_fields, detect};

use crate::{
    conversation::{Conversation, Message, Value},
    loss::Text,
    refusal::{Refusal, Result},
};
use fields::Fields;
use serde::{Deserialize, Serialize};

/// Layout of the records of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Plain text, which is no dialogue.
    Text,
    /// `messages`, each with `role` and `content`.
    Messages,
    /// `conversations`, each with `from` and `value`.
    Sharegpt,
    /// `instruction`, `input` and `output`.
    Alpaca,
    /// `prompt` and `completion`.
    PromptCompletion,
    /// `chosen` and `rejected`, and what precedes both.
    Preference,
    /// An answer, and a `label` that says whether it is desirable.
    Labelled,
    /// An answer and its `score`.
    Scored,
    /// A prompt without an answer.
    Prompts,
}

impl Format {
    pub const ALL: [Self; 9] = [
        Self::Text,
        Self::Messages,
        Self::Sharegpt,
        Self::Alpaca,
        Self::PromptCompletion,
        Self::Preference,
        Self::Labelled,
        Self::Scored,
        Self::Prompts,
    ];

    /// Name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Messages => "messages",
            Self::Sharegpt => "sharegpt",
            Self::Alpaca => "alpaca",
            Self::PromptCompletion => "prompt-completion",
            Self::Preference => "preference",
            Self::Labelled => "labelled",
            Self::Scored => "scored",
            Self::Prompts => "prompts",
        }
    }
}

/// Kind of samples that an objective learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleKind {
    /// Conversations with answers, or a text and its completion.
    Conversations,
    /// Two answers, the preferred one first.
    Pairs,
    /// Answers that are desirable or not. Those of a pair are one each.
    Labelled,
    /// Answers with scores, or pairs.
    Rewards,
    /// Prompts that the model answers itself. An answer of the data is kept as reference.
    Prompts,
}

impl SampleKind {
    /// Formats that have it.
    pub fn formats(self) -> &'static [Format] {
        use Format::{Alpaca, Labelled, Messages, Preference, PromptCompletion, Prompts, Scored, Sharegpt};
        match self {
            Self::Conversations => &[Messages, Sharegpt, Alpaca, PromptCompletion],
            Self::Pairs => &[Preference],
            Self::Labelled => &[Labelled, Preference],
            Self::Rewards => &[Preference, Scored],
            Self::Prompts => &[Prompts, Messages, Sharegpt, Alpaca, PromptCompletion],
        }
    }
}

/// An example of dialogue data.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Tools, documents and variables; without messages.
    pub context: Conversation,
    /// Text before the answers. It is empty for a whole conversation.
    pub prompt: Text,
    /// The answers: none of a prompt, the chosen and the rejected one of a pair, otherwise one.
    pub answers: Vec<Text>,
    /// Label, margin or score, if the record has one.
    pub value: Option<f32>,
}

impl Sample {
    /// Whether it takes a template to turn the sample into text.
    pub fn needs_template(&self) -> bool {
        std::iter::once(&self.prompt).chain(&self.answers).any(|text| matches!(text, Text::Messages(_)))
    }

    /// All texts, of which a tokenizer can be made.
    pub fn visit_texts(&self, visit: &mut impl FnMut(&str)) {
        for text in std::iter::once(&self.prompt).chain(&self.answers) {
            match text {
                Text::Plain(text) => visit(text),
                Text::Messages(messages) => {
                    let conversation = self.context.with_messages(messages.clone());
                    conversation.visit_texts(visit);
                }
            }
        }
    }
}

/// Reads a record. Labelled samples of a pair are two, otherwise there is one.
///
/// # Errors
/// A refusal that names the field that is missing or of the wrong type.
pub fn read(record: &Value, format: Format, kind: SampleKind) -> Result<Vec<Sample>> {
    let fields = Fields::of(record)?;
    let mut sample = match format {
        Format::Text => return Err(Refusal::malformed("is plain text, which is no dialogue")),
        Format::Messages => whole(turns::conversation(&fields, "messages")?),
        Format::Sharegpt => whole(turns::conversation(&fields, "conversations")?),
        Format::Alpaca => alpaca(&fields)?,
        Format::PromptCompletion => {
            let prompt = turns::text_or_messages(&fields, "prompt")?;
            single(prompt, turns::text_or_messages(&fields, "completion")?)
        }
        Format::Preference => preference::pair(&fields)?,
        Format::Labelled => {
            let value = fields.flag(&["label", "kto_tag"])?;
            Sample { value: Some(f32::from(u8::from(value))), ..with_answer(&fields)? }
        }
        Format::Scored => Sample { value: Some(fields.number("score")?), ..with_answer(&fields)? },
        Format::Prompts => prompt_alone(&fields)?,
    };
    fields.take_context(&mut sample.context)?;
    if kind == SampleKind::Prompts && sample.answers.len() == 1 {
        sample = without_answer(sample)?;
    }
    if kind == SampleKind::Labelled && format == Format::Preference {
        let labelled =
            |(answer, value)| Sample { answers: vec![answer], value: Some(value), ..sample.clone() };
        return Ok(sample.answers.iter().cloned().zip([1.0, 0.0]).map(labelled).collect());
    }
    Ok(vec![sample])
}

/// A conversation that is trained from its beginning.
fn whole(messages: Vec<Message>) -> Sample {
    single(Text::Messages(Vec::new()), Text::Messages(messages))
}

fn single(prompt: Text, answer: Text) -> Sample {
    Sample { context: Conversation::default(), prompt, answers: vec![answer], value: None }
}

/// An instruction and its output, with the turns before them.
fn alpaca(fields: &Fields<'_>) -> Result<Sample> {
    let answer = Message::new(Message::ASSISTANT, &fields.text("output")?);
    Ok(single(Text::Messages(instruction(fields)?), Text::Messages(vec![answer])))
}

/// Messages of an Alpaca record up to its output.
fn instruction(fields: &Fields<'_>) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    if let Some(system) = fields.optional_text("system")?.filter(|system| !system.is_empty()) {
        messages.push(Message::new("system", &system));
    }
    for turn in fields.list("history")?.unwrap_or_default() {
        let pair = crate::conversation::elements(&turn).unwrap_or_default();
        let [question, answer] = &pair[..] else {
            return Err(Refusal::malformed("has a `history` that is not a list of pairs of texts"));
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        messages.push(Message::new("user", &text(question)));
        messages.push(Message::new(Message::ASSISTANT, &text(answer)));
    }
    let instruction = fields.text("instruction")?;
    let question = match fields.optional_text("input")?.filter(|input| !input.is_empty()) {
        Some(input) => format!("{instruction}\n\n{input}"),
        None => instruction,
    };
    messages.push(Message::new("user", &question));
    Ok(messages)
}

/// A prompt and one answer: in fields of their own, or the last message of a conversation.
fn with_answer(fields: &Fields<'_>) -> Result<Sample> {
    if fields.has("completion") {
        let prompt = turns::text_or_messages(fields, "prompt")?;
        return Ok(single(prompt, turns::text_or_messages(fields, "completion")?));
    }
    if fields.has("output") {
        return alpaca(fields);
    }
    let name = turns::name_of_messages(fields)?;
    let mut messages = turns::conversation(fields, name)?;
    let answer = messages.pop().filter(Message::is_answer).ok_or_else(|| {
        Refusal::malformed(format!("has a `{name}` whose last message is not of the role `assistant`"))
    })?;
    Ok(single(Text::Messages(messages), Text::Messages(vec![answer])))
}

fn prompt_alone(fields: &Fields<'_>) -> Result<Sample> {
    let prompt = if fields.has("prompt") {
        turns::text_or_messages(fields, "prompt")?
    } else if fields.has("instruction") {
        Text::Messages(instruction(fields)?)
    } else {
        Text::Messages(turns::conversation(fields, turns::name_of_messages(fields)?)?)
    };
    Ok(Sample { context: Conversation::default(), prompt, answers: Vec::new(), value: None })
}

/// Divides a whole conversation into a prompt and the last answer, if it ends with one.
fn without_answer(sample: Sample) -> Result<Sample> {
    let (Text::Messages(prompt), [Text::Messages(messages)]) = (&sample.prompt, &sample.answers[..]) else {
        return Ok(sample);
    };
    let mut prompt = prompt.clone();
    prompt.extend(messages.iter().cloned());
    let answer = match prompt.last() {
        Some(last) if last.is_answer() => prompt.pop(),
        _ => None,
    };
    if prompt.is_empty() {
        return Err(Refusal::malformed("has no message that a model could answer"));
    }
    let answers = answer.map(|answer| Text::Messages(vec![answer])).into_iter().collect();
    Ok(Sample { prompt: Text::Messages(prompt), answers, ..sample })
}

#[cfg(test)]
mod tests;
