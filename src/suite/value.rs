//! Values of data rows, task files and templates. Maps keep the order of their keys, because templates and
//! choices depend on it. [`Value::to_text`] and [`Value::to_repr`] print as Python's `str` and `repr` do,
//! since the templates of lm-evaluation-harness are written for Python.

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor},
    ser::SerializeMap,
};
use std::fmt::{self, Formatter, Write};

/// A value of JSON, YAML or a template.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    Map(Map),
}

/// A map that keeps the order of its keys. Two maps are equal if their entries are, in any order.
#[derive(Debug, Clone, Default)]
pub struct Map(Vec<(String, Value)>);

impl Map {
    /// Value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(own, _)| own == key).map(|(_, value)| value)
    }

    /// Sets the value of a key. A new key comes last.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.0.iter_mut().find(|(own, _)| *own == key) {
            Some((_, own)) => *own = value,
            None => self.0.push((key, value)),
        }
    }

    /// Removes a key and returns its value.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        let at = self.0.iter().position(|(own, _)| own == key)?;
        Some(self.0.remove(at).1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for Map {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        entries.into_iter().for_each(|(key, value)| map.set(key, value));
        map
    }
}

impl Value {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// Name of the type, with its article, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a truth value",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    /// The value as Python's `str` prints it.
    pub fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            other => other.to_repr(),
        }
    }

    /// The value as Python's `repr` prints it.
    pub fn to_repr(&self) -> String {
        let mut text = String::new();
        self.write_repr(&mut text);
        text
    }

    fn write_repr(&self, into: &mut String) {
        match self {
            Self::Null => into.push_str("None"),
            Self::Bool(value) => into.push_str(if *value { "True" } else { "False" }),
            Self::Int(value) => into.push_str(&value.to_string()),
            Self::Float(value) => into.push_str(&float_repr(*value)),
            Self::Text(text) => write_text_repr(text, into),
            Self::List(values) => {
                into.push('[');
                for (index, value) in values.iter().enumerate() {
                    into.push_str(if index == 0 { "" } else { ", " });
                    value.write_repr(into);
                }
                into.push(']');
            }
            Self::Map(map) => {
                into.push('{');
                for (index, (key, value)) in map.iter().enumerate() {
                    into.push_str(if index == 0 { "" } else { ", " });
                    write_text_repr(key, into);
                    into.push_str(": ");
                    value.write_repr(into);
                }
                into.push('}');
            }
        }
    }
}

/// The number as Python prints it: with an exponent below 1e-4 and from 1e16.
fn float_repr(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "nan"
        } else if value > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .into();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = value.to_string();
    if plain.contains('.') { plain } else { plain + ".0" }
}

/// Writes a text between quotes, with Python's escapes.
fn write_text_repr(text: &str, into: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    into.push(quote);
    for c in text.chars() {
        match c {
            '\n' => into.push_str("\\n"),
            '\r' => into.push_str("\\r"),
            '\t' => into.push_str("\\t"),
            '\\' => into.push_str("\\\\"),
            c if c == quote => into.extend(['\\', c]),
            c if u32::from(c) < 0x20 || (0x7f..=0xa0).contains(&u32::from(c)) || c == '\u{ad}' => {
                // Writing to a string cannot fail.
                let _ = write!(into, "\\x{:02x}", u32::from(c));
            }
            c => into.push(c),
        }
    }
    into.push(quote);
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

macro_rules! from {
    ($($type:ty => $value:ident $make:expr;)+) => { $(
        impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $make
            }
        }
    )+ };
}

from! {
    String => text Self::Text(text);
    bool => value Self::Bool(value);
    i64 => value Self::Int(value);
    usize => value i64::try_from(value).map_or(Self::Float(value as f64), Self::Int);
    f64 => value Self::Float(value);
    Map => map Self::Map(map);
}

impl<V: Into<Value>> From<Vec<V>> for Value {
    fn from(values: Vec<V>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

impl<V: Into<Value>> From<Option<V>> for Value {
    fn from(value: Option<V>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(values) => values.serialize(serializer),
            Self::Map(map) => map.serialize(serializer),
        }
    }
}

impl Serialize for Map {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::default();
        while let Some((key, value)) = entries.next_entry::<String, Value>()? {
            map.set(key, value);
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_print_as_in_python() {
        let value: Value = serde_json::from_str(
            r#"{"b": [1, 2.0, 1e16, 1.5e-7, null, true, "it's", "a\n\"b\"", "'\""], "a": {}}"#,
        )
        .unwrap();
        let printed = r#"{'b': [1, 2.0, 1e+16, 1.5e-07, None, True, "it's", 'a\n"b"', '\'"'], 'a': {}}"#;
        assert_eq!(value.to_repr(), printed);
        assert_eq!(Value::from("it's").to_text(), "it's");
    }

    #[test]
    fn maps_are_equal_in_any_order() {
        let map = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(map(r#"{"a": 1, "b": 2}"#), map(r#"{"b": 2, "a": 1}"#));
        assert_ne!(map(r#"{"a": 1, "b": 2}"#), map(r#"{"a": 1}"#));
    }
}
