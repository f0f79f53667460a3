//! Fields of a record, with refusals that name them.

use crate::{
    conversation::{Conversation, Value, elements, entries},
    refusal::{Refusal, Result},
};
use minijinja::value::ValueKind;

/// A record of a file.
pub(super) struct Fields<'a>(&'a Value);

impl<'a> Fields<'a> {
    /// Reads a record.
    ///
    /// # Errors
    /// A refusal if it is no object.
    pub fn of(record: &'a Value) -> Result<Self> {
        match record.kind() {
            ValueKind::Map => Ok(Self(record)),
            _ => Err(Refusal::malformed("is not a JSON object")),
        }
    }

    /// Value of a field; `None` if it is missing or null.
    pub fn get(&self, name: &str) -> Option<Value> {
        self.0.get_attr(name).ok().filter(|value| !value.is_undefined() && !value.is_none())
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn require(&self, name: &str) -> Result<Value> {
        self.get(name).ok_or_else(|| Refusal::malformed(format!("has no field `{name}`")))
    }

    pub fn text(&self, name: &str) -> Result<String> {
        text_of(&self.require(name)?, name)
    }

    pub fn optional_text(&self, name: &str) -> Result<Option<String>> {
        self.get(name).map(|value| text_of(&value, name)).transpose()
    }

    pub fn list(&self, name: &str) -> Result<Option<Vec<Value>>> {
        let list = |value: Value| {
            elements(&value)
                .ok_or_else(|| Refusal::malformed(format!("has a field `{name}` that is not a list")))
        };
        self.get(name).map(list).transpose()
    }

    /// A finite number.
    pub fn number(&self, name: &str) -> Result<f32> {
        let value = self.require(name)?;
        let number =
            f64::try_from(value).ok().map(|number| number as f32).filter(|number| number.is_finite());
        number.ok_or_else(|| Refusal::malformed(format!("has a field `{name}` that is not a finite number")))
    }

    /// A condition: true or false, 1 or 0, in the first of these fields that there is.
    pub fn flag(&self, names: &[&str]) -> Result<bool> {
        let name = names.iter().find(|name| self.has(name)).unwrap_or(&names[0]);
        let value = self.require(name)?;
        let found = match value.kind() {
            ValueKind::Bool => Some(value.is_true()),
            ValueKind::Number => match i64::try_from(value) {
                Ok(0) => Some(false),
                Ok(1) => Some(true),
                _ => None,
            },
            _ => None,
        };
        found
            .ok_or_else(|| Refusal::malformed(format!("has a field `{name}` that is neither true nor false")))
    }

    /// Moves tools, documents and variables of the template to a conversation.
    ///
    /// # Errors
    /// A refusal of such a field of the wrong type.
    pub fn take_context(&self, conversation: &mut Conversation) -> Result<()> {
        conversation.tools = self.objects("tools")?;
        conversation.documents = self.objects("documents")?;
        if let Some(variables) = self.get("chat_template_kwargs") {
            let message = "has a field `chat_template_kwargs` that is not an object";
            conversation.variables = entries(&variables).ok_or_else(|| Refusal::malformed(message))?;
        }
        Ok(())
    }

    /// A list of objects, or its JSON in a text; `None` for an empty one.
    fn objects(&self, name: &str) -> Result<Option<Value>> {
        let Some(mut value) = self.get(name) else { return Ok(None) };
        if let Some(text) = value.as_str() {
            if text.trim().is_empty() {
                return Ok(None);
            }
            value = serde_json::from_str(text).map_err(|e| {
                Refusal::malformed(format!("has a field `{name}` whose text is not JSON: {e}"))
            })?;
        }
        match elements(&value) {
            Some(list) if list.is_empty() => Ok(None),
            Some(list) if list.iter().all(|item| item.kind() == ValueKind::Map) => Ok(Some(value)),
            _ => Err(Refusal::malformed(format!("has a field `{name}` that is not a list of objects"))),
        }
    }
}

fn text_of(value: &Value, name: &str) -> Result<String> {
    let text = value.as_str().map(str::to_owned);
    text.ok_or_else(|| Refusal::malformed(format!("has a field `{name}` that is not a text")))
}
