//! The one error type of the library. A message names the offending path, key, value or shape in
//! backticks and has no full stop; [`Error::hint`] says what to do about it on a line of its own.

pub mod hint;

pub use crate::hint;
pub use hint::{Hint, HintPart, Place};

use std::{io, path::PathBuf};

/// Shorthand for results of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong between a configuration and a trained model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read, written, listed or renamed, or a similar operation on it failed.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },

    /// A path that the user named does not exist.
    #[error("`{}` does not exist", path.display())]
    NotFound { path: PathBuf, hint: Hint },

    /// Another process holds the run folder.
    #[error("`{}` is in use by another kiln process", path.display())]
    RunLocked { path: PathBuf },

    /// The run folder already holds a run and `--resume` was not given.
    #[error("`{}` already holds a run", path.display())]
    RunExists { path: PathBuf },

    /// A file is not UTF-8 text; `offset` is the first invalid byte.
    #[error("`{}` is not valid UTF-8 at byte {offset}", path.display())]
    InvalidUtf8 { path: PathBuf, offset: usize },

    /// A file is not text, or must be unpacked or converted before it is read.
    #[error("`{}` {message}", path.display())]
    NotText { path: PathBuf, message: String, hint: Hint },

    /// A record of a data file is not an object or a row that has the text field; `line` is where the record
    /// begins.
    #[error("`{}` line {line}: {message}", path.display())]
    InvalidRecord { path: PathBuf, line: usize, message: String },

    /// A token shard, or a file that describes one, is incomplete or was made with another tokenizer.
    #[error("`{}` {message}", path.display())]
    InvalidShard { path: PathBuf, message: String },

    /// The sources do not contain a single character of text.
    #[error("there is no text in {sources}")]
    EmptyCorpus { sources: String },

    /// Data preparation has kept no document to tokenize.
    #[error("there is nothing to make tokens of: {message}")]
    NothingToTokenize { message: String, hint: Hint },

    /// A split is shorter than one block of `model.block_size` + 1 tokens.
    #[error("the {split} split has {tokens} tokens, but one block needs {needed} (`model.block_size` + 1)")]
    CorpusTooShort { split: &'static str, tokens: usize, needed: usize },

    /// The configuration has no such key; `nearest` is the key with the most similar name.
    #[error("unknown configuration key `{key}`")]
    UnknownKey { key: String, nearest: Option<String> },

    /// The value of a key has the wrong type or is out of range, alone or together with other keys.
    #[error("invalid value `{value}` for `{key}`: {message}")]
    InvalidValue { key: String, value: String, message: String, hint: Option<Hint> },

    /// A configuration file is not valid TOML.
    #[error("cannot parse {origin}: {message}")]
    ConfigSyntax { origin: String, message: String },

    /// An entry of a configuration file is invalid; `reason` says why.
    #[error("{origin} line {line}: {reason}")]
    ConfigEntry { origin: String, line: usize, reason: Box<Error> },

    /// A name is not in a fixed list of names (preset, device, command value).
    #[error("unknown {what} `{name}`")]
    UnknownName { what: &'static str, name: String, hint: Hint },

    /// This machine or this build does not have the device.
    #[error("device `{name}` is not available: {reason}")]
    DeviceUnavailable { name: String, reason: String, present: Vec<String> },

    /// The device failed while working (lost, out of memory, compiler error).
    #[error("device `{device}` failed while {action}: {message}")]
    DeviceFailed { device: String, action: String, message: String, hint: Option<Hint> },

    /// The run would need more memory than the device has.
    #[error("the run needs about {needed_mib} MiB, but device `{device}` has {available_mib} MiB")]
    OutOfMemory { device: String, needed_mib: u64, available_mib: u64, hint: Hint },

    /// A tokenizer is broken or does not fit the text or the checkpoint.
    #[error("tokenizer {origin}: {message}")]
    Tokenizer { origin: String, message: String, hint: Option<Hint> },

    /// A checkpoint is incomplete, truncated, altered, or of another model.
    #[error("checkpoint `{}`: {message}", path.display())]
    Checkpoint { path: PathBuf, message: String, hint: Option<Hint> },

    /// The loss or the gradient norm is NaN or infinite.
    #[error("{} at step {step} (batch of {batch}){}", not_finite(*loss, *grad_norm), in_a_row(*skipped))]
    NonFiniteLoss {
        step: u64,
        loss: f32,
        /// `None` where there is no gradient (evaluation).
        grad_norm: Option<f32>,
        batch: String,
        /// Number of steps skipped in a row just before this one, if `train.on_nan` skips such steps.
        skipped: Option<u64>,
    },

    /// So many steps overflowed that the factor of the loss fell below its floor (`train.loss_scale`).
    #[error(
        "the loss scale fell to {scale} at step {step}, below its floor of {floor}: steps overflow all the same"
    )]
    LossScale { step: u64, scale: f32, floor: f64 },

    /// Answers that a model has sampled in training cannot be scored, or are refused by what the user bounds. `step` is
    /// the step that would have been trained on them, where it is known.
    #[error("the rollout{} fails with `{value}` for `{key}`: {message}", of_step(*step))]
    Rollout { step: Option<u64>, key: String, value: String, message: String, hint: Option<Hint> },

    /// Outputs of a model are NaN or infinite.
    #[error("{}{what} are not finite: one of them is {value}", origin.as_ref().map_or_else(String::new, |origin| format!("{origin}: ")))]
    NonFiniteOutput {
        what: &'static str,
        value: f32,
        /// The model or the step that the outputs belong to.
        origin: Option<String>,
    },

    /// A text file that a command reads is not UTF-8 text.
    #[error("`{}` {message}", path.display())]
    InvalidText { path: PathBuf, message: String },

    /// A file is not a model of the wanted kind, or is truncated.
    #[error("`{}` {message}", path.display())]
    InvalidModel { path: PathBuf, message: String },

    /// A step of data preparation failed.
    #[error("data preparation failed while {action}: {message}")]
    Preparation { action: String, message: String, hint: Option<Hint> },

    /// A chat template is broken, or cannot render a conversation.
    #[error("chat template {origin}: {message}")]
    ChatTemplate { origin: String, message: String, hint: Option<Hint> },

    /// A record of dialogue data is no dialogue, or cannot be trained on; `line` is where it begins.
    #[error("`{}` line {line}: {message}", path.display())]
    InvalidDialogue { path: PathBuf, line: usize, message: String, hint: Option<Hint> },

    /// A task of an evaluation, or a row that it is applied to, is invalid. The message names file and line.
    #[error("{message}")]
    InvalidTask { message: String, hint: Option<Hint> },

    /// A result differs from its reference by more than the tolerance (`kiln verify`).
    #[error("{message}")]
    OverTolerance { message: String },
}

