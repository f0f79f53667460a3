//! Memory of a run, known before anything is allocated: the model in training, the models beside it, and the cache
//! through which answers are sampled. Rows are as long as the context. What a step allocates is counted as the fused
//! kernels allocate it (`layers.rs`); for the unfused reference it is coarser.

mod choices;
mod layers;
mod tape;

use crate::{
    checkpoint::Checkpoint,
    config::{Config, ModelConfig, ObjectiveKind, ValueKind},
    error::Result,
    generate::batch,
    model::{
        families::Family,
        layout::{self, Shape},
        parameters, size,
    },
    transform::adapter::AdapterLayout,
};
use choices::Choices;
use layers::Layers;
use serde::Serialize;
use std::path::PathBuf;
use tape::{Bytes, LARGE, Peak};

/// Models that a run holds beside the one in training, by their configurations.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelsBeside {
    /// The reference; `None` without one, or if it is the model without its adapters.
    pub reference: Option<ModelConfig>,
    pub teacher: Option<ModelConfig>,
    /// Reward models in the order of `rollout.rewards`.
    pub rewards: Vec<ModelConfig>,
}

impl ModelsBeside {
    /// Reads the configurations of the models that a run names and uses.
    ///
    /// # Errors
    /// Those of [`Checkpoint::model_config`].
    pub fn open(config: &Config) -> Result<Self> {
        let kind = config.objective_kind();
        let read = |path: &PathBuf| Checkpoint::model_config(path);
        let reference = config.objective.reference.as_ref().filter(|_| config.needs_reference());
        let teacher = config.distill.teacher.as_ref().filter(|_| kind == ObjectiveKind::Distill);
        let rewards = config.rollout.rewards.iter().filter_map(|reward| reward.path.as_ref());
        Ok(Self {
            reference: reference.map(read).transpose()?,
            teacher: teacher.map(read).transpose()?,
            rewards: rewards.filter(|_| kind.samples_answers()).map(read).collect::<Result<_>>()?,
        })
    }
}

/// The memory that a run is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryKind {
    /// A GPU's own, or what a browser gives.
    Device,
    /// The main memory, with the program itself, which takes so many bytes beside all tensors. A checkpoint is made
    /// there, too.
    Main { program: u64 },
}

/// Memory of a run in a phase by part, at the moment when it is the most, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Memory {
    pub phase: Phase,
    /// Weights of all models, those of the reference, the teacher, reward and value models included.
    pub weights: u64,
    pub gradients: u64,
    /// State of the optimizer, and the averaged weights.
    pub moments: u64,
    /// Tensors that a micro-batch saves for its backward pass.
    pub activations: u64,
    pub logits: u64,
    /// Keys and values of answers that are sampled.
    pub cache: u64,
    /// Files of a checkpoint before they are written, and what they are made of.
    pub files: u64,
    /// Everything that is there while an operation computes, and freed buffers that the allocator keeps.
    pub workspace: u64,
    /// The program itself, if it is in the same memory.
    pub program: u64,
}

/// Phases in which a run may need the most memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Forward and backward of a micro-batch, and the update.
    #[default]
    Step,
    /// Sampling answers.
    Rollout,
    /// Before the first step, with a reference that steps do not need.
    Start,
    /// Making a checkpoint.
    Checkpoint,
}

impl Memory {
    /// Names of the parts, in their order.
    pub const NAMES: [&str; 9] = [
        "weights",
        "gradients",
        "moments",
        "activations",
        "logits",
        "cache",
        "files",
        "workspace",
        "program",
    ];

    /// Sizes of the parts in the order of their names.
    pub fn parts(&self) -> [u64; 9] {
        [
            self.weights,
            self.gradients,
            self.moments,
            self.activations,
            self.logits,
            self.cache,
            self.files,
            self.workspace,
            self.program,
        ]
    }

    pub fn total(&self) -> u64 {
        self.parts().into_iter().fold(0, u64::saturating_add)
    }
}

/// Memory in every phase of a run that may need the most.
pub fn phases(config: &Config, beside: &ModelsBeside, kind: MemoryKind) -> Vec<Memory> {
    let run = Run::of(config, beside, kind);
    [Some(run.step()), run.rollout(), run.start(), run.checkpoint()].into_iter().flatten().collect()
}

/// Memory in the phase in which a run needs the most.
pub fn estimate(config: &Config, beside: &ModelsBeside, kind: MemoryKind) -> Memory {
    let run = Run::of(config, beside, kind);
    let others = [run.rollout(), run.start(), run.checkpoint()];
    let most = |most: Memory, other: Memory| if other.total() > most.total() { other } else { most };
    others.into_iter().flatten().fold(run.step(), most)
}

/// Memory that training takes on a GPU, in bytes.
pub fn training_bytes(config: &Config, beside: &ModelsBeside) -> u64 {
    estimate(config, beside, MemoryKind::Device).total()
}

