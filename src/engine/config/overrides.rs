//! Conversion of text to a configuration and back: TOML files ([`Config::from_toml`], [`Config::to_toml`])
//! and `key=value` overrides ([`Config::apply`]). Each key is looked up before its value is read, and each
//! value is checked on its own, so that an error names the one entry that is wrong.

mod automatic;
mod help;
mod renamed;

use super::{Config, KEYS, Key, ModelConfig};
use crate::error::{Error, Hint, Result, hint, nearest};
use serde::de::DeserializeOwned;
use std::sync::LazyLock;
use toml::{Table, Value, de::DeTable};

pub use help::{Field, FieldKind};
pub use renamed::RENAMED;

/// Key names of other projects, with the last part of Kiln's name. They are spelled too differently to be
/// found by edit distance.
const FOREIGN_NAMES: [(&str, &str); 5] = [
    ("eval_iters", "eval_batches"),
    ("lr", "learning_rate"),
    ("lr_decay_iters", "decay_steps"),
    ("max_iters", "max_steps"),
    ("warmup_iters", "warmup_steps"),
];

impl Config {
    /// Reads a configuration; keys that `text` leaves out keep their defaults. `origin` names the source of
    /// the text in messages and includes backticks (`` `run.toml` ``, `` preset `debug` ``).
    ///
    /// # Errors
    /// [`Error::ConfigSyntax`] for text that is not TOML; [`Error::ConfigEntry`] with the line for an unknown
    /// key or a value of the wrong type. Ranges are checked by [`Config::validate`].
    pub fn from_toml(text: &str, origin: &str) -> Result<Self> {
        Ok(Reading::of(text, origin)?.config)
    }

    /// Reads only the `[model]` section, from JSON.
    ///
    /// # Errors
    /// [`Error::UnknownKey`] or [`Error::InvalidValue`] for the first entry that is wrong.
    pub(crate) fn model_from_json(model: serde_json::Value) -> Result<ModelConfig> {
        let refused = || Error::invalid_value("model", "null", "expected the keys of a model");
        let mut table = Table::from_iter([("model".to_owned(), to_toml_value(model).ok_or_else(refused)?)]);
        renamed::rename(&mut table).and_then(|_| check_entries(&table, "")).map_err(|refused| refused.1)?;
        Ok(from_table(table)?.model)
    }

    /// Applies `key=value` overrides in order; a later one wins. A value is read as TOML (`0.5`, `true`,
    /// `["a", "b"]`, `"quoted"`) if that fits the key, otherwise as plain text (`cosine`, `a file.txt`). An
    /// empty text or `none` removes the value of an optional key. If one override is refused, none is
    /// applied. Returns a note for each earlier name of a key.
    ///
    /// # Errors
    /// [`Error::UnknownKey`] with the nearest key; [`Error::InvalidValue`] with the values that the key
    /// accepts.
    pub fn apply(&mut self, overrides: &[String]) -> Result<Vec<String>> {
        let mut table = self.to_table()?;
        let mut notes = Vec::new();
        for text in overrides {
            let Some((name, value)) = text.split_once('=') else {
                return Err(Error::invalid_value("--set", text, "expected KEY=VALUE"));
            };
            let name = name.trim();
            let key = Self::current_name(name);
            if !is_key(key) {
                return Err(unknown_key(key));
            }
            if key != name {
                notes.push(renamed::note(name, key));
            }
            if automatic::apply(&mut table, key, value) {
                continue;
            }
            if is_optional(key) && (value.is_empty() || value.trim() == "none") {
                remove(&mut table, key);
            } else {
                insert(&mut table, key, read_value(key, value)?);
            }
        }
        *self = from_table(table)?;
        notes.sort();
        notes.dedup();
        Ok(notes)
    }

    /// The present name of a key if `key` is an earlier one; otherwise `key`.
    pub fn current_name(key: &str) -> &str {
        renamed::current(key).unwrap_or(key)
    }

    /// Formats the whole tree as TOML; [`Config::from_toml`] reads it back unchanged. Optional keys without a
    /// value are left out.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for a number over 2⁶³ − 1, which TOML cannot represent.
    pub fn to_toml(&self) -> Result<String> {
        Ok(self.to_table()?.to_string())
    }

    /// Every dotted key (`train.learning_rate`), in the order of the tree.
    pub fn keys() -> Vec<String> {
        KEYS.iter().map(|entry| entry.name.to_owned()).collect()
    }

    fn to_table(&self) -> Result<Table> {
        Table::try_from(self).map_err(|error| match self.over_toml_range() {
            Some((key, value)) => {
                Error::invalid_value(key, value, "expected a whole number up to 9223372036854775807")
            }
            None => Error::ConfigSyntax { origin: "the configuration".into(), message: error.to_string() },
        })
    }

