//! Typed access to the fields of a `config.json`, with errors that name the file and the key.
//!
//! A field that is absent has the default of transformers' class. A field that is null is not absent: null is
//! a value, which only some fields may have.

use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// Typed access to the fields of a `config.json`.
pub(super) struct Fields<'a> {
    pub json: &'a Map<String, Value>,
    pub path: &'a Path,
}

impl<'a> Fields<'a> {
    pub fn failed(&self, message: String) -> Error {
        Error::Checkpoint { path: self.path.into(), message, hint: None }
    }

    /// Makes the error for a setting with which the model computes something that Kiln does not.
    pub fn unsupported(&self, key: &str, value: &Value, needed: &str) -> Error {
        Error::Checkpoint {
            path: self.path.into(),
            message: format!("`{key}` is `{value}`, but kiln computes only {needed}"),
            hint: Some("take a model without this setting: its numbers would be wrong".into()),
        }
    }

    /// Refuses a field that has another value than the one that Kiln computes with.
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
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    /// The key to read a field under that has two names. The second takes precedence if it is present, like
    /// in transformers' `attribute_map`.
    pub fn spelled(&self, name: &'static str, second: &'static str) -> &'static str {
        if self.json.contains_key(second) { second } else { name }
    }

    /// Reads a field of a type; `None` if it is absent.
    fn convert<T>(
        &self,
        key: &str,
        what: &str,
        as_type: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.json.get(key) else { return Ok(None) };
        let converted = as_type(value);
        converted.map(Some).ok_or_else(|| self.failed(format!("`{key}` is `{value}`, which is not {what}")))
    }

    pub fn text_or(&self, key: &str, default: &'a str) -> Result<&'a str> {
        Ok(self.convert(key, "text", Value::as_str)?.unwrap_or(default))
    }

    pub fn integer_or(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.convert(key, WHOLE, whole)?.unwrap_or(default))
    }

    /// Reads a field that may be null, which becomes `None`.
    pub fn optional_integer(&self, key: &str, default: Option<usize>) -> Result<Option<usize>> {
        match self.json.get(key) {
            Some(Value::Null) => Ok(None),
            _ => Ok(self.convert(key, WHOLE, whole)?.or(default)),
        }
    }

    pub fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        Ok(self.convert(key, "a number", Value::as_f64)?.unwrap_or(default))
    }

    /// Reads a field that may be null, which becomes `None`.
    pub fn optional_number(&self, key: &str, default: Option<f64>) -> Result<Option<f64>> {
        match self.json.get(key) {
            Some(Value::Null) => Ok(None),
            _ => Ok(self.convert(key, "a number", Value::as_f64)?.or(default)),
        }
    }

    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self.convert(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    /// Reads a number from a nested object. If it is absent, the result is `default`, or an error if that is
    /// `None`.
    pub fn number_in(&self, group: &str, key: &str, default: Option<f64>) -> Result<f64> {
        let value = self.get(group).and_then(|group| group.get(key));
        value
            .map_or(default, Value::as_f64)
            .ok_or_else(|| self.failed(format!("`{key}` in `{group}` is missing or not a number")))
    }

    /// Reads a whole number from a nested object, or `default` if it is absent.
    pub fn integer_in(&self, group: &str, key: &str, default: usize) -> Result<usize> {
        let value = self.get(group).and_then(|group| group.get(key));
        value
            .map_or(Some(default), whole)
            .ok_or_else(|| self.failed(format!("`{key}` in `{group}` is not a whole number")))
    }
}

const WHOLE: &str = "a non-negative integer";

fn whole(value: &Value) -> Option<usize> {
    value.as_u64()?.try_into().ok()
}
