//! Compares templates, tokens and masks with those that transformers gives (`kiln verify`).

use crate::{
    conversation::{Conversation, Message, Value, elements, entries},
    encode::{ChatTokenizer, Trust},
    error::{Error, Result},
    template::{Ending, Template},
    tokenizer::{TokenRange, Tokenizer},
};
use kiln_base::platform::storage;
use std::{ops::Range, path::Path};

/// A case, and what differs from transformers; empty if nothing does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub name: String,
    pub differences: Vec<String>,
}

/// Evaluates every case of a folder with `cases.json`, `tokenizer.json` and `templates/`.
///
/// # Errors
/// Errors of reading, and [`Error::InvalidValue`] for a `cases.json` that is laid out otherwise.
pub fn evaluate(folder: &Path) -> Result<Vec<Outcome>> {
    let path = folder.join("cases.json");
    let refused = |message: String| Error::InvalidValue {
        key: "kiln verify".into(),
        value: path.display().to_string(),
        message,
        hint: None,
    };
    let text = storage::read_to_string(&path)?;
    let file: Value = serde_json::from_str(&text).map_err(|e| refused(format!("is not JSON: {e}")))?;
    let field = |value: &Value, name: &str| {
        let found = value.get_attr(name).ok().filter(|found| !found.is_undefined());
        found.ok_or_else(|| refused(format!("has no `{name}`")))
    };
    let word = |value: &Value, name: &str| Ok(field(value, name)?.as_str().unwrap_or_default().to_owned());
    let names = ["bos_token", "eos_token", "pad_token"];
    let named = names.iter().filter_map(|name| Some(((*name).to_owned(), word(&file, name).ok()?)));
    let tokenizer = Tokenizer::from_file(&folder.join("tokenizer.json"))?.with_named_tokens(named.collect());
    let now = seconds(&word(&file, "now")?).ok_or_else(|| refused("has no `now` that is a time".into()))?;
    let conversations = field(&file, "conversations")?;
    let variables = field(&file, "variables")?;
    let mut outcomes = Vec::new();
    for case in elements(&field(&file, "cases")?).unwrap_or_default() {
        let (template, conversation) = (word(&case, "template")?, word(&case, "conversation")?);
        let source = storage::read_to_string(&folder.join("templates").join(format!("{template}.jinja")))?;
        let messages = elements(&field(&conversations, &conversation)?).unwrap_or_default();
        let mut given = Conversation::of(messages.iter().filter_map(Message::of_value).collect());
        if let Ok(more) = field(&variables, &conversation) {
            take_variables(&mut given, &more);
        }
        let expected = Expected { case: &case };
        let differences = expected.compare(&source, &template, now, &tokenizer, &given);
        let ending = expected.ending().1;
        outcomes.push(Outcome { name: format!("{template} / {conversation}{ending}"), differences });
    }
    Ok(outcomes)
}

/// Puts variables where a conversation has them.
fn take_variables(conversation: &mut Conversation, variables: &Value) {
    for (name, value) in entries(variables).unwrap_or_default() {
        match name.as_str() {
            "tools" => conversation.tools = Some(value),
            "documents" => conversation.documents = Some(value),
            _ => conversation.variables.push((name, value)),
        }
    }
}

/// Result of transformers for a case.
struct Expected<'a> {
    case: &'a Value,
}

