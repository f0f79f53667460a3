//! Turns the visitor's choices into a configuration and its data.

use crate::{
    problem::{Result, problem, refusal, to_js},
    protocol::{Change, OwnText, Plan, RunSpec},
};
use kiln::{
    config::{
        ChatConfig, Config, DataConfig, ObjectiveKind, Task, TokenizerConfig, TokenizerKind, presets::Preset,
    },
    data::Dataset,
    model::size,
    tokenizer::Tokenizer,
    train::memory::{self, ModelsBeside},
};
use serde_json::Value;
use std::{
    cell::RefCell,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
};
use wasm_bindgen::prelude::*;

impl RunSpec {
    /// Reads a `RunSpec`.
    pub fn from_js(value: JsValue) -> Result<Self> {
        serde_wasm_bindgen::from_value(value)
            .map_err(|error| refusal(&format!("the run is not described completely: {error}"), ""))
    }

    /// The configuration of the preset and the changes, without the visitor's own text.
    fn chosen(&self) -> kiln::Result<Config> {
        let mut config = Preset::find(&self.preset)?.config()?;
        config.apply(&self.set)?;
        Ok(config)
    }

    /// The configuration before the data is known.
    fn config(&self) -> kiln::Result<Config> {
        let mut config = self.chosen()?;
        if self.text.is_some() {
            config.data.task = Task::None;
        }
        refuse_files(&config)?;
        Ok(config)
    }

    /// Checks the configuration, prepares the data and resolves the configuration with it.
    pub fn resolve(&self) -> kiln::Result<(Config, Dataset)> {
        let config = self.config()?;
        config.validate()?;
        let dataset = dataset(&config, self.text.as_ref(), None)?;
        Ok((config.resolve(&dataset)?, dataset))
    }

    /// Command that starts the same run on the desktop.
    fn command(&self) -> String {
        let mut command = format!("kiln train --preset {}", quoted(&self.preset));
        for entry in &self.set {
            command += &format!(" --set {}", quoted(entry));
        }
        if let Some(text) = &self.text {
            command += &format!(" --data {}", quoted(&text.name));
            if self.chosen().is_ok_and(|config| config.data.task != Task::None) {
                command += " --set data.task=none";
            }
        }
        command
    }
}

/// Refuses a configuration that names files, since a page cannot open them.
fn refuse_files(config: &Config) -> kiln::Result<()> {
    let hint = Some("choose text in the page instead".into());
    for (key, paths) in [("data.paths", &config.data.paths), ("eval.suites", &config.eval.suites)] {
        if let Some(path) = paths.first() {
            let (value, message) = (path.display().to_string(), "a page cannot open files by name".into());
            return Err(kiln::Error::InvalidValue { key: key.into(), value, message, hint });
        }
    }
    if config.tokenizer.kind == TokenizerKind::File {
        let message = "a page cannot open a tokenizer file".into();
        let hint = Some("choose char, byte or bpe".into());
        return Err(kiln::Error::InvalidValue {
            key: "tokenizer.kind".into(),
            value: "file".into(),
            message,
            hint,
        });
    }
    Ok(())
}

/// Prepares data. A text is read like the desktop would read a file with its name. The last tokenizer is
/// cached, since a form asks for the same one repeatedly.
pub fn dataset(
    config: &Config,
    text: Option<&OwnText>,
    tokenizer: Option<Tokenizer>,
) -> kiln::Result<Dataset> {
    type Key = (DataConfig, ChatConfig, TokenizerConfig, Option<ObjectiveKind>, u64);
    thread_local! {
        static LAST: RefCell<Option<(Key, Tokenizer)>> = const { RefCell::new(None) };
    }
    let prepare = |tokenizer| match text {
        Some(own) => Dataset::from_file_text(config, Path::new(&own.name), &own.text, tokenizer),
        None => Dataset::prepare(config, tokenizer),
    };
    if tokenizer.is_some() {
        return prepare(tokenizer);
    }
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let Config { data, chat, tokenizer, objective, .. } = config.clone();
    let key = (data, chat, tokenizer, objective.kind, hasher.finish());
    let last =
        LAST.with(|last| last.borrow().as_ref().filter(|(of, _)| *of == key).map(|(_, own)| own.clone()));
    let dataset = prepare(last)?;
    LAST.with(|last| *last.borrow_mut() = Some((key, dataset.tokenizer.clone())));
    Ok(dataset)
}

/// Checks a run and says how much it will cost, as a [`Plan`].
#[wasm_bindgen]
pub fn plan(spec: JsValue) -> Result<JsValue> {
    let spec = RunSpec::from_js(spec)?;
    let (config, dataset) = spec.resolve().map_err(problem)?;
    let preset = Preset::find(&spec.preset).and_then(Preset::config).map_err(problem)?;
    let tokens_per_step = size::tokens_per_step(&config);
    Ok(to_js(&Plan {
        changed: changes(&config, &preset),
        parameters: size::parameter_count(&config.model),
        training_bytes: memory::training_bytes(&config, &ModelsBeside::default()),
        tokens_per_step,
        flops_per_step: tokens_per_step as f64 * size::flops_per_token(&config.model),
        train_tokens: dataset.train.len(),
        val_tokens: dataset.val.len(),
        vocab_size: config.model.vocab_size,
        command: spec.command(),
        config,
    }))
}

/// Keys whose value differs from the preset's.
fn changes(config: &Config, preset: &Config) -> Vec<Change> {
    let tree = |config: &Config| serde_json::to_value(config).unwrap_or_default();
    let (own, base) = (tree(config), tree(preset));
    let fields = Config::fields().into_iter().filter(|field| field.key != "model.vocab_size");
    fields
        .filter_map(|field| {
            let pointer = format!("/{}", field.key.replace('.', "/"));
            let value = |tree: &Value| tree.pointer(&pointer).cloned().unwrap_or_default();
            let (value, preset) = (value(&own), value(&base));
            (value != preset).then_some(Change { key: field.key, value, preset })
        })
        .collect()
}

/// Quotes a word for a POSIX shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
