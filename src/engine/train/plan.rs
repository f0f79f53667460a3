//! Plans of a run on one device: whether it fits in memory, with which settings it would fit, and how long a step
//! takes, which is measured on a few layers of the model.

mod time;

pub use time::{StepTime, measure_step};

use super::memory::{MemoryKind, ModelsBeside, estimate};
use crate::{
    config::Config,
    error::{Error, Hint, Result, hint},
};

/// Share of the memory that settings may take that Kiln chooses or suggests. The rest is for what predictions miss and
/// for other programs.
pub(super) const SHARE: f64 = 0.9;

/// Most settings that a suggestion changes beside the micro-batches.
const MOST_CHANGES: usize = 3;

/// A setting that takes less memory, and the time that it costs as a multiple, roughly.
struct Change {
    key: &'static str,
    value: &'static str,
    time: f64,
}

/// Changes that take less memory, the cheapest first. Those that a configuration does not have are left out.
const CHANGES: [Change; 5] = [
    Change { key: "train.recompute", value: "selective", time: 1.15 },
    Change { key: "train.recompute", value: "blocks", time: 1.33 },
    Change { key: "train.dtype", value: "bf16", time: 1.0 },
    Change { key: "train.optimizer", value: "adamw-8bit", time: 1.0 },
    Change { key: "train.offload", value: "optimizer", time: 1.0 },
];

/// A device's memory, and what it computes in.
#[derive(Debug, Clone)]
pub struct Limits<'a> {
    pub kind: MemoryKind,
    pub bytes: u64,
    /// Types that it computes in, as in `train.dtype`.
    pub dtypes: &'a [&'static str],
}

/// Settings with which a run fits.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    /// Keys and their values.
    pub settings: Vec<(&'static str, String)>,
    /// The configuration with them.
    pub config: Config,
    /// Memory that it takes, in bytes.
    pub total: u64,
    /// Time of a micro-batch's row as a multiple of that without the settings.
    pub time: f64,
}

/// Refuses a run that does not fit in the memory of the device `name`, with settings that fit.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn check(config: &Config, beside: &ModelsBeside, limits: &Limits, name: &str) -> Result<()> {
    const MIB: u64 = 1 << 20;
    let needed = estimate(config, beside, limits.kind).total();
    if needed <= limits.bytes {
        return Ok(());
    }
    Err(Error::OutOfMemory {
        device: name.into(),
        needed_mib: needed.div_ceil(MIB),
        available_mib: limits.bytes / MIB,
        hint: advice(&suggestions(config, beside, limits)),
    })
}

/// Advice to take the first of some suggestions.
pub fn advice(suggestions: &[Suggestion]) -> Hint {
    match suggestions.first() {
        Some(suggestion) => hint!["it fits with ", suggestion.as_settings()],
        None => hint![
            "lower ",
            hint::key("model.block_size"),
            ", ",
            hint::key("model.n_layer"),
            " or ",
            hint::key("model.n_embd")
        ],
    }
}

impl Suggestion {
    /// The settings as a part of a hint.
    pub fn as_settings(&self) -> hint::Settings {
        let mut all = self.settings.iter();
        let first = all.next().map(|(key, value)| hint::set(key, value));
        let empty = || hint::set("train.batch_size", self.config.train.batch_size);
        all.fold(first.unwrap_or_else(empty), |settings, (key, value)| settings.and(key, value))
    }
}

/// Divides the rows of a step into as few micro-batches as fit (`train.batch_size = auto`). Without the key the
/// configuration stays as it is.
///
/// # Errors
/// [`Error::OutOfMemory`] if not even the smallest micro-batches fit.
pub fn fit_batch(config: Config, beside: &ModelsBeside, limits: &Limits, name: &str) -> Result<Config> {
    if !config.train.fit_batch {
        return Ok(config);
    }
    let mut config = config;
    config.train.fit_batch = false;
    match largest_batch(&config, beside, limits, rows(&config)) {
        Some(fitting) => Ok(fitting),
        None => {
            check(&config, beside, limits, name)?;
            Ok(config)
        }
    }
}

