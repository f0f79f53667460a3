//! Everything that can be refused before data is read: ranges of single keys and keys that do not go
//! together. Nothing downstream checks these again.

mod data;
mod model;

use super::{Config, SampleConfig, ScheduleKind, TrainConfig};
use crate::error::{Error, Hint, Result, hint};
use std::fmt::Display;

/// No width, length or count of the model or the batch may exceed this, so that products of a few of
/// them stay within 64 bits.
const LARGEST_SIZE: usize = 1 << 24;

/// Each beam has a cache of its own.
const MOST_BEAMS: usize = 256;

impl Config {
    /// Checks the whole tree.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for the first key that is refused, with what would be accepted.
    pub fn validate(&self) -> Result<()> {
        if let Some((key, value)) = self.over_toml_range() {
            return Err(Error::invalid_value(
                key,
                value,
                "expected a whole number up to 9223372036854775807",
            ));
        }
        data::check(self)?;
        model::check(&self.model)?;
        data::check_objective(self)?;
        check_batch(&self.train, self.model.block_size)?;
        check_optimizer(&self.train)?;
        check_schedule(&self.train)?;
        check_intervals(self)?;
        self.sample.validate()
    }
}

impl SampleConfig {
    /// Checks the sampling settings alone, for commands that have no other part of the tree.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for the first key that is refused.
    pub fn validate(&self) -> Result<()> {
        within("sample.temperature", self.temperature, Range::FromZero)?;
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            let message = "expected a number above 0 and at most 1";
            return Err(Error::invalid_value("sample.top_p", self.top_p, message));
        }
        within("sample.min_p", self.min_p, Range::Share)?;
        within("sample.repetition_penalty", self.repetition_penalty, Range::Positive)?;
        if !self.length_penalty.is_finite() {
            let message = "expected a finite number";
            return Err(Error::invalid_value("sample.length_penalty", self.length_penalty, message));
        }
        if !(1..=MOST_BEAMS).contains(&self.num_beams) {
            let message = format!("expected a whole number from 1 to {MOST_BEAMS}");
            return Err(Error::invalid_value("sample.num_beams", self.num_beams, message));
        }
        if self.num_beams > 1 && self.repetition_penalty != 1.0 {
            let message = "beam search does not penalize repetition";
            let hint = hint![
                "add ",
                hint::set("sample.repetition_penalty", 1),
                ", or ",
                hint::set("sample.num_beams", 1),
                " to draw tokens"
            ];
            return Err(refused("sample.repetition_penalty", self.repetition_penalty, message, hint));
        }
        Ok(())
    }
}

fn check_batch(train: &TrainConfig, block_size: usize) -> Result<()> {
    size("train.batch_size", train.batch_size)?;
    size("train.gradient_accumulation_steps", train.gradient_accumulation_steps)?;
    let rows = train.batch_size as u64 * train.gradient_accumulation_steps as u64;
    let tokens = rows.saturating_mul(block_size as u64);
    if tokens > 1 << 32 {
        let message = format!(
            "with `train.gradient_accumulation_steps` and `model.block_size` a step has {tokens} tokens, \
             more than 2³²"
        );
        return Err(Error::invalid_value("train.batch_size", train.batch_size, message));
    }
    Ok(())
}

fn check_optimizer(train: &TrainConfig) -> Result<()> {
    within("train.learning_rate", train.learning_rate, Range::Positive)?;
    within("train.min_lr", train.min_lr, Range::FromZero)?;
    within("train.beta1", train.beta1, Range::Share)?;
    within("train.beta2", train.beta2, Range::Share)?;
    within("train.epsilon", train.epsilon, Range::Positive)?;
    within("train.momentum", train.momentum, Range::Share)?;
    within("train.weight_decay", train.weight_decay, Range::FromZero)?;
    within("train.grad_clip", train.grad_clip, Range::FromZero)?;
    within("train.ema_decay", train.ema_decay, Range::Share)?;
    within("train.early_stopping_min_delta", train.early_stopping_min_delta, Range::FromZero)
}