/// Numbers of a run that its phases have in common.
struct Run<'a> {
    config: &'a Config,
    beside: &'a ModelsBeside,
    kind: MemoryKind,
    choices: Choices,
    value: ValueModel<'a>,
    /// Numbers of the model and its adapter, and those that are trained.
    own: u128,
    trained: u128,
    /// Share of the weights that are in large tensors.
    large: f64,
}

impl<'a> Run<'a> {
    fn of(config: &'a Config, beside: &'a ModelsBeside, kind: MemoryKind) -> Self {
        let model = &config.model;
        let in_large = size::count_in_tensors(model, LARGE / 4) as f64;
        Self {
            config,
            beside,
            kind,
            choices: Choices::of(config),
            value: ValueModel::of(config, beside),
            own: size::count(model) + adapter_parameters(config),
            trained: trained_parameters(config),
            large: in_large / (size::count(model) as f64).max(1.0),
        }
    }

    /// Numbers of weights, of the trained ones if `trained`, in so many bytes each.
    fn bytes(&self, numbers: u128, each: f64, trained: bool) -> Bytes {
        let all = (numbers as f64 * each) as u128;
        // The factors of an adapter are small.
        let share = if trained && self.config.adapter.is_on() { 0.0 } else { self.large };
        let large = ((all as f64 * share) as u128).min(all);
        Bytes { large, small: all - large }
    }

    fn weights(&self, released: u128) -> Bytes {
        let count = |model: &Option<ModelConfig>| model.as_ref().map_or(0, size::count);
        let kept = if keeps_reference(self.config) { count(&self.beside.reference) } else { 0 };
        let rewards: u128 = self.beside.rewards.iter().map(size::count).sum();
        let beside = self.value.trained + kept + count(&self.beside.teacher) + rewards + released;
        self.bytes(self.own + beside, 4.0, false)
    }

    /// Moments of all trained numbers, and the average of the model's.
    fn state(&self) -> Bytes {
        let average = if self.config.train.ema_decay.is_some() { 4.0 } else { 0.0 };
        let moments = if self.choices.offloads(self.kind) { 0.0 } else { self.choices.moment_bytes };
        self.bytes(self.trained, moments + average, true) + self.bytes(self.value.trained, moments, false)
    }

    fn gradients(&self) -> Bytes {
        self.bytes(self.trained, 4.0, true) + self.bytes(self.value.trained, 4.0, false)
    }

    fn on_cpu(&self) -> bool {
        self.kind != MemoryKind::Device
    }

    /// Memory of `weights` and `state` and what is beside them: the parts that `named` names and the workspace, which
    /// is the rest of `beside`.
    fn memory(&self, phase: Phase, weights: Bytes, beside: Bytes, named: Memory) -> Memory {
        let state = self.state();
        let all = weights + state + beside;
        let program = match self.kind {
            MemoryKind::Device => 0,
            MemoryKind::Main { program } => program,
        };
        let known = Memory {
            phase,
            weights: size::clamp(weights.total()),
            moments: size::clamp(state.total()),
            ..named
        };
        let workspace = size::clamp(all.total()).saturating_sub(known.total());
        Memory { workspace, program, ..known }
    }

    fn step(&self) -> Memory {
        let config = self.config;
        let layers = self.layers(&config.model, self.trained_share(), self.trains_output());
        let mut groups = layers.groups(true);
        if let Some(body) = self.value.body {
            groups.extend(self.layers(body, 1.0, false).groups(false));
        }
        let is_first = config.train.gradient_accumulation_steps == 1;
        let earlier = (!is_first).then(|| self.gradients());
        let Peak { most, saved, gradients, is_forward, .. } = tape::peak(&groups, earlier);
        // At the update all gradients are there, whatever of them the tape does not count.
        let all = self.gradients();
        if all.total() >= most.total() {
            let named = Memory { gradients: size::clamp(all.total()), ..Memory::default() };
            return self.memory(Phase::Step, self.weights(0), all, named);
        }
        let named = Memory {
            gradients: size::clamp(gradients),
            activations: size::clamp(saved),
            logits: if is_forward { size::clamp(layers.logits()) } else { 0 },
            ..Memory::default()
        };
        self.memory(Phase::Step, self.weights(0), most.max(all), named)
    }

