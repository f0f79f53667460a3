//! The time of a step, measured on a few layers of the model. All layers are alike, so that the time of the others
//! follows from the difference of two depths.

use super::{Limits, SHARE, rows, value_of};
use crate::{
    config::{Architecture, Config, ObjectiveKind},
    data::Dataset,
    device::device_failed,
    error::Result,
    platform::Instant,
    train::{
        Trainer,
        memory::{ModelsBeside, estimate},
    },
};
use burn::tensor::Device;

/// Time of the parts of a step, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepTime {
    /// Forward and backward of a micro-batch, with the adding up of its gradients.
    pub micro_batch: f64,
    /// Clipping and the update.
    pub update: f64,
    /// Rows of the micro-batch.
    pub rows: usize,
}

impl StepTime {
    /// Time of a step of a configuration that differs in its micro-batches only.
    pub fn of_step(&self, config: &Config) -> f64 {
        self.micro_batch * rows(config) as f64 / self.rows.max(1) as f64 + self.update
    }
}

/// Layers of the encoder or the only stack, and of the decoder beside an encoder.
type Depth = [usize; 2];

/// Measures the time of a step on a few layers of the model, from which it follows for all, since layers are alike.
/// `None` for an objective whose steps do more than compute a loss of given rows, or train an adapter.
///
/// # Errors
/// Errors of [`Trainer::new`], and [`Error::DeviceFailed`](crate::Error::DeviceFailed).
pub async fn measure_step(
    config: &Config,
    dataset: &Dataset,
    device: &Device,
    limits: &Limits<'_>,
) -> Result<Option<StepTime>> {
    if !is_measurable(config) {
        return Ok(None);
    }
    let (all, trials) = depths(config);
    // As many rows as fit of a few layers.
    let mut trial = config.clone();
    trial.train.gradient_accumulation_steps = 1;
    let most = trials.iter().fold([1, 1], |a: Depth, b| [a[0].max(b[0]), a[1].max(b[1])]);
    let mut halves =
        (0..usize::BITS).map(|halvings| config.train.batch_size >> halvings).take_while(|rows| *rows > 0);
    let fits = |rows: &usize| {
        let mut few = with_depth(&trial, most);
        few.train.batch_size = *rows;
        let needed = estimate(&few, &ModelsBeside::default(), limits.kind).total();
        few.validate().is_ok() && needed as f64 <= limits.bytes as f64 * SHARE
    };
    let Some(rows) = halves.find(fits) else { return Ok(None) };
    trial.train.batch_size = rows;
    let mut steps = Vec::new();
    for depth in &trials {
        let mut of_depth = with_depth(&trial, *depth);
        let one = time_step(&of_depth, dataset, device).await?;
        of_depth.train.gradient_accumulation_steps = 2;
        let two = if config.train.gradient_accumulation_steps > 1 || rows < config.train.batch_size {
            time_step(&of_depth, dataset, device).await?
        } else {
            2.0 * one
        };
        steps.push([two - one, 2.0 * one - two]);
    }
    let [micro_batch, update] = [0, 1].map(|part| {
        let times: Vec<f64> = steps.iter().map(|step| step[part]).collect();
        extrapolate(&times, &trials, all).max(0.0)
    });
    Ok(Some(StepTime { micro_batch, update, rows }))
}

/// Whether a step is a forward and backward pass over rows of the data.
fn is_measurable(config: &Config) -> bool {
    use ObjectiveKind::{
        CausalLm, MaskedLm, Regression, Seq2seq, SequenceClassification, Sft, SpanCorruption,
        TokenClassification,
    };
    let kind = config.objective_kind();
    let passes = [
        CausalLm,
        Sft,
        MaskedLm,
        SpanCorruption,
        Seq2seq,
        SequenceClassification,
        TokenClassification,
        Regression,
    ];
    passes.contains(&kind) && !config.adapter.is_on()
}

/// The depth of the model, and those that are measured: one unit of layers and three, of each stack. A unit is what
/// layers repeat in, such as windows.
fn depths(config: &Config) -> (Depth, Vec<Depth>) {
    let model = &config.model;
    let unit = model.attention.full_attention_every.unwrap_or(1).max(1);
    let unit = value_of(config, "train.recompute")
        .and_then(|value| value.strip_prefix("every ")?.trim().parse().ok())
        .map_or(unit, |every: usize| unit.saturating_mul(every.max(1)));
    let all = [model.n_layer, model.decoder_layers()];
    let has_both = model.architecture == Architecture::EncoderDecoder;
    let three = 3 * unit.min(1 << 24);
    if all[0] <= three && (!has_both || all[1] <= three) {
        return (all, vec![all]);
    }
    let few = all.map(|layers| layers.min(unit));
    let mut trials = vec![few, [all[0].min(three), few[1]]];
    if has_both {
        trials.push([few[0], all[1].min(three)]);
    }
    (all, trials)
}

