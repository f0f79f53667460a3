//! Describes every key for a form, and formats the tree with the help of each key (`kiln config show`).

use super::{check_value, get, is_optional, last_part, variants};
use crate::{
    config::{Config, KEYS, Key},
    error::Result,
};
use serde::Serialize;
use std::fmt::Write;
use toml::Value;

/// A key as a form shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Field {
    pub key: &'static str,
    pub help: &'static str,
    pub kind: FieldKind,
    /// Values that a [`FieldKind::Choice`] accepts.
    pub choices: Vec<String>,
    /// Whether the key may have no value.
    pub optional: bool,
}

/// Kind of value that a key accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum FieldKind {
    /// A whole number, 0 or more.
    Integer,
    Number,
    Boolean,
    Choice,
    Text,
    /// List of texts.
    List,
}

impl Field {
    fn of(key: &Key) -> Self {
        let takes = |value: Value| check_value(key.name, &value).is_ok();
        let choices = variants(key.name).unwrap_or_default();
        let kind = if !choices.is_empty() {
            FieldKind::Choice
        } else if takes(Value::Boolean(true)) {
            FieldKind::Boolean
        } else if takes(Value::Float(0.5)) {
            FieldKind::Number
        } else if takes(Value::Integer(1)) {
            FieldKind::Integer
        } else if takes(Value::Array(Vec::new())) {
            FieldKind::List
        } else {
            FieldKind::Text
        };
        Self { key: key.name, help: key.help(), kind, choices, optional: is_optional(key.name) }
    }
}

impl Config {
    /// Lists every key with its kind, for forms.
    pub fn fields() -> Vec<Field> {
        KEYS.iter().map(Field::of).collect()
    }

    /// Formats the tree like [`Config::to_toml`], with the help of each key after it as a comment. Optional
    /// keys without a value are commented out.
    ///
    /// # Errors
    /// Those of [`Config::to_toml`].
    pub fn to_annotated_toml(&self) -> Result<String> {
        let table = self.to_table()?;
        let mut text = String::new();
        let mut section = "";
        for key in KEYS.iter() {
            if key.section() != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                section = key.section();
                // Writing into a String cannot fail.
                let _ = writeln!(text, "{gap}[{section}]");
            }
            let name = last_part(key.name);
            let line = get(&table, key.name)
                .map_or_else(|| format!("# {name} ="), |value| format!("{name} = {value}"));
            let _ = writeln!(text, "{line:<36} # {}", key.help());
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_know_what_they_take() {
        let kind = |key| Config::fields().into_iter().find(|field| field.key == key).unwrap().kind;
        assert_eq!(kind("train.seed"), FieldKind::Integer);
        assert_eq!(kind("train.learning_rate"), FieldKind::Number);
        assert_eq!(kind("model.bias"), FieldKind::Boolean);
        assert_eq!(kind("model.norm"), FieldKind::Choice);
        assert_eq!(kind("sample.prompt"), FieldKind::Text);
        assert_eq!(kind("sample.stop"), FieldKind::List);
        let norm = Config::fields().into_iter().find(|field| field.key == "model.norm").unwrap();
        assert_eq!(norm.choices, ["layernorm", "rmsnorm"]);
    }

    #[test]
    fn help_is_one_line_without_a_full_stop() {
        for key in KEYS.iter() {
            let help = key.help();
            assert!(!help.is_empty() && !help.contains('\n') && !help.ends_with('.'), "{}", key.name);
        }
    }

    #[test]
    fn the_annotated_tree_reads_back() {
        let mut config = Config::default();
        config.sample.prompt = "a # \"b\"\nc".into();
        config.data.paths = vec!["x".into(), "y # z".into()];
        let text = config.to_annotated_toml().unwrap();
        assert!(text.contains("\n# path ="), "{text}");
        assert_eq!(Config::from_toml(&text, "here").unwrap(), config);
    }
}
