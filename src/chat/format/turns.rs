//! Messages of a record, in the words of OpenAI (`role` and `content`) or of ShareGPT (`from` and `value`).

use super::Fields;
use crate::{
    conversation::{Message, Value, elements, entries},
    loss::Text,
    refusal::{Reason, Refusal, Result},
};
use minijinja::value::ValueKind;

/// Reads the messages of a field. A text in the field `system` precedes them.
///
/// # Errors
/// A refusal that names the field and the message.
pub fn conversation(fields: &Fields<'_>, name: &str) -> Result<Vec<Message>> {
    let mut messages = messages(&fields.require(name)?, name)?;
    let begins_with_system = messages.first().is_some_and(|first| first.role() == "system");
    if let Some(system) = fields.optional_text("system")?
        && !system.is_empty()
        && !begins_with_system
    {
        messages.insert(0, Message::new("system", &system));
    }
    match messages.is_empty() {
        true => Err(Refusal::malformed(format!("has a field `{name}` without a message"))),
        false => Ok(messages),
    }
}

/// Name of the field that holds the messages.
///
/// # Errors
/// A refusal if there is none.
pub fn name_of_messages(fields: &Fields<'_>) -> Result<&'static str> {
    let found = ["messages", "conversations"].into_iter().find(|name| fields.has(name));
    found.ok_or_else(|| Refusal::malformed("has neither a field `messages` nor `conversations`"))
}

/// Reads a field that is a text, a message or a list of messages.
///
/// # Errors
/// A refusal that names the field.
pub fn text_or_messages(fields: &Fields<'_>, name: &str) -> Result<Text> {
    let value = fields.require(name)?;
    match value.as_str() {
        Some(text) => Ok(Text::Plain(text.to_owned())),
        None => Ok(Text::Messages(messages(&value, name)?)),
    }
}

/// Reads a message or a list of messages, which the field `name` holds.
fn messages(value: &Value, name: &str) -> Result<Vec<Message>> {
    if value.kind() == ValueKind::Map {
        return Ok(vec![message(value).map_err(|refusal| within(refusal, format!("`{name}`")))?]);
    }
    let list = elements(value)
        .ok_or_else(|| Refusal::malformed(format!("has a field `{name}` that is not a list of messages")))?;
    let one = |(index, value): (usize, &Value)| {
        message(value).map_err(|refusal| within(refusal, format!("message {} of `{name}`", index + 1)))
    };
    list.iter().enumerate().map(one).collect()
}

fn within(refusal: Refusal, place: String) -> Refusal {
    Refusal { message: format!("{place} {}", refusal.message), ..refusal }
}

fn message(value: &Value) -> Result<Message> {
    let mut message = Message::of_value(value).ok_or_else(|| Refusal::malformed("is not an object"))?;
    check_weight(&message)?;
    if message.get("role").is_none() && message.get("from").is_some() {
        return of_sharegpt(&message);
    }
    if message.role().is_empty() {
        return Err(Refusal::malformed("has no `role`"));
    }
    check_content(&message)?;
    if let Some(calls) = message.get("tool_calls").and_then(elements) {
        let calls: Vec<Value> = calls.iter().map(with_parsed_arguments).collect();
        message.set("tool_calls", Value::from(calls));
    }
    Ok(message)
}

/// Refuses content that is no text and no parts of text.
fn check_content(message: &Message) -> Result<()> {
    let Some(content) = message.get("content") else {
        return match message.get("tool_calls") {
            Some(_) => Ok(()),
            None => Err(Refusal::malformed("has no `content`")),
        };
    };
    if content.as_str().is_some() {
        return Ok(());
    }
    let parts = elements(content).ok_or_else(|| Refusal::malformed("has a `content` that is not a text"))?;
    for part in &parts {
        let is_text = part.get_attr("text").is_ok_and(|text| text.as_str().is_some());
        if !is_text {
            let kind = part.get_attr("type").ok().and_then(|kind| kind.as_str().map(str::to_owned));
            let kind = kind.map_or_else(String::new, |kind| format!(" of the type `{kind}`"));
            return Err(Refusal::malformed(format!("has a part{kind}, but only parts of text are read")));
        }
    }
    Ok(())
}

/// Refuses a weight in the loss that is no finite number of 0 or more.
fn check_weight(message: &Message) -> Result<()> {
    let Some(weight) = message.get("weight") else { return Ok(()) };
    let number = f64::try_from(weight.clone()).ok().map(|number| number as f32);
    match number.is_some_and(|number| number.is_finite() && number >= 0.0) {
        true => Ok(()),
        false => Err(Refusal::malformed("has a `weight` that is neither 0 nor a positive number")),
    }
}

/// A message in the words of ShareGPT.
fn of_sharegpt(message: &Message) -> Result<Message> {
    let field = |name: &str| message.get(name).and_then(Value::as_str);
    let from = field("from").ok_or_else(|| Refusal::malformed("has a `from` that is not a text"))?;
    let text = field("value").ok_or_else(|| Refusal::malformed("has no `value` that is a text"))?;
    let role = match from {
        "human" | "user" => "user",
        "gpt" | "assistant" | "chatgpt" | "bing" | "bard" | "model" | "bot" => Message::ASSISTANT,
        "system" => "system",
        "tool" | "observation" | "function_response" => "tool",
        "function_call" => return Ok(with_weight_of(message, call(text)?)),
        other => {
            let message = format!("is from `{other}`, which is unknown");
            let hint = "they are from `human`, `gpt`, `system`, `function_call` or `observation`";
            return Err(Refusal::new(Reason::UnknownRole, message).with_hint(hint));
        }
    };
    Ok(with_weight_of(message, Message::new(role, text)))
}

/// Copies the weight of a message, if it has one, to its translation.
fn with_weight_of(message: &Message, mut translated: Message) -> Message {
    if let Some(weight) = message.get("weight") {
        translated.set("weight", weight.clone());
    }
    translated
}

/// An answer that calls functions, given as JSON.
fn call(text: &str) -> Result<Message> {
    let refused =
        |e: serde_json::Error| Refusal::malformed(format!("calls a function by what is not JSON: {e}"));
    let value: Value = serde_json::from_str(text).map_err(refused)?;
    let calls = elements(&value).unwrap_or_else(|| vec![value]);
    let call = |function: &Value| {
        let pairs = [("type", Value::from("function")), ("function", with_parsed(function))];
        Value::from_pairs(pairs)
    };
    let calls: Vec<Value> = calls.iter().map(call).collect();
    let role = ("role".to_owned(), Value::from(Message::ASSISTANT));
    Ok(Message::of_fields([role, ("tool_calls".into(), Value::from(calls))]))
}

/// A call of a function whose arguments are an object also where they were given as its JSON.
fn with_parsed_arguments(call: &Value) -> Value {
    let Some(fields) = entries(call) else { return call.clone() };
    Value::from_pairs(fields.into_iter().map(|(name, value)| match name.as_str() {
        "function" => (name, with_parsed(&value)),
        _ => (name, value),
    }))
}

fn with_parsed(function: &Value) -> Value {
    let Some(fields) = entries(function) else { return function.clone() };
    Value::from_pairs(fields.into_iter().map(|(name, value)| {
        let parsed =
            value.as_str().filter(|_| name == "arguments").and_then(|text| serde_json::from_str(text).ok());
        let parsed = parsed.filter(|parsed: &Value| parsed.kind() == ValueKind::Map);
        (name, parsed.unwrap_or(value))
    }))
}
