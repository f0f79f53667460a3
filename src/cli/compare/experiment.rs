//! Experiment files: the flags of `kiln compare` as keys of a TOML file, in which `set` and `vary` are tables.
//!
//! ```toml
//! preset = "debug"
//! device = ["cpu"]
//! out = "experiment"
//!
//! [set]
//! train.max_steps = 20
//!
//! [vary]
//! train.learning_rate = [1e-3, 3e-3]
//! ```
//!
//! Paths start at the current folder, as those of flags and of a run's configuration do.

use super::{CompareArguments, plan::Place};
use crate::{
    config::{Config, overrides::expected_type, presets::Preset},
    error::{Error, Result, hint, nearest},
    platform::storage,
};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Keys of an experiment file. Each is the flag of the same name. Of `set` and `vary` only the types are checked here, since
/// [`File`] reads their entries one by one.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Keys {
    preset: Option<String>,
    config: Option<PathBuf>,
    #[serde(rename = "set")]
    _set: Settings,
    data: Vec<PathBuf>,
    device: Vec<String>,
    seed: Vec<u64>,
    #[serde(rename = "vary")]
    _vary: toml::Table,
    out: Option<PathBuf>,
    jobs: Option<usize>,
    bound: Option<f32>,
    assert_loss: Option<f32>,
}

const NAMES: [&str; 11] =
    ["preset", "config", "set", "data", "device", "seed", "vary", "out", "jobs", "bound", "assert_loss"];

/// Type of the value of `set`.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "toml::Value")]
struct Settings;

impl TryFrom<toml::Value> for Settings {
    type Error = &'static str;

    fn try_from(value: toml::Value) -> Result<Self, Self::Error> {
        let is_list = |list: &Vec<toml::Value>| list.iter().all(toml::Value::is_str);
        match value.is_table() || value.as_array().is_some_and(is_list) {
            true => Ok(Self),
            false => Err("expected a table of keys or a list of \"KEY=VALUE\""),
        }
    }
}

impl CompareArguments {
    /// Completes the arguments with the values of their experiment file. A flag that is given overrides the file's
    /// value, `--set` and `--vary` key by key.
    ///
    /// # Errors
    /// Errors of reading the file, and [`Error::ConfigEntry`] with the line of a key or value that is refused.
    pub fn with_experiment(mut self) -> Result<Self> {
        let Some(path) = &self.experiment else { return Ok(self) };
        let text = storage::read_to_string(path)?;
        let Experiment { keys, set, vary } = Experiment::parse(&text, path)?;
        if self.source.preset.is_none() && self.source.config.is_none() {
            (self.source.preset, self.source.config) = (keys.preset, keys.config);
        }
        let given = self.source.set.iter().chain(&self.vary).filter_map(|text| text.split_once('='));
        let given: Vec<&str> = given.map(|(key, _)| Config::current_name(key.trim())).collect();
        let is_given = |key: &str| given.contains(&Config::current_name(key));
        self.varied = vary.into_iter().filter(|(key, _)| !is_given(key)).collect();
        drop(self.source.set.splice(0..0, set));
        fn or<T>(given: Vec<T>, file: Vec<T>) -> Vec<T> {
            if given.is_empty() { file } else { given }
        }
        self.data = or(self.data, keys.data);
        self.device = or(self.device, keys.device);
        self.seed = or(self.seed, keys.seed);
        self.out = self.out.or(keys.out);
        self.jobs = self.jobs.or(keys.jobs);
        self.bound = self.bound.or(keys.bound);
        self.assert_loss = self.assert_loss.or(keys.assert_loss);
        Ok(self)
    }
}

/// An experiment file whose entries have been checked one by one.
#[derive(Debug)]
struct Experiment {
    keys: Keys,
    /// `KEY=VALUE` texts.
    set: Vec<String>,
    vary: Vec<(String, Vec<String>)>,
}

