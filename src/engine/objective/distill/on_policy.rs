//! On-policy distillation (GKD, arXiv:2306.13649): on a share of the steps the student answers the prompts of the
//! step's rows itself, and learns the teacher's predictions for its own answers.
//!
//! Which steps these are follows from the seed and the step, and the answers also from the student's weights, so
//! that a run that goes on from a checkpoint needs nothing beside them.

use super::Distill;
use crate::{
    config::OnBadAnswer,
    data::{
        HostBatch, TokenSplit, evaluation_batches,
        random::{rng, seed_for},
    },
    device::read_numbers,
    error::{Error, Result, hint},
    model::{Model, uniform},
    objective::{
        Batch, MetricSums, Metrics, Objective, OwnBatches, Start, StepTotals, named,
        rollout::{Answer, Prompt, Shape, answer_batch, answer_rows, no_room, prompts, sample_answers},
    },
};
use burn::{module::Module, tensor::Tensor};

impl Distill {
    /// Micro-batches of the student's answers for the next step; `None` for a step on the data's texts, and if no
    /// prompt of the step leaves room for an answer.
    ///
    /// # Errors
    /// Those of reading prompts and of sampling, and [`Error::InvalidValue`] for a prompt that is too long, unless
    /// such prompts are skipped.
    pub(super) async fn own_batches(&self, run: &Start<'_>) -> Result<Option<OwnBatches>> {
        let (train, step) = (&run.config.train, run.steps_done);
        if !is_on_policy(self.on_policy, train.seed, step) {
            return Ok(None);
        }
        let count = train.batch_size * train.gradient_accumulation_steps;
        let rows = run.loader.rows(step, 0..count);
        let seed = seed_for(train.seed, step, "answers of a student");
        let batches = answered(run, &run.model.valid(), &rows, &run.dataset.train, seed).await?;
        Ok((!batches.is_empty()).then(|| OwnBatches { batches, samples: Vec::new() }))
    }

    /// Loss and metrics over answers to the prompts of the validation split, always with the same random numbers, if
    /// the student is trained on nothing but its own answers.
    ///
    /// # Errors
    /// Those of [`own_batches`](Self::own_batches), and [`Error::InvalidValue`] if no prompt leaves room for an
    /// answer.
    pub(super) async fn evaluate_answers(
        &self,
        run: &Start<'_>,
        model: &Model,
    ) -> Result<Option<(f64, Metrics)>> {
        if self.on_policy < 1.0 {
            return Ok(None);
        }
        let (train, split) = (&run.config.train, &run.dataset.val);
        let windows =
            evaluation_batches(split.clone(), run.layout.clone(), train.batch_size, train.eval_batches);
        let mut batches = Vec::new();
        for (number, rows) in windows.enumerate() {
            let seed = seed_for(train.seed, number as u64, "evaluation of a student");
            batches.extend(answered(run, model, &rows, split, seed).await?);
        }
        if batches.is_empty() {
            let message = "no prompt of the validation split leaves room for an answer";
            let tokens = run.config.rollout.max_new_tokens;
            return Err(Error::invalid_value("rollout.max_new_tokens", tokens, message));
        }
        let (device, totals) = (run.device.clone().inner(), StepTotals::of(&batches));
        let (mut loss, mut metrics) = (Tensor::<1>::zeros([1], &device), MetricSums::default());
        for host in &batches {
            let batch = Batch::new(host, &device);
            let share = self.loss(model, &batch, totals);
            metrics.add(share.metrics, &batch, totals);
            loss = loss + share.reported.inner();
        }
        let (names, sums) = metrics.into_parts();
        let numbers = Tensor::cat([loss].into_iter().chain(sums).collect(), 0);
        let numbers = read_numbers(numbers, "evaluating").await?;
        let (loss, metrics) = numbers.split_at(1);
        Ok(Some((loss.iter().map(|&loss| f64::from(loss)).sum(), named(&names, metrics))))
    }
}

/// Whether a step is one of the given share that is on the student's answers.
pub(super) fn is_on_policy(share: f64, seed: u64, step: u64) -> bool {
    uniform(&mut rng(seed, step, "on-policy")) < share
}

