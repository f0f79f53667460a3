//! Draws a rollout: prompts, answers, scores, measurements, and the targets of the updates.

use super::{PolicyOptimization, figures::Facts, identity::of_sampling, refusal::Refusal};
use crate::{
    config::{AdvantageScale, Config, Normalization, ObjectiveKind, OnBadAnswer},
    data::random::seed_for,
    error::{Error, Result, hint},
    generate::{Completion, StopReason},
    objective::{
        Frozen, Sample, Start,
        reinforcement::{Sampled, Targets, TargetsConfig, answer_mask, group_advantages, leave_one_out},
        rollout::{
            Answer, Measured, Models, Prompt, Rollout, Shape, answer_rows, measure, prompts,
            rewards::{AnswerText, Scores},
            sample_answers,
        },
    },
};
use burn::module::Module;

/// Number of rollouts without a single answer to train on, in a row, after which the run fails.
const MOST_SKIPPED: usize = if cfg!(test) { 3 } else { 100 };

impl PolicyOptimization {
    /// Draws rollouts until one has an answer to train on. Returns samples of it, if they are due.
    ///
    /// # Errors
    /// [`Error::Rollout`] for an answer that is refused. The same rollout is drawn again when the run goes on.
    pub(super) async fn next_rollout(&mut self, run: &Start<'_>) -> Result<Vec<Sample>> {
        let (drawn, left_out) = (self.drawn, self.left_out);
        let result = self.first_trainable(run).await;
        if result.is_err() {
            (self.drawn, self.left_out) = (drawn, left_out);
        }
        result.map_err(|error| error.at_step(run.steps_done + 1))
    }

    async fn first_trainable(&mut self, run: &Start<'_>) -> Result<Vec<Sample>> {
        let mut last = String::new();
        for _ in 0..MOST_SKIPPED {
            let number = self.drawn;
            self.drawn += 1;
            match self.draw(run, number).await? {
                Ok(samples) => return Ok(samples),
                Err(reason) => last = reason,
            }
        }
        Err(Error::Rollout {
            step: None,
            key: "rollout.on_bad_answer".into(),
            value: "skip".into(),
            message: format!(
                "no answer of {MOST_SKIPPED} rollouts in a row can be trained on; of the last, {last}"
            ),
            hint: Some(hint![
                "correct it, or see the first one with ",
                hint::set("rollout.on_bad_answer", "stop")
            ]),
        })
    }

    /// Draws the rollout with the given number. If it has no answer to train on, returns the last reason.
    async fn draw(&mut self, run: &Start<'_>, number: u64) -> Result<Result<Vec<Sample>, String>> {
        let (config, tokenizer) = (run.config, &run.dataset.tokenizer);
        let count = config.prompts_per_rollout();
        let first = number as usize * count;
        let rows = run.loader.rows(0, first..first + count);
        let prompts = prompts(&rows, &run.dataset.train, tokenizer, config)?;
        if prompts.is_empty() {
            return Ok(Err("there is no prompt".into()));
        }
        let group = config.answers_per_prompt();
        let asked: Vec<&Prompt> =
            prompts.iter().flat_map(|prompt| std::iter::repeat_n(prompt, group)).collect();

        let policy = run.model.valid();
        let seed = seed_for(config.train.seed, number, "rollout");
        // The only step on a rollout computes the old probabilities itself.
        let is_measured =
            config.steps_per_rollout() > 1 || self.reference.is_some() || self.companion.is_some();
        // The identities before the first update compare those of sampling.
        let is_first = run.steps_done == 0;
        let completions = sample_answers(run, &policy, &asked, seed, is_first || !is_measured).await?;
        let texts = Texts::new(&asked, &completions);
        let rows = asked.iter().zip(&completions);
        let mut refusals: Vec<Option<Refusal>> = rows
            .map(|(prompt, answer)| {
                let too_long = answer.is_none().then(|| Refusal::of_long_prompt(prompt, config));
                too_long.or_else(|| texts.are_empty().then(Refusal::of_empty_rollout))
            })
            .collect();
        let at_once = config.train.batch_size;
        let scores = self.rewards.score(&texts.answers(), at_once, run.device, run.score_command).await?;

        let answers = answer_rows(&asked, &completions);
        let shape =
            Shape::of(&answers, config.model.block_size, config.model.attention.prefix).sharing(config);
        let value = self.companion.as_ref().map(|companion| companion.value.valid());
        let reference = self.reference.as_ref().map(Frozen::model);
        let models = Models {
            policy: &policy,
            reference,
            value: value.as_ref(),
            temperature: self.update.temperature,
            at_once,
        };
        let measured = match is_first || is_measured {
            true => measure(&answers, shape, &models, run.device).await?,
            false => Measured {
                entropies: of_sampling(&completions, shape.width, |found| &found.entropies),
                ..Measured::default()
            },
        };
        if is_first {
            self.check_identities(run, &answers, shape, &measured, &completions, reference).await?;
        }

        let divergences = divergences(&measured, shape, answers.len());
        for (row, refusal) in refusals.iter_mut().enumerate() {
            *refusal = refusal
                .take()
                .or_else(|| Refusal::of_answer(&scores, divergences.get(row).copied(), row, config));
        }
        self.settle(&refusals, &texts, config.rollout.on_bad_answer)?;
        if refusals.iter().all(Option::is_some) {
            return Ok(Err(refusals.pop().flatten().map(|refusal| refusal.message).unwrap_or_default()));
        }
        let left_out = |(answer, refusal): (Answer, &Option<Refusal>)| Answer {
            is_left_out: refusal.is_some(),
            ..answer
        };
        let answers: Vec<Answer> = answers.into_iter().zip(&refusals).map(left_out).collect();
        let samples = self.samples(run, &texts, &scores);
        let facts = Facts {
            answers: &answers,
            completions: &completions,
            scores: &scores,
            divergences: &divergences,
        };
        self.rollout = Some(self.with_targets(run, number, shape, measured, &facts));
        Ok(Ok(samples))
    }

