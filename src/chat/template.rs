//! Chat templates in Jinja, rendered as transformers renders them. Blocks `{% generation %}` mark what a model
//! generates.

use crate::{
    conversation::{self, Conversation, Message, Value},
    error::{Error, Hint, Result, hint},
    python::{self, Raised},
    source,
};
use minijinja::Environment;
use std::{collections::BTreeMap, error::Error as _, sync::Arc};

/// Name of the one template in its environment.
const NAME: &str = "chat_template";

/// Text that stands at the end of a message that is continued, until it is found in the result. Of its space
/// one sees whether the template trims.
const CONTINUATION: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// A compiled template.
#[derive(Debug, Clone)]
pub struct Template {
    environment: Arc<Environment<'static>>,
    source: Arc<str>,
    origin: Arc<str>,
    has_marks: bool,
}

/// The way in which the text of a conversation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending<'a> {
    /// After the last message.
    Closed,
    /// With the beginning of an answer, which a model completes.
    Prompt,
    /// Within this field of the last message, usually `content`, which a model goes on with.
    Continued(&'a str),
}

impl Template {
    /// Compiles a template. Error messages call it `origin`. `now` is the time that it may write, in seconds
    /// since 1970-01-01 UTC.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] with the line if it is no template.
    pub fn new(source: &str, origin: &str, now: i64) -> Result<Self> {
        let (rewritten, has_marks) = source::rewrite(source);
        let refused = |error: minijinja::Error| Error::ChatTemplate {
            origin: origin.into(),
            message: format!("is no template{}: {}", line(&error), reason(&error)),
            hint: Some("it should be in Jinja, as transformers renders it".into()),
        };
        let mut environment = python::environment(now).map_err(refused)?;
        environment.add_template_owned(NAME, rewritten).map_err(refused)?;
        Ok(Self {
            environment: Arc::new(environment),
            source: source.into(),
            origin: origin.into(),
            has_marks,
        })
    }

    /// The text that the template was compiled from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Origin of the template, for error messages.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether blocks `{% generation %}` mark what a model generates.
    pub fn has_marks(&self) -> bool {
        self.has_marks
    }

    /// Whether the template contains a text between quotes, such as the name of a role.
    pub fn quotes(&self, text: &str) -> bool {
        ['"', '\''].iter().any(|quote| self.source.contains(&format!("{quote}{text}{quote}")))
    }

    /// Texts like `<|im_end|>` in the template, which only make sense as tokens, each once. One that is put together
    /// from parts is not found.
    pub fn control_texts(&self) -> Vec<&str> {
        let mut texts: Vec<&str> = Vec::new();
        let mut rest = &*self.source;
        while let Some(start) = rest.find("<|") {
            rest = &rest[start..];
            let is_name = |c: char| c.is_alphanumeric() || "_-./".contains(c);
            let length = rest[2..].find(|c: char| !is_name(c)).unwrap_or(rest.len() - 2);
            let (text, after) = match rest[2 + length..].starts_with("|>") && length > 0 {
                true => (Some(&rest[..length + 4]), &rest[length + 4..]),
                false => (None, &rest[2..]),
            };
            texts.extend(text.filter(|text| !texts.contains(text)));
            rest = after;
        }
        texts
    }

    /// Whether the template writes messages whose content is a list of parts. Each part has its text under `text`.
    pub fn reads_parts(&self) -> bool {
        self.quotes("text") || self.source.contains(".text")
    }

    /// Renders a conversation. Parts that a model generates stand between [`marks`](crate::marks), if the
    /// template has blocks `{% generation %}`. `tokens` are texts of special tokens by their names, such as
    /// `bos_token`.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] for a conversation without messages, or one that the template refuses or fails
    /// for.
    pub fn render(
        &self,
        conversation: &Conversation,
        ending: Ending<'_>,
        tokens: &BTreeMap<String, String>,
    ) -> Result<String> {
        match ending {
            Ending::Continued(field) => self.render_continued(conversation, field, tokens),
            _ => self.render_whole(conversation, ending == Ending::Prompt, tokens),
        }
    }

