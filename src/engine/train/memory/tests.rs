use super::*;
use crate::config::Head;

/// 11 tokens and 16 positions of width 8; in each of two blocks 12 · 8² weights of matrices and two norms; a norm:
/// 88 + 128 + 2 · (768 + 16) + 8.
const PARAMETERS: u64 = 1792;

/// Those of a model of the same shape with a number as output, from a head of width 8.
const REWARD: u64 = PARAMETERS + 8;

/// Bytes saved in a block for each of 4 · 16 tokens: the residual stream twice, each time with the norm's mean and
/// deviation, 24 queries, keys and values, 8 outputs and 2 sums of the attention, and 32 numbers inside the MLP.
const BLOCK: u64 = 64 * 4 * (2 * (8 + 2) + 24 + 8 + 2 + 32);

/// Bytes that a micro-batch needs at the end of the last block: its tokens and both blocks, the gradient of the
/// output projection and of the down projection, and the gradients of what this one reads and writes.
const STEP: u64 = 64 * 4 + 2 * BLOCK + 4 * (88 + 256) + 64 * 4 * (8 + 32);

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

fn memory(overrides: &[&str], beside: &ModelsBeside) -> Memory {
    estimate(&config(overrides), beside, MemoryKind::Device)
}

fn alone(overrides: &[&str]) -> Memory {
    memory(overrides, &ModelsBeside::default())
}

#[test]
fn a_model_alone_has_gradients_moments_and_activations() {
    assert_eq!(size::count(&config(&[]).model), u128::from(PARAMETERS));
    let found = alone(&[]);
    assert_eq!((found.weights, found.moments), (4 * PARAMETERS, 8 * PARAMETERS));
    assert_eq!((found.activations, found.gradients), (64 * 4 + 2 * BLOCK, 4 * (88 + 256)));
    assert_eq!((found.phase, found.total()), (Phase::Step, 12 * PARAMETERS + STEP));
    assert_eq!(found.total(), training_bytes(&config(&[]), &ModelsBeside::default()));
    assert_eq!(alone(&["train.optimizer=lion", "train.ema_decay=0.9"]).moments, 8 * PARAMETERS);
    let twice = alone(&["train.batch_size=8"]).total();
    assert_eq!(twice, 12 * PARAMETERS + 2 * STEP - 4 * (88 + 256));
    // The gradients of the first micro-batch are there all the time, in the second those of one operation, too: at the
    // end of the last block that of the down projection, after that of the output projection was added.
    let accumulated = alone(&["train.gradient_accumulation_steps=2"]);
    assert_eq!(accumulated.gradients, 4 * PARAMETERS + 4 * 256);
    assert_eq!(accumulated.total(), found.total() + 4 * PARAMETERS - 4 * 88);
}

#[test]
fn in_the_end_all_gradients_are_there_at_once() {
    let found = alone(&["train.batch_size=1", "model.block_size=1"]);
    let parameters = PARAMETERS - 15 * 8;
    assert!((16 * parameters..16 * parameters + 100).contains(&found.total()), "{found:?}");
}

#[test]
fn the_main_memory_has_the_program_and_checkpoints_too() {
    let nothing = ModelsBeside::default();
    let all = phases(&config(&[]), &nothing, MemoryKind::Main { program: 1000 });
    let [step, checkpoint] = all[..] else { panic!("{all:?}") };
    assert_eq!((step.phase, step.program), (Phase::Step, 1000));
    assert_eq!(step.total(), 1000 + 12 * PARAMETERS + STEP);
    // Both moments are copied, and all three are written.
    assert_eq!((checkpoint.phase, checkpoint.files), (Phase::Checkpoint, 4 * 5 * PARAMETERS));
    assert_eq!(checkpoint.total(), 1000 + 4 * 8 * PARAMETERS);
}

#[test]
fn frozen_parameters_cost_their_weights_only() {
    let frozen = alone(&["train.freeze=['embedding', 'blocks.1.*']"]);
    assert_eq!(alone(&[]).moments - frozen.moments, 8 * (11 * 8 + 12 * 64 + 2 * 8));
    assert_eq!(frozen.weights, alone(&[]).weights);
    assert!(frozen.gradients < alone(&[]).gradients);
}

#[test]
fn of_an_adapter_only_its_factors_are_trained() {
    // Inputs and outputs of the four matrices of a block: 8 + 24, 8 + 8, 8 + 32 and 32 + 8.
    let factors = 2 * 2 * (32 + 16 + 40 + 40);
    let of = |overrides: &[&str]| {
        let found = alone(overrides);
        (found.weights, found.moments)
    };
    let lora = ["adapter.kind=lora", "adapter.r=2"];
    assert_eq!(of(&lora), (4 * (PARAMETERS + factors), 8 * factors));
    let norms = 2 * (24 + 8 + 32 + 8);
    let dora = ["adapter.kind=dora", "adapter.r=2"];
    assert_eq!(of(&dora), (4 * (PARAMETERS + factors + norms), 8 * (factors + norms)));
    // A copy of the token embedding.
    let copy = [lora[0], lora[1], "adapter.modules_to_save=['wte']"];
    assert_eq!(of(&copy), (4 * (PARAMETERS + factors + 88), 8 * (factors + 88)));
}