fn with_depth(config: &Config, [layers, decoder_layers]: Depth) -> Config {
    let mut changed = config.clone();
    changed.model.n_layer = layers;
    changed.model.n_decoder_layer = changed.model.n_decoder_layer.map(|_| decoder_layers);
    if changed.model.architecture == Architecture::EncoderDecoder {
        changed.model.n_decoder_layer = Some(decoder_layers);
    }
    changed
}

/// Time at depth `all` of times at the first depth and at others that are deeper in one stack.
fn extrapolate(times: &[f64], trials: &[Depth], all: Depth) -> f64 {
    let (Some((first_time, other_times)), Some((first, others))) =
        (times.split_first(), trials.split_first())
    else {
        return 0.0;
    };
    let mut total = *first_time;
    for (time, depth) in other_times.iter().zip(others) {
        for stack in 0..2 {
            if depth[stack] > first[stack] {
                let of_layer = (time - first_time) / (depth[stack] - first[stack]) as f64;
                total += of_layer * (all[stack] - first[stack]) as f64;
            }
        }
    }
    total
}

/// Seconds that steps are repeated for, and how often at least.
const SECONDS: f64 = if cfg!(test) { 0.0 } else { 1.0 };
const STEPS: usize = 3;

/// Measures the time of a step: the median after two steps that compile and make the moments.
async fn time_step(config: &Config, dataset: &Dataset, device: &Device) -> Result<f64> {
    let mut trainer = Trainer::new(config.clone(), dataset.clone(), device)?;
    let mut seconds = Vec::new();
    let begin = Instant::now();
    for step in 0u32.. {
        let start = Instant::now();
        trainer.step();
        let (loss, _) = trainer.last_numbers().await?;
        if !loss.is_finite() {
            return Err(device_failed(device, "measuring", format!("the loss is {loss}")));
        }
        if step >= 2 {
            seconds.push(start.elapsed().as_secs_f64());
        }
        if seconds.len() >= STEPS && begin.elapsed().as_secs_f64() > SECONDS {
            break;
        }
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(overrides: &[&str]) -> Config {
        let mut config = Config::default();
        config.apply(&overrides.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap();
        config
    }

    #[test]
    fn the_time_of_all_layers_follows_from_a_few() {
        let deep = config(&["model.n_layer=12"]);
        let (all, trials) = depths(&deep);
        assert_eq!((all[0], &trials[..]), (12, &[[1, 1], [3, 1]][..]));
        // 5 beside the layers, 2 for each.
        assert_eq!(extrapolate(&[7.0, 11.0], &trials, all), 29.0);
        assert_eq!(with_depth(&deep, trials[1]).model.n_layer, 3);

        let both = ["model.architecture=encoder-decoder", "model.n_layer=6", "model.n_decoder_layer=8"];
        let (all, trials) = depths(&config(&both));
        assert_eq!((all, &trials[..]), ([6, 8], &[[1, 1], [3, 1], [1, 3]][..]));
        // 4 beside the layers, 1 for each of the encoder and 3 for each of the decoder.
        assert_eq!(extrapolate(&[8.0, 10.0, 14.0], &trials, all), 34.0);

        // Shallow models are measured as they are.
        let shallow = depths(&config(&["model.n_layer=3"]));
        assert_eq!(shallow.1.len(), 1);
        let windows = ["model.n_layer=22", "model.attention.full_attention_every=3"];
        assert_eq!(depths(&config(&windows)).1, [[3, 3], [9, 3]]);
    }

    #[test]
    fn more_micro_batches_take_longer_than_more_updates() {
        let time = StepTime { micro_batch: 2.0, update: 0.5, rows: 4 };
        let of = |rows: &str, steps: &str| time.of_step(&config(&[rows, steps]));
        assert_eq!(of("train.batch_size=4", "train.gradient_accumulation_steps=3"), 6.5);
        assert_eq!(of("train.batch_size=12", "train.gradient_accumulation_steps=1"), 6.5);
    }

    #[cfg(feature = "flex")]
    #[test]
    fn a_small_run_is_measured() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let small = ["model.n_layer=5", "model.n_embd=16", "model.block_size=16", "train.batch_size=2"];
        let config = config(&small);
        let dataset = Dataset::prepare(&config, None).unwrap();
        let config = config.resolve(&dataset).unwrap();
        let limits = Limits { kind: super::super::MemoryKind::Device, bytes: u64::MAX, dtypes: &[] };
        let time = pollster::block_on(measure_step(&config, &dataset, &device, &limits)).unwrap().unwrap();
        assert_eq!(time.rows, 2);
        assert!(time.micro_batch >= 0.0 && time.of_step(&config) > 0.0, "{time:?}");
        let mut rollouts = config.clone();
        rollouts.objective.kind = Some(ObjectiveKind::Grpo);
        let none = pollster::block_on(measure_step(&rollouts, &dataset, &device, &limits)).unwrap();
        assert_eq!(none, None);
    }
}