/// Settings with which a run fits that does not, those that change the least first; for a run that fits, larger
/// micro-batches of the same step. Empty if nothing fits or nothing is better.
pub fn suggestions(config: &Config, beside: &ModelsBeside, limits: &Limits) -> Vec<Suggestion> {
    let batch = config.train.batch_size;
    if estimate(config, beside, limits.kind).total() <= limits.bytes {
        let larger = largest_batch(config, beside, limits, rows(config));
        let larger = larger.filter(|larger| larger.train.batch_size > batch);
        return larger.map(|larger| suggestion(config, larger, 1.0, beside, limits)).into_iter().collect();
    }
    let divided = largest_batch(config, beside, limits, batch);
    let most = divided.as_ref().map_or(0, |divided| divided.train.batch_size);
    let mut found: Vec<_> =
        divided.into_iter().map(|divided| suggestion(config, divided, 1.0, beside, limits)).collect();
    for count in 1..=MOST_CHANGES {
        let of_changes = |chosen: Vec<&Change>| {
            let changed = apply(config, &chosen, limits)?;
            let fitting = largest_batch(&changed, beside, limits, batch)?;
            let time = chosen.iter().map(|change| change.time).product();
            // A change is worth it if more rows fit than without it.
            let is_better = fitting.train.batch_size > most;
            is_better.then(|| suggestion(config, fitting, time, beside, limits))
        };
        let better: Vec<_> = combinations(count).into_iter().filter_map(of_changes).collect();
        if !better.is_empty() {
            found.extend(better);
            break;
        }
    }
    found
}

/// Rows of a step.
fn rows(config: &Config) -> usize {
    config.train.batch_size.saturating_mul(config.train.gradient_accumulation_steps)
}

fn with_batch(config: &Config, batch: usize) -> Config {
    let mut changed = config.clone();
    changed.train.batch_size = batch;
    changed.train.gradient_accumulation_steps = rows(config) / batch.max(1);
    changed
}

/// The configuration with the largest micro-batches that divide the rows of a step, are no larger than `most` and fit.
fn largest_batch(config: &Config, beside: &ModelsBeside, limits: &Limits, most: usize) -> Option<Config> {
    let candidates = divisors(rows(config)).into_iter().filter(|batch| *batch <= most);
    let candidates = candidates.map(|batch| with_batch(config, batch));
    let mut valid: Vec<Config> = candidates.filter(|changed| changed.validate().is_ok()).collect();
    // The largest come first, and more rows take more memory.
    let first = valid.partition_point(|changed| {
        estimate(changed, beside, limits.kind).total() as f64 > limits.bytes as f64 * SHARE
    });
    (first < valid.len()).then(|| valid.swap_remove(first))
}

/// Divisors of a number, the largest first.
fn divisors(number: usize) -> Vec<usize> {
    let small = (1..).take_while(|divisor: &usize| divisor.saturating_mul(*divisor) <= number);
    let small: Vec<usize> = small.filter(|divisor| number.is_multiple_of(*divisor)).collect();
    let mut all: Vec<usize> =
        small.iter().map(|divisor| number / divisor).chain(small.iter().copied()).collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    all.dedup();
    all
}

/// Choices of `count` changes of different keys.
fn combinations(count: usize) -> Vec<Vec<&'static Change>> {
    let masks = 0u32..1 << CHANGES.len();
    let of_mask = |mask: u32| -> Vec<&'static Change> {
        CHANGES.iter().enumerate().filter(|(i, _)| (mask >> i) & 1 == 1).map(|(_, change)| change).collect()
    };
    let differ = |chosen: &Vec<&Change>| {
        chosen.iter().enumerate().all(|(i, change)| chosen[..i].iter().all(|other| other.key != change.key))
    };
    masks.filter(|mask| mask.count_ones() as usize == count).map(of_mask).filter(differ).collect()
}

/// The configuration with some changes; `None` if it does not have one of them or has it already, or if the device
/// lacks it.
fn apply(config: &Config, changes: &[&Change], limits: &Limits) -> Option<Config> {
    let mut changed = config.clone();
    for Change { key, value, .. } in changes {
        let lacks_type = *key == "train.dtype" && !limits.dtypes.contains(value);
        let has_other = *key == "train.optimizer" && value_of(config, key).as_deref() != Some("adamw");
        if lacks_type || has_other {
            return None;
        }
        changed.apply(&[format!("{key}={value}")]).ok()?;
        if value_of(config, key) == value_of(&changed, key) {
            return None;
        }
    }
    Some(changed)
}

