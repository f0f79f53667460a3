//! Advice on errors, in parts that each surface words in its own way: the command line names options
//! (`Display`), the page its controls (`web/page/hints.ts`).

use serde::Serialize;
use std::fmt::{self, Display, Formatter};

/// One sentence without a full stop. Plain ones are made from text, those that name a key, a place or a command with
/// [`hint!`](crate::hint).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Hint(Vec<HintPart>);

/// A piece of a [`Hint`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum HintPart {
    /// Words for every surface, with code between backticks.
    Text { text: String },
    /// A key of the configuration.
    Key { key: String },
    /// Keys and the values that they should get.
    Settings(Settings),
    /// A place where the user chooses something. On the command line it is an option, shown with its argument
    /// (`DIR`) and the word before it ("with").
    Place { place: Place, argument: Option<&'static str>, preposition: Option<&'static str> },
    /// A command typed in a shell, or an option that stands for no [`Place`].
    Command { command: String },
    /// A clause that only the command line shows.
    CommandLine { parts: Hint },
}

/// Keys and the values to give them, made with [`set`], [`choose`] or [`entry`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Settings {
    settings: Vec<Setting>,
    /// Whether they may come from a file: then the command line does not say `--set`.
    in_file: bool,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Setting {
    key: String,
    value: String,
    /// The value only stands for one that the user chooses: N, FILE.
    is_placeholder: bool,
}

/// A place where the user chooses something: an option of the command line, a section of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum Place {
    /// `--data`: the text to train on.
    Data,
    /// `--device`: the device.
    Device,
    /// `--out`: the folder that results are written to.
    Out,
    /// `--resume`: the run or checkpoint to continue.
    Resume,
}

/// Makes a [`Hint`] of parts: texts, [`key`](crate::error::hint::key), [`set`](crate::error::hint::set),
/// [`choose`](crate::error::hint::choose), [`command`](crate::error::hint::command),
/// [`command_line`](crate::error::hint::command_line) and [`Place`](crate::error::hint::Place)s, for example
/// `hint!["skip them with ", hint::set("train.on_nan", "skip")]`.
#[macro_export]
macro_rules! hint {
    ($($part:expr),+ $(,)?) => {
        $crate::error::hint::Hint::from(vec![$($crate::error::hint::HintPart::from($part)),+])
    };
}

/// A key of the configuration.
pub fn key(key: &str) -> HintPart {
    HintPart::Key { key: key.into() }
}

/// A key and the value that it should get, shown as `--set KEY=VALUE` on the command line.
pub fn set(key: &str, value: impl Display) -> Settings {
    Settings { settings: Vec::new(), in_file: false }.and(key, value)
}

/// A key and a placeholder (N, FILE) for a value that the user chooses.
pub fn choose(key: &str, placeholder: &str) -> Settings {
    Settings { settings: Vec::new(), in_file: false }.and_choose(key, placeholder)
}

/// A key and its value, shown without `--set` since the key may also stand in a configuration file.
pub fn entry(key: &str, value: impl Display) -> Settings {
    Settings { in_file: true, ..set(key, value) }
}

/// A command as it is typed in a shell, or an option that stands for no [`Place`].
pub fn command(command: impl Into<String>) -> HintPart {
    HintPart::Command { command: command.into() }
}

/// A clause that only the command line shows.
pub fn command_line(clause: impl Into<Hint>) -> HintPart {
    HintPart::CommandLine { parts: clause.into() }
}

impl Settings {
    /// Adds another key with its value.
    pub fn and(self, key: &str, value: impl Display) -> Self {
        self.with(Setting { key: key.into(), value: value.to_string(), is_placeholder: false })
    }

    /// Adds another key with a placeholder for its value.
    pub fn and_choose(self, key: &str, placeholder: &str) -> Self {
        self.with(Setting { key: key.into(), value: placeholder.into(), is_placeholder: true })
    }

    fn with(mut self, setting: Setting) -> Self {
        self.settings.push(setting);
        self
    }
}

impl Place {
    /// This place after a preposition ("with"), for which each surface may use its own word.
    pub fn by(self, preposition: &'static str) -> HintPart {
        HintPart::Place { place: self, argument: None, preposition: Some(preposition) }
    }

