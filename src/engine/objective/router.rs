//! Auxiliary losses that balance a mixture of experts: the load-balancing loss (arXiv:2101.03961), computed
//! like in transformers, and the router-z loss (arXiv:2202.08906). Every objective adds them to its loss by
//! [`AuxiliaryLosses::add`].

use super::{Average, Batch, Loss, StepTotals};
use crate::{
    config::ModelConfig,
    model::{Routings, layers::moe::Routing},
};
use burn::tensor::{Int, Tensor, activation::softmax};

/// Weights of the auxiliary losses.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AuxiliaryLosses {
    pub load_balancing: f64,
    pub z: f64,
}

impl AuxiliaryLosses {
    /// The weights that a model's configuration gives.
    pub fn new(model: &ModelConfig) -> Self {
        Self { load_balancing: model.moe.aux_loss, z: model.moe.z_loss }
    }

    /// Adds the losses of the routers to the differentiated loss of a micro-batch, which counts by the weight of its
    /// targets, and reports them. Without experts the loss stays as it is.
    pub(super) fn add(self, loss: Loss, routings: &Routings, batch: &Batch, step: StepTotals) -> Loss {
        if routings.of_input.is_empty() && routings.of_decoder.is_empty() {
            return loss;
        }
        let (input_tokens, decoder_tokens) = (batch.real(), batch.has_target());
        let of_input = routings.of_input.iter().map(|routing| (routing, &input_tokens));
        let of_decoder = routings.of_decoder.iter().map(|routing| (routing, &decoder_tokens));
        let Some(found) = losses(&of_input.chain(of_decoder).collect::<Vec<_>>()) else {
            return loss;
        };
        let share = batch.target_weight / step.divisor();
        let total = loss.total.clone()
            + found.load_balancing.clone().mul_scalar(self.load_balancing * share)
            + found.z.clone().mul_scalar(self.z * share);
        Loss { total, ..loss }
            .with_metric("router/load_balancing", found.load_balancing, Average::OverTargets)
            .with_metric("router/z", found.z, Average::OverTargets)
            .with_metric("router/expert", found.utilization, Average::OverTargets)
    }
}

/// Losses and statistics of the routers of all layers, on the device.
pub struct RouterLosses {
    /// Load-balancing loss, `[1]`: number of experts times the sum over experts of (share of the tokens) ·
    /// (mean probability). It is the number of experts per token if all experts have equal shares, otherwise
    /// more.
    pub load_balancing: Tensor<1>,
    /// Router-z loss, `[1]`: mean of the squared log-partition function of the logits.
    pub z: Tensor<1>,
    /// Share of all assignments that each expert has, `[X]`.
    pub utilization: Tensor<1>,
}