    /// Computes the targets of the updates, and the figures about the rollout.
    fn with_targets(
        &mut self,
        run: &Start<'_>,
        number: u64,
        shape: Shape,
        measured: Measured,
        facts: &Facts<'_>,
    ) -> Rollout {
        let config = run.config;
        let mut rollout = Rollout {
            number,
            first_step: run.steps_done,
            shape,
            answers: facts.answers.to_vec(),
            old_log_probabilities: measured.log_probabilities,
            reference_log_probabilities: measured.reference_log_probabilities,
            values: measured.values,
            ..Rollout::default()
        };
        let lengths = rollout.lengths();
        let present = |(score, length): (&f32, &usize)| (*length > 0).then_some(*score);
        let scores: Vec<Option<f32>> = facts.scores.total.iter().zip(&lengths).map(present).collect();
        let group = config.answers_per_prompt();
        if self.kind == ObjectiveKind::Ppo {
            let old = &rollout.old_log_probabilities;
            let is_compared = !rollout.reference_log_probabilities.is_empty();
            let targets = TargetsConfig::of(config, self.controller.coefficient).targets(Sampled {
                width: shape.width,
                lengths: &lengths,
                scores: &facts.scores.total,
                old_log_probabilities: old,
                reference_log_probabilities: if is_compared {
                    &rollout.reference_log_probabilities
                } else {
                    old
                },
                values: &rollout.values,
            });
            let Targets { advantages, returns, value_mask, .. } = targets;
            (rollout.advantages, rollout.returns, rollout.value_mask) = (advantages, returns, value_mask);
        } else {
            let of_answers = match self.kind {
                ObjectiveKind::Rloo => {
                    let beta = self.controller.coefficient;
                    let less = |(row, score): (usize, &Option<f32>)| {
                        score.map(|score| score - beta * facts.divergences.get(row).copied().unwrap_or(0.0))
                    };
                    leave_one_out(&scores.iter().enumerate().map(less).collect::<Vec<_>>(), group)
                }
                _ => group_advantages(&scores, group, scale(config)),
            };
            let of_tokens =
                of_answers.into_iter().flat_map(|advantage| std::iter::repeat_n(advantage, shape.width));
            let mask = answer_mask(&lengths, shape.width);
            rollout.advantages = of_tokens.zip(mask).map(|(advantage, mask)| advantage * mask).collect();
        }
        rollout.figures = self.figures(&rollout, &measured.entropies, &scores, group, facts);
        if let Some(kl) = rollout.figures.get("kl").and_then(|kl| kl.first()) {
            self.controller.observe(f64::from(*kl), lengths.iter().filter(|&&length| length > 0).count());
        }
        rollout
    }