#[test]
fn references_and_teachers_cost_their_weights_where_steps_need_them() {
    let model = Some(config(&[]).model);
    let (none, teacher) = (ModelsBeside::default(), model.clone());
    let reference = ModelsBeside { reference: model, ..none.clone() };
    let teacher = ModelsBeside { teacher, ..none };
    let costs = |overrides: &[&str], beside| memory(overrides, beside).total() - alone(overrides).total();
    for overrides in [
        &["objective.kind=grpo", "grpo.kl_coefficient=0.1"][..],
        &["objective.kind=dpo", "preference.cache_reference=false"],
        &["objective.kind=kto"],
    ] {
        assert_eq!(costs(overrides, &reference), 4 * PARAMETERS, "{overrides:?}");
    }
    assert_eq!(costs(&["objective.kind=distill"], &teacher), 4 * PARAMETERS);
    // DPO's reference is there only before the first step, which is more where nearly nothing is trained.
    assert_eq!(costs(&["objective.kind=dpo"], &reference), 0);
    let little = ["objective.kind=dpo", "train.freeze=['*']", "train.batch_size=1", "model.block_size=1"];
    let found = memory(&little, &reference);
    assert_eq!((found.phase, found.total()), (Phase::Start, 4 * (PARAMETERS - 15 * 8 + PARAMETERS)));
}

#[test]
fn both_rows_of_a_pair_are_in_a_micro_batch() {
    let pairs = ["objective.kind=dpo", "train.batch_size=2"];
    assert_eq!(alone(&pairs).activations, alone(&["train.batch_size=4"]).activations);
}

#[test]
fn reward_and_value_models_count() {
    let reward = ModelConfig { head: Head::Regression, ..config(&[]).model };
    assert_eq!(size::count(&reward), u128::from(REWARD));
    let rewards = ModelsBeside { rewards: vec![reward.clone(), reward], ..Default::default() };
    let grpo = ["objective.kind=grpo"];
    assert_eq!(memory(&grpo, &rewards).total() - alone(&grpo).total(), 2 * 4 * REWARD);
    let (policy, ppo) = (alone(&[]), "objective.kind=ppo");
    let shared = alone(&[ppo, "ppo.value=shared"]);
    assert_eq!((shared.weights - policy.weights, shared.moments - policy.moments), (4 * 8, 8 * 8));
    let own = alone(&[ppo]);
    assert_eq!(own.weights - policy.weights, 4 * (PARAMETERS + 8));
    assert_eq!(own.moments - policy.moments, 8 * (PARAMETERS + 8));
    assert!(own.activations >= policy.activations + 2 * BLOCK);
    assert_eq!(memory(&[ppo], &rewards).weights - policy.weights, 4 * 3 * REWARD);
    // What is frozen in the policy is shared with it, and an output projection of its own is left out.
    let frozen = ["train.freeze=['embedding']", "model.tie_embeddings=false"];
    let policy = PARAMETERS + 88;
    let found = alone(&[ppo, frozen[0], frozen[1]]);
    assert_eq!(found.moments, 8 * (policy - 88 + policy - 2 * 88 + 8));
}

#[test]
fn caches_of_rollouts_count_instead_of_a_steps_activations() {
    let many = ["objective.kind=grpo", "rollout.generation_batch=4096", "rollout.minibatches=2048"];
    // Keys and values of 8 tokens in two layers, and the logits of the next one.
    let found = alone(&many);
    assert_eq!((found.phase, found.cache, found.logits), (Phase::Rollout, 4096 * 4 * 256, 4096 * 4 * 11));
    assert_eq!(found.total(), 12 * PARAMETERS + found.cache + found.logits);
    // No more answers than there are.
    let few = alone(&["objective.kind=grpo", "rollout.generation_batch=4096"]);
    assert_eq!(few.total(), 12 * PARAMETERS + STEP);
    let own = ["objective.kind=distill", "train.gradient_accumulation_steps=1024", "distill.lambda=1"];
    let all = [&own[..], &["rollout.generation_batch=4096"]].concat();
    assert_eq!(alone(&all).cache, found.cache);
    assert_eq!(alone(&own[..2]).phase, Phase::Step);
}

#[test]
fn the_largest_sizes_do_not_overflow() {
    let largest = 1 << 24;
    let mut config = config(&["objective.kind=grpo", "rollout.max_new_tokens=16777216"]);
    config.model.n_layer = largest;
    (config.model.n_head, config.model.head_dim) = (largest, Some(largest));
    (config.train.batch_size, config.rollout.generation_batch) = (largest, largest);
    assert_eq!(training_bytes(&config, &ModelsBeside::default()), u64::MAX);
    assert_eq!(
        estimate(&config, &ModelsBeside::default(), MemoryKind::Main { program: 1 << 30 }).total(),
        u64::MAX
    );
}
