//! Tests of the losses of pairs and of KTO on a small model; their values are compared with PyTorch's by
//! `kiln verify`.

use super::*;
use crate::{
    config::ModelConfig,
    data::{HostBatch, IGNORE_INDEX},
    kernels::Mode,
    model::parameters::{NamedData, gradients, read},
    objective::{Frozen, MetricSums, named},
};
use burn::{optim::GradientsParams, tensor::Device};

fn device() -> Device {
    crate::device::Choice::cpu().open().unwrap().autodiff()
}

fn model(seed: u64) -> Model {
    let config = ModelConfig {
        vocab_size: 13,
        n_embd: 16,
        n_head: 2,
        n_layer: 1,
        block_size: 16,
        // So that predictions are far from even.
        init_std: 0.5,
        ..Default::default()
    };
    Model::init(&config, Mode::Fused, seed, &device())
}

fn config(overrides: &[&str]) -> Config {
    let mut config = Config::default();
    config.model.block_size = 16;
    config.apply(&overrides.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap();
    config
}

/// Rows of a prompt and an answer, padded to `time` tokens, of which `rows_per_example` are one example.
fn batch(rows: &[(&[i32], &[i32])], rows_per_example: usize, time: usize, count: usize) -> HostBatch {
    let (mut inputs, mut targets) = (vec![0; count * time], vec![IGNORE_INDEX; count * time]);
    for (number, (prompt, answer)) in rows.iter().enumerate() {
        let tokens = [*prompt, *answer].concat();
        for (at, pair) in tokens.windows(2).enumerate() {
            inputs[number * time + at] = pair[0];
            if at + 1 >= prompt.len() {
                targets[number * time + at] = pair[1];
            }
        }
    }
    let mut host = HostBatch::new(inputs, targets, count, time);
    host.rows_per_example = rows_per_example;
    host
}

const PAIRS: [(&[i32], &[i32]); 4] =
    [(&[1, 2, 3], &[4, 0]), (&[1, 2, 3], &[5]), (&[7, 8], &[9, 0, 0, 2]), (&[7, 8], &[10, 11, 2])];

fn pairs(time: usize, count: usize) -> HostBatch {
    batch(&PAIRS, 2, time, count)
}

/// Loss, gradients and metrics of a step.
fn step(objective: &dyn Objective, model: &Model, batches: &[HostBatch]) -> (f32, NamedData, Vec<f32>) {
    let totals = StepTotals::of(batches);
    objective.begin_step(model, batches, &device());
    let (mut value, mut metrics, mut total) = (0.0, MetricSums::default(), None::<Tensor<1>>);
    for host in batches {
        let batch = Batch::new(host, &device());
        let loss = objective.loss(model, &batch, totals);
        value += loss.reported.inner().into_scalar::<f32>();
        metrics.add(loss.metrics, &batch, totals);
        total = Some(match total {
            Some(sum) => sum + loss.total,
            None => loss.total,
        });
    }
    let found = GradientsParams::from_grads(total.unwrap().backward(), model);
    let found = pollster::block_on(read(gradients(model, &found))).unwrap();
    let (_, values) = metrics.into_parts();
    (value, found, Tensor::cat(values, 0).into_data().try_into_vec_as::<f32>().unwrap())
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Log-probability of an answer, from the logits of its row alone.
fn by_hand(model: &Model, (prompt, answer): (&[i32], &[i32])) -> f32 {
    let time = prompt.len() + answer.len() - 1;
    let alone = batch(&[(prompt, answer)], 1, time, 1);
    let logits = Batch::new(&alone, &device()).logits(model).inner();
    let logits = logits.into_data().try_into_vec_as::<f32>().unwrap();
    let log_p = |position: usize, token: i32| {
        let row = &logits[position * 13..(position + 1) * 13];
        let largest = row.iter().copied().fold(f32::MIN, f32::max);
        row[token as usize] - largest - row.iter().map(|logit| (logit - largest).exp()).sum::<f32>().ln()
    };
    answer.iter().enumerate().map(|(at, &token)| log_p(prompt.len() - 1 + at, token)).sum()
}

#[test]
fn shares_of_micro_batches_add_up_for_every_loss() {
    let (model, other) = (model(3), model(4));
    let reference = || Reference::new(Frozen::new(&other));
    let losses: [(&[&str], bool); 8] = [
        (&["objective.kind=dpo"], true),
        (&["objective.kind=dpo", "preference.label_smoothing=0.2", "preference.sft_weight=0.5"], true),
        (&["objective.kind=dpo", "preference.loss=robust", "preference.label_smoothing=0.2"], true),
        (&["objective.kind=dpo", "preference.loss=ipo", "preference.average=true"], true),
        (&["objective.kind=dpo", "preference.reference_free=true"], false),
        (&["objective.kind=simpo"], false),
        (&["objective.kind=orpo"], false),
        (&["objective.kind=orpo", "preference.nll_of_prompt=true"], false),
    ];
    for (overrides, has_reference) in losses {
        let objective = Preference::new(&config(overrides), has_reference.then(reference));
        let whole = step(&objective, &model, &[pairs(8, 4)]);
        // One pair each, with other padding, and a pair that only fills the batch.
        let parts = [batch(&PAIRS[..2], 2, 9, 4), batch(&PAIRS[2..], 2, 6, 2)];
        let parts = step(&objective, &model, &parts);
        assert!((whole.0 - parts.0).abs() < 1e-5, "{overrides:?}: {} {}", whole.0, parts.0);
        assert!(largest_difference(&whole.2, &parts.2) < 1e-4, "{overrides:?}");
        for (name, gradient) in &whole.1 {
            assert!(
                largest_difference(&gradient.values, &parts.1[name].values) < 1e-4,
                "{overrides:?} {name}"
            );
        }
    }
    // KTO's divergence too is that of the whole step.
    let mut rows = batch(&PAIRS, 1, 8, 4);
    rows.values = vec![1.0, 0.0, 0.0, 1.0];
    let mut parts = [batch(&PAIRS[..1], 1, 8, 2), batch(&PAIRS[1..], 1, 9, 3)];
    parts[0].values = vec![1.0, 0.0];
    parts[1].values = vec![0.0, 0.0, 1.0];
    let objective =
        Kto::new(&config(&["objective.kind=kto", "preference.undesirable_weight=1.5"]), reference());
    let (whole, parts) = (step(&objective, &model, &[rows]), step(&objective, &model, &parts));
    assert!((whole.0 - parts.0).abs() < 1e-5);
    for (name, gradient) in &whole.1 {
        assert!(largest_difference(&gradient.values, &parts.1[name].values) < 1e-4, "kto {name}");
    }
}

#[test]
fn dpo_counts_answers_with_token_0_like_others_trl_1284() {
    let model = model(3);
    let objective = Preference::new(&config(&["objective.kind=dpo", "preference.reference_free=true"]), None);
    let host = pairs(8, 4);
    let batch = Batch::new(&host, &device());
    let found = Pairs::of(&model, &batch, false);
    let sums = found.sums.inner().into_data().try_into_vec_as::<f32>().unwrap();
    let expected = PAIRS.map(|row| by_hand(&model, row));
    assert!(largest_difference(&sums, &expected) < 1e-4, "{sums:?} {expected:?}");
    let counts = found.counts.inner().into_data().try_into_vec_as::<f32>().unwrap();
    assert_eq!(counts, [2.0, 1.0, 4.0, 3.0]);
    let expected =
        expected.chunks(2).map(|pair| (-0.1 * (pair[0] - pair[1])).exp().ln_1p()).sum::<f32>() / 2.0;
    assert!((step(&objective, &model, &[host]).0 - expected).abs() < 1e-5);
}

#[test]
fn dpo_compares_what_truncation_leaves_of_both_answers_trl_2209() {
    let model = model(3);
    let cut: [(&[i32], &[i32]); 2] = [(&[7, 8], &[9, 0]), (&[7, 8], &[10, 11])];
    let host = batch(&cut, 2, 3, 2);
    let found = Pairs::of(&model, &Batch::new(&host, &device()), false);
    let sums = found.sums.inner().into_data().try_into_vec_as::<f32>().unwrap();
    assert!(largest_difference(&sums, &cut.map(|row| by_hand(&model, row))) < 1e-4);
    assert_eq!(found.counts.inner().into_data().try_into_vec_as::<f32>().unwrap(), [2.0, 2.0]);
    // A pair of which one answer is cut away whole counts nothing, in the loss and in its divisor.
    let gone = batch(&[PAIRS[0], PAIRS[1], (&[7, 8, 9, 10], &[]), PAIRS[3]], 2, 8, 4);
    let objective = Preference::new(&config(&["objective.kind=dpo", "preference.reference_free=true"]), None);
    let (with, without) =
        (step(&objective, &model, &[gone]), step(&objective, &model, &[batch(&PAIRS[..2], 2, 8, 2)]));
    assert!((with.0 - without.0).abs() < 1e-6, "{} {}", with.0, without.0);
}

#[test]
fn the_gradient_of_orpo_is_not_zero() {
    let model = model(3);
    let mut objective = Preference::new(&config(&["objective.kind=orpo"]), None);
    let norm = |data: &NamedData| {
        data.values().flat_map(|tensor| &tensor.values).map(|value| value * value).sum::<f32>().sqrt()
    };
    let with_likelihood = step(&objective, &model, &[pairs(8, 4)]);
    objective.likelihood.weight = 0.0;
    let odds_alone = step(&objective, &model, &[pairs(8, 4)]);
    assert!(norm(&odds_alone.1) > 1e-3 && norm(&with_likelihood.1) > norm(&odds_alone.1));
    // Certain answers have finite odds.
    let device = device();
    let certain = orpo::losses(
        Tensor::<2>::from_data([[0.0], [-0.1]], &device),
        Tensor::<2>::from_data([[-0.1], [0.0]], &device),
        0.1,
    );
    let certain = certain.inner().into_data().try_into_vec_as::<f32>().unwrap();
    assert!(certain.iter().all(|loss| loss.is_finite()), "{certain:?}");
}

#[test]
fn a_model_that_is_its_own_reference_has_no_rewards() {
    let model = model(3);
    let reference = Reference::new(Frozen::new(&model));
    let objective = Preference::new(&config(&["objective.kind=dpo"]), Some(reference));
    let totals = StepTotals::of([&pairs(8, 4)]);
    let batch = Batch::new(&pairs(8, 4), &device());
    let loss = objective.loss(&model, &batch, totals);
    assert!((loss.reported.inner().into_scalar::<f32>() - 2f32.ln()).abs() < 1e-6);
    let mut sums = MetricSums::default();
    sums.add(loss.metrics, &batch, totals);
    let (layout, values) = sums.into_parts();
    let values = Tensor::cat(values, 0).into_data().try_into_vec_as::<f32>().unwrap();
    let metrics = named(&layout, &values);
    for name in ["rewards/chosen", "rewards/rejected", "rewards/margin"] {
        assert!(metrics[name].values()[0].abs() < 1e-6, "{name}");
    }
    let chosen = (by_hand(&model, PAIRS[0]) + by_hand(&model, PAIRS[2])) / 2.0;
    assert!((metrics["log_probability/chosen"].values()[0] - chosen).abs() < 1e-4);
    let nll = -(by_hand(&model, PAIRS[0]) + by_hand(&model, PAIRS[2])) / 6.0;
    assert!((metrics["nll"].values()[0] - nll).abs() < 1e-4);
}
