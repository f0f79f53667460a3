//! Pairs of answers. What precedes both is in a field of its own, or is what they begin with.

use super::{Fields, Sample, instruction, turns};
use crate::{
    conversation::{Conversation, Message},
    loss::Text,
    refusal::{Reason, Refusal, Result},
};

/// Reads a pair.
///
/// # Errors
/// A refusal that names the field that is missing or of the wrong type, and of two answers that are equal.
pub fn pair(fields: &Fields<'_>) -> Result<Sample> {
    let chosen = turns::text_or_messages(fields, "chosen")?;
    let rejected = turns::text_or_messages(fields, "rejected")?;
    if chosen == rejected {
        return Err(Refusal::new(Reason::EqualAnswers, "has a `chosen` that is equal to its `rejected`"));
    }
    let given = if fields.has("prompt") {
        Some(turns::text_or_messages(fields, "prompt")?)
    } else if fields.has("instruction") {
        Some(Text::Messages(instruction(fields)?))
    } else if let Ok(name) = turns::name_of_messages(fields) {
        Some(Text::Messages(turns::conversation(fields, name)?))
    } else {
        None
    };
    let (prompt, chosen, rejected) = match (given, chosen, rejected) {
        // Some records have whole conversations beside the prompt.
        (Some(Text::Messages(prompt)), chosen, rejected) => {
            let rest = |text: Text| match text {
                Text::Messages(messages) if messages.starts_with(&prompt) => {
                    Text::Messages(messages[prompt.len()..].to_vec())
                }
                other => other,
            };
            let (chosen, rejected) = (rest(chosen), rest(rejected));
            (Text::Messages(prompt), chosen, rejected)
        }
        (Some(prompt), chosen, rejected) => (prompt, without_question(chosen), without_question(rejected)),
        (None, Text::Messages(chosen), Text::Messages(rejected)) => {
            let common = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
            let (prompt, chosen) = chosen.split_at(common);
            (messages(prompt), messages(chosen), messages(&rejected[common..]))
        }
        (None, Text::Plain(chosen), Text::Plain(rejected)) => {
            let (prompt, answer) = chosen.split_at(common_text(&chosen, &rejected));
            let rest = rejected[prompt.len()..].to_owned();
            (Text::Plain(prompt.to_owned()), Text::Plain(answer.to_owned()), Text::Plain(rest))
        }
        (None, ..) => {
            let message =
                "has a text and messages as `chosen` and `rejected`, which have no common beginning";
            return Err(Refusal::malformed(message));
        }
    };
    let is_empty = |text: &Text| match text {
        Text::Plain(text) => text.is_empty(),
        Text::Messages(messages) => messages.is_empty(),
    };
    for (name, answer) in [("chosen", &chosen), ("rejected", &rejected)] {
        if is_empty(answer) {
            return Err(Refusal::new(Reason::NoTarget, format!("has nothing in `{name}` behind the prompt")));
        }
    }
    let value = if fields.has("margin") { Some(fields.number("margin")?) } else { None };
    Ok(Sample { context: Conversation::default(), prompt, answers: vec![chosen, rejected], value })
}

fn messages(messages: &[Message]) -> Text {
    Text::Messages(messages.to_vec())
}

/// Takes a question away from an answer that repeats it.
fn without_question(answer: Text) -> Text {
    match answer {
        Text::Messages(mut messages) if messages.first().is_some_and(|first| !first.is_answer()) => {
            let first = messages.iter().position(Message::is_answer).unwrap_or(0);
            messages.drain(..first);
            Text::Messages(messages)
        }
        other => other,
    }
}

/// Length in bytes of what two texts begin with, up to the last white space in it.
fn common_text(a: &str, b: &str) -> usize {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum();
    let common = &a[..same];
    common.rfind(char::is_whitespace).map_or(0, |at| common[..at].trim_end().len())
}