    fn render_whole(
        &self,
        conversation: &Conversation,
        add_generation_prompt: bool,
        tokens: &BTreeMap<String, String>,
    ) -> Result<String> {
        if conversation.messages.is_empty() {
            return Err(self.error("there is no message to render".into(), None));
        }
        let absent = || Value::from(());
        let tokens = tokens.iter().map(|(name, text)| (name.clone(), Value::from(text)));
        let messages: Value = conversation.messages.iter().map(Message::to_value).collect();
        let own = [
            ("messages", messages),
            ("tools", conversation.tools.clone().unwrap_or_else(absent)),
            ("documents", conversation.documents.clone().unwrap_or_else(absent)),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        // A later variable replaces an earlier one of the same name.
        let variables = tokens.chain(conversation.variables.iter().cloned()).chain(own);
        let template = self.environment.get_template(NAME).map_err(|error| self.failed(&error))?;
        template.render(Value::from_pairs(variables)).map_err(|error| self.failed(&error))
    }

    fn render_continued(
        &self,
        conversation: &Conversation,
        field: &str,
        tokens: &BTreeMap<String, String>,
    ) -> Result<String> {
        let refused = |message: String| self.error(message, None);
        let mut continued = conversation.clone();
        let Some(last) = continued.messages.last_mut() else {
            return Err(refused("there is no message to continue".into()));
        };
        let Some(value) = last.get(field).cloned() else {
            return Err(refused(format!("the last message has no `{field}` to continue")));
        };
        let names = match conversation::reasoning_names(field) {
            [] => vec![field],
            names => names.iter().copied().filter(|name| last.get(name) == Some(&value)).collect(),
        };
        if !names.iter().any(|name| self.source.contains(name)) {
            return Err(refused(format!("it does not write `{field}`, which is to be continued")));
        }
        let (text, tagged) = tagged(&value)
            .ok_or_else(|| refused(format!("`{field}` of the last message has no text to continue")))?;
        for name in names {
            last.set(name, tagged.clone());
        }
        let mut rendered = self.render_whole(&continued, false, tokens)?;
        let tag = rendered.rfind(CONTINUATION.trim_end());
        let Some(tag) = tag.filter(|_| rendered.contains(text.trim())) else {
            return Err(refused(format!("it does not write `{field}` of the last message as it is")));
        };
        let keeps_spaces = rendered[tag..].starts_with(CONTINUATION);
        rendered.truncate(tag);
        if !keeps_spaces {
            rendered.truncate(rendered.trim_end().len());
        }
        Ok(rendered)
    }

    fn failed(&self, error: &minijinja::Error) -> Error {
        let hint = hint![
            "the template takes other conversations: change this one, or name another template with ",
            hint::choose("chat.template", "NAME")
        ];
        let mut source = error.source();
        while let Some(inner) = source {
            if let Some(Raised(message)) = inner.downcast_ref() {
                return self.error(format!("refuses the conversation: {message}"), Some(hint));
            }
            source = inner.source();
        }
        self.error(format!("fails{}: {}", line(error), reason(error)), Some(hint))
    }

    /// Makes an error about this template.
    pub(crate) fn error(&self, message: String, hint: Option<Hint>) -> Error {
        Error::ChatTemplate { origin: self.origin.to_string(), message, hint }
    }
}

/// The text of a field, and the field with a tag at the end of its text; `None` if it has no text.
fn tagged(value: &Value) -> Option<(String, Value)> {
    if let Some(text) = value.as_str() {
        return Some((text.to_owned(), Value::from(format!("{text}{CONTINUATION}"))));
    }
    let mut parts = conversation::elements(value)?;
    for part in parts.iter_mut().rev() {
        let mut fields = conversation::entries(part)?;
        if let Some((_, own)) = fields.iter_mut().find(|(name, _)| name == "text") {
            let text = own.as_str()?.to_owned();
            *own = Value::from(format!("{text}{CONTINUATION}"));
            *part = Value::from_pairs(fields);
            return Some((text, Value::from(parts)));
        }
    }
    None
}

/// The reason of an error, without the template's name.
fn reason(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

fn line(error: &minijinja::Error) -> String {
    error.line().map_or_else(String::new, |line| format!(" in its line {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marks::{Controls, Unmarked};

    fn render(source: &str, messages: &[(&str, &str)], ending: Ending<'_>) -> Result<String> {
        let messages = messages.iter().map(|(role, text)| Message::new(role, text)).collect();
        let tokens = BTreeMap::from([("eos_token".to_owned(), "</s>".to_owned())]);
        Template::new(source, "`t.jinja`", 0)?.render(&Conversation::of(messages), ending, &tokens)
    }

    #[test]
    fn generation_blocks_mark_their_text() {
        let source = "a{%- generation -%}  {{ messages[0].content }}\n{%+ endgeneration %}\nb{% raw %}{% generation %}{% endraw %}";
        let rendered = render(source, &[("user", "x")], Ending::Closed).unwrap();
        let unmarked = Unmarked::of(&rendered, &Controls::default());
        assert_eq!(unmarked.text, "ax\nb{% generation %}");
        assert_eq!(unmarked.generated.first(), Some(&(1..3)));
        let plain = Template::new("{{ 'generation' }}", "`t`", 0).unwrap();
        assert!(!plain.has_marks() && plain.quotes("generation") && !plain.quotes("gen"));
    }

    #[test]
    fn errors_name_the_template_and_the_line() {
        let message =
            |source: &str| render(source, &[("user", "x")], Ending::Closed).unwrap_err().to_string();
        assert!(
            message("a\n{% for %}").starts_with("chat template `t.jinja`: is no template in its line 2: ")
        );
        assert_eq!(
            message("{{ raise_exception('no ' ~ messages[0].role) }}"),
            "chat template `t.jinja`: refuses the conversation: no user"
        );
        assert!(
            message("\n{{ messages[0].x.y }}").starts_with("chat template `t.jinja`: fails in its line 2: ")
        );
        let empty = render("{{ eos_token }}", &[], Ending::Closed).unwrap_err();
        assert!(empty.to_string().ends_with("there is no message to render"));
    }

    #[test]
    fn control_texts_are_found_once() {
        let source = "<|a_1|>{{ '<|' + 'b' + '|>' }}<||><|a_1|><|c>|<|d|>";
        assert_eq!(Template::new(source, "`t`", 0).unwrap().control_texts(), ["<|a_1|>", "<|d|>"]);
    }

    #[test]
    fn an_answer_is_continued_where_it_stands() {
        let source = "{% for m in messages %}[{{ m.content }}]{% endfor %}";
        let conversation = [("user", "x"), ("assistant", "so ")];
        assert_eq!(render(source, &conversation, Ending::Continued("content")).unwrap(), "[x][so ");
        let trims = "{% for m in messages %}[{{ m.content | trim }}]{% endfor %}";
        assert_eq!(render(trims, &conversation, Ending::Continued("content")).unwrap(), "[x][so");
        assert!(render(source, &conversation, Ending::Continued("thinking")).is_err());
        assert!(render("{{ 'content' }}", &conversation, Ending::Continued("content")).is_err());
    }
}
