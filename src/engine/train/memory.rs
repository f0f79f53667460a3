//! Memory that a run needs at least, known before anything is allocated: the model in training, the models beside it,
//! and the cache through which answers are sampled. All numbers are in f32, and rows are as long as the context.

use crate::{
    checkpoint::Checkpoint,
    config::{Config, ModelConfig, ObjectiveKind, OptimizerKind, ValueKind},
    error::Result,
    generate::batch,
    model::{
        families::Family,
        layout::{self, Shape},
        parameters, size,
    },
    transform::adapter::AdapterLayout,
};
use std::path::PathBuf;

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

/// Lower bound of the memory for training, in bytes.
///
/// It is what is always there, which are the weights of all models, and the largest of what is there at a time: in a
/// step the optimizer's state, gradients, and the activations of one micro-batch that are saved for the backward pass;
/// in a rollout the optimizer's state, the KV cache and logits; and before the first step a reference that the steps
/// do not need.
pub fn training_bytes(config: &Config, beside: &ModelsBeside) -> u64 {
    let (model, rows) = (&config.model, config.train.batch_size);
    let moments = match config.train.optimizer {
        OptimizerKind::Adam | OptimizerKind::Adamw => 2,
        OptimizerKind::Sgd | OptimizerKind::Lion | OptimizerKind::Muon => 1,
    };
    let average = u128::from(config.train.ema_decay.is_some());
    let (trained, value) = (trained_parameters(config), ValueModel::of(config, beside));
    let count = |model: &Option<ModelConfig>| model.as_ref().map_or(0, size::count);
    let reference = count(&beside.reference);
    let (kept, released) = if keeps_reference(config) { (reference, 0) } else { (0, reference) };
    let rewards: u128 = beside.rewards.iter().map(size::count).sum();
    let own = size::count(model) + adapter_parameters(config);
    let weights = own + value.trained + kept + count(&beside.teacher) + rewards;

    let state = trained * (moments + average) + value.trained * moments;
    let gradients = trained + value.trained;
    let activations = size::block_activations(model, rows, model.block_size)
        + size::output_activations(model, rows)
        + value.activations;
    let at_a_time = [state + gradients + activations, state + sampling(config), released];
    size::clamp(4 * (weights + at_a_time.into_iter().fold(0, u128::max)))
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
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct ValueModel {
    /// Number of its parameters; of a model that it shares weights with, those that are frozen do not count.
    trained: u128,
    /// Number of its activations that a micro-batch saves.
    activations: u128,
}

impl ValueModel {
    fn of(config: &Config, beside: &ModelsBeside) -> Self {
        if config.objective_kind() != ObjectiveKind::Ppo {
            return Self::default();
        }
        let (model, rows) = (&config.model, config.train.batch_size);
        let head = model.n_embd as u128;
        let (body, trained) = match (config.ppo.value, beside.rewards.first()) {
            (ValueKind::Shared, _) => return Self { trained: head, activations: 0 },
            (ValueKind::Own, Some(reward)) => (reward, size::count(reward)),
            // A copy of the policy with a head in the place of its output projection.
            (ValueKind::Own, None) => {
                let has_none =
                    model.tie_embeddings || config.adapter.is_on() || is_frozen(config, "head.weight");
                let projection = if has_none { 0 } else { head * model.vocab_size as u128 };
                (model, trained_parameters(config).saturating_sub(projection) + head)
            }
        };
        Self { trained, activations: size::block_activations(body, rows, model.block_size) }
    }
}

/// Numbers in the KV cache in which answers are sampled, if they become as long as they may and follow prompts of one
/// token, and in the logits of their next tokens.
fn sampling(config: &Config) -> u128 {
    let Config { model, train, rollout, .. } = config;
    let answers = if config.objective_kind().samples_answers() {
        config.answers_per_rollout()
    } else if config.distills_own_answers() {
        train.batch_size * train.gradient_accumulation_steps
    } else {
        return 0;
    };
    let at_once = if batch::is_exact(model) { rollout.generation_batch.min(answers) } else { 1 };
    let of_answer = size::cached_numbers(model) * rollout.max_new_tokens as u128 + model.vocab_size as u128;
    at_once as u128 * of_answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Head;

    /// 11 tokens and 16 positions of width 8; in each of two blocks 12 · 8² weights of matrices and two norms; a norm:
    /// 88 + 128 + 2 · (768 + 16) + 8.
    const PARAMETERS: u64 = 1792;

    /// Those of a model of the same shape with a number as output, from a head of width 8.
    const REWARD: u64 = PARAMETERS + 8;

    /// Saved in a block for each of 4 · 16 tokens: 6 · 8 inputs, 2 · 32 inside the MLP, 2 · 2 heads · 16 weights.
    const BLOCKS: u64 = 64 * 2 * (48 + 64 + 64);

    /// And two numbers for each of 11 outputs.
    const ACTIVATIONS: u64 = BLOCKS + 64 * 2 * 11;

    fn config(overrides: &[&str]) -> Config {
        let base = [
            "model.vocab_size=11",
            "model.block_size=16",
            "model.n_layer=2",
            "model.n_head=2",
            "model.n_embd=8",
            "train.batch_size=4",
            "rollout.max_new_tokens=8",
        ];
        let mut config = Config::default();
        let all: Vec<String> = base.iter().chain(overrides).map(|text| (*text).to_owned()).collect();
        config.apply(&all).unwrap();
        config
    }

    /// Memory of a run in numbers of four bytes.
    fn numbers(overrides: &[&str], beside: &ModelsBeside) -> u64 {
        let bytes = training_bytes(&config(overrides), beside);
        assert!(bytes.is_multiple_of(4));
        bytes / 4
    }

    fn alone(overrides: &[&str]) -> u64 {
        numbers(overrides, &ModelsBeside::default())
    }

    #[test]
    fn a_model_alone_has_gradients_moments_and_activations() {
        assert_eq!(size::count(&config(&[]).model), u128::from(PARAMETERS));
        assert_eq!(alone(&[]), 4 * PARAMETERS + ACTIVATIONS);
        assert_eq!(alone(&["train.optimizer=lion", "train.ema_decay=0.9"]), 4 * PARAMETERS + ACTIVATIONS);
        assert_eq!(alone(&["train.batch_size=8"]), 4 * PARAMETERS + 2 * ACTIVATIONS);
    }

    #[test]
    fn frozen_parameters_cost_their_weights_only() {
        let frozen = alone(&["train.freeze=['embedding', 'blocks.1.*']"]);
        // Gradient and two moments of AdamW.
        assert_eq!(alone(&[]) - frozen, 3 * (11 * 8 + 12 * 64 + 2 * 8));
    }

    #[test]
    fn of_an_adapter_only_its_factors_are_trained() {
        // Inputs and outputs of the four matrices of a block: 8 + 24, 8 + 8, 8 + 32 and 32 + 8.
        let factors = 2 * 2 * (32 + 16 + 40 + 40);
        let lora = ["adapter.kind=lora", "adapter.r=2"];
        assert_eq!(alone(&lora), PARAMETERS + 4 * factors + ACTIVATIONS);
        let norms = 2 * (24 + 8 + 32 + 8);
        assert_eq!(
            alone(&["adapter.kind=dora", "adapter.r=2"]),
            PARAMETERS + 4 * (factors + norms) + ACTIVATIONS
        );
        // A copy of the token embedding.
        let copy = [lora[0], lora[1], "adapter.modules_to_save=['wte']"];
        assert_eq!(alone(&copy), PARAMETERS + 4 * (factors + 88) + ACTIVATIONS);
    }

    #[test]
    fn references_and_teachers_cost_their_weights_where_steps_need_them() {
        let model = Some(config(&[]).model);
        let (none, teacher) = (ModelsBeside::default(), model.clone());
        let reference = ModelsBeside { reference: model, ..none.clone() };
        let teacher = ModelsBeside { teacher, ..none };
        let costs = |overrides: &[&str], beside| numbers(overrides, beside) - alone(overrides);
        for overrides in [
            &["objective.kind=grpo", "grpo.kl_coefficient=0.1"][..],
            &["objective.kind=dpo", "preference.cache_reference=false"],
            &["objective.kind=kto"],
        ] {
            assert_eq!(costs(overrides, &reference), PARAMETERS, "{overrides:?}");
        }
        assert_eq!(costs(&["objective.kind=distill"], &teacher), PARAMETERS);
        // DPO's reference is there only before the first step, which is more where nearly nothing is trained.
        assert_eq!(costs(&["objective.kind=dpo"], &reference), 0);
        let little = ["objective.kind=dpo", "train.freeze=['*']", "train.batch_size=1", "model.block_size=1"];
        let small = PARAMETERS - 15 * 8;
        assert_eq!(numbers(&little, &reference), small + PARAMETERS);
    }

    #[test]
    fn reward_and_value_models_count() {
        let reward = ModelConfig { head: Head::Regression, ..config(&[]).model };
        assert_eq!(size::count(&reward), u128::from(REWARD));
        let rewards = ModelsBeside { rewards: vec![reward.clone(), reward], ..Default::default() };
        let grpo = ["objective.kind=grpo"];
        assert_eq!(numbers(&grpo, &rewards) - alone(&grpo), 2 * REWARD);
        let (policy, ppo) = (alone(&[]), "objective.kind=ppo");
        // With a gradient and two moments.
        assert_eq!(alone(&[ppo, "ppo.value=shared"]) - policy, 4 * 8);
        assert_eq!(alone(&[ppo]) - policy, 4 * (PARAMETERS + 8) + BLOCKS);
        assert_eq!(numbers(&[ppo], &rewards) - policy, 2 * REWARD + 4 * REWARD + BLOCKS);
        // What is frozen in the policy is shared with it, and an output projection of its own is left out.
        let frozen = ["train.freeze=['embedding']", "model.tie_embeddings=false"];
        let policy = PARAMETERS + 88;
        let expected = policy + 3 * (policy - 88) + 4 * (policy - 2 * 88 + 8) + ACTIVATIONS + BLOCKS;
        assert_eq!(alone(&[ppo, frozen[0], frozen[1]]), expected);
    }

    #[test]
    fn caches_of_rollouts_count_instead_of_a_steps_activations() {
        let many = ["objective.kind=grpo", "rollout.generation_batch=4096", "rollout.minibatches=2048"];
        // Keys and values of 8 tokens in two layers, and the logits of the next one.
        let cache = 4096 * (2 * 2 * 8 * 8 + 11);
        assert_eq!(alone(&many), 3 * PARAMETERS + cache);
        // No more answers than there are.
        assert_eq!(
            alone(&["objective.kind=grpo", "rollout.generation_batch=4096"]),
            4 * PARAMETERS + ACTIVATIONS
        );
        let own = ["objective.kind=distill", "train.gradient_accumulation_steps=1024", "distill.lambda=1"];
        let all = [&own[..], &["rollout.generation_batch=4096"]].concat();
        assert_eq!(alone(&all), 3 * PARAMETERS + cache);
        assert_eq!(alone(&own[..2]), 4 * PARAMETERS + ACTIVATIONS);
    }

    #[test]
    fn the_largest_sizes_do_not_overflow() {
        let largest = 1 << 24;
        let mut config = config(&["objective.kind=grpo", "rollout.max_new_tokens=16777216"]);
        config.model.n_layer = largest;
        (config.model.n_head, config.model.head_dim) = (largest, Some(largest));
        (config.train.batch_size, config.rollout.generation_batch) = (largest, largest);
        assert_eq!(training_bytes(&config, &ModelsBeside::default()), u64::MAX);
    }
}
