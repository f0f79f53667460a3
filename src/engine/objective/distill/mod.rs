//! Distillation: a student learns the distribution of a teacher's next token, mixed with the cross entropy of
//! the text (arXiv:1503.02531, arXiv:2306.13649). The teacher is a model, or the logits that it gave earlier
//! ([`SavedLogits`]). The text is the data's, or what the student has generated itself ([`on_policy`]).
//!
//! The logits of both models exist only for a few tokens at a time, as in the fused cross entropy: the gradients
//! of the hidden states and of the output projection are computed with the loss, while a chunk's logits are in
//! memory, and enter the graph as a product whose gradients they are.

mod divergence;
mod on_policy;
mod save;
mod saved;

pub use save::LogitWriter;
pub use saved::SavedLogits;

use super::{
    Average, Batch, Frozen, Loss, Metrics, Objective, OwnBatches, Pending, Preparation, Start, StepTotals,
    router::AuxiliaryLosses,
};
use crate::{
    config::{Config, DistillConfig},
    error::{Error, Result, hint},
    kernels::softcap::softcap,
    model::{Model, Output, layers::output::Projection},
    tokenizer::Tokenizer,
};
use burn::tensor::{Int, Tensor, activation::log_softmax};
use divergence::{Divergence, Teacher, Top};
use std::ops::Range;

/// Number of logits of one model that are in memory at a time. In tests it is small, so that there are several
/// chunks.
const CHUNK: usize = if cfg!(test) { 40 } else { 1 << 22 };

/// The objective of distillation.
pub struct Distill {
    divergence: Divergence,
    /// Factor of the divergence, and that of the cross entropy.
    scale: f64,
    cross_entropy: f64,
    /// Share of the steps that are on answers of the student.
    on_policy: f64,
    /// Number of the teacher's most likely tokens that are compared; `None` for all.
    top_k: Option<usize>,
    router: AuxiliaryLosses,
    source: Source,
}

/// Origin of the teacher's logits.
enum Source {
    Model(Box<Frozen>),
    Saved(SavedLogits),
}

/// The target tokens of a batch, M of them, and the teacher's hidden states or logits for them.
struct Selected {
    tokens: Tensor<2, Int>,
    weights: Tensor<2>,
    teacher: Given,
    /// Factor of the cross entropy; 0 for answers of the student, which are no text to learn.
    cross_entropy: f64,
}

/// Predictions of the teacher for the target tokens.
#[allow(clippy::large_enum_variant, reason = "one a batch, and not kept")]
enum Given {
    Projection(Projection),
    Logits(Tensor<2>),
    Top(Top),
}

/// Sums over tokens, without autodiff, `[1]` each.
struct Sums {
    loss: Tensor<1>,
    divergence: Tensor<1>,
    cross_entropy: Tensor<1>,
}

impl Distill {
    /// Opens the objective of a configuration and its teacher.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] if no teacher is named, those of [`Frozen::open`] and [`SavedLogits::open`].
    pub fn open(config: &Config, model: &Model, tokenizer: &Tokenizer) -> Result<Self> {
        let source = match (&config.distill.teacher, &config.distill.logits) {
            (Some(path), _) => {
                Source::Model(Frozen::open(path, "distill.teacher", config, model, tokenizer)?.into())
            }
            (None, Some(folder)) => {
                Source::Saved(SavedLogits::open(folder, &config.distill, tokenizer, config.model.vocab_size)?)
            }
            (None, None) => {
                return Err(Error::InvalidValue {
                    key: "distill.teacher".into(),
                    value: String::new(),
                    message: "a student learns from a teacher, and none is named".into(),
                    hint: Some(hint![
                        "add ",
                        hint::choose("distill.teacher", "RUN"),
                        ", or logits that ",
                        hint::command("kiln distill --save-logits"),
                        " has saved"
                    ]),
                });
            }
        };
        if let Some(count) = config.distill.top_k.filter(|&count| count > config.model.vocab_size) {
            let message = format!("the vocabulary has {} tokens", config.model.vocab_size);
            return Err(Error::invalid_value("distill.top_k", count, message));
        }
        let router = AuxiliaryLosses::new(&config.model);
        Ok(Self::with_source(&config.distill, source).with_router_losses(router))
    }

    /// Makes the objective of a configuration with a teacher.
    pub fn new(config: &DistillConfig, teacher: Frozen) -> Self {
        Self::with_source(config, Source::Model(teacher.into()))
    }

    /// Adds the losses of the student's routers by these weights. By default they have none.
    pub fn with_router_losses(self, router: AuxiliaryLosses) -> Self {
        Self { router, ..self }
    }

    fn with_source(config: &DistillConfig, source: Source) -> Self {
        let DistillConfig {
            beta, lambda, temperature, temperature_squared, weight, top_k, top_k_form, ..
        } = *config;
        let squared = if temperature_squared { temperature * temperature } else { 1.0 };
        Self {
            divergence: Divergence { beta, temperature, form: top_k_form },
            scale: weight * squared,
            cross_entropy: 1.0 - weight,
            on_policy: lambda,
            top_k,
            router: AuxiliaryLosses::default(),
            source,
        }
    }