    /// Counts refused answers, or fails at the first one.
    fn settle(&mut self, refusals: &[Option<Refusal>], texts: &Texts<'_>, action: OnBadAnswer) -> Result<()> {
        for (row, refusal) in refusals.iter().enumerate() {
            let Some(refusal) = refusal else { continue };
            self.left_out += 1;
            if action == OnBadAnswer::Stop {
                let text = texts.rows.get(row);
                return Err(refusal.to_error(text.map(|text| (text.prompt, text.answer))));
            }
        }
        Ok(())
    }

    /// Samples of a rollout with their rewards, if a sample is due within its steps.
    fn samples(&self, run: &Start<'_>, texts: &Texts<'_>, scores: &Scores) -> Vec<Sample> {
        let (interval, steps) = (run.config.train.sample_interval, run.config.steps_per_rollout());
        let is_due = |interval: u64| (run.steps_done + steps) / interval > run.steps_done / interval;
        if interval == 0 || !(run.steps_done == 0 || is_due(interval)) {
            return Vec::new();
        }
        let rows = texts.rows.iter().zip(&scores.total).take(run.config.rollout.samples);
        let sample = |(text, &reward): (&Text<'_>, &f32)| Sample {
            text: format!("{}{}", text.prompt, text.answer),
            reward,
        };
        rows.map(sample).collect()
    }
}

/// Divergence of each answer from the reference, the sum of log-ratios; empty without a reference.
fn divergences(measured: &Measured, shape: Shape, answers: usize) -> Vec<f32> {
    if measured.reference_log_probabilities.is_empty() {
        return Vec::new();
    }
    let of_row = |row: usize| {
        let range = row * shape.width..(row + 1) * shape.width;
        let (own, other) = (&measured.log_probabilities, &measured.reference_log_probabilities);
        let ratios = own[range.clone()].iter().zip(&other[range]);
        ratios.map(|(own, other)| f64::from(own - other)).sum::<f64>() as f32
    };
    (0..answers).map(of_row).collect()
}

fn scale(config: &Config) -> AdvantageScale {
    let is_unscaled = config.grpo.normalization == Normalization::DrGrpo;
    let usual = if is_unscaled { AdvantageScale::Unscaled } else { AdvantageScale::Group };
    config.grpo.scale.unwrap_or(usual)
}

/// Texts of a rollout's answers.
pub(super) struct Texts<'a> {
    rows: Vec<Text<'a>>,
}

struct Text<'a> {
    prompt: &'a str,
    answer: &'a str,
    source: &'a Prompt,
    ended: bool,
    tokens: usize,
    all_tokens: Vec<u32>,
}

impl<'a> Texts<'a> {
    pub fn new(prompts: &[&'a Prompt], completions: &'a [Option<Completion>]) -> Self {
        let text = |(prompt, completion): (&&'a Prompt, &'a Option<Completion>)| {
            let sampled = completion.as_ref().map_or(&[][..], |completion| &completion.tokens);
            Text {
                prompt: &prompt.text,
                answer: completion.as_ref().map_or("", |completion| &completion.text),
                source: prompt,
                ended: completion.as_ref().is_some_and(has_ended),
                tokens: sampled.len(),
                all_tokens: prompt.tokens.iter().chain(sampled).copied().collect(),
            }
        };
        Self { rows: prompts.iter().zip(completions).map(text).collect() }
    }

    /// Answers as rewards see them.
    pub fn answers(&self) -> Vec<AnswerText<'_>> {
        let rows = self.rows.iter().map(|text| AnswerText {
            prompt: text.prompt,
            answer: text.answer,
            reference: text.source.reference.as_deref(),
            ended: text.ended,
            tokens: text.tokens,
            record: &text.source.record,
            all_tokens: &text.all_tokens,
        });
        rows.collect()
    }

    /// Whether no answer has any text, so that there is nothing to compare.
    fn are_empty(&self) -> bool {
        self.rows.iter().all(|text| text.answer.trim().is_empty())
    }
}

/// Whether the model has ended an answer itself.
pub(super) fn has_ended(completion: &Completion) -> bool {
    matches!(completion.reason, StopReason::EndOfText | StopReason::StopText)
}