/// Computes the losses over the routings of all layers. Each routing comes with its tokens' weights, `[N,
/// 1]`: 1 for tokens and 0 for padding. `None` without experts.
pub fn losses(routings: &[(&Routing, &Tensor<2>)]) -> Option<RouterLosses> {
    let [_, experts] = routings.first()?.0.logits.dims();
    let logits = Tensor::cat(routings.iter().map(|(routing, _)| routing.logits.clone()).collect(), 0); // [L N, X]
    let chosen = Tensor::cat(routings.iter().map(|(routing, _)| routing.chosen.clone()).collect(), 0); // [L N, K]
    let real = Tensor::cat(routings.iter().map(|(_, real)| (*real).clone()).collect(), 0); // [L N, 1]
    let [rows, per_token] = chosen.dims();
    let count: Tensor<2> = real.clone().sum_dim(0).clamp_min(1.0); // [1, 1]

    let all: Tensor<3, Int> = Tensor::<1, Int>::arange(0..experts as i64, &logits.device()).unsqueeze();
    let own: Tensor<3, Int> = chosen.reshape([rows, per_token, 1]);
    let hits: Tensor<2> = own.equal(all).float().sum_dim(1).squeeze_dim(1); // [L N, X]
    let load = (hits * real.clone()).sum_dim(0) / count.clone(); // [1, X], sums to K
    let probability = (softmax(logits.clone(), 1) * real.clone()).sum_dim(0) / count.clone(); // [1, X]
    let largest = logits.clone().max_dim(1); // [L N, 1]
    let log_sum = (logits - largest.clone()).exp().sum_dim(1).log() + largest;
    let z = (log_sum.square() * real).sum_dim(0) / count;
    Some(RouterLosses {
        load_balancing: (load.clone() * probability).sum().mul_scalar(experts as f64),
        z: z.reshape([1]),
        utilization: load.div_scalar(per_token as f64).reshape([experts]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{
            Activation, Config, DistillConfig, Head, MoeConfig, Normalization, TokenizerConfig, TokenizerKind,
        },
        data::{Example, HostBatch, IGNORE_INDEX, Width},
        kernels::Mode,
        model::{
            Model,
            parameters::{gradients, read},
        },
        objective::{
            Distill, Frozen, Kto, MetricSums, Metrics, Objective, PolicyOptimization, Prediction, Preference,
            Reference, Reward, named,
            reinforcement::Averaging,
            rollout::{Answer, Rollout, Shape, StepBatches},
        },
        tokenizer::Tokenizer,
    };
    use burn::{optim::GradientsParams, tensor::Device};

    fn device() -> Device {
        crate::device::Choice::cpu().open().unwrap().autodiff()
    }

    /// Configuration of a model with experts, and of an objective for it.
    fn config(kind: &str, weights: AuxiliaryLosses) -> Config {
        let AuxiliaryLosses { load_balancing: aux_loss, z: z_loss } = weights;
        let model = ModelConfig {
            vocab_size: 13,
            n_embd: 16,
            n_head: 2,
            n_layer: 2,
            block_size: 16,
            init_std: 0.3,
            activation: Activation::Swiglu,
            moe: MoeConfig { n_experts: 3, aux_loss, z_loss, ..Default::default() },
            head: if kind == "reward" { Head::Regression } else { Head::LanguageModel },
            ..Default::default()
        };
        let mut config = Config { model, ..Default::default() };
        let kind = format!("objective.kind={kind}");
        let keys = [kind.as_str(), "preference.reference_free=true", "ppo.kl_coefficient=0"];
        config.apply(&keys.map(str::to_owned)).unwrap();
        config
    }

    fn objective(kind: &str, config: &Config, model: &Model) -> Box<dyn Objective> {
        match kind {
            "sft" => Box::new(Prediction::new(config)),
            "reward" => Box::new(Reward::new(config)),
            "kto" => Box::new(Kto::new(config, Reference::new(Frozen::new(model)))),
            "distill" => {
                let distill = Distill::new(&DistillConfig::default(), Frozen::new(model));
                Box::new(distill.with_router_losses(AuxiliaryLosses::new(&config.model)))
            }
            "ppo" | "grpo" | "rloo" => {
                let characters = TokenizerConfig { kind: TokenizerKind::Char, ..Default::default() };
                let tokenizer = Tokenizer::train(&characters, &[], ["abcdefghijklm"]).unwrap();
                Box::new(PolicyOptimization::open(config, model, &tokenizer).unwrap())
            }
            _ => Box::new(Preference::new(config, None)),
        }
    }

    /// Four rows as the objective reads them.
    fn host(kind: &str) -> HostBatch {
        let tokens: Vec<i32> = (0..32).map(|i| i * 5 % 13).collect();
        match kind {
            "ppo" | "grpo" | "rloo" => {
                let answer = |row: u32| Answer {
                    prompt: vec![row + 1, 2],
                    tokens: (0..=row).map(|token| 3 * token).collect(),
                    is_left_out: false,
                };
                let answers: Vec<Answer> = (0..4).map(answer).collect();
                let shape = Shape::of(&answers, 16, false);
                let numbers = |value: f32| vec![value; 4 * shape.width];
                let rollout = Rollout {
                    old_log_probabilities: numbers(-1.0),
                    advantages: numbers(0.5),
                    answers,
                    shape,
                    ..Rollout::default()
                };
                let averaging =
                    Averaging { normalization: Normalization::Dapo, max_length: 4, micro_batch: 4 };
                StepBatches { minibatches: 1, averaging, seed: 1 }.of(&rollout, 0).remove(0)
            }
            "reward" => {
                let row =
                    |row: &[i32]| Example { inputs: row.to_vec(), targets: vec![0], ..Example::default() };
                let rows = [3, 8, 5, 6].map(|length| row(&tokens[length..2 * length]));
                let host = HostBatch::of(rows.to_vec(), 4, Width::LongestWithOneTarget, 16);
                HostBatch { rows_per_example: 2, ..host }
            }
            _ => {
                let target = |i: i32| if i % 8 < 3 { IGNORE_INDEX } else { i * 7 % 13 };
                let mut host = HostBatch::new(tokens, (0..32).map(target).collect(), 4, 8);
                host.rows_per_example = if matches!(kind, "dpo" | "orpo" | "simpo") { 2 } else { 1 };
                host.values = if kind == "kto" { vec![1.0, 0.0, 1.0, 0.0] } else { Vec::new() };
                host
            }
        }
    }

    /// The differentiated and the reported loss of a step, the gradients of the routers, and metrics.
    fn step(kind: &str, weights: AuxiliaryLosses) -> (f32, f32, Vec<f32>, Metrics) {
        let (config, device, host) = (config(kind, weights), device(), host(kind));
        let model = Model::init(&config.model, Mode::Fused, 3, &device);
        let objective = objective(kind, &config, &model);
        let totals = StepTotals::of([&host]);
        objective.begin_step(&model, std::slice::from_ref(&host), &device);
        let batch = Batch::new(&host, &device);
        let Loss { total, reported, metrics } = objective.loss(&model, &batch, totals);
        let mut sums = MetricSums::default();
        sums.add(metrics, &batch, totals);
        let (names, sums) = sums.into_parts();
        let values = Tensor::cat(sums, 0).into_data().try_into_vec_as::<f32>().unwrap();
        let value = |loss: &Tensor<1>| loss.clone().inner().into_scalar::<f32>();
        let losses = (value(&total), value(&reported));
        let found = GradientsParams::from_grads(total.backward(), &model);
        let found = pollster::block_on(read(gradients(&model, &found))).unwrap();
        let of_routers = found.into_iter().filter(|(name, _)| name.contains("router"));
        let of_routers = of_routers.flat_map(|(_, tensor)| tensor.values).collect();
        (losses.0, losses.1, of_routers, named(&names, &values))
    }

    #[test]
    fn every_objective_balances_the_experts_and_shows_it() {
        for kind in ["sft", "dpo", "orpo", "simpo", "kto", "reward", "distill", "ppo", "grpo", "rloo"] {
            let weights = AuxiliaryLosses { load_balancing: 1.0, z: 0.1 };
            let [plain, balanced] = [AuxiliaryLosses::default(), weights].map(|weights| step(kind, weights));
            assert!((plain.0 - plain.1).abs() < 1e-6 && (plain.1 - balanced.1).abs() < 1e-6, "{kind}");
            let of = |name: &str| balanced.3[name].values().to_vec();
            let expected = of("router/load_balancing")[0] + 0.1 * of("router/z")[0];
            assert!((balanced.0 - balanced.1 - expected).abs() < 1e-4, "{kind}: {balanced:?}");
            // About 2, since each token has two experts.
            assert!((1.5..3.1).contains(&of("router/load_balancing")[0]), "{kind}: {balanced:?}");
            assert!((of("router/expert").iter().sum::<f32>() - 1.0).abs() < 1e-5, "{kind}: {balanced:?}");
            assert_eq!(of("router/expert").len(), 3);
            let differences = plain.2.iter().zip(&balanced.2).map(|(a, b)| (a - b).abs());
            assert!(differences.fold(0.0, f32::max) > 1e-4, "{kind}: {:?}", balanced.2);
        }
    }

    #[test]
    fn balance_is_the_least_and_padding_does_not_count() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let routing = |logits: [[f32; 2]; 3], chosen: [[i32; 1]; 3]| Routing {
            logits: Tensor::from_data(logits, &device),
            chosen: Tensor::from_data(chosen, &device),
        };
        let real = Tensor::<2>::from_data([[1.0], [1.0], [0.0]], &device);
        let balanced = routing([[0.0, 0.0], [0.0, 0.0], [9.0, 0.0]], [[0], [1], [0]]);
        let found = losses(&[(&balanced, &real)]).unwrap();
        assert!((found.load_balancing.into_scalar::<f32>() - 1.0).abs() < 1e-6);
        assert!((found.z.into_scalar::<f32>() - 2f32.ln().powi(2)).abs() < 1e-6);
        assert_eq!(found.utilization.into_data().try_into_vec_as::<f32>().unwrap(), [0.5, 0.5]);
        let collapsed = routing([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0]], [[0], [0], [1]]);
        let found = losses(&[(&collapsed, &real)]).unwrap();
        assert!((found.load_balancing.into_scalar::<f32>() - 2.0).abs() < 1e-3);
        assert!(losses(&[]).is_none());
    }
}
