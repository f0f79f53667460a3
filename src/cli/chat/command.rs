//! Commands within a conversation, and the settings of generation that they change.

use crate::{
    config::{Config, SampleConfig},
    error::{Error, Result, nearest},
};
use std::path::PathBuf;

/// A line of the user: a command or a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Nothing: the line is blank.
    Nothing,
    /// Say something to the model.
    Say(String),
    Help,
    Reset,
    /// Set the system prompt; an empty one removes it.
    System(String),
    Save(Option<PathBuf>),
    Undo,
    Retry,
    Continue,
    /// Change a setting of generation, or list all.
    Set(Option<String>),
    Quit,
}

/// List of the commands.
pub const HELP: &str = "\
/system TEXT    set the system prompt; without TEXT: remove it
/retry          answer the last question again
/continue       go on with the last answer
/undo           take back the last question and its answer
/reset          begin anew, with the same system prompt
/set KEY=VALUE  change a setting, such as temperature=0.2; without KEY: list them
/save FILE      save the conversation; without FILE: where --history says
/quit           end
A line that begins with // says something that begins with /. Ctrl-C ends an answer.";

const NAMES: [&str; 9] =
    ["/help", "/reset", "/system", "/save", "/undo", "/retry", "/continue", "/set", "/quit"];

impl Command {
    /// Reads a line.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for an unknown command.
    pub fn parse(line: &str) -> Result<Self> {
        // A file that is piped in may begin with a byte-order mark.
        let text = line.strip_prefix('\u{feff}').unwrap_or(line).trim();
        if text.is_empty() {
            return Ok(Self::Nothing);
        }
        if let Some(said) = text.strip_prefix("//") {
            return Ok(Self::Say(format!("/{said}")));
        }
        if !text.starts_with('/') {
            return Ok(Self::Say(text.to_owned()));
        }
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        let given = || (!rest.is_empty()).then(|| rest.to_owned());
        Ok(match name {
            "/help" => Self::Help,
            "/reset" => Self::Reset,
            "/system" => Self::System(rest.to_owned()),
            "/save" => Self::Save(given().map(PathBuf::from)),
            "/undo" => Self::Undo,
            "/retry" => Self::Retry,
            "/continue" => Self::Continue,
            "/set" => Self::Set(given()),
            "/quit" | "/exit" => Self::Quit,
            _ => {
                let meant =
                    nearest(name, NAMES).map_or_else(String::new, |name| format!("did you mean `{name}`? "));
                let hint = format!("{meant}/help lists the commands").into();
                return Err(Error::UnknownName { what: "command", name: name.into(), hint });
            }
        })
    }
}

/// Keys of `[sample]` that a conversation has no use for.
const NO_SETTINGS: [&str; 3] = ["prompt", "num_beams", "length_penalty"];

/// Changes a setting, given as `KEY=VALUE`; a key without a section is one of `[sample]`. `place` is where the user
/// has given it, `--set` or `/set`.
///
/// # Errors
/// Errors of the key and its value; the settings are then unchanged.
pub fn set(sample: &mut SampleConfig, setting: &str, place: &'static str) -> Result<()> {
    let refused = |value: &str, message: &str| Error::InvalidValue {
        key: place.into(),
        value: value.into(),
        message: message.into(),
        hint: Some(names().into()),
    };
    let (key, value) = setting.split_once('=').ok_or_else(|| refused(setting, "expected KEY=VALUE"))?;
    let key = key.trim();
    let name = key.strip_prefix("sample.").unwrap_or(key);
    if name.contains('.') {
        return Err(refused(key, "only keys of `[sample]` are settings of generation"));
    }
    let mut config = Config { sample: sample.clone(), ..Config::default() };
    config.apply(&[format!("sample.{name}={value}")]).map_err(|error| match error {
        Error::UnknownKey { .. } => {
            Error::UnknownName { what: "setting", name: name.into(), hint: names().into() }
        }
        other => other,
    })?;
    if config.sample.num_beams > 1 {
        let message = "an answer appears as it is generated, which beam search cannot do";
        return Err(Error::invalid_value("sample.num_beams", config.sample.num_beams, message));
    }
    config.sample.validate()?;
    *sample = config.sample;
    Ok(())
}

/// The settings as lines of `key = value`.
pub fn settings(sample: &SampleConfig) -> String {
    entries(sample).iter().map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>().join("\n")
}

/// A sentence that names all settings.
fn names() -> String {
    let names = entries(&SampleConfig::default()).into_iter().map(|(key, _)| format!("`{key}`"));
    format!("settings are {}", names.collect::<Vec<_>>().join(", "))
}

/// The settings and their values.
fn entries(sample: &SampleConfig) -> Vec<(String, serde_json::Value)> {
    let tree = serde_json::to_value(sample).unwrap_or_default();
    let entries = tree.as_object().into_iter().flatten();
    let entries = entries.filter(|(key, _)| !NO_SETTINGS.contains(&key.as_str()));
    entries.map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_said_unless_they_are_commands() {
        for (line, command) in [
            ("  ", Command::Nothing),
            (" hello there ", Command::Say("hello there".into())),
            ("\u{feff}hello", Command::Say("hello".into())),
            ("//help", Command::Say("/help".into())),
            ("/help", Command::Help),
            ("/system  Be brief. ", Command::System("Be brief.".into())),
            ("/system", Command::System(String::new())),
            ("/save", Command::Save(None)),
            ("/save a file.json", Command::Save(Some("a file.json".into()))),
            ("/set temperature=0", Command::Set(Some("temperature=0".into()))),
            ("/quit", Command::Quit),
        ] {
            assert_eq!(Command::parse(line).unwrap(), command, "{line}");
        }
        let error = Command::parse("/rest").unwrap_err();
        assert_eq!(error.to_string(), "unknown command `/rest`");
        assert!(error.hint().unwrap().to_string().starts_with("did you mean `/reset`?"));
        assert!(NAMES.iter().all(|name| Command::parse(name).is_ok()));
    }

    #[test]
    fn settings_are_those_of_generation() {
        let mut sample = SampleConfig::default();
        set(&mut sample, "temperature=0.25", "/set").unwrap();
        set(&mut sample, "sample.top_k = 5", "/set").unwrap();
        assert_eq!((sample.temperature, sample.top_k), (0.25, 5));
        let shown = settings(&sample);
        assert!(shown.contains("temperature = 0.25") && shown.contains("top_k = 5"), "{shown}");
        for (setting, part) in [
            ("train.seed=1", "only keys of `[sample]`"),
            ("nonsense", "`nonsense` for `/set`: expected KEY=VALUE"),
            ("temperatur=1", "unknown setting `temperatur`"),
            ("top_p=2", "`sample.top_p`"),
            ("num_beams=2", "beam search"),
        ] {
            let error = set(&mut sample, setting, "/set").unwrap_err();
            let hint = error.hint().map(|hint| hint.to_string()).unwrap_or_default();
            assert!(error.to_string().contains(part) && !hint.contains("--set"), "{error} {hint}");
        }
        for setting in ["nonsense", "nonsense=1", "train.seed=1"] {
            let hint = set(&mut sample, setting, "/set").unwrap_err().hint().unwrap().to_string();
            assert!(hint.starts_with("settings are ") && hint.contains("`temperature`"), "{hint}");
        }
        assert_eq!((sample.temperature, sample.top_p, sample.num_beams), (0.25, 1.0, 1));
    }
}