    /// Selects the tokens that have a target.
    fn selected(&self, batch: &Batch) -> Selected {
        let batch = &batch.without_autodiff();
        let rows = batch.target_rows();
        let of = |values: Tensor<2>| match rows {
            Some(rows) => values.select(0, rows.clone()),
            None => values,
        };
        let teacher = match &self.source {
            Source::Saved(saved) => Given::Top(saved.top(batch)),
            Source::Model(teacher) => match at(teacher.output(batch), batch.output_rows()) {
                Output::Logits(logits) => Given::Logits(logits),
                Output::Projection(projection) => Given::Projection(projection),
            },
        };
        let tokens = batch.targets.tokens.clone();
        Selected {
            tokens: match rows {
                Some(rows) => tokens.select(0, rows.clone()),
                None => tokens,
            },
            weights: of(batch.targets.weights.clone()),
            teacher,
            cross_entropy: if batch.host.answers.is_some() { 0.0 } else { self.cross_entropy },
        }
    }

    /// Loss of some tokens from the student's logits, `[M, V]`, which may be on an autodiff device, and the sums
    /// to report.
    fn loss_of(&self, logits: Tensor<2>, selected: &Selected, range: Range<usize>) -> (Tensor<1>, Sums) {
        let is_autodiff = logits.is_autodiff();
        let like = |values: Tensor<2>| if is_autodiff { Tensor::from_inner(values) } else { values };
        let like_int = |values: Tensor<2, Int>| if is_autodiff { Tensor::from_inner(values) } else { values };
        let teacher = match (selected.teacher(&range), self.top_k) {
            (Teacher::All(logits), Some(count)) => {
                Teacher::Top(Top::of(logits, count, self.divergence.temperature))
            }
            (teacher, _) => teacher,
        };
        let teacher = match teacher {
            Teacher::All(logits) => Teacher::All(like(logits)),
            Teacher::Top(Top { tokens, logits, log_sums }) => {
                Teacher::Top(Top { tokens: like_int(tokens), logits: like(logits), log_sums: like(log_sums) })
            }
        };
        let tokens = token_rows(&selected.tokens, &range);
        let weights = rows(&selected.weights, &range);
        let nll = |logits: Tensor<2>, tokens: Tensor<2, Int>| log_softmax(logits, 1).gather(1, tokens).neg();
        let divergence = self.divergence.of(logits.clone(), teacher) * like(weights.clone());
        let loss = divergence.clone().mul_scalar(self.scale);
        // Where the cross entropy only is reported, it has no gradient.
        let (loss, nll) = match selected.cross_entropy {
            0.0 => (loss, nll(logits.inner(), tokens) * weights),
            share => {
                let nll = nll(logits, like_int(tokens)) * like(weights);
                (loss + nll.clone().mul_scalar(share), nll.inner())
            }
        };
        let loss = loss.sum();
        let sums = Sums {
            loss: loss.clone().inner(),
            divergence: divergence.inner().sum(),
            cross_entropy: nll.sum(),
        };
        (loss, sums)
    }

    /// Loss over the tokens of an output projection, `[1]`, from chunks of logits.
    fn of_projection(&self, projection: Projection, selected: &Selected) -> (Tensor<1>, Sums) {
        let Projection { states, weight, transposed, softcap: limit, mode } = projection;
        let is_tracked = states.is_tracked() || weight.is_tracked() || weight.is_require_grad();
        let with_weight = weight.is_tracked() || weight.is_require_grad();
        let (count, vocabulary) = (states.dims()[0], weight.dims()[usize::from(!transposed)]);
        let (inner_states, matrix) = (states.clone().inner(), weight.clone().inner());
        let length = (CHUNK / vocabulary.max(1)).clamp(1, count.max(1));
        let (mut total, mut d_states, mut d_weight) = (None::<Sums>, Vec::new(), None::<Tensor<2>>);
        for start in (0..count).step_by(length) {
            let range = start..(start + length).min(count);
            let some = rows(&inner_states, &range);
            let uncapped =
                Projection { states: some.clone(), weight: matrix.clone(), transposed, softcap: 0.0, mode };
            let mut raw = uncapped.logits();
            if is_tracked {
                raw = Tensor::from_inner(raw).require_grad();
            }
            let logits = if limit > 0.0 { softcap(raw.clone(), limit) } else { raw.clone() };
            let (loss, sums) = self.loss_of(logits, selected, range);
            total = Some(match total {
                Some(total) => total.plus(sums),
                None => sums,
            });
            let Some(d_logits) = is_tracked.then(|| raw.grad(&loss.backward())).flatten() else { continue };
            if with_weight {
                let part = match transposed {
                    true => d_logits.clone().transpose().matmul(some),  // [V, E]
                    false => some.transpose().matmul(d_logits.clone()), // [E, V]
                };
                d_weight = Some(match d_weight {
                    Some(sum) => sum + part,
                    None => part,
                });
            }
            let across = if transposed { matrix.clone() } else { matrix.clone().transpose() };
            d_states.push(d_logits.matmul(across));
        }
        let sums = total.unwrap_or_else(|| Sums::zeros(&inner_states));
        if d_states.is_empty() {
            return (sums.loss.clone(), sums);
        }
        // The gradients of these products are the ones that were computed; their value is taken off again.
        let mut flow = (states * Tensor::from_inner(Tensor::cat(d_states, 0))).sum();
        if let Some(d_weight) = d_weight {
            flow = flow + (weight * Tensor::from_inner(d_weight)).sum();
        }
        let value = Tensor::from_inner(sums.loss.clone());
        (flow.clone() - flow.detach() + value, sums)
    }
}