    /// Like [`by`](Self::by), with the argument that the command line shows.
    pub fn by_argument(self, preposition: &'static str, argument: &'static str) -> HintPart {
        HintPart::Place { place: self, argument: Some(argument), preposition: Some(preposition) }
    }

    /// Name of the option on the command line.
    fn option(self) -> &'static str {
        match self {
            Self::Data => "--data",
            Self::Device => "--device",
            Self::Out => "--out",
            Self::Resume => "--resume",
        }
    }
}

impl From<Vec<HintPart>> for Hint {
    fn from(parts: Vec<HintPart>) -> Self {
        Self(parts)
    }
}

impl From<&str> for Hint {
    fn from(text: &str) -> Self {
        Self(vec![text.into()])
    }
}

impl From<String> for Hint {
    fn from(text: String) -> Self {
        Self(vec![text.into()])
    }
}

impl From<&str> for HintPart {
    fn from(text: &str) -> Self {
        Self::Text { text: text.into() }
    }
}

impl From<String> for HintPart {
    fn from(text: String) -> Self {
        Self::Text { text }
    }
}

impl From<Settings> for HintPart {
    fn from(settings: Settings) -> Self {
        Self::Settings(settings)
    }
}

impl From<Place> for HintPart {
    fn from(place: Place) -> Self {
        Self::Place { place, argument: None, preposition: None }
    }
}

/// Formats the hint in the words of the command line.
impl Display for Hint {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| part.fmt(f))
    }
}

impl Display for HintPart {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { text } => f.write_str(text),
            Self::Key { key } => write!(f, "`{key}`"),
            Self::Settings(Settings { settings, in_file }) => {
                let option = if *in_file { "" } else { "--set " };
                let settings =
                    settings.iter().map(|Setting { key, value, .. }| format!("{option}{key}={value}"));
                write!(f, "`{}`", settings.collect::<Vec<_>>().join(" "))
            }
            Self::Place { place, argument, preposition } => {
                let preposition = preposition.map_or_else(String::new, |word| format!("{word} "));
                let argument = argument.map_or_else(String::new, |argument| format!(" {argument}"));
                write!(f, "{preposition}`{}{argument}`", place.option())
            }
            Self::Command { command } => write!(f, "`{command}`"),
            Self::CommandLine { parts } => parts.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_names_options_and_keys() {
        for (hint, words) in [
            (Hint::from("check the path"), "check the path"),
            (hint!["lower ", key("train.batch_size")], "lower `train.batch_size`"),
            (hint!["set ", choose("model.block_size", "N")], "set `--set model.block_size=N`"),
            (hint!["write ", entry("train.seed", 3)], "write `train.seed=3`"),
            (
                hint![set("tokenizer.kind", "file").and_choose("tokenizer.path", "FILE")],
                "`--set tokenizer.kind=file --set tokenizer.path=FILE`",
            ),
            (hint![Place::Data, " takes text"], "`--data` takes text"),
            (hint!["another ", Place::Device.by("with")], "another with `--device`"),
            (
                hint!["for example ", Place::Resume.by_argument("with", "DIR")],
                "for example with `--resume DIR`",
            ),
            (
                hint!["raise it", command_line(hint!["; ", command("--resume best"), " goes back"])],
                "raise it; `--resume best` goes back",
            ),
        ] {
            assert_eq!(hint.to_string(), words);
        }
    }

    #[test]
    fn other_surfaces_get_the_parts() {
        let hint = hint![
            "lower ",
            key("train.batch_size"),
            set("model.bias", false).and_choose("model.n_layer", "N"),
            Place::Resume.by("with"),
            command_line("; not here"),
        ];
        let settings = serde_json::json!([
            { "key": "model.bias", "value": "false", "is_placeholder": false },
            { "key": "model.n_layer", "value": "N", "is_placeholder": true },
        ]);
        assert_eq!(
            serde_json::to_value(hint).unwrap(),
            serde_json::json!([
                { "kind": "text", "text": "lower " },
                { "kind": "key", "key": "train.batch_size" },
                { "kind": "settings", "settings": settings, "in_file": false },
                { "kind": "place", "place": "resume", "argument": null, "preposition": "with" },
                { "kind": "command-line", "parts": [{ "kind": "text", "text": "; not here" }] },
            ])
        );
    }
}