impl Experiment {
    fn parse(text: &str, path: &Path) -> Result<Self> {
        let file = File { text, origin: format!("`{}`", path.display()) };
        let document = DeTable::parse(text).map_err(|error| file.not_toml(&error))?;
        let document = document.get_ref();
        let keys: Keys = toml::from_str(text).map_err(|error| file.refused(document, &error))?;
        let mut experiment = Self { keys, set: Vec::new(), vary: Vec::new() };
        for entry in file.entries(document) {
            match (entry.key.as_str(), entry.value.get_ref()) {
                ("set", DeValue::Table(table)) => experiment.set = file.settings(table)?,
                ("set", DeValue::Array(list)) => {
                    for text in list.iter() {
                        let setting = text.get_ref().as_str().unwrap_or_default().to_owned();
                        apply(&setting).map_err(|error| file.at(text.span().start, error))?;
                        experiment.set.push(setting);
                    }
                }
                ("vary", DeValue::Table(table)) => experiment.vary = file.varied(table)?,
                (key, _) => experiment.keys.check(key).map_err(|error| file.at(entry.start, error))?,
            }
        }
        Ok(experiment)
    }
}

impl Keys {
    /// Checks the value of a key.
    fn check(&self, key: &str) -> Result<()> {
        match key {
            "preset" => self.preset.as_deref().map_or(Ok(()), |name| Preset::find(name).map(drop)),
            "config" if self.preset.is_some() => {
                let value = self.config.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
                Err(Error::invalid_value(key, value, "give `preset` or `config`, not both"))
            }
            "jobs" if self.jobs == Some(0) => Err(Error::invalid_value(key, 0, "must be at least 1")),
            "bound" | "assert_loss" => {
                let bound = if key == "bound" { self.bound } else { self.assert_loss };
                match bound.filter(|bound| *bound < 0.0 || bound.is_nan()) {
                    Some(bound) => Err(Error::invalid_value(key, bound, "must be at least 0")),
                    None => Ok(()),
                }
            }
            "device" => self.device.iter().try_for_each(|name| Place::parse(name).map(drop)),
            _ => Ok(()),
        }
    }
}

/// Checks one `KEY=VALUE`.
fn apply(setting: &str) -> Result<()> {
    Config::default().apply(&[setting.to_owned()]).map(drop)
}

/// Text of an experiment file, and its name for messages.
struct File<'a> {
    text: &'a str,
    origin: String,
}

/// A key and its value.
struct Entry<'a> {
    key: String,
    /// Offset of the key.
    start: usize,
    value: &'a Spanned<DeValue<'a>>,
}