fn check_schedule(train: &TrainConfig) -> Result<()> {
    let TrainConfig { schedule, max_steps, warmup_steps, decay_steps, stop_after, .. } = *train;
    at_least_one("train.max_steps", max_steps)?;
    if stop_after > max_steps {
        let message = format!("the run ends before, at `train.max_steps` = {max_steps}");
        return Err(Error::invalid_value("train.stop_after", stop_after, message));
    }
    if schedule != ScheduleKind::Constant && train.min_lr > train.learning_rate {
        let message = format!("it exceeds `train.learning_rate`, which is {}", train.learning_rate);
        let hint = hint!["a tenth is usual: ", hint::set("train.min_lr", train.learning_rate / 10.0)];
        return Err(refused("train.min_lr", train.min_lr, message, hint));
    }
    match schedule {
        ScheduleKind::Linear | ScheduleKind::Cosine if decay_steps != 0 && decay_steps < warmup_steps => {
            let message = format!("the decay ends before the warmup: `train.warmup_steps` is {warmup_steps}");
            let hint = hint!["0 decays until ", hint::key("train.max_steps")];
            Err(refused("train.decay_steps", decay_steps, message, hint))
        }
        ScheduleKind::Wsd if decay_steps != 0 => {
            if decay_steps > max_steps.saturating_sub(warmup_steps) {
                let message = format!(
                    "warmup and decay take {warmup_steps} + {decay_steps} steps of `train.max_steps` = {max_steps}"
                );
                return Err(Error::invalid_value("train.decay_steps", decay_steps, message));
            }
            Ok(())
        }
        ScheduleKind::InverseSqrt if warmup_steps == 0 => {
            let message = "inverse-sqrt is √(warmup / step), so it needs at least one step of warmup";
            Err(Error::invalid_value("train.warmup_steps", warmup_steps, message))
        }
        _ => Ok(()),
    }
}

fn check_intervals(config: &Config) -> Result<()> {
    let Config { data, train, .. } = config;
    at_least_one("train.log_interval", train.log_interval)?;
    at_least_one("train.keep_checkpoints", train.keep_checkpoints as u64)?;
    let patience = train.early_stopping_patience;
    if patience > 0 && train.eval_interval == 0 {
        let message = "early stopping needs evaluations, but `train.eval_interval` is 0";
        return Err(refused(
            "train.early_stopping_patience",
            patience,
            message,
            hint![hint::set("train.eval_interval", 250)],
        ));
    }
    // Data that the user names may bring a split of its own: the loader knows.
    if patience > 0 && data.val_fraction == 0.0 && data.paths.is_empty() {
        let message = "early stopping needs a validation split, but `data.val_fraction` is 0";
        return Err(refused(
            "train.early_stopping_patience",
            patience,
            message,
            hint![hint::set("data.val_fraction", 0.1)],
        ));
    }
    Ok(())
}

/// Intervals that several keys share. None of them holds NaN or an infinity.
#[derive(Clone, Copy)]
enum Range {
    /// (0, ∞)
    Positive,
    /// [0, ∞)
    FromZero,
    /// [0, 1)
    Share,
}

fn within(key: &str, value: f64, range: Range) -> Result<()> {
    let (inside, expected) = match range {
        Range::Positive => (value > 0.0, "a finite number above 0"),
        Range::FromZero => (value >= 0.0, "a finite number, 0 or more"),
        Range::Share => ((0.0..1.0).contains(&value), "a number from 0 to below 1"),
    };
    if inside && value.is_finite() {
        return Ok(());
    }
    Err(Error::invalid_value(key, value, format!("expected {expected}")))
}

/// A width, length or count: at least 1.
fn size(key: &str, value: usize) -> Result<()> {
    if (1..=LARGEST_SIZE).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid_value(key, value, format!("expected a whole number from 1 to {LARGEST_SIZE}")))
}

fn at_least_one(key: &str, value: u64) -> Result<()> {
    if value >= 1 {
        return Ok(());
    }
    Err(Error::invalid_value(key, value, "expected a whole number, 1 or more"))
}