impl Expected<'_> {
    fn text(&self, name: &str) -> Option<String> {
        self.case.get_attr(name).ok()?.as_str().map(str::to_owned)
    }

    fn ids(&self, name: &str) -> Option<Vec<u32>> {
        let ids = self.case.get_attr(name).ok().and_then(|ids| elements(&ids))?;
        ids.into_iter().map(|id| u32::try_from(id).ok()).collect()
    }

    /// Ending of the text, and the words for it in the name of the case. The field that is continued is
    /// `content` if the case does not name another.
    fn ending(&self) -> (Ending<'static>, &'static str) {
        let flag = |name: &str| self.case.get_attr(name).is_ok_and(|value| value.is_true());
        match self.text("continue_final_message").as_deref() {
            Some("reasoning_content") => (Ending::Continued("reasoning_content"), ", reasoning continued"),
            Some("thinking") => (Ending::Continued("thinking"), ", thinking continued"),
            Some("reasoning") => (Ending::Continued("reasoning"), ", reasoning continued"),
            Some(_) => (Ending::Continued("content"), ", continued"),
            None if flag("continue_final_message") => (Ending::Continued("content"), ", continued"),
            None if flag("add_generation_prompt") => (Ending::Prompt, ", prompt"),
            None => (Ending::Closed, ""),
        }
    }

    fn compare(
        &self,
        source: &str,
        name: &str,
        now: i64,
        tokenizer: &Tokenizer,
        given: &Conversation,
    ) -> Vec<String> {
        let (ending, _) = self.ending();
        let made = Template::new(source, &format!("`{name}`"), now);
        let chat = made.map(|template| ChatTokenizer::new(template, tokenizer.clone()));
        let rendered = chat.and_then(|chat| Ok((chat.render_trusting(given, ending)?, chat)));
        let (rendered, chat) = match (rendered, self.text("error")) {
            (Err(error), None) => return vec![format!("fails: {error}")],
            (Err(error), Some(kind)) => {
                let message = self.text("message").unwrap_or_default();
                let agrees = kind != "raise_exception" || error.to_string().ends_with(&message);
                return if agrees { Vec::new() } else { vec![format!("says `{error}`, not `{message}`")] };
            }
            (Ok((rendered, _)), Some(kind)) => {
                return vec![format!("renders `{}`, not an error ({kind})", rendered.text)];
            }
            (Ok(found), None) => found,
        };
        let mut differences = Vec::new();
        let mut differ = |what: &str, found: String, expected: String| {
            if found != expected {
                differences.push(format!("{what} is {found}, not {expected}"));
            }
        };
        let expected = self.text("text").unwrap_or_default();
        differ("the text", format!("{:?}", rendered.text), format!("{expected:?}"));
        let ids = |chat: &ChatTokenizer| -> Result<(Vec<u32>, String)> {
            let tokens = chat.encode(&rendered)?;
            let mask = mask(&rendered.text, &tokens, &rendered.generated);
            Ok((tokens.iter().map(|token| token.id).collect(), mask))
        };
        match ids(&chat) {
            Err(error) => differ("the encoding", error.to_string(), "possible".into()),
            Ok((ids, mask)) => {
                if let Some(expected) = self.ids("ids") {
                    differ("the list of tokens", format!("{ids:?}"), format!("{expected:?}"));
                }
                if let Some(expected) = self.text("mask") {
                    differ("the mask", mask, expected);
                }
            }
        }
        if let Some(expected) = self.ids("sanitized_ids") {
            let spelled = chat.render_with(given, ending, Trust::Nobody).and_then(|it| chat.encode(&it));
            let found = spelled.map(|tokens| tokens.iter().map(|token| token.id).collect::<Vec<_>>());
            let found = found.map_or_else(|error| error.to_string(), |ids| format!("{ids:?}"));
            differ("the list of tokens without control tokens of users", found, format!("{expected:?}"));
        }
        differences
    }
}

/// Mask of the tokens in generated parts as transformers 5.23 computes it: from the first token of the first
/// character to the first token of the last character, whose other tokens, unlike in training, do not count.
fn mask(text: &str, tokens: &[TokenRange], generated: &[Range<usize>]) -> String {
    let mut mask = vec![b'0'; tokens.len()];
    let token_at = |byte: usize| tokens.iter().position(|token| token.bytes.contains(&byte));
    for part in generated {
        let last_character = text[..part.end].char_indices().next_back().map_or(0, |(at, _)| at);
        let Some(first) = token_at(part.start) else { break };
        if let Some(last) = token_at(last_character).filter(|last| *last >= first) {
            mask[first..=last].fill(b'1');
        }
    }
    String::from_utf8(mask).unwrap_or_default()
}

/// Seconds since 1970-01-01 UTC of a time like `2026-03-07T14:05:09`.
fn seconds(time: &str) -> Option<i64> {
    Some(time.parse::<chrono::NaiveDateTime>().ok()?.and_utc().timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_agrees_with_transformers() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/post/chat");
        let outcomes = evaluate(Path::new(folder)).unwrap();
        assert!(outcomes.len() > 300, "{}", outcomes.len());
        let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.differences.is_empty()).collect();
        let shown: Vec<_> =
            failed.iter().take(30).map(|o| format!("{}: {}", o.name, o.differences.join("; "))).collect();
        assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), outcomes.len(), shown.join("\n"));
    }
}