/// The text that a configuration has for a key.
fn value_of(config: &Config, key: &str) -> Option<String> {
    let tree = serde_json::to_value(config).ok()?;
    let value = tree.pointer(&format!("/{}", key.replace('.', "/")))?;
    Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

fn suggestion(
    before: &Config,
    config: Config,
    time: f64,
    beside: &ModelsBeside,
    limits: &Limits,
) -> Suggestion {
    let keys = ["train.batch_size", "train.gradient_accumulation_steps"];
    let keys = keys.into_iter().chain(CHANGES.iter().map(|change| change.key));
    let mut settings: Vec<(&'static str, String)> = Vec::new();
    for key in keys {
        let value = value_of(&config, key).filter(|value| value_of(before, key).as_ref() != Some(value));
        if let Some(value) = value.filter(|_| settings.iter().all(|(known, _)| *known != key)) {
            settings.push((key, value));
        }
    }
    let total = estimate(&config, beside, limits.kind).total();
    Suggestion { settings, config, total, time }
}

/// Bytes that the program takes in main memory beside its tensors when it trains: what it takes now, and the code and
/// buffers of threads that training begins to use.
pub fn program_bytes() -> u64 {
    const IN_TRAINING: u64 = 18 << 20;
    crate::platform::memory_of_program().unwrap_or_default() + IN_TRAINING
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(overrides: &[&str]) -> Config {
        let base = ["model.vocab_size=65", "train.batch_size=24", "train.gradient_accumulation_steps=2"];
        let mut config = Config::default();
        let all: Vec<String> = base.iter().chain(overrides).map(|text| (*text).to_owned()).collect();
        config.apply(&all).unwrap();
        config
    }

    fn limits(bytes: u64) -> Limits<'static> {
        Limits { kind: MemoryKind::Device, bytes, dtypes: &[] }
    }

    fn total(config: &Config) -> u64 {
        estimate(config, &ModelsBeside::default(), MemoryKind::Device).total()
    }

    /// Memory in which micro-batches of a configuration just fit.
    fn just_enough(config: &Config) -> u64 {
        (total(config) as f64 / SHARE) as u64 + 1
    }

    #[test]
    fn rows_are_divided_into_as_few_micro_batches_as_fit() {
        let nothing = ModelsBeside::default();
        let fit = |overrides: &[&str], bytes| fit_batch(config(overrides), &nothing, &limits(bytes), "gpu");
        let auto = ["train.batch_size=auto"];
        let batches = |config: Config| (config.train.batch_size, config.train.gradient_accumulation_steps);
        let eight = just_enough(&with_batch(&config(&[]), 8));
        assert_eq!(batches(fit(&auto, eight).unwrap()), (8, 6));
        assert_eq!(batches(fit(&auto, u64::MAX).unwrap()), (48, 1));
        assert!(!fit(&auto, eight).unwrap().train.fit_batch);
        // Only where it is asked for.
        assert_eq!(batches(fit(&[], 1).unwrap()), (24, 2));
        let error = fit(&auto, 1 << 20).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
        // A later number counts again.
        let number = ["train.batch_size=auto", "train.batch_size=6"];
        assert_eq!(batches(fit(&number, u64::MAX).unwrap()), (6, 2));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_settings_that_do() {
        let (nothing, big) = (ModelsBeside::default(), config(&[]));
        let bytes = just_enough(&with_batch(&big, 12));
        let error = check(&big, &nothing, &limits(bytes), "gpu").unwrap_err();
        let hint = error.hint().unwrap().to_string();
        assert_eq!(
            hint,
            "it fits with `--set train.batch_size=12 --set train.gradient_accumulation_steps=4`"
        );
        let found = suggestions(&big, &nothing, &limits(bytes));
        assert_eq!(found[0].total, total(&with_batch(&big, 12)));
        assert!(found.iter().all(|one| one.total as f64 <= bytes as f64 * SHARE));
        check(&found[0].config, &nothing, &limits(bytes), "gpu").unwrap();

        let error = check(&big, &nothing, &limits(1 << 20), "gpu").unwrap_err();
        assert!(error.hint().unwrap().to_string().contains("`model.n_layer`"), "{error}");
    }

    #[test]
    fn larger_micro_batches_are_suggested_where_they_fit() {
        let nothing = ModelsBeside::default();
        let small = config(&["train.batch_size=2", "train.gradient_accumulation_steps=24"]);
        let found = suggestions(&small, &nothing, &limits(u64::MAX));
        let settings =
            [("train.batch_size", "48".to_owned()), ("train.gradient_accumulation_steps", "1".to_owned())];
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].settings, settings);
        let whole = config(&["train.gradient_accumulation_steps=1"]);
        assert!(suggestions(&whole, &nothing, &limits(u64::MAX)).is_empty());
    }

    #[test]
    fn changes_of_one_key_exclude_each_other() {
        assert_eq!(divisors(12), [12, 6, 4, 3, 2, 1]);
        assert_eq!(divisors(49), [49, 7, 1]);
        assert_eq!(combinations(1).len(), CHANGES.len());
        // Of ten pairs, one has `train.recompute` twice.
        assert_eq!(combinations(2).len(), 9);
    }
}
