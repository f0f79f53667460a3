//! Keys of a task file with the files and lines that they come from, after `include:`. Each value is read
//! with the type that it must have.

use crate::{
    error::{Error, Origin, Result},
    value::{Map, Value},
    yaml::{self, Kind, Node},
};
use kiln_base::{error::nearest, platform::storage};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A key and its value.
#[derive(Debug, Clone)]
pub struct Entry {
    pub origin: Origin,
    /// The key without those that it is inside.
    pub name: String,
    pub node: Node,
}

/// The keys of a map. A key without a value counts as absent.
#[derive(Debug, Clone, Default)]
pub struct Entries(Vec<Entry>);

/// A key that is known but not supported, and a hint what to do instead.
pub type Unsupported = (&'static str, &'static str);

impl Entries {
    /// Reads a task file and the files that it includes. A key of the file itself replaces that of an
    /// included one, and a later include replaces an earlier one.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::InvalidYaml`] and [`Error::InvalidKey`].
    pub fn load(path: &Path) -> Result<Self> {
        Self::load_inside(path, &mut Vec::new())
    }

    /// `parents` are the files that include this one.
    fn load_inside(path: &Path, parents: &mut Vec<PathBuf>) -> Result<Self> {
        let node = yaml::parse(path, &storage::read_to_string(path)?)?;
        let origin = Origin { path: path.into(), line: node.line, key: String::new() };
        let own = Self::of_map(&origin, node).ok_or_else(|| Error::InvalidYaml {
            path: path.into(),
            line: origin.line,
            message: "is not a map of keys".into(),
            hint: Some("a task file begins with a line such as `task: NAME`".into()),
        })?;
        let mut merged = Self::default();
        if let Some(include) = own.get("include") {
            parents.push(path.into());
            for entry in include.one_or_list() {
                let name = entry.text()?;
                let included = path.parent().unwrap_or(Path::new("")).join(&name);
                if parents.contains(&included) {
                    return Err(entry.origin.invalid(format!("names `{name}`, which includes this file")));
                }
                merged.replace_by(Self::load_inside(&included, parents)?);
            }
            parents.pop();
        }
        merged.replace_by(own);
        merged.retain(|name| name != "include");
        Ok(merged)
    }

    /// The keys of a map, or `None` for another value.
    fn of_map(origin: &Origin, node: Node) -> Option<Self> {
        let Kind::Map(entries) = node.kind else { return None };
        let entry = |(key, line, node): (String, usize, Node)| {
            let path = Arc::clone(&origin.path);
            let inside = if origin.key.is_empty() { key.clone() } else { format!("{}.{key}", origin.key) };
            Entry { origin: Origin { path, line, key: inside }, name: key, node }
        };
        Some(Self(entries.into_iter().map(entry).collect()))
    }

    /// Adds the keys of others, which replace those with the same name.
    pub fn replace_by(&mut self, others: Self) {
        for entry in others.0 {
            match self.0.iter_mut().find(|own| own.name == entry.name) {
                Some(own) => *own = entry,
                None => self.0.push(entry),
            }
        }
    }

    /// The entry of a key that has a value.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.name == name && !entry.node.is_null())
    }

    /// Text of a key.
    ///
    /// # Errors
    /// The error of [`Entry::text`].
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        self.get(name).map(Entry::text).transpose()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    /// Keeps the keys whose names fit.
    pub fn retain(&mut self, mut fits: impl FnMut(&str) -> bool) {
        self.0.retain(|entry| fits(&entry.name));
    }

    /// Takes the names of the maps around from the keys, as in a file of their own.
    pub fn make_top_level(&mut self) {
        self.0.iter_mut().for_each(|entry| entry.origin.key.clone_from(&entry.name));
    }

    /// Refuses keys that are neither known nor absent, and Python functions.
    ///
    /// # Errors
    /// [`Error::UnknownKey`] with the nearest name, or
    /// [`Error::InvalidKey`].
    pub fn check(&self, known: &[&'static str], unsupported: &[Unsupported]) -> Result<()> {
        for entry in &self.0 {
            let name = entry.name.as_str();
            if let Some((_, hint)) = unsupported.iter().find(|(own, _)| *own == name) {
                if !entry.node.is_null() {
                    return Err(entry.origin.invalid_with("is not supported", *hint));
                }
            } else if !known.contains(&name) {
                let nearest = nearest(name, known.iter().copied());
                return Err(Error::UnknownKey { origin: entry.origin.clone(), nearest });
            }
            entry.check_functions(&entry.node)?;
        }
        Ok(())
    }

    /// The values without their lines.
    pub fn to_map(&self) -> Map {
        self.0.iter().map(|entry| (entry.name.as_str(), entry.node.to_value())).collect()
    }
}

