//! Keys and values of a file.

use crate::{
    cursor::Cursor,
    value::{Array, Value},
};
use std::{borrow::Cow, collections::BTreeMap};

/// Fewest bytes of an entry: the length of its key, the number of its type, and one byte.
const LEAST_ENTRY: usize = 13;

/// Keys and values of a file, sorted by key.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata<'a>(BTreeMap<&'a str, Value<'a>>);

impl<'a> Metadata<'a> {
    /// Reads the number of entries.
    pub(crate) fn count(cursor: &mut Cursor<'a>) -> Result<usize, String> {
        cursor.count(LEAST_ENTRY, "keys")
    }

    pub(crate) fn read(cursor: &mut Cursor<'a>, count: usize) -> Result<Self, String> {
        let mut entries = BTreeMap::new();
        for number in 1..=count {
            let key = cursor.text(&format!("key {number} of {count}"))?;
            let value = Value::read(cursor).map_err(|error| format!("`{key}`: {error}"))?;
            if entries.insert(key, value).is_some() {
                return Err(format!("`{key}` is there twice"));
            }
        }
        Ok(Self(entries))
    }

    /// Value of a key.
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.0.get(key)
    }

    /// Keys and values, sorted by key.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, &Value<'a>)> {
        self.0.iter().map(|(key, value)| (*key, value))
    }

    /// Text of a key; `None` if the file does not have it.
    ///
    /// # Errors
    /// A message if the value is no text. The errors of the other functions are alike.
    pub fn text(&self, key: &str) -> Result<Option<&str>, String> {
        self.convert(key, "a text", |value| match value {
            Value::Text(text) => Some(&**text),
            _ => None,
        })
    }

    pub fn unsigned(&self, key: &str) -> Result<Option<u64>, String> {
        self.convert(key, "a non-negative integer", Value::unsigned)
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>, String> {
        self.convert(key, "a number", Value::number)
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        self.convert(key, "true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    pub fn texts(&self, key: &str) -> Result<Option<&[Cow<'a, str>]>, String> {
        self.convert(key, "a list of texts", |value| match value {
            Value::Array(Array::Text(texts)) => Some(&texts[..]),
            _ => None,
        })
    }

    pub fn floats(&self, key: &str) -> Result<Option<&[f32]>, String> {
        self.convert(key, "a list of 32-bit floats", |value| match value {
            Value::Array(Array::F32(values)) => Some(&values[..]),
            _ => None,
        })
    }

    pub fn integers(&self, key: &str) -> Result<Option<&[i32]>, String> {
        self.convert(key, "a list of 32-bit integers", |value| match value {
            Value::Array(Array::I32(values)) => Some(&values[..]),
            _ => None,
        })
    }

    fn convert<'b, T>(
        &'b self,
        key: &str,
        what: &str,
        as_type: impl Fn(&'b Value<'a>) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        match as_type(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(format!("`{key}` is {}, which is not {what}", shown(value))),
        }
    }
}

/// A value in a message, at most some words of it.
fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Array(array) => format!("a list of {} values", array.len()),
        Value::Text(text) => format!("`{}`", text.chars().take(40).collect::<String>().escape_debug()),
        Value::Bool(flag) => flag.to_string(),
        other => other.number().unwrap_or(f64::NAN).to_string(),
    }
}