/// Minimum similarity of a name that is suggested (1 means equal).
const LEAST_SIMILARITY: f64 = 0.6;

/// The candidate nearest to `name` by edit distance, if any is similar enough to be suggested.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= LEAST_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Says which value is not finite: the loss, or only the gradient norm.
fn not_finite(loss: f32, grad_norm: Option<f32>) -> String {
    match grad_norm {
        Some(norm) if loss.is_finite() => format!("the gradient norm became {norm}, with a loss of {loss},"),
        _ => format!("the loss became {loss}"),
    }
}

fn in_a_row(skipped: Option<u64>) -> String {
    match skipped {
        None | Some(0) => String::new(),
        Some(steps) => format!(", after {steps} skipped steps in a row"),
    }
}

fn of_step(step: Option<u64>) -> String {
    step.map_or_else(String::new, |step| format!(" of step {step}"))
}

impl Error {
    /// Wraps an [`io::Error`] with the path and the operation that failed.
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }

    /// Makes an [`Error::InvalidValue`] without a hint.
    pub fn invalid_value(key: impl Into<String>, value: impl ToString, message: impl Into<String>) -> Self {
        Self::InvalidValue { key: key.into(), value: value.to_string(), message: message.into(), hint: None }
    }

    /// Refuses model outputs that contain NaN or an infinity. Only for outputs in which an infinity has no
    /// meaning.
    ///
    /// # Errors
    /// [`Error::NonFiniteOutput`] with the first such value.
    pub fn check_finite(what: &'static str, outputs: &[f32]) -> Result<()> {
        match outputs.iter().copied().find(|output| !output.is_finite()) {
            None => Ok(()),
            Some(value) => Err(Self::NonFiniteOutput { what, value, origin: None }),
        }
    }

    /// Names the model or the step in an [`Error::NonFiniteOutput`] that has no origin yet; returns other
    /// errors unchanged.
    pub fn with_origin(self, name: impl Into<String>) -> Self {
        match self {
            Self::NonFiniteOutput { what, value, origin: None } => {
                Self::NonFiniteOutput { what, value, origin: Some(name.into()) }
            }
            other => other,
        }
    }

    /// Names the step in an [`Error::Rollout`] that has none yet; returns other errors unchanged.
    pub fn at_step(self, number: u64) -> Self {
        match self {
            Self::Rollout { step: None, key, value, message, hint } => {
                Self::Rollout { step: Some(number), key, value, message, hint }
            }
            other => other,
        }
    }

    /// Makes an [`Error::Preparation`] without a hint.
    pub fn preparation(action: impl Into<String>, message: String) -> Self {
        Self::Preparation { action: action.into(), message, hint: None }
    }

    /// Advice on how to solve the problem, if there is any.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => "check the path".into(),
                io::ErrorKind::PermissionDenied => "check the permissions of the file and of its folder".into(),
                io::ErrorKind::StorageFull => hint![
                    "free some space, then run it again (training ",
                    Place::Resume.by("with"),
                    "): what is complete is kept"
                ],
                io::ErrorKind::NotADirectory => {
                    hint!["a file has the name of the folder: choose another ", Place::Out.by("with")]
                }
                io::ErrorKind::ReadOnlyFilesystem => hint!["choose a writable folder ", Place::Out.by("with")],
                _ => return None,
            },
            Self::NotFound { hint, .. }
            | Self::NotText { hint, .. }
            | Self::UnknownName { hint, .. }
            | Self::OutOfMemory { hint, .. }
            | Self::NothingToTokenize { hint, .. } => hint.clone(),
            Self::RunLocked { .. } => {
                hint!["wait for it to end, or choose another folder ", Place::Out.by("with")]
            }
            Self::RunExists { .. } => hint![
                "continue it ",
                Place::Resume.by("with"),
                ", or choose another folder ",
                Place::Out.by("with")
            ],
            Self::InvalidUtf8 { .. } => hint![
                "correct the bytes or save the file as UTF-8 (of data to train on, ",
                hint::set("data.lossy", true),
                " replaces a few of them)"
            ],
            Self::InvalidRecord { .. } => hint![
                "a record is a JSON object, or a row of a table, with a string under `text` (of data to train on, ",
                hint::choose("data.text_field", "NAME"),
                " names another field)"
            ],
            Self::InvalidShard { .. } => {
                "shards are little-endian tokens, uint16 up to a vocabulary of 65,536 and uint32 above, with the \
                 `tokenizer.json` that made them; write them anew from the text"
                    .into()
            }
            Self::EmptyCorpus { .. } => hint!["name files with text ", Place::Data.by("through")],
            Self::CorpusTooShort { .. } => hint![
                "give more text, a smaller ",
                hint::choose("model.block_size", "N"),
                ", or another ",
                hint::choose("data.val_fraction", "F")
            ],
            Self::UnknownKey { nearest: Some(key), .. } => format!("did you mean `{key}`?").into(),
            Self::UnknownKey { nearest: None, .. } => {
                hint![hint::command("kiln config show"), " lists every key"]
            }
            Self::DeviceUnavailable { present, .. } => format!("present here: {}", present.join(", ")).into(),
            Self::InvalidValue { hint, .. }
            | Self::InvalidTask { hint, .. }
            | Self::ChatTemplate { hint, .. }
            | Self::InvalidDialogue { hint, .. }
            | Self::Rollout { hint, .. }
            | Self::Preparation { hint, .. }
            | Self::Tokenizer { hint, .. }
            | Self::Checkpoint { hint, .. }
            | Self::DeviceFailed { hint, .. } => return hint.clone(),
            Self::NonFiniteLoss { skipped: Some(_), .. } => hint![
                "lower ",
                hint::key("train.learning_rate"),
                " or raise ",
                hint::key("train.warmup_steps"),
                hint::command_line(hint![
                    "; ",
                    hint::command("--resume best"),
                    " goes back to the best checkpoint"
                ])
            ],
            Self::NonFiniteLoss { skipped: None, .. } => hint![
                "lower ",
                hint::key("train.learning_rate"),
                ", set ",
                hint::key("train.grad_clip"),
                ", or skip such batches with ",
                hint::set("train.on_nan", "skip")
            ],
            Self::LossScale { .. } => hint![
                "lower ",
                hint::key("train.learning_rate"),
                ", or compute in a type with larger numbers than f16",
                hint::command_line(hint![
                    "; ",
                    hint::command("--resume best"),
                    " goes back to the best checkpoint"
                ])
            ],
            Self::NonFiniteOutput { .. } => {
                "its weights are damaged, or training has made them NaN: take them anew, or an earlier checkpoint"
                    .into()
            }
            Self::InvalidText { .. } => "save the file as plain text in UTF-8".into(),
            Self::ConfigEntry { reason, .. } => return reason.hint(),
            Self::ConfigSyntax { .. } => {
                hint![hint::command("kiln config show"), " prints a complete example"]
            }
            Self::InvalidModel { .. } => hint!["make it with ", hint::command("kiln data train-filter")],
            Self::OverTolerance { .. } => return None,
        })
    }

    /// Whether the request itself was invalid (exit code 2), as opposed to a failure while it was carried out
    /// (exit code 1).
    pub fn is_user_error(&self) -> bool {
        match self {
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::ReadOnlyFilesystem
                    | io::ErrorKind::IsADirectory
                    | io::ErrorKind::NotADirectory
            ),
            Self::Preparation { .. }
            | Self::DeviceFailed { .. }
            | Self::NonFiniteLoss { .. }
            | Self::LossScale { .. }
            | Self::Rollout { .. }
            | Self::NonFiniteOutput { .. }
            | Self::OverTolerance { .. } => false,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_named_and_skipping_is_not_advised_twice() {
        let error = |loss, grad_norm, skipped| Error::NonFiniteLoss {
            step: 7,
            loss,
            grad_norm,
            batch: "rows 1, 2".into(),
            skipped,
        };
        let stopped = error(f32::NAN, Some(f32::NAN), None);
        assert_eq!(stopped.to_string(), "the loss became NaN at step 7 (batch of rows 1, 2)");
        assert!(stopped.hint().unwrap().to_string().contains("train.on_nan=skip"));
        let overflow = error(3.5, Some(f32::INFINITY), None);
        assert_eq!(
            overflow.to_string(),
            "the gradient norm became inf, with a loss of 3.5, at step 7 (batch of rows 1, 2)"
        );
        let skipping = error(f32::INFINITY, None, Some(100));
        assert!(skipping.to_string().ends_with("rows 1, 2), after 100 skipped steps in a row"), "{skipping}");
        assert!(!skipping.hint().unwrap().to_string().contains("on_nan"));
    }

    #[test]
    fn hints_in_the_words_of_the_command_line() {
        let path = || PathBuf::from("x");
        let io = |kind: io::ErrorKind| Error::io("read", "x", kind.into());
        let not_finite = |skipped| Error::NonFiniteLoss {
            step: 1,
            loss: f32::NAN,
            grad_norm: None,
            batch: String::new(),
            skipped,
        };
        let message = || "m".to_owned();
        let unknown = |nearest: Option<&str>| Error::UnknownKey {
            key: "k".into(),
            nearest: nearest.map(str::to_owned),
        };
        for (error, words) in [
            (io(io::ErrorKind::NotFound), "check the path"),
            (io(io::ErrorKind::PermissionDenied), "check the permissions of the file and of its folder"),
            (
                io(io::ErrorKind::StorageFull),
                "free some space, then run it again (training with `--resume`): what is complete is kept",
            ),
            (
                io(io::ErrorKind::NotADirectory),
                "a file has the name of the folder: choose another with `--out`",
            ),
            (io(io::ErrorKind::ReadOnlyFilesystem), "choose a writable folder with `--out`"),
            (Error::NotFound { path: path(), hint: "look".into() }, "look"),
            (Error::RunLocked { path: path() }, "wait for it to end, or choose another folder with `--out`"),
            (
                Error::RunExists { path: path() },
                "continue it with `--resume`, or choose another folder with `--out`",
            ),
            (
                Error::InvalidUtf8 { path: path(), offset: 1 },
                "correct the bytes or save the file as UTF-8 (of data to train on, `--set data.lossy=true` replaces \
                 a few of them)",
            ),
            (
                Error::InvalidRecord { path: path(), line: 1, message: message() },
                "a record is a JSON object, or a row of a table, with a string under `text` (of data to train on, \
                 `--set data.text_field=NAME` names another field)",
            ),
            (
                Error::InvalidShard { path: path(), message: message() },
                "shards are little-endian tokens, uint16 up to a vocabulary of 65,536 and uint32 above, with the \
                 `tokenizer.json` that made them; write them anew from the text",
            ),
            (Error::EmptyCorpus { sources: "x".into() }, "name files with text through `--data`"),
            (
                Error::CorpusTooShort { split: "train", tokens: 1, needed: 2 },
                "give more text, a smaller `--set model.block_size=N`, or another `--set data.val_fraction=F`",
            ),
            (unknown(Some("train.seed")), "did you mean `train.seed`?"),
            (unknown(None), "`kiln config show` lists every key"),
            (
                Error::DeviceUnavailable {
                    name: "cuda".into(),
                    reason: message(),
                    present: vec!["cpu".into()],
                },
                "present here: cpu",
            ),
            (
                not_finite(Some(3)),
                "lower `train.learning_rate` or raise `train.warmup_steps`; `--resume best` goes back to the best \
                 checkpoint",
            ),
            (
                not_finite(None),
                "lower `train.learning_rate`, set `train.grad_clip`, or skip such batches with `--set \
                 train.on_nan=skip`",
            ),
            (
                Error::check_finite("outputs", &[f32::NAN]).unwrap_err(),
                "its weights are damaged, or training has made them NaN: take them anew, or an earlier checkpoint",
            ),
            (Error::InvalidText { path: path(), message: message() }, "save the file as plain text in UTF-8"),
            (
                Error::ConfigEntry { origin: message(), line: 1, reason: Box::new(unknown(None)) },
                "`kiln config show` lists every key",
            ),
            (
                Error::ConfigSyntax { origin: message(), message: message() },
                "`kiln config show` prints a complete example",
            ),
            (
                Error::InvalidModel { path: path(), message: message() },
                "make it with `kiln data train-filter`",
            ),
        ] {
            assert_eq!(error.hint().unwrap().to_string(), words, "{error}");
        }
        let without = [
            io(io::ErrorKind::Other),
            Error::invalid_value("k", 1, "m"),
            Error::preparation("reading", message()),
            Error::OverTolerance { message: message() },
        ];
        assert!(without.iter().all(|error| error.hint().is_none()));
    }
}