    /// The first key whose number is too large for TOML, and that number.
    pub(super) fn over_toml_range(&self) -> Option<(&'static str, u64)> {
        let tree = serde_json::to_value(self).ok()?;
        KEYS.iter().find_map(|entry| {
            let value = tree.pointer(&entry.pointer())?.as_u64()?;
            (value > i64::MAX as u64).then_some((entry.name, value))
        })
    }
}

/// A configuration read from a file.
#[derive(Debug)]
pub struct Reading {
    pub config: Config,
    /// Keys that the file sets.
    pub keys: Vec<&'static str>,
    /// A note for each earlier name of a key that the file uses.
    pub notes: Vec<String>,
}

impl Reading {
    /// Reads a file like [`Config::from_toml`].
    ///
    /// # Errors
    /// Those of [`Config::from_toml`].
    pub fn of(text: &str, origin: &str) -> Result<Self> {
        let mut table: Table = toml::from_str(text).map_err(|error| {
            let message = error.message().replace('\n', ", ");
            let message = match error.span() {
                Some(span) => format!("line {}: {message}", line_at(text, span.start)),
                None => message,
            };
            Error::ConfigSyntax { origin: origin.into(), message }
        })?;
        automatic::replace(&mut table);
        let notes = renamed::rename(&mut table).and_then(|notes| {
            check_entries(&table, "")?;
            Ok(notes)
        });
        let notes = notes.map_err(|refused| {
            let (key, reason) = *refused;
            let line = line_of(text, &key).or_else(|| line_of(text, renamed::earlier(&key)?));
            match line {
                Some(line) => Error::ConfigEntry { origin: origin.into(), line, reason: Box::new(reason) },
                None => reason,
            }
        })?;
        let keys = KEYS.iter().map(|key| key.name).filter(|key| get(&table, key).is_some()).collect();
        Ok(Self { config: from_table(table)?, keys, notes })
    }
}

/// Whether a key may have no value.
fn is_optional(key: &str) -> bool {
    static OPTIONAL: LazyLock<Vec<&str>> = LazyLock::new(|| {
        let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
        let has_value = |key: &Key| defaults.pointer(&key.pointer()).is_some_and(|value| !value.is_null());
        KEYS.iter().filter(|key| !has_value(key)).map(|key| key.name).collect()
    });
    OPTIONAL.contains(&key)
}

fn is_key(key: &str) -> bool {
    KEYS.iter().any(|entry| entry.name == key)
}

/// Names of all sections, nested ones included.
fn sections() -> impl Iterator<Item = &'static str> {
    let of = |name: &'static str| name.match_indices('.').map(|(end, _)| &name[..end]);
    KEYS.iter().flat_map(move |entry| of(entry.name))
}

fn unknown_key(key: &str) -> Error {
    Error::UnknownKey { key: key.into(), nearest: nearest_key(key).map(str::to_owned) }
}

/// The key that the user most likely meant by `key`: one with this earlier or foreign name in any section (or
/// without one), the same name in another section, or one that differs by a typing error in the whole key or
/// in its last part.
fn nearest_key(key: &str) -> Option<&'static str> {
    if sections().any(|section| section == key) {
        return None;
    }
    let last = last_part(key);
    if let Some((_, now)) = RENAMED.iter().find(|(earlier, _)| last_part(earlier) == last) {
        return Some(now);
    }
    let ours = FOREIGN_NAMES.iter().find(|(foreign, _)| *foreign == last).map_or(last, |(_, ours)| *ours);
    // The least nested, where several end alike.
    let with_last = |wanted: &str| {
        let alike = KEYS.iter().map(|entry| entry.name).filter(|key| last_part(key) == wanted);
        alike.min_by_key(|key| key.matches('.').count())
    };
    with_last(ours)
        .or_else(|| nearest(key, KEYS.iter().map(|entry| entry.name)))
        .or_else(|| nearest(last, KEYS.iter().map(|entry| last_part(entry.name))).and_then(with_last))
}

fn last_part(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(_, last)| last)
}

/// Checks every entry under `prefix`. An error is returned with the key that it belongs to.
fn check_entries(table: &Table, prefix: &str) -> Result<(), Box<(String, Error)>> {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let outcome = if is_key(&key) {
            check_value(&key, value).map_err(|message| wrong_type(&key, value, &shown(value), &message))
        } else if !sections().any(|section| section == key) {
            Err(match nearest(&key, sections()).filter(|_| value.is_table()) {
                Some(section) => Error::UnknownKey { key: key.clone(), nearest: Some(section.into()) },
                None => unknown_key(&key),
            })
        } else if let Some(entries) = value.as_table() {
            check_entries(entries, &key)?;
            Ok(())
        } else {
            Err(Error::invalid_value(&key, shown(value), format!("expected a table of keys, `[{key}]`")))
        };
        outcome.map_err(|error| Box::new((key, error)))?;
    }
    Ok(())
}

