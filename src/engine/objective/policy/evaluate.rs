//! Evaluation of a policy: the mean reward of its answers to held-out prompts.

use super::{
    PolicyOptimization,
    draw::{Texts, has_ended},
    figures::mean,
    refusal::Refusal,
};
use crate::{
    config::OnBadAnswer,
    data::{evaluation_batches, random::seed_for},
    error::{Error, Result, hint},
    model::Model,
    objective::{
        MetricValue, Metrics, Start,
        rollout::{prompts, sample_answers},
    },
};
use std::collections::BTreeMap;

impl PolicyOptimization {
    /// Samples an answer to each prompt of the validation split, up to `train.eval_batches` batches, always
    /// with the same random numbers. Returns minus the mean reward, which is the lower the better, and
    /// metrics.
    ///
    /// # Errors
    /// Those of sampling and scoring, [`Error::Rollout`](crate::error::Error::Rollout) for an answer that is refused, or
    /// for all where they are left out, and [`Error::InvalidValue`] if no prompt leaves room for an answer.
    pub(super) async fn evaluate_answers(&self, run: &Start<'_>, model: &Model) -> Result<(f64, Metrics)> {
        let (config, dataset) = (run.config, run.dataset);
        let train = &config.train;
        let split = &dataset.val;
        let batches =
            evaluation_batches(split.clone(), run.layout.clone(), train.batch_size, train.eval_batches);
        let mut all = Vec::new();
        for batch in batches {
            all.extend(prompts(&batch, split, &dataset.tokenizer, config)?);
        }
        let asked: Vec<_> = all.iter().collect();
        let seed = seed_for(train.seed, 0, "evaluation of answers");
        let completions = sample_answers(run, model, &asked, seed, false).await?;
        let texts = Texts::new(&asked, &completions);
        let scores =
            self.rewards.score(&texts.answers(), train.batch_size, run.device, run.score_command).await?;

        let rows = completions.iter().enumerate();
        let answered: Vec<_> = rows.filter_map(|(row, found)| Some((row, found.as_ref()?))).collect();
        if answered.is_empty() {
            return Err(Error::InvalidValue {
                key: "rollout.max_new_tokens".into(),
                value: config.rollout.max_new_tokens.to_string(),
                message: "no held-out prompt leaves room for an answer".into(),
                hint: Some(hint!["lower it, or do not evaluate, with ", hint::set("train.eval_interval", 0)]),
            });
        }
        let refused = |&(row, _): &(usize, _)| Some((row, Refusal::of_answer(&scores, None, row, config)?));
        let refused: BTreeMap<usize, Refusal> = answered.iter().filter_map(refused).collect();
        let stops = config.rollout.on_bad_answer == OnBadAnswer::Stop || refused.len() == answered.len();
        if let Some(refusal) = refused.values().next().filter(|_| stops) {
            return Err(refusal.to_error(None));
        }
        let kept = answered.iter().filter(|(row, _)| !refused.contains_key(row));
        let reward = mean(kept.map(|&(row, _)| f64::from(scores.total[row])));
        let mut metrics = Metrics::new();
        let mut put =
            |name: &str, value: f64| drop(metrics.insert(name.into(), MetricValue::One(value as f32)));
        put("reward", reward);
        put("answer_length", mean(answered.iter().map(|(_, found)| found.tokens.len() as f64)));
        put("ended", mean(answered.iter().map(|(_, found)| f64::from(u8::from(has_ended(found))))));
        metrics
            .extend(scores.terms.iter().map(|(name, values)| ((*name).to_owned(), MetricValue::new(values))));
        Ok((-reward, metrics))
    }
}