/// Answers of a model to the prompts of rows of a split, in micro-batches; none if no prompt leaves room for one.
async fn answered(
    run: &Start<'_>,
    model: &Model,
    rows: &HostBatch,
    split: &TokenSplit,
    seed: u64,
) -> Result<Vec<HostBatch>> {
    let config = run.config;
    let prompts = prompts(rows, split, &run.dataset.tokenizer, config)?;
    let asked: Vec<&Prompt> = prompts.iter().collect();
    let completions = sample_answers(run, model, &asked, seed, false).await?;
    let mut unanswered = asked.iter().zip(&completions).filter(|(_, completion)| completion.is_none());
    if config.rollout.on_bad_answer == OnBadAnswer::Stop
        && let Some((prompt, _)) = unanswered.next()
    {
        return Err(Error::InvalidValue {
            key: "rollout.max_new_tokens".into(),
            value: config.rollout.max_new_tokens.to_string(),
            message: no_room(prompt, config),
            hint: Some(hint![
                "lower it, or leave such prompts out with ",
                hint::set("rollout.on_bad_answer", "skip")
            ]),
        });
    }
    let answers = answer_rows(&asked, &completions);
    if answers.iter().all(|answer| answer.trained() == 0) {
        return Ok(Vec::new());
    }
    let shape = Shape::of(&answers, config.model.block_size, config.model.attention.prefix);
    let answers: Vec<&Answer> = answers.iter().collect();
    let micro_batches = answers.chunks(config.train.batch_size.max(1));
    Ok(micro_batches.map(|answers| answer_batch(answers, shape)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkpoint::{Checkpoint, Files},
        config::{DistillConfig, ModelConfig, presets::Preset},
        data::Dataset,
        device::Choice,
        kernels::Mode,
        model::DropoutSource,
        objective::{Frozen, MetricValue},
        train::Trainer,
    };

    /// A student that repeats words, of the shape of the smallest preset, and its teacher.
    fn trainer(overrides: &[&str]) -> Result<Trainer> {
        let base = [
            "objective.kind=distill",
            "data.layout=documents",
            "data.task=copy",
            "data.answer_after==",
            "rollout.max_new_tokens=6",
            "rollout.stop=[\"\\n\"]",
            "train.batch_size=4",
            "train.gradient_accumulation_steps=2",
            "train.eval_interval=0",
            "train.learning_rate=1e-2",
        ];
        let mut config = Preset::find("debug").unwrap().config().unwrap();
        config.apply(&base.iter().chain(overrides).map(|text| (*text).to_owned()).collect::<Vec<_>>())?;
        let dataset = Dataset::prepare(&config, None)?;
        Trainer::new(config.resolve(&dataset)?, dataset, &Choice::cpu().open()?)
    }

    fn files(trainer: &Trainer) -> Files {
        pollster::block_on(trainer.checkpoint()).unwrap()
    }

    /// A folder with a model, and the override that makes it the teacher.
    fn teacher(overrides: &[&str]) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("teacher");
        let model = trainer(&[&["objective.kind=causal-lm"][..], overrides].concat()).unwrap();
        files(&model).write_folder(&path).unwrap();
        (folder, format!("distill.teacher={}", path.display()))
    }

    #[test]
    fn steps_are_on_policy_as_often_as_asked_for() {
        let count = |share| (0..2000).filter(|&step| is_on_policy(share, 7, step)).count();
        assert_eq!((count(0.0), count(1.0)), (0, 2000));
        assert!((500..700).contains(&count(0.3)), "{}", count(0.3));
        // By the seed too.
        assert!((0..99).any(|step| is_on_policy(0.5, 1, step) != is_on_policy(0.5, 2, step)));
    }

    /// The answers are the student's, and the loss is the divergence, whatever the weight of the cross entropy.
    #[test]
    fn a_student_that_is_its_teacher_has_no_loss_on_its_own_answers() {
        let (_folder, key) = teacher(&[]);
        let mut own = trainer(&["distill.lambda=1", "distill.weight=0.5", key.as_str()]).unwrap();
        // The student begins with the teacher's seed.
        pollster::block_on(own.next_step()).unwrap();
        let (loss, norm) = pollster::block_on(own.last_numbers()).unwrap();
        assert!(loss.abs() < 1e-6 && norm < 1e-4, "{loss} {norm}");
        let mut data = trainer(&["distill.lambda=0", "distill.weight=0.5", key.as_str()]).unwrap();
        pollster::block_on(data.next_step()).unwrap();
        assert!(pollster::block_on(data.last_numbers()).unwrap().0 > 0.1);
    }

    #[test]
    fn a_run_on_its_own_answers_resumes_exactly() {
        let (_folder, key) = teacher(&["train.seed=5"]);
        let mut whole = trainer(&["distill.lambda=0.5", "distill.beta=1", key.as_str()]).unwrap();
        let step = |trainer: &mut Trainer| pollster::block_on(trainer.next_step()).map(drop).unwrap();
        (0..3).for_each(|_| step(&mut whole));
        let checkpoint = Checkpoint::from_files(files(&whole)).unwrap();
        let dataset = Dataset::prepare(whole.config(), Some(checkpoint.tokenizer().unwrap())).unwrap();
        let device = Choice::cpu().open().unwrap();
        let mut resumed = Trainer::resume(whole.config().clone(), dataset, &device, &checkpoint).unwrap();
        let seed = whole.config().train.seed;
        assert!((3..11).any(|step| is_on_policy(0.5, seed, step)));
        (0..8).for_each(|_| step(&mut whole));
        (0..8).for_each(|_| step(&mut resumed));
        let [whole, resumed] = [&whole, &resumed].map(files);
        assert!(whole.contents.keys().eq(resumed.contents.keys()));
        for (name, bytes) in &whole.contents {
            assert!(bytes[..] == resumed.contents[name][..], "{name} differs");
        }
    }

    #[test]
    fn prompts_that_leave_no_room_stop_the_run_or_are_left_out() {
        let (_folder, key) = teacher(&[]);
        let settings = ["distill.lambda=1", "model.block_size=12", "train.batch_size=16", key.as_str()];
        let mut stopped = trainer(&settings).unwrap();
        let error = pollster::block_on(stopped.next_step()).unwrap_err();
        assert!(error.to_string().contains("no room for an answer in 12"), "{error}");
        let settings = [&settings[..], &["rollout.on_bad_answer=skip"][..]].concat();
        let mut skipping = trainer(&settings).unwrap();
        pollster::block_on(skipping.next_step()).unwrap();
        assert!(pollster::block_on(skipping.last_numbers()).unwrap().0.is_finite());
    }

    #[test]
    fn the_share_of_the_students_answers_is_reported_in_training_only() {
        let device = Choice::cpu().open().unwrap();
        let config = ModelConfig { vocab_size: 13, n_embd: 16, n_head: 2, n_layer: 1, ..Default::default() };
        let model = Model::init(&config, Mode::Fused, 3, &device);
        let objective =
            Distill::new(&DistillConfig { lambda: 0.5, ..Default::default() }, Frozen::new(&model));
        let answer = Answer { prompt: vec![1, 2], tokens: vec![3, 4], is_left_out: false };
        let own = answer_batch(&[&answer], Shape::of(std::slice::from_ref(&answer), 64, false));
        let data = HostBatch::new(vec![1, 2, 3], vec![2, 3, 4], 1, 3);
        let share = |host: &HostBatch, dropout| {
            let mut batch = Batch::new(host, &device);
            batch.input.dropout = dropout;
            let loss = objective.loss(&model, &batch, StepTotals::of([host]));
            let mut sums = MetricSums::default();
            sums.add(loss.metrics, &batch, StepTotals::of([host]));
            let (names, sums) = sums.into_parts();
            let values = Tensor::cat(sums, 0).into_data().try_into_vec_as::<f32>().unwrap();
            named(&names, &values).remove("distill/on_policy")
        };
        let training = Some(DropoutSource { seed: 1, first_row: 0 });
        assert_eq!(share(&own, training), Some(MetricValue::One(1.0)));
        assert_eq!(share(&data, training), Some(MetricValue::One(0.0)));
        assert_eq!(share(&own, None), None);
    }
}
