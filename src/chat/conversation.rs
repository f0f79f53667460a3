//! Conversations: messages, and all else that a template may see. Values keep the order of their keys, which
//! templates write.

pub use minijinja::Value;

use minijinja::value::ValueKind;

/// Names under which models give the thoughts before an answer; the first is the one that templates read.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// Messages, and the other variables of a template.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    pub messages: Vec<Message>,
    /// Functions that the model may call, as JSON schemas.
    pub tools: Option<Value>,
    /// Texts that the model may draw on.
    pub documents: Option<Value>,
    /// Further variables, such as `enable_thinking`.
    pub variables: Vec<(String, Value)>,
}

/// One message: its role and other fields, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    fields: Vec<(String, Value)>,
}

impl Message {
    /// Role of the messages that a model generates.
    pub const ASSISTANT: &'static str = "assistant";

    /// A message of plain text.
    pub fn new(role: &str, content: &str) -> Self {
        let field = |name: &str, text: &str| (name.to_owned(), Value::from(text));
        Self { fields: vec![field("role", role), field("content", content)] }
    }

    /// Makes a message of fields. Those that are null are dropped, since templates write them as `None`.
    pub fn of_fields(fields: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self { fields: fields.into_iter().filter(|(_, value)| !value.is_none()).collect() }
    }

    /// Reads a message from a map; `None` if the value is none.
    pub fn of_value(value: &Value) -> Option<Self> {
        Some(Self::of_fields(entries(value)?))
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// Sets a field, which comes last if it is new.
    pub fn set(&mut self, name: &str, value: Value) {
        match self.fields.iter_mut().find(|(own, _)| own == name) {
            Some((_, own)) => *own = value,
            None => self.fields.push((name.to_owned(), value)),
        }
    }

    /// Who has written the message; empty if that is not said.
    pub fn role(&self) -> &str {
        self.get("role").and_then(Value::as_str).unwrap_or_default()
    }

    /// The text of the message; `None` if it has parts, or none.
    pub fn text(&self) -> Option<&str> {
        self.get("content").and_then(Value::as_str)
    }

    /// Weight of the message's text in the loss. OpenAI's files give 0 or 1; where it is not given, it is 1.
    pub fn weight(&self) -> f32 {
        let weight = self.get("weight").and_then(|weight| f64::try_from(weight.clone()).ok());
        weight.map_or(1.0, |weight| weight as f32)
    }

    pub fn is_answer(&self) -> bool {
        self.role() == Self::ASSISTANT
    }

    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The message as templates see it, with the thoughts under each of their names.
    pub fn to_value(&self) -> Value {
        let mut seen = self.clone();
        if let Some(thoughts) = REASONING.iter().find_map(|name| self.get(name)).cloned() {
            if self.get("thinking").is_none() {
                seen.fields.insert(0, ("thinking".into(), thoughts.clone()));
            }
            seen.set("reasoning_content", thoughts);
        }
        Value::from_pairs(seen.fields)
    }

    /// Copy whose content is one text, if it is a list of parts of text.
    pub fn with_joined_parts(&self) -> Self {
        let mut joined = self.clone();
        let text = |part: &Value| part.get_attr("text").ok()?.as_str().map(str::to_owned);
        let parts = self.get("content").and_then(elements);
        if let Some(whole) = parts.and_then(|parts| parts.iter().map(text).collect::<Option<String>>()) {
            joined.set("content", Value::from(whole));
        }
        joined
    }

    /// Copy with every text but the role changed by `change`.
    pub fn with_texts(&self, change: &impl Fn(&str) -> String) -> Self {
        let changed = |(name, value): &(String, Value)| match name.as_str() {
            "role" => (name.clone(), value.clone()),
            _ => (name.clone(), with_texts(value, change)),
        };
        Self { fields: self.fields.iter().map(changed).collect() }
    }
}

impl Conversation {
    /// A conversation of messages alone.
    pub fn of(messages: Vec<Message>) -> Self {
        Self { messages, ..Self::default() }
    }

    /// Copy with other messages.
    pub fn with_messages(&self, messages: Vec<Message>) -> Self {
        Self { messages, ..self.clone() }
    }

    /// The conversation as JSON, as the format `messages` has it.
    pub fn to_json(&self) -> String {
        let list = |message: &Message| Value::from_pairs(message.fields.iter().cloned());
        let messages = Value::from(self.messages.iter().map(list).collect::<Vec<_>>());
        let tools = self.tools.iter().map(|tools| ("tools", tools.clone()));
        let fields = std::iter::once(("messages", messages)).chain(tools);
        serde_json::to_string_pretty(&Value::from_pairs(fields)).unwrap_or_default() + "\n"
    }

