//! Refuses everything that can be refused before data is read: first values outside the range of their key,
//! then combinations of keys that are not possible. Nothing downstream checks these again.

mod data;
mod model;
mod rollout;

use super::{Config, Range, SampleConfig, ScheduleKind, TrainConfig};
use crate::error::{Error, Hint, Result, hint};
use crate::section::Section;
use std::fmt::Display;

impl Config {
    /// Checks the whole tree.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for the first key that is refused, with the values that it accepts.
    pub fn validate(&self) -> Result<()> {
        if let Some((key, value)) = self.over_toml_range() {
            return Err(Error::invalid_value(
                key,
                value,
                "expected a whole number up to 9223372036854775807",
            ));
        }
        self.check_ranges()?;
        data::check(self)?;
        model::check(&self.model)?;
        self.check_objective_kind()?;
        self.check_preference()?;
        self.check_distill()?;
        self.check_adapter()?;
        self.check_pruning()?;
        data::check_objective(self)?;
        rollout::check(self)?;
        check_batch(&self.train, self.model.block_size)?;
        check_schedule(&self.train)?;
        check_intervals(self)?;
        check_sample(&self.sample)
    }
}

impl SampleConfig {
    /// Checks only the sampling settings, for commands that have no other part of the tree.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for the first key that is refused.
    pub fn validate(&self) -> Result<()> {
        self.check_ranges()?;
        check_sample(self)
    }
}

fn check_sample(sample: &SampleConfig) -> Result<()> {
    if sample.num_beams > 1 && sample.repetition_penalty != 1.0 {
        let message = "beam search does not penalize repetition";
        let hint = hint![
            "add ",
            hint::set("sample.repetition_penalty", 1),
            ", or ",
            hint::set("sample.num_beams", 1),
            " to draw tokens"
        ];
        return Err(refused("sample.repetition_penalty", sample.repetition_penalty, message, hint));
    }
    Ok(())
}

fn check_batch(train: &TrainConfig, block_size: usize) -> Result<()> {
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

fn check_schedule(train: &TrainConfig) -> Result<()> {
    let TrainConfig { schedule, max_steps, warmup_steps, decay_steps, stop_after, .. } = *train;
    if let Some(stop_after) = stop_after.filter(|step| *step > max_steps) {
        let message = format!("the run ends before, at `train.max_steps` = {max_steps}");
        return Err(Error::invalid_value("train.stop_after", stop_after, message));
    }
    if schedule != ScheduleKind::Constant && train.min_lr > train.learning_rate {
        let message = format!("it exceeds `train.learning_rate`, which is {}", train.learning_rate);
        let hint = hint!["a tenth is usual: ", hint::set("train.min_lr", train.learning_rate / 10.0)];
        return Err(refused("train.min_lr", train.min_lr, message, hint));
    }
    match (schedule, decay_steps) {
        (ScheduleKind::Linear | ScheduleKind::Cosine, Some(decay_steps)) if decay_steps < warmup_steps => {
            let message = format!("the decay ends before the warmup: `train.warmup_steps` is {warmup_steps}");
            let hint = hint!["without it the decay goes on until ", hint::key("train.max_steps")];
            Err(refused("train.decay_steps", decay_steps, message, hint))
        }
        (ScheduleKind::Wsd, Some(decay_steps)) if decay_steps > max_steps.saturating_sub(warmup_steps) => {
            let message = format!(
                "warmup and decay take {warmup_steps} + {decay_steps} steps of `train.max_steps` = {max_steps}"
            );
            Err(Error::invalid_value("train.decay_steps", decay_steps, message))
        }
        (ScheduleKind::InverseSqrt, _) if warmup_steps == 0 => {
            let message = "inverse-sqrt is √(warmup / step), so it needs at least one step of warmup";
            Err(Error::invalid_value("train.warmup_steps", warmup_steps, message))
        }
        _ => Ok(()),
    }
}

fn check_intervals(config: &Config) -> Result<()> {
    let Config { data, train, .. } = config;
    let Some(patience) = train.early_stopping_patience else { return Ok(()) };
    let key = "train.early_stopping_patience";
    if train.eval_interval == 0 {
        let message = "early stopping needs evaluations, but `train.eval_interval` is 0";
        return Err(refused(key, patience, message, hint![hint::set("train.eval_interval", 250)]));
    }
    // Data that the user names may bring a split of its own: the loader knows.
    if data.val_fraction == 0.0 && data.paths.is_empty() {
        let message = "early stopping needs a validation split, but `data.val_fraction` is 0";
        return Err(refused(key, patience, message, hint![hint::set("data.val_fraction", 0.1)]));
    }
    Ok(())
}

/// Checks a width, length or count that the range of the key alone does not restrict: a resolved value, or
/// one that is only used with another key.
fn size(key: &str, value: usize) -> Result<()> {
    Range::SIZE.check(key, &value)
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
    use crate::config::KEYS;

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
            "model.rope.theta=-1",
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

    #[test]
    fn every_range_of_whole_numbers_is_kept_at_its_ends() {
        let mut ranges = 0;
        for key in KEYS.iter() {
            let Some(Range::Whole(low, high)) = key.range else { continue };
            ranges += 1;
            let is_optional = Config::fields().iter().any(|field| field.key == key.name && field.optional);
            // 0 is no value there.
            let below = low.checked_sub(1).filter(|below| *below > 0 || !is_optional);
            for outside in below.into_iter().chain(high.checked_add(1)) {
                assert_eq!(refusal(&[&format!("{}={outside}", key.name)]).0, key.name);
            }
        }
        assert!(ranges > 15, "{ranges}");
    }

    /// Every key that takes a real number refuses NaN. This also tests keys that are added later.
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