impl File<'_> {
    /// Says where in the file an error belongs.
    fn at(&self, offset: usize, error: Error) -> Error {
        Error::ConfigEntry { origin: self.origin.clone(), line: self.line(offset), reason: Box::new(error) }
    }

    /// Number of the line of an offset, counted from 1.
    fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }

    fn not_toml(&self, error: &toml::de::Error) -> Error {
        let line = error.span().map_or_else(String::new, |span| format!("line {}: ", self.line(span.start)));
        let message = format!("{line}{}", error.message().replace('\n', ", "));
        Error::ConfigSyntax { origin: self.origin.clone(), message }
    }

    /// The error for an entry that serde refuses, which is the one whose key or value has the place of `error`.
    fn refused<'a>(&self, document: &'a DeTable<'a>, error: &toml::de::Error) -> Error {
        let offset = error.span().map(|span| span.start);
        let has_place = |entry: &Entry| offset.is_some_and(|offset| entry.start <= offset);
        // The last that begins at the place or before it.
        let Some(entry) = self.entries(document).into_iter().rfind(has_place) else {
            return self.not_toml(error);
        };
        let key = entry.key.as_str();
        let reason = if NAMES.contains(&key) {
            let value = self.text_of(entry.value);
            let message = format!("expected {}", expected_type(error.message()));
            let hint = (message == "expected a list")
                .then(|| hint!["write ", hint::entry(key, format!("[{}]", self.slice(entry.value)))]);
            Error::InvalidValue { key: key.into(), value, message, hint }
        } else {
            let meant = nearest(key, NAMES).map_or_else(String::new, |key| format!("did you mean `{key}`? "));
            let names = NAMES.map(|name| format!("`{name}`")).join(", ");
            Error::UnknownName {
                what: "experiment key",
                name: key.into(),
                hint: format!("{meant}keys: {names}").into(),
            }
        };
        self.at(entry.start, reason)
    }

    /// Entries of a table in the order of the file.
    fn entries<'a>(&self, table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
        let entry = |(key, value): (&Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let name: &std::borrow::Cow<str> = key.get_ref();
            Entry { key: name.to_string(), start: key.span().start, value }
        };
        let mut entries: Vec<Entry> = table.iter().map(entry).collect();
        entries.sort_by_key(|entry| entry.start);
        entries
    }

    /// Entries of the configuration under a table, by their whole keys: `train.seed = 1`, `"train.seed" = 1` and
    /// `[set.train]` are the same.
    fn leaves<'a>(&self, table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
        let mut leaves = Vec::new();
        for entry in self.entries(table) {
            match entry.value.get_ref() {
                DeValue::Table(inner) => leaves.extend(
                    self.leaves(inner)
                        .into_iter()
                        .map(|leaf| Entry { key: format!("{}.{}", entry.key, leaf.key), ..leaf }),
                ),
                _ => leaves.push(entry),
            }
        }
        leaves.sort_by_key(|leaf| leaf.start);
        leaves
    }

    fn settings<'a>(&self, table: &'a DeTable<'a>) -> Result<Vec<String>> {
        let setting = |leaf: Entry| {
            let setting = format!("{}={}", leaf.key, self.text_of(leaf.value));
            apply(&setting).map_err(|error| self.at(leaf.start, error))?;
            Ok(setting)
        };
        self.leaves(table).into_iter().map(setting).collect()
    }

    fn varied<'a>(&self, table: &'a DeTable<'a>) -> Result<Vec<(String, Vec<String>)>> {
        let mut all = Vec::new();
        for leaf in self.leaves(table) {
            let refused = |message: &str, hint| Error::InvalidValue {
                key: leaf.key.clone(),
                value: self.text_of(leaf.value),
                message: message.into(),
                hint: Some(hint),
            };
            let list = leaf.value.get_ref().as_array().filter(|list| !list.is_empty()).ok_or_else(|| {
                let list = format!("[{}]", self.slice(leaf.value).trim_matches(['[', ']']));
                let hint = hint!["write ", hint::entry(&leaf.key, list), ", one value for each run"];
                self.at(leaf.start, refused("expected a list of values", hint))
            })?;
            if ["train.seed", "seed"].contains(&leaf.key.as_str()) {
                let hint =
                    hint!["write `", format!("seed = {}", self.slice(leaf.value)), "` above all tables"];
                return Err(self.at(leaf.start, refused("seeds are given by `seed`", hint)));
            }
            let mut values: Vec<String> = Vec::new();
            for value in list.iter() {
                let text = self.text_of(value);
                let checked = match values.contains(&text) {
                    true => Err(Error::invalid_value(&leaf.key, &text, "it is there twice")),
                    false => apply(&format!("{}={text}", leaf.key)),
                };
                checked.map_err(|error| self.at(value.span().start, error))?;
                values.push(text);
            }
            all.push((leaf.key, values));
        }
        Ok(all)
    }

    /// A value as it is written in the file.
    fn slice(&self, value: &Spanned<DeValue>) -> &str {
        self.text.get(value.span()).unwrap_or_default()
    }

    /// A value as a flag has it: as it is written, and a plain text without its quotes.
    fn text_of(&self, value: &Spanned<DeValue>) -> String {
        let is_plain = |text: &&str| !text.contains(['"', '\'', '[', '{', '\n']) && text.trim() == *text;
        let text = value.get_ref().as_str().filter(is_plain).unwrap_or_else(|| self.slice(value));
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Experiment> {
        Experiment::parse(text, Path::new("experiment.toml"))
    }

    #[test]
    fn values_are_those_of_flags() {
        let found = parse(
            "preset = \"debug\"\nseed = [1, 2]\n[vary]\n\"kernels.fused\" = [true, false]\ntrain.learning_rate = [1e-3, 3e-3]\n\
             train.schedule = [\"cosine\"]\n[set.train]\nmax_steps = 20\nfreeze = [\"a\", \"b\"]\n",
        )
        .unwrap();
        assert_eq!((found.keys.preset.as_deref(), &found.keys.seed[..]), (Some("debug"), &[1, 2][..]));
        assert_eq!(found.set, ["train.max_steps=20", "train.freeze=[\"a\", \"b\"]"]);
        let vary: Vec<String> =
            found.vary.iter().map(|(key, values)| format!("{key}={}", values.join("|"))).collect();
        assert_eq!(
            vary,
            ["kernels.fused=true|false", "train.learning_rate=1e-3|3e-3", "train.schedule=cosine"]
        );
        let list = parse("set = [\"train.max_steps=20\", \"train.decay_steps=none\"]").unwrap();
        assert_eq!(list.set, ["train.max_steps=20", "train.decay_steps=none"]);
        assert!(parse("").unwrap().set.is_empty());
    }

    #[test]
    fn a_wrong_entry_is_named_with_its_line() {
        for (text, message, hint) in [
            ("preset = ", "cannot parse `experiment.toml`: line 1: ", ""),
            (
                "jobs = 1\ndevices = [\"cpu\"]",
                "line 2: unknown experiment key `devices`",
                "did you mean `device`?",
            ),
            (
                "device = \"cpu\"",
                "line 1: invalid value `cpu` for `device`: expected a list",
                "`device=[\"cpu\"]`",
            ),
            ("jobs = -1", "line 1: invalid value `-1` for `jobs`: expected a whole number", ""),
            ("seed = [1, \"x\"]", "line 1: invalid value `[1, \"x\"]` for `seed`", ""),
            ("\n\njobs = 0", "line 3: invalid value `0` for `jobs`: must be at least 1", ""),
            ("bound = -1.0", "line 1: invalid value `-1` for `bound`: must be at least 0", ""),
            ("set = 3", "for `set`: expected a table of keys or a list of", ""),
            ("\npreset = \"debgu\"", "line 2: unknown preset `debgu`", "did you mean `debug`?"),
            ("device = [\"cdua\"]", "line 1: unknown device `cdua`", ""),
            (
                "[set]\ntrain.seed = 1\nmodel.n_haed = 2",
                "line 3: unknown configuration key `model.n_haed`",
                "`model.n_head`",
            ),
            ("[set.train]\nmax_steps = \"many\"", "line 2: invalid value `many` for `train.max_steps`", ""),
            ("set = [\n\"train.max_stpes=1\"]", "line 2: unknown configuration key", "`train.max_steps`"),
            (
                "[vary]\ntrain.learning_rate = 1e-3",
                "line 2: invalid value `1e-3`",
                "`train.learning_rate=[1e-3]`",
            ),
            ("[vary]\nmodel.n_layer = []", "line 2: invalid value `[]`", ""),
            (
                "[vary]\nmodel.n_layer = [\n2,\n2]",
                "line 4: invalid value `2` for `model.n_layer`: it is there twice",
                "",
            ),
            (
                "[vary]\ntrain.seed = [1, 2]",
                "line 2: invalid value `[1, 2]` for `train.seed`",
                "`seed = [1, 2]`",
            ),
            ("preset = \"debug\"\nconfig = \"x.toml\"", "line 2: invalid value `x.toml` for `config`", ""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.is_user_error() && error.to_string().contains(message), "{text}: {error}");
            let said = error.hint().map_or_else(String::new, |hint| hint.to_string());
            assert!(said.contains(hint), "{text}: {said}");
        }
    }
}
