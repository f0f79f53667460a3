//! Typed access to the fields of a `config.json`, with errors that name file and key.

use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// Typed access to the fields of a `config.json`.
pub(super) struct Fields<'a> {
    pub json: &'a Map<String, Value>,
    pub path: &'a Path,
}

impl Fields<'_> {
    pub fn failed(&self, message: String) -> Error {
        Error::Checkpoint { path: self.path.into(), message, hint: None }
    }

    /// Refuses a setting under which the model computes something that Kiln does not.
    pub fn unsupported(&self, key: &str, value: &Value, needed: &str) -> Error {
        Error::Checkpoint {
            path: self.path.into(),
            message: format!("`{key}` is `{value}`, but kiln computes only {needed}"),
            hint: Some("take a model without this setting: its numbers would be wrong".into()),
        }
    }

    /// Refuses a field that is present with another value than the one that Kiln computes with.
    pub fn only(&self, key: &str, known: impl Into<Value>) -> Result<()> {
        let known = known.into();
        match self.get(key) {
            Some(value) if *value != known && value.as_f64().is_none_or(|n| known.as_f64() != Some(n)) => {
                Err(self.unsupported(key, value, &format!("with `{known}`")))
            }
            _ => Ok(()),
        }
    }

    /// A field that is present and not null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    fn convert<'a, T>(
        &'a self,
        key: &str,
        what: &str,
        as_type: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T> {
        let value = self.get(key).ok_or_else(|| self.failed(format!("`{key}` is missing")))?;
        as_type(value).ok_or_else(|| self.failed(format!("`{key}` is `{value}`, which is not {what}")))
    }

    pub fn text(&self, key: &str) -> Result<&str> {
        self.convert(key, "text", Value::as_str)
    }

    pub fn integer(&self, key: &str) -> Result<usize> {
        self.convert(key, "a non-negative integer", |value| value.as_u64()?.try_into().ok())
    }

    pub fn integer_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.get(key).is_some() { self.integer(key) } else { Ok(default) }
    }

    pub fn integer_in(&self, group: &str, key: &str) -> Result<usize> {
        let value = self.get(group).and_then(|group| group.get(key));
        let number = value.and_then(Value::as_u64).and_then(|number| number.try_into().ok());
        number.ok_or_else(|| self.failed(format!("`{key}` in `{group}` is missing or not a whole number")))
    }

    pub fn number_in(&self, group: &str, key: &str) -> Result<f64> {
        let value = self.get(group).and_then(|group| group.get(key));
        value
            .and_then(Value::as_f64)
            .ok_or_else(|| self.failed(format!("`{key}` in `{group}` is missing or not a number")))
    }

    pub fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        if self.get(key).is_some() { self.convert(key, "a number", Value::as_f64) } else { Ok(default) }
    }

    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        if self.get(key).is_some() { self.convert(key, "true or false", Value::as_bool) } else { Ok(default) }
    }
}