/// Reads the text of an override as a value, in the first way that fits the key.
fn read_value(key: &str, text: &str) -> Result<Value> {
    let plain = Value::String(text.into());
    let parsed = text.trim().parse::<Value>().ok().unwrap_or_else(|| plain.clone());
    let message = match check_value(key, &parsed) {
        Ok(()) => return Ok(parsed),
        Err(message) => message,
    };
    // `sample.prompt=1` is text, and `train.schedule = cosine` is meant without the space.
    for reading in [plain, Value::String(text.trim().into())] {
        if check_value(key, &reading).is_ok() {
            return Ok(reading);
        }
    }
    Err(wrong_type(key, &parsed, text.trim(), &message))
}

/// Checks that `value` has the type of `key`.
///
/// # Errors
/// The message of serde.
fn check_value(key: &str, value: &Value) -> Result<(), String> {
    let mut table = Table::new();
    insert(&mut table, key, value.clone());
    read::<Config>(table).map(drop)
}

fn wrong_type(key: &str, value: &Value, text: &str, message: &str) -> Error {
    let (message, hint) = match variants(key) {
        Some(variants) => {
            let meant = nearest(text, variants.iter().map(String::as_str));
            let hint = meant.map(|variant| format!("did you mean `{variant}`?").into());
            (format!("expected one of {}", quoted(&variants)), hint)
        }
        None => (format!("expected {}", expected_type(message)), type_hint(key, value, message)),
    };
    Error::InvalidValue { key: key.into(), value: text.into(), message, hint }
}

/// Names that an enum key accepts, taken from serde's error message for a name that no enum has.
fn variants(key: &str) -> Option<Vec<String>> {
    let message = check_value(key, &Value::String("?".into())).err()?;
    let (_, list) = message.strip_prefix("unknown variant")?.split_once("expected ")?;
    Some(list.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The type that serde expected, in the terms of the file rather than of the program.
pub fn expected_type(message: &str) -> &str {
    let expected = message.split("expected ").nth(1).unwrap_or("another type").trim();
    match expected {
        "u64" | "usize" => "a whole number, 0 or more",
        "f32" | "f64" => "a number",
        "a boolean" => "`true` or `false`",
        "a sequence" => "a list",
        "path string" => "a path",
        other => other,
    }
}

fn type_hint(key: &str, value: &Value, message: &str) -> Option<Hint> {
    match value {
        Value::Float(number)
            if matches!(expected_type(message), "a whole number, 0 or more")
                && number.fract() == 0.0
                && (0.0..9e15).contains(number) =>
        {
            Some(hint!["write ", hint::entry(key, number)])
        }
        Value::String(text) if expected_type(message) == "a list" => {
            let list = format!("[{}]", Value::String(text.clone()));
            Some(hint!["write ", hint::entry(key, list)])
        }
        _ => None,
    }
}

/// A value as messages show it: text without its quotes.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The value at the dotted `key`.
fn get<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        Some((section, rest)) => get(table.get(section)?.as_table()?, rest),
        None => table.get(key),
    }
}

/// Puts `value` at the dotted `key`, making the tables on the way.
fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        Some((section, rest)) => {
            let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = entry {
                insert(inner, rest, value);
            }
        }
        None => drop(table.insert(key.into(), value)),
    }
}

/// Removes and returns the value at the dotted `key`.
fn remove(table: &mut Table, key: &str) -> Option<Value> {
    match key.split_once('.') {
        Some((section, rest)) => remove(table.get_mut(section)?.as_table_mut()?, rest),
        None => table.remove(key),
    }
}

/// Converts JSON to TOML. Nulls, which TOML does not have, are left out.
fn to_toml_value(value: serde_json::Value) -> Option<Value> {
    match value {
        serde_json::Value::Object(entries) => {
            let entries = entries.into_iter().filter_map(|(key, value)| Some((key, to_toml_value(value)?)));
            Some(Value::Table(entries.collect()))
        }
        value => Value::try_from(value).ok(),
    }
}

fn read<T: DeserializeOwned>(table: Table) -> Result<T, String> {
    table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())
}

/// Makes a configuration of a tree whose entries have been checked one by one. For an optional key, 0 and an
/// empty text mean no value, since earlier versions wrote them.
fn from_table(mut table: Table) -> Result<Config> {
    for key in KEYS.iter().map(|key| key.name).filter(|key| is_optional(key)) {
        let is_absent = get(&table, key).is_some_and(|value| match value {
            Value::Integer(number) => *number == 0,
            Value::Float(number) => *number == 0.0,
            Value::String(text) => text.is_empty(),
            _ => false,
        });
        if is_absent {
            remove(&mut table, key);
        }
    }
    read(table).map_err(|message| Error::ConfigSyntax { origin: "the configuration".into(), message })
}

/// Number of the line that contains `key`, counted from 1.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        let (name, value) = table.iter().find(|(name, _)| name.get_ref().as_ref() == part)?;
        if parts.peek().is_none() {
            return Some(line_at(text, name.span().start));
        }
        table = value.get_ref().as_table()?;
    }
    None
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests;