impl Entry {
    fn check_functions(&self, node: &Node) -> Result<()> {
        match &node.kind {
            Kind::Function(name) => {
                let origin = Origin { line: node.line, ..self.origin.clone() };
                Err(origin.invalid_with(
                    format!("is the Python function `{name}`, which cannot be run here"),
                    "write a template instead, or prepare the rows with Python once, save them as JSON lines and \
                     name the file with `data`",
                ))
            }
            Kind::List(nodes) => nodes.iter().try_for_each(|node| self.check_functions(node)),
            Kind::Map(entries) => entries.iter().try_for_each(|(_, _, node)| self.check_functions(node)),
            Kind::Scalar(_) => Ok(()),
        }
    }

    fn mismatch(&self, wanted: &str) -> Error {
        let kind = match &self.node.kind {
            Kind::Scalar(value) => value.kind(),
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
            Kind::Function(_) => "a Python function",
        };
        self.origin.invalid(format!("must be {wanted}, not {kind}"))
    }

    /// # Errors
    /// [`Error::InvalidKey`] for another type, as of each function below.
    pub fn text(&self) -> Result<String> {
        match &self.node.kind {
            Kind::Scalar(Value::Text(text)) => Ok(text.clone()),
            Kind::Scalar(Value::Bool(_) | Value::Int(_) | Value::Float(_)) => Err(self
                .origin
                .invalid_with("must be text, not a number or a truth value", "put it between quotes")),
            _ => Err(self.mismatch("text")),
        }
    }

    pub fn boolean(&self) -> Result<bool> {
        match &self.node.kind {
            Kind::Scalar(Value::Bool(value)) => Ok(*value),
            _ => Err(self.mismatch("`true` or `false`")),
        }
    }

    pub fn integer(&self) -> Result<i64> {
        match &self.node.kind {
            Kind::Scalar(Value::Int(value)) => Ok(*value),
            _ => Err(self.mismatch("a whole number")),
        }
    }

    /// A whole number that is not negative.
    pub fn count(&self) -> Result<usize> {
        usize::try_from(self.integer()?).map_err(|_| self.origin.invalid("must not be negative"))
    }

    /// A number. Text with a number counts, because YAML reads `1e-5` as text.
    pub fn number(&self) -> Result<f64> {
        match &self.node.kind {
            Kind::Scalar(Value::Int(value)) => Ok(*value as f64),
            Kind::Scalar(Value::Float(value)) => Ok(*value),
            Kind::Scalar(Value::Text(text)) => text.trim().parse().map_err(|_| self.mismatch("a number")),
            _ => Err(self.mismatch("a number")),
        }
    }

    pub fn list(&self) -> Result<Vec<Entry>> {
        match &self.node.kind {
            Kind::List(_) => Ok(self.one_or_list()),
            _ => Err(self.mismatch("a list")),
        }
    }

    /// The items of a list, or the value itself if it is none.
    pub fn one_or_list(&self) -> Vec<Entry> {
        let Kind::List(nodes) = &self.node.kind else { return vec![self.clone()] };
        let entry = |node: &Node| {
            let origin = Origin { line: node.line, ..self.origin.clone() };
            Entry { origin, name: self.name.clone(), node: node.clone() }
        };
        nodes.iter().map(entry).collect()
    }

    pub fn map(&self) -> Result<Entries> {
        Entries::of_map(&self.origin, self.node.clone()).ok_or_else(|| self.mismatch("a map"))
    }

    pub fn is_map(&self) -> bool {
        matches!(self.node.kind, Kind::Map(_))
    }
}