    /// Calls `visit` with every text, those of keys too.
    pub fn visit_texts(&self, visit: &mut impl FnMut(&str)) {
        let messages = self.messages.iter().flat_map(|message| message.fields.iter().map(|(_, value)| value));
        let rest = self.tools.iter().chain(&self.documents);
        let variables = self.variables.iter().map(|(_, value)| value);
        messages.chain(rest).chain(variables).for_each(|value| visit_texts(value, visit));
    }
}

/// Names under which a message may give its thoughts, if `name` is one of them.
pub(crate) fn reasoning_names(name: &str) -> &'static [&'static str] {
    if REASONING.contains(&name) { &REASONING } else { &[] }
}

/// Entries of a map, in order; `None` if the value is none.
pub fn entries(value: &Value) -> Option<Vec<(String, Value)>> {
    if value.kind() != ValueKind::Map {
        return None;
    }
    let names = value.try_iter().ok()?;
    let entry = |name: Value| {
        let field = value.get_item(&name).ok()?;
        Some((name.as_str().map_or_else(|| name.to_string(), str::to_owned), field))
    };
    names.map(entry).collect()
}

/// Elements of a list; `None` if the value is none.
pub fn elements(value: &Value) -> Option<Vec<Value>> {
    (value.kind() == ValueKind::Seq).then(|| value.try_iter().ok().map(|items| items.collect()))?
}

/// Copy of a value in which every text that is no key is changed.
pub(crate) fn with_texts(value: &Value, change: &impl Fn(&str) -> String) -> Value {
    if let Some(text) = value.as_str() {
        return Value::from(change(text));
    }
    if let Some(entries) = entries(value) {
        return Value::from_pairs(
            entries.into_iter().map(|(name, value)| (name, with_texts(&value, change))),
        );
    }
    match elements(value) {
        Some(elements) => elements.iter().map(|element| with_texts(element, change)).collect(),
        None => value.clone(),
    }
}

fn visit_texts(value: &Value, visit: &mut impl FnMut(&str)) {
    if let Some(text) = value.as_str() {
        visit(text);
    } else if let Some(entries) = entries(value) {
        entries.iter().for_each(|(name, value)| {
            visit(name);
            visit_texts(value, visit);
        });
    } else if let Some(elements) = elements(value) {
        elements.iter().for_each(|element| visit_texts(element, visit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Value {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn messages_keep_their_order_and_lose_what_is_null() {
        let message = value(r#"{"role": "assistant", "b": 1, "content": null, "a": {"z": 1, "y": [2]}}"#);
        let message = Message::of_value(&message).unwrap();
        assert_eq!(message.fields().map(|(name, _)| name).collect::<Vec<_>>(), ["role", "b", "a"]);
        assert_eq!(message.get("a").unwrap().to_string(), "{'z': 1, 'y': [2]}");
        assert_eq!((message.role(), message.text()), ("assistant", None));
        assert_eq!(Message::of_value(&value("[1]")), None);
    }

    #[test]
    fn parts_of_text_are_joined() {
        let parts = value(r#"{"role": "user", "content": [{"type": "text", "text": "a "}, {"text": "b"}]}"#);
        assert_eq!(Message::of_value(&parts).unwrap().with_joined_parts(), Message::new("user", "a b"));
        let image = value(r#"{"role": "user", "content": [{"type": "image"}]}"#);
        let image = Message::of_value(&image).unwrap();
        assert_eq!(image.with_joined_parts(), image);
    }

    #[test]
    fn thoughts_have_each_of_their_names() {
        let message = Message::of_value(&value(r#"{"role": "assistant", "reasoning": "so"}"#)).unwrap();
        let seen = message.to_value().to_string();
        assert_eq!(
            seen,
            "{'thinking': 'so', 'role': 'assistant', 'reasoning': 'so', 'reasoning_content': 'so'}"
        );
    }

    #[test]
    fn conversations_are_written_as_messages() {
        let conversation =
            Conversation::of(vec![Message::new("user", "a\n"), Message::new("assistant", "é")]);
        let json = conversation.to_json();
        let whole: Value = serde_json::from_str(&json).unwrap();
        let messages = elements(&whole.get_attr("messages").unwrap()).unwrap();
        let messages: Vec<Message> = messages.iter().filter_map(Message::of_value).collect();
        assert_eq!(messages, conversation.messages);
        assert!(json.find("role").unwrap() < json.find("content").unwrap(), "{json}");
    }

    #[test]
    fn texts_are_changed_and_keys_are_not() {
        let changed = with_texts(&value(r#"{"a": ["b", 1, {"a": "a"}]}"#), &|text| text.to_uppercase());
        assert_eq!(changed.to_string(), "{'a': ['B', 1, {'a': 'A'}]}");
    }
}