fn refused(key: &str, value: impl Display, message: impl Into<String>, hint: impl Into<Hint>) -> Error {
    Error::InvalidValue {
        key: key.into(),
        value: value.to_string(),
        message: message.into(),
        hint: Some(hint.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(overrides: &[&str]) -> Result<()> {
        let mut config = Config::default();
        config.apply(&overrides.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())?;
        config.validate()
    }

    #[track_caller]
    fn refusal(overrides: &[&str]) -> (String, String, Option<String>) {
        let error = check(overrides).expect_err("accepted");
        let hint = error.hint().map(|hint| hint.to_string());
        match error {
            Error::InvalidValue { key, message, .. } => (key, message, hint),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn tasks_and_answers_need_what_they_need() {
        check(&["data.task=sort", "data.layout=documents", "data.answer_after=="]).unwrap();
        let (key, message, hint) = refusal(&["data.task=two-sum", "data.paths=['x.txt']"]);
        assert_eq!((key.as_str(), hint.is_some()), ("data.task", true));
        assert!(message.contains("`data.paths`"), "{message}");
        let (key, _, hint) = refusal(&["data.answer_after=="]);
        assert_eq!(key, "data.answer_after");
        assert!(hint.unwrap().contains("data.layout=documents"));
    }

    #[test]
    fn the_defaults_are_valid() {
        Config::default().validate().unwrap();
    }

    #[test]
    fn single_keys_out_of_range_are_named() {
        for text in [
            "model.n_layer=0",
            "model.n_head=0",
            "model.n_embd=0",
            "model.block_size=0",
            "model.n_inner=99999999999",
            "model.dropout=1.0",
            "model.dropout=-0.1",
            "model.norm_eps=0",
            "model.init_std=0",
            "model.rope_theta=-1",
            "train.batch_size=0",
            "train.gradient_accumulation_steps=0",
            "train.max_steps=0",
            "train.learning_rate=0",
            "train.learning_rate=inf",
            "train.min_lr=-1e-5",
            "train.beta1=1",
            "train.beta2=-0.1",
            "train.epsilon=0",
            "train.momentum=1",
            "train.weight_decay=-1",
            "train.grad_clip=-1",
            "train.ema_decay=1",
            "train.log_interval=0",
            "train.keep_checkpoints=0",
            "data.val_fraction=1",
            "data.text_field=",
            "sample.temperature=-1",
            "sample.top_p=0",
            "sample.top_p=1.1",
            "sample.min_p=1",
            "sample.repetition_penalty=0",
        ] {
            assert_eq!(refusal(&[text]).0, text.split_once('=').unwrap().0, "{text}");
        }
    }

    /// Every key that takes a fraction refuses NaN, also one that is added later.
    #[test]
    fn nan_is_refused_everywhere() {
        let mut floats = 0;
        for key in Config::keys() {
            let mut config = Config::default();
            if config.apply(&[format!("{key}=nan")]).is_ok() && !config.to_toml().unwrap().contains("\"nan\"")
            {
                floats += 1;
                let message = config.validate().unwrap_err().to_string();
                assert!(message.starts_with(&format!("invalid value `NaN` for `{key}`")), "{message}");
            }
        }
        assert!(floats > 15, "{floats}");
    }

    #[test]
    fn heads_that_do_not_divide_the_width() {
        let error = check(&["model.n_embd=100", "model.n_head=6"]).unwrap_err();
        let message = error.to_string();
        assert_eq!(
            message,
            "invalid value `100` for `model.n_embd`: heads that don't divide the width: `model.n_head` is 6"
        );
        assert_eq!(error.hint().unwrap().to_string(), "the nearest that fits: `--set model.n_embd=102`");
        let (_, _, hint) = refusal(&["model.n_embd=3", "model.n_head=8"]);
        assert_eq!(hint.unwrap(), "the nearest that fits: `--set model.n_embd=8`");
        let (_, _, hint) = refusal(&["model.n_embd=129", "model.n_head=4"]);
        assert_eq!(hint.unwrap(), "the nearest that fits: `--set model.n_embd=128`");
    }

    #[test]
    fn grouped_heads_and_rotary_widths() {
        let (key, message, hint) = refusal(&["model.n_head=4", "model.n_kv_head=3"]);
        assert_eq!(key, "model.n_kv_head");
        assert!(message.contains("`model.n_head`, which is 4"), "{message}");
        assert_eq!(hint.unwrap(), "one of 1, 2, 4");
        assert_eq!(refusal(&["model.n_head=4", "model.n_kv_head=8"]).0, "model.n_kv_head");

        let (key, message, hint) = refusal(&["model.n_embd=20", "model.n_head=4", "model.position=rotary"]);
        assert_eq!(key, "model.n_embd");
        assert!(message.ends_with("20 / 4 heads = 5"), "{message}");
        assert_eq!(hint.unwrap(), "the nearest that fits: `--set model.n_embd=16`");
        assert_eq!(
            refusal(&["model.n_embd=5", "model.n_head=1", "model.position=sinusoidal"]).0,
            "model.n_embd"
        );
        check(&["model.n_embd=20", "model.n_head=4"]).unwrap();
        check(&["model.activation=swiglu", "model.bias=true"]).unwrap();
    }

    #[test]
    fn schedules() {
        // Shorter than the warmup: a short try of a long configuration.
        check(&["train.max_steps=50"]).unwrap();
        assert_eq!(refusal(&["train.stop_after=3000"]).0, "train.stop_after");
        check(&["train.stop_after=20"]).unwrap();

        let (key, message, _) = refusal(&["train.learning_rate=1e-5"]);
        assert_eq!(key, "train.min_lr");
        assert!(message.contains("0.00001"), "{message}");
        check(&["train.learning_rate=1e-5", "train.schedule=constant"]).unwrap();
        check(&["train.min_lr=0"]).unwrap();

        for schedule in ["cosine", "linear"] {
            let schedule = format!("train.schedule={schedule}");
            assert_eq!(refusal(&[&schedule, "train.decay_steps=99"]).0, "train.decay_steps");
            check(&[&schedule, "train.decay_steps=100"]).unwrap();
        }
        assert_eq!(refusal(&["train.schedule=wsd", "train.decay_steps=1901"]).0, "train.decay_steps");
        check(&["train.schedule=wsd", "train.decay_steps=1900"]).unwrap();
        assert_eq!(refusal(&["train.schedule=inverse-sqrt", "train.warmup_steps=0"]).0, "train.warmup_steps");
        check(&["train.schedule=cosine", "train.warmup_steps=0"]).unwrap();
    }

    #[test]
    fn early_stopping_needs_something_to_watch() {
        let patience = "train.early_stopping_patience=3";
        check(&[patience]).unwrap();
        assert!(refusal(&[patience, "train.eval_interval=0"]).1.contains("`train.eval_interval`"));
        assert!(refusal(&[patience, "data.val_fraction=0"]).1.contains("`data.val_fraction`"));
        check(&[patience, "data.val_fraction=0", "data.paths=[\"tokens\"]"]).unwrap();
    }

    #[test]
    fn tokenizers_that_cannot_be() {
        assert_eq!(refusal(&["tokenizer.kind=bpe", "tokenizer.vocab_size=100"]).0, "tokenizer.vocab_size");
        let (key, _, hint) = refusal(&["tokenizer.path=x.json"]);
        assert_eq!(
            (key.as_str(), hint.unwrap().as_str()),
            ("tokenizer.path", "add `--set tokenizer.kind=file`")
        );
        check(&["tokenizer.kind=file", "tokenizer.path=x.json"]).unwrap();
        check(&["tokenizer.kind=file"]).unwrap();
        assert_eq!(refusal(&["tokenizer.kind=byte", "model.vocab_size=100"]).0, "model.vocab_size");
        check(&["tokenizer.kind=byte", "model.vocab_size=512"]).unwrap();
    }

    #[test]
    fn sizes_beyond_any_machine_are_refused_rather_than_multiplied() {
        let (key, _, _) =
            refusal(&["train.batch_size=16777216", "train.gradient_accumulation_steps=16777216"]);
        assert_eq!(key, "train.batch_size");
        let mut config = Config::default();
        config.train.seed = u64::MAX;
        assert!(config.validate().unwrap_err().to_string().contains("`train.seed`"));
    }
}