impl Selected {
    /// The teacher's predictions for some of the tokens, without autodiff.
    fn teacher(&self, range: &Range<usize>) -> Teacher {
        match &self.teacher {
            Given::Logits(logits) => Teacher::All(rows(logits, range)),
            Given::Top(Top { tokens, logits, log_sums }) => Teacher::Top(Top {
                tokens: token_rows(tokens, range),
                logits: rows(logits, range),
                log_sums: rows(log_sums, range),
            }),
            Given::Projection(Projection { states, weight, transposed, softcap, mode }) => {
                let projection = Projection {
                    states: rows(states, range),
                    weight: weight.clone(),
                    transposed: *transposed,
                    softcap: *softcap,
                    mode: *mode,
                };
                Teacher::All(projection.logits())
            }
        }
    }
}

impl Sums {
    fn zeros(like: &Tensor<2>) -> Self {
        let zero = Tensor::<1>::zeros([1], &like.device());
        Self { loss: zero.clone(), divergence: zero.clone(), cross_entropy: zero }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            loss: self.loss + other.loss,
            divergence: self.divergence + other.divergence,
            cross_entropy: self.cross_entropy + other.cross_entropy,
        }
    }
}

/// The outputs with some indices, or all.
fn at(output: Output, indices: Option<Tensor<1, Int>>) -> Output {
    match (output, indices) {
        (output, None) => output,
        (Output::Logits(logits), Some(indices)) => Output::Logits(logits.select(0, indices)),
        (Output::Projection(projection), Some(indices)) => Output::Projection(projection.select(indices)),
    }
}

/// Some rows of a matrix.
fn rows(values: &Tensor<2>, range: &Range<usize>) -> Tensor<2> {
    values.clone().narrow(0, range.start, range.len())
}

/// Some rows of a matrix of tokens.
fn token_rows(tokens: &Tensor<2, Int>, range: &Range<usize>) -> Tensor<2, Int> {
    tokens.clone().narrow(0, range.start, range.len())
}

impl Objective for Distill {
    fn loss(&self, model: &Model, batch: &Batch, step: StepTotals) -> Loss {
        let selected = self.selected(batch);
        let (output, routings) = model.forward_unprojected(batch.input.clone());
        let (total, sums) = match at(output, batch.output_rows()) {
            Output::Projection(projection) => self.of_projection(projection, &selected),
            Output::Logits(logits) => {
                let count = logits.dims()[0];
                self.loss_of(logits, &selected, 0..count)
            }
        };
        let share = |sum: Tensor<1>| sum.div_scalar(step.divisor());
        let loss = Loss { total: share(total), reported: share(sums.loss), metrics: Vec::new() }
            .with_metric("distill/divergence", share(sums.divergence), Average::Sum)
            .with_metric("distill/cross_entropy", share(sums.cross_entropy), Average::Sum);
        let loss = self.router.add(loss, &routings, batch, step);
        // An evaluation is on the one or on the other.
        if self.on_policy == 0.0 || batch.input.dropout.is_none() {
            return loss;
        }
        let is_own = f32::from(batch.host.answers.is_some());
        let is_own = Tensor::<1>::from_data([is_own], &batch.targets.weights.device().inner());
        loss.with_metric("distill/on_policy", is_own, Average::OverRows)
    }

    fn batches<'a>(&'a mut self, run: Start<'a>) -> Pending<'a, Option<OwnBatches>> {
        Box::pin(async move { self.own_batches(&run).await })
    }

    fn evaluate<'a>(&'a self, run: Start<'a>, model: &'a Model) -> Pending<'a, Option<(f64, Metrics)>> {
        Box::pin(async move { self.evaluate_answers(&run, model).await })
    }

    fn prepare<'a>(&'a mut self, start: Start<'a>) -> Preparation<'a> {
        let checked = match &self.source {
            Source::Saved(saved) => start.batches().try_for_each(|host| saved.check(&host)),
            Source::Model(_) => Ok(()),
        };
        Box::pin(std::future::ready(checked))
    }
}

#[cfg(test)]
mod tests;
