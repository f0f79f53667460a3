//! Draws a rollout: prompts, answers, scores, measurements, and the targets of the updates.

use super::{PolicyOptimization, figures::Facts};
use crate::{
    config::{AdvantageScale, Config, Normalization, ObjectiveKind, OnBadAnswer, SampleConfig},
    data::random::seed_for,
    error::{Error, Result, hint},
    generate::{Completion, Generator, StopReason},
    model::Model,
    objective::{
        Frozen, Sample, Start,
        reinforcement::{Sampled, Targets, TargetsConfig, answer_mask, group_advantages, leave_one_out},
        rollout::{
            Answer, Measured, Models, Prompt, Rollout, Shape, measure, prompts,
            rewards::{AnswerText, Scores},
        },
    },
};
use burn::module::Module;

/// Number of rollouts without a single answer to train on, in a row, after which the run fails.
const MOST_SKIPPED: usize = if cfg!(test) { 3 } else { 100 };

/// Longest text in an error, in characters.
const LONGEST_SHOWN: usize = 60;

/// Reason why an answer is not trained on: the key of the configuration that it concerns, and what is wrong.
struct Refusal {
    key: &'static str,
    value: String,
    message: String,
}

impl PolicyOptimization {
    /// Draws rollouts until one has an answer to train on. Returns samples of it, if they are due.
    pub(super) async fn next_rollout(&mut self, run: &Start<'_>) -> Result<Vec<Sample>> {
        let mut last = String::new();
        for _ in 0..MOST_SKIPPED {
            let number = self.drawn;
            self.drawn += 1;
            match self.draw(run, number).await? {
                Ok(samples) => return Ok(samples),
                Err(reason) => last = reason,
            }
        }
        Err(Error::InvalidValue {
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
        let completions = answer(run, &policy, &asked, seed).await?;
        let texts = Texts::new(&asked, &completions);
        let rows = asked.iter().zip(&completions);
        let mut refusals: Vec<Option<Refusal>> = rows
            .map(|(prompt, answer)| {
                too_long(prompt, answer.as_ref(), config).or_else(|| texts.are_empty().then(empty))
            })
            .collect();
        let at_once = config.train.batch_size;
        let scores = self.rewards.score(&texts.answers(), at_once, run.device, run.score_command).await?;

        let answers = answers(&asked, &completions);
        let shape = Shape::of(&answers, config.model.block_size, config.model.attention.prefix);
        let value = self.companion.as_ref().map(|companion| companion.value.valid());
        let reference = self.reference.as_ref().map(Frozen::model);
        let models = Models {
            policy: &policy,
            reference,
            value: value.as_ref(),
            temperature: self.update.temperature,
            at_once,
        };
        let measured = measure(&answers, shape, &models, run.device).await?;
        if run.steps_done == 0 {
            self.check_identities(run, &answers, shape, &measured, &completions, reference).await?;
        }

        let divergences = divergences(&measured, shape, answers.len());
        for (row, refusal) in refusals.iter_mut().enumerate() {
            *refusal =
                refusal.take().or_else(|| refused(&scores, divergences.get(row).copied(), row, config));
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
            let Some(Refusal { key, value, message }) = refusal else { continue };
            self.left_out += 1;
            if action == OnBadAnswer::Stop {
                let of = texts.rows.get(row).map_or_else(String::new, |text| {
                    format!(" (prompt `{}`, answer `{}`)", shown(text.prompt), shown(text.answer))
                });
                return Err(Error::InvalidValue {
                    key: (*key).into(),
                    value: value.clone(),
                    message: format!("{message}{of}"),
                    hint: Some(hint![
                        "leave such answers out with ",
                        hint::set("rollout.on_bad_answer", "skip"),
                        ", or lower ",
                        hint::key("train.learning_rate"),
                        " if they come up only after some steps"
                    ]),
                });
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

/// Samples an answer to each prompt, or none to a prompt that is too long.
pub(super) async fn answer(
    run: &Start<'_>,
    policy: &Model,
    prompts: &[&Prompt],
    seed: u64,
) -> Result<Vec<Option<Completion>>> {
    let config = run.config;
    let sample = SampleConfig {
        temperature: config.rollout.temperature,
        max_new_tokens: config.rollout.max_new_tokens,
        stop: config.rollout.stop.clone(),
        seed,
        ..SampleConfig::default()
    };
    let fits = |prompt: &Prompt| prompt.tokens.len() + sample.max_new_tokens <= config.model.block_size;
    let rows: Vec<&[u32]> =
        prompts.iter().filter(|prompt| fits(prompt)).map(|prompt| prompt.tokens.as_slice()).collect();
    let (tokenizer, device) = (&run.dataset.tokenizer, run.device);
    let generator = Generator { model: policy, config: &config.model, tokenizer, device };
    let mut found = generator.complete(&rows, 0, config.rollout.generation_batch, &sample).await?.into_iter();
    Ok(prompts.iter().map(|prompt| if fits(prompt) { found.next() } else { None }).collect())
}

/// Rows of a rollout, prompt and answer.
fn answers(prompts: &[&Prompt], completions: &[Option<Completion>]) -> Vec<Answer> {
    let row = |(prompt, completion): (&&Prompt, &Option<Completion>)| match completion {
        Some(completion) => {
            Answer { prompt: prompt.tokens.clone(), tokens: completion.tokens.clone(), is_left_out: false }
        }
        // The beginning stands for a prompt that is too long for a row.
        None => Answer { prompt: prompt.tokens[..1].to_vec(), tokens: Vec::new(), is_left_out: true },
    };
    prompts.iter().zip(completions).map(row).collect()
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

/// Refuses a prompt that leaves no room for an answer.
fn too_long(prompt: &Prompt, completion: Option<&Completion>, config: &Config) -> Option<Refusal> {
    let (length, block_size) = (prompt.tokens.len(), config.model.block_size);
    let new = config.rollout.max_new_tokens;
    completion.is_none().then(|| Refusal {
        key: "rollout.max_new_tokens",
        value: new.to_string(),
        message: format!("a prompt has {length} tokens, which leaves no room for an answer in {block_size}"),
    })
}

/// Refuses the answers of a rollout in which all of them are empty.
fn empty() -> Refusal {
    let message = "the rollout is empty: every answer has ended at once".into();
    Refusal { key: "rollout", value: "no text".into(), message }
}

/// Refuses an answer by its reward or by its divergence from the reference.
fn refused(scores: &Scores, divergence: Option<f32>, row: usize, config: &Config) -> Option<Refusal> {
    let score = scores.total.get(row).copied().unwrap_or(f32::NAN);
    let rollout = &config.rollout;
    if !score.is_finite() {
        let message = scores.failure.clone().unwrap_or_else(|| "an answer has no finite reward".into());
        return Some(Refusal { key: "rollout.rewards", value: score.to_string(), message });
    }
    if let Some(bound) = rollout.max_reward.filter(|&bound| f64::from(score.abs()) > bound) {
        let message = format!("an answer has a reward of {score}");
        return Some(Refusal { key: "rollout.max_reward", value: bound.to_string(), message });
    }
    let divergence = divergence?;
    match rollout.max_kl {
        Some(bound) if f64::from(divergence) > bound => Some(Refusal {
            key: "rollout.max_kl",
            value: bound.to_string(),
            message: format!("an answer diverges from the reference by {divergence} nats"),
        }),
        _ if !divergence.is_finite() => Some(Refusal {
            key: "rollout.max_kl",
            value: rollout.max_kl.map_or_else(|| "none".into(), |bound| bound.to_string()),
            message: format!("an answer diverges from the reference by {divergence} nats"),
        }),
        _ => None,
    }
}

/// Beginning of a text for a message, on one line.
fn shown(text: &str) -> String {
    let line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_SHOWN).collect();
    if text.chars().count() > LONGEST_SHOWN { format!("{line}…") } else { line }
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
