//! Evaluation of a policy: the mean reward of its answers to held-out prompts.

use super::{
    PolicyOptimization,
    draw::{Texts, answer, has_ended},
    figures::mean,
};
use crate::{
    data::{evaluation_batches, random::seed_for},
    error::Result,
    model::Model,
    objective::{MetricValue, Metrics, Start, rollout::prompts},
};

impl PolicyOptimization {
    /// Samples an answer to each prompt of the validation split, up to `train.eval_batches` batches, always
    /// with the same random numbers. Returns minus the mean reward, which is the lower the better, and
    /// metrics.
    ///
    /// # Errors
    /// Those of sampling and scoring.
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
        let completions = answer(run, model, &asked, seed).await?;
        let texts = Texts::new(&asked, &completions);
        let scores =
            self.rewards.score(&texts.answers(), train.batch_size, run.device, run.score_command).await?;

        let answered = || {
            completions.iter().zip(&scores.total).filter_map(|(found, score)| Some((found.as_ref()?, score)))
        };
        let rewards = answered().map(|(_, &score)| f64::from(score)).filter(|score| score.is_finite());
        let reward = mean(rewards);
        let mut metrics = Metrics::new();
        let mut put =
            |name: &str, value: f64| drop(metrics.insert(name.into(), MetricValue::One(value as f32)));
        put("reward", reward);
        put("answer_length", mean(answered().map(|(found, _)| found.tokens.len() as f64)));
        put("ended", mean(answered().map(|(found, _)| f64::from(u8::from(has_ended(found))))));
        metrics
            .extend(scores.terms.iter().map(|(name, values)| ((*name).to_owned(), MetricValue::new(values))));
        Ok((-reward, metrics))
    }
}