    fn layers<'m>(&self, model: &'m ModelConfig, trained: f64, trains_output: bool) -> Layers<'m> {
        use ObjectiveKind::{Dpo, Orpo, Reward, Simpo};
        let is_pair = matches!(self.config.objective_kind(), Reward | Dpo | Orpo | Simpo);
        let per_example = if is_pair { 2 } else { 1 };
        let rows = per_example * self.config.train.batch_size as u128;
        Layers::of(self.config, model, rows, trained, trains_output, self.on_cpu())
    }

    /// Share of the model's matrices whose gradients are computed.
    fn trained_share(&self) -> f64 {
        if self.config.adapter.is_on() {
            return 0.0;
        }
        self.trained as f64 / (self.own as f64).max(1.0)
    }

    /// Whether the output projection has a gradient.
    fn trains_output(&self) -> bool {
        let name = if self.config.model.tie_embeddings { "embedding" } else { "head.weight" };
        !self.config.adapter.is_on() && !is_frozen(self.config, name)
    }

    fn rollout(&self) -> Option<Memory> {
        let (cache, logits) = sampling(self.config)?;
        let named =
            Memory { cache: size::clamp(4 * cache), logits: size::clamp(4 * logits), ..Memory::default() };
        Some(self.memory(Phase::Rollout, self.weights(0), Bytes::of(4 * (cache + logits)), named))
    }

    fn start(&self) -> Option<Memory> {
        let reference = self.beside.reference.as_ref().filter(|_| !keeps_reference(self.config))?;
        let weights = self.weights(size::count(reference));
        Some(self.memory(Phase::Start, weights, Bytes::default(), Memory::default()))
    }

    /// Copies of all moments, and files of them and of the weights.
    fn checkpoint(&self) -> Option<Memory> {
        if !self.on_cpu() {
            return None;
        }
        let stored = if self.config.adapter.is_on() { self.trained } else { self.own };
        let average = if self.config.train.ema_decay.is_some() { stored } else { 0 };
        let moments = (self.trained + self.value.trained) as f64 * self.choices.moment_bytes;
        let files = 4 * (stored + average + self.value.trained) + 2 * moments as u128;
        let large = (files as f64 * self.large) as u128;
        let beside = Bytes { large, small: files.saturating_sub(large) };
        let named = Memory { files: size::clamp(files), ..Memory::default() };
        Some(self.memory(Phase::Checkpoint, self.weights(0), beside, named))
    }
}

/// Number of parameters that have a gradient and moments. The others are frozen.
fn trained_parameters(config: &Config) -> u128 {
    if config.adapter.is_on() {
        return adapter_parameters(config);
    }
    let all = size::count(&config.model);
    if config.train.freeze.is_empty() {
        return all;
    }
    let parameters = layout::parameters(&config.model);
    let frozen = parameters.iter().filter(|shape| is_frozen(config, &shape.name)).map(Shape::count).sum();
    all.saturating_sub(frozen)
}

/// Whether `train.freeze` names a parameter.
fn is_frozen(config: &Config, name: &str) -> bool {
    config.train.freeze.iter().any(|pattern| parameters::matches(name, pattern))
}

/// Number of parameters that an adapter adds; 0 for one that does not suit the model, which is refused later.
fn adapter_parameters(config: &Config) -> u128 {
    if !config.adapter.is_on() {
        return 0;
    }
    let family = Family::of(&config.model);
    let layout = AdapterLayout::of_config(&config.adapter, family, &config.model, false);
    layout.map_or(0, |layout| layout.parameter_count())
}

/// Whether the steps need the reference. DPO keeps its log-probabilities instead.
fn keeps_reference(config: &Config) -> bool {
    config.objective_kind() != ObjectiveKind::Dpo || !config.preference.cache_reference
}

/// The value model of PPO.
#[derive(Debug, Clone, Copy, Default)]
struct ValueModel<'a> {
    /// Number of its parameters; of a model that it shares weights with, those that are frozen do not count.
    trained: u128,
    /// The model whose body it is a copy of, if it has one of its own.
    body: Option<&'a ModelConfig>,
}

impl<'a> ValueModel<'a> {
    fn of(config: &'a Config, beside: &'a ModelsBeside) -> Self {
        if config.objective_kind() != ObjectiveKind::Ppo {
            return Self::default();
        }
        let model = &config.model;
        let head = model.n_embd as u128;
        match (config.ppo.value, beside.rewards.first()) {
            (ValueKind::Shared, _) => Self { trained: head, body: None },
            (ValueKind::Own, Some(reward)) => Self { trained: size::count(reward), body: Some(reward) },
            // A copy of the policy with a head in the place of its output projection.
            (ValueKind::Own, None) => {
                let has_none =
                    model.tie_embeddings || config.adapter.is_on() || is_frozen(config, "head.weight");
                let projection = if has_none { 0 } else { head * model.vocab_size as u128 };
                let trained = trained_parameters(config).saturating_sub(projection) + head;
                Self { trained, body: Some(model) }
            }
        }
    }
}

/// Numbers in the KV cache in which answers are sampled, if they become as long as they may and follow prompts of one
/// token, and in the logits of their next tokens; `None` for an objective that samples none.
fn sampling(config: &Config) -> Option<(u128, u128)> {
    let Config { model, train, rollout, .. } = config;
    let answers = if config.objective_kind().samples_answers() {
        config.answers_per_rollout()
    } else if config.distills_own_answers() {
        train.batch_size * train.gradient_accumulation_steps
    } else {
        return None;
    };
    let at_once = if batch::is_exact(model) { rollout.generation_batch.min(answers) } else { 1 };
    let of_answer = size::cached_numbers(model) * rollout.max_new_tokens as u128;
    Some((at_once as u128 * of_answer, at_once as u128 * model.vocab_size as u128))
}

#[cfg(test)]
mod tests;
