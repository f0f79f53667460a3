//! Tests of whole runs of reinforcement learning on a small model that answers the questions of a task.

use crate::{
    checkpoint::{Checkpoint, Files},
    config::{Config, presets::Preset},
    data::Dataset,
    device::Choice,
    error::{Error, Result},
    model::parameters,
    objective::rollout::rewards::ScoreCommand,
    train::{Hooks, Trainer, event::Event},
};
use std::collections::BTreeMap;

/// Changes of the smallest preset: eight answers a step, to words that are to be repeated.
const BASE: [&str; 12] = [
    "objective.kind=grpo",
    "data.task=copy",
    "data.answer_after==",
    "grpo.group_size=4",
    "rollout.max_new_tokens=6",
    "rollout.stop=[\"\\n\"]",
    "rollout.rewards=[{kind='regex', pattern='a'}]",
    "train.batch_size=4",
    "train.gradient_accumulation_steps=2",
    "train.eval_interval=0",
    "train.warmup_steps=0",
    "train.schedule=constant",
];

fn config(overrides: &[&str]) -> Config {
    let mut config = Preset::find("debug").unwrap().config().unwrap();
    config.apply(&BASE.iter().chain(overrides).map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap();
    config
}

fn trainer(overrides: &[&str]) -> Result<Trainer> {
    let config = config(overrides);
    let dataset = Dataset::prepare(&config, None)?;
    let config = config.resolve(&dataset)?;
    Trainer::new(config, dataset, &Choice::cpu().open()?)
}

/// Trains a whole run, and returns its events.
fn run(trainer: &mut Trainer) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    let mut hooks = Hooks {
        observe: &mut |event| {
            events.push(event.clone());
            Ok(())
        },
        save: &mut |_, _, _| Ok("nowhere".into()),
        interrupted: &|| false,
        device: "cpu".into(),
        peak_flops: None,
    };
    pollster::block_on(trainer.run(&mut hooks))?;
    Ok(events)
}

/// Values of a metric in the steps of a run.
fn metric(events: &[Event], name: &str) -> Vec<f32> {
    let steps = events.iter().filter_map(|event| match event {
        Event::Step(report) => {
            Some(report.metrics.get(name).unwrap_or_else(|| panic!("{report:?}")).values()[0])
        }
        _ => None,
    });
    steps.collect()
}

fn step(trainer: &mut Trainer) {
    pollster::block_on(trainer.next_step()).unwrap();
}

fn files(trainer: &Trainer) -> Files {
    pollster::block_on(trainer.checkpoint()).unwrap()
}

#[test]
fn rewards_rise() {
    for kind in ["grpo", "rloo", "ppo"] {
        let kind = format!("objective.kind={kind}");
        let settings = [
            kind.as_str(),
            "train.max_steps=60",
            "train.learning_rate=3e-3",
            "train.batch_size=16",
            "ppo.kl_coefficient=0",
        ];
        let events = run(&mut trainer(&settings).unwrap()).unwrap();
        let rewards = metric(&events, "reward");
        let last = rewards[52..].iter().sum::<f32>() / 8.0;
        assert!(last > rewards[0] + 0.2, "{kind}: {rewards:?}");
        assert!(metric(&events, "entropy").iter().all(|entropy| entropy.is_finite()));
        assert!(metric(&events, "ratio")[0] > 0.999 && metric(&events, "ratio")[0] < 1.001);
    }
}

#[test]
fn resume_of_ppo_in_the_middle_of_a_rollout_is_exact_trl_2657() {
    for overrides in [
        &["objective.kind=ppo", "ppo.kl_coefficient=0", "rollout.minibatches=2", "rollout.epochs=2"][..],
        &["objective.kind=ppo", "ppo.kl_coefficient=0", "ppo.value=shared", "train.ema_decay=0.9"],
        &["objective.kind=grpo", "rollout.epochs=3", "grpo.normalization=bnpo"],
        &["objective.kind=rloo", "rollout.minibatches=2"],
    ] {
        let mut whole = trainer(overrides).unwrap();
        (0..5).for_each(|_| step(&mut whole));
        let checkpoint = Checkpoint::from_files(files(&whole)).unwrap();
        let dataset = Dataset::prepare(whole.config(), Some(checkpoint.tokenizer().unwrap())).unwrap();
        let device = Choice::cpu().open().unwrap();
        let mut resumed = Trainer::resume(whole.config().clone(), dataset, &device, &checkpoint).unwrap();
        (0..4).for_each(|_| step(&mut whole));
        (0..4).for_each(|_| step(&mut resumed));
        let [whole, resumed] = [&whole, &resumed].map(files);
        assert!(whole.contents.contains_key("objective.safetensors"));
        assert!(whole.contents.keys().eq(resumed.contents.keys()));
        for (name, bytes) in &whole.contents {
            assert!(bytes[..] == resumed.contents[name][..], "{overrides:?}: {name} differs");
        }
    }
}

#[test]
fn a_checkpoint_of_another_objective_is_no_resume() {
    let mut whole = trainer(&["objective.kind=grpo"]).unwrap();
    step(&mut whole);
    let checkpoint = Checkpoint::from_files(files(&whole)).unwrap();
    let mut other = whole.config().clone();
    other.apply(&["objective.kind=sft".into()]).unwrap();
    let dataset = Dataset::prepare(&other, Some(checkpoint.tokenizer().unwrap())).unwrap();
    let error = Trainer::resume(other, dataset, &Choice::cpu().open().unwrap(), &checkpoint).err().unwrap();
    assert!(error.to_string().contains("is of another objective"), "{error}");
}

/// A run is its own reference at the beginning, and the divergence then grows.
#[test]
fn the_reference_is_the_policy_at_step_0() {
    let folder = tempfile::tempdir().unwrap();
    let start = trainer(&[]).unwrap();
    let path = folder.path().join("start");
    files(&start).write_folder(&path).unwrap();
    for kind in ["grpo", "ppo", "rloo"] {
        let config = config(&[
            &format!("objective.kind={kind}"),
            &format!("objective.reference={}", path.display()),
            "grpo.kl_coefficient=0.1",
            "train.max_steps=6",
            "train.learning_rate=1e-2",
            "rollout.epochs=1",
            "ppo.kl_target=0.5",
            "ppo.kl_horizon=100",
        ]);
        let checkpoint = Checkpoint::open_model(&path).unwrap();
        let dataset = Dataset::prepare(&config, Some(checkpoint.tokenizer().unwrap())).unwrap();
        let config = config.resolve(&dataset).unwrap();
        let device = Choice::cpu().open().unwrap();
        let mut trainer = Trainer::start_from(config, dataset, &device, &checkpoint).unwrap();
        let events = run(&mut trainer).unwrap();
        let kl = metric(&events, "kl");
        assert!(kl[0].abs() < 1e-4 && kl[5].abs() > 1e-2, "{kind}: {kl:?}");
        if kind == "ppo" {
            let coefficients = metric(&events, "kl_coefficient");
            assert!(coefficients[0] == 0.05 && coefficients[1] < 0.05, "{coefficients:?}");
        }
    }
    let error = trainer(&["grpo.kl_coefficient=0.1"]).err().unwrap();
    assert!(error.to_string().contains("`grpo` compares the model with a reference"), "{error}");
}

/// A score of each answer by its number within the rollout.
fn scores_of(score: fn(usize) -> f32) -> ScoreCommand {
    Box::new(move |_, answers| Ok((0..answers.len()).map(score).collect()))
}

const COMMAND: &str = "rollout.rewards=[{kind='command', command='score'}]";

#[test]
fn an_answer_whose_score_is_nan_stops_the_run_or_is_left_out() {
    let bad: fn(usize) -> f32 = |number| if number == 3 { f32::NAN } else { number as f32 };
    let stopped = trainer(&[COMMAND]).unwrap();
    let error = run(&mut stopped.with_score_command(scores_of(bad))).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("`NaN` for `rollout.rewards`") && text.contains("prompt `"), "{text}");
    assert!(error.hint().unwrap().to_string().contains("rollout.on_bad_answer=skip"));

    let settings = [COMMAND, "rollout.on_bad_answer=skip", "train.max_steps=4"];
    let skipping = trainer(&settings).unwrap();
    let events = run(&mut skipping.with_score_command(scores_of(bad))).unwrap();
    assert_eq!(metric(&events, "left_out"), [1.0, 2.0, 3.0, 4.0]);
    assert!((metric(&events, "reward")[0] - 25.0 / 7.0).abs() < 1e-6);

    let none: fn(usize) -> f32 = |_| f32::INFINITY;
    let hopeless = trainer(&settings).unwrap();
    let text = run(&mut hopeless.with_score_command(scores_of(none))).unwrap_err().to_string();
    assert!(text.contains("no answer of 3 rollouts in a row can be trained on"), "{text}");
}

#[test]
fn a_score_command_that_dies_stops_the_run_or_costs_a_rollout() {
    let calls = std::rc::Rc::new(std::cell::Cell::new(0));
    let failing = |calls: std::rc::Rc<std::cell::Cell<usize>>| -> ScoreCommand {
        Box::new(move |command, answers| {
            calls.set(calls.get() + 1);
            match calls.get() {
                2 => Err(Error::invalid_value("rollout.rewards", command, "it died")),
                _ => Ok(vec![1.0; answers.len()]),
            }
        })
    };
    let mut stopped = trainer(&[COMMAND]).unwrap().with_score_command(failing(calls.clone()));
    assert!(run(&mut stopped).unwrap_err().to_string().contains("`score` for `rollout.rewards`: it died"));
    calls.set(0);
    let settings = [COMMAND, "rollout.on_bad_answer=skip", "train.max_steps=3"];
    let mut skipping = trainer(&settings).unwrap().with_score_command(failing(calls.clone()));
    let events = run(&mut skipping).unwrap();
    // The second rollout was drawn anew.
    assert_eq!(metric(&events, "left_out"), [0.0, 8.0, 8.0]);
    assert_eq!(calls.get(), 4);
}

#[test]
fn a_reward_that_explodes_stops_the_run_or_is_left_out() {
    let large: fn(usize) -> f32 = |number| if number == 0 { 1e9 } else { 0.0 };
    let settings = [COMMAND, "rollout.max_reward=100", "rollout.on_bad_answer=skip", "train.max_steps=2"];
    let bounded = trainer(&settings[..2]).unwrap();
    let error = run(&mut bounded.with_score_command(scores_of(large))).unwrap_err();
    let text = error.to_string();
    let expected = "the rollout of step 1 fails with `100` for `rollout.max_reward`: an answer has a reward of 1000000000";
    assert!(text.starts_with(expected) && !error.is_user_error(), "{text}");
    let skipping = trainer(&settings).unwrap();
    let events = run(&mut skipping.with_score_command(scores_of(large))).unwrap();
    assert_eq!(metric(&events, "left_out"), [1.0, 2.0]);
    assert_eq!(metric(&events, "reward"), [0.0, 0.0]);
}

#[test]
fn a_divergence_beyond_its_bound_stops_the_run_or_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("start");
    files(&trainer(&[]).unwrap()).write_folder(&path).unwrap();
    let diverging = |more: &[&str]| {
        let reference = format!("objective.reference={}", path.display());
        let usual = [
            reference.as_str(),
            "grpo.kl_coefficient=0.1",
            "rollout.max_kl=0.001",
            "train.max_steps=6",
            "train.learning_rate=1e-2",
        ];
        let config = config(&[&usual[..], more].concat());
        let checkpoint = Checkpoint::open_model(&path).unwrap();
        let dataset = Dataset::prepare(&config, Some(checkpoint.tokenizer().unwrap())).unwrap();
        let config = config.resolve(&dataset).unwrap();
        let device = Choice::cpu().open().unwrap();
        run(&mut Trainer::start_from(config, dataset, &device, &checkpoint).unwrap())
    };
    let text = diverging(&[]).unwrap_err().to_string();
    assert!(
        text.contains("`0.001` for `rollout.max_kl`: an answer diverges from the reference by"),
        "{text}"
    );
    // Where it is the policy itself that has gone too far, no answer may be left.
    match diverging(&["rollout.on_bad_answer=skip"]) {
        Ok(events) => assert!(metric(&events, "left_out").last().unwrap() > &0.0),
        Err(error) => assert!(error.to_string().contains("no answer of 3 rollouts"), "{error}"),
    }
}

/// Nothing is lost when a reward explodes: the last step is saved, and the run goes on from it to the bytes of a
/// run in which nothing has happened.
#[test]
fn a_run_that_a_reward_stops_leaves_a_checkpoint_to_go_on_from() {
    let settings = [COMMAND, "rollout.max_reward=100", "train.max_steps=6", "train.learning_rate=1e-3"];
    let usual: fn(usize) -> f32 = |number| number as f32;
    let calls = std::cell::Cell::new(0);
    let exploding: ScoreCommand = Box::new(move |_, answers| {
        calls.set(calls.get() + 1);
        let explodes = calls.get() == 4;
        Ok((0..answers.len()).map(|number| if explodes { 1e9 } else { number as f32 }).collect())
    });
    let saving = |trainer: &mut Trainer| {
        let mut saved: Vec<(u64, Files)> = Vec::new();
        let mut hooks = Hooks {
            observe: &mut |_| Ok(()),
            save: &mut |step, files, _| {
                saved.push((step, files.clone()));
                Ok("nowhere".into())
            },
            interrupted: &|| false,
            device: "cpu".into(),
            peak_flops: None,
        };
        let result = pollster::block_on(trainer.run(&mut hooks));
        (result, saved)
    };
    let mut whole = trainer(&settings).unwrap().with_score_command(scores_of(usual));
    saving(&mut whole).0.unwrap();

    let mut stopped = trainer(&settings).unwrap().with_score_command(exploding);
    let (result, mut saved) = saving(&mut stopped);
    assert!(result.unwrap_err().to_string().starts_with("the rollout of step 4 fails"));
    assert_eq!(saved.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [3]);
    let checkpoint = Checkpoint::from_files(saved.remove(0).1).unwrap();
    let dataset = Dataset::prepare(stopped.config(), Some(checkpoint.tokenizer().unwrap())).unwrap();
    let device = Choice::cpu().open().unwrap();
    let resumed = Trainer::resume(stopped.config().clone(), dataset, &device, &checkpoint).unwrap();
    let mut resumed = resumed.with_score_command(scores_of(usual));
    saving(&mut resumed).0.unwrap();
    let [whole, resumed] = [&whole, &resumed].map(files);
    for (name, bytes) in &whole.contents {
        assert!(bytes[..] == resumed.contents[name][..], "{name} differs");
    }
}

#[test]
fn an_empty_rollout_is_refused() {
    // Every token ends an answer.
    let tokens = "\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\",\"i\",\"j\",\"=\",\"\\n\"";
    let stop = format!("rollout.stop=[{tokens}]");
    let text = run(&mut trainer(&[&stop]).unwrap()).unwrap_err().to_string();
    assert!(text.contains("the rollout is empty"), "{text}");
}

#[test]
fn prompts_that_leave_no_room_are_named() {
    let settings = ["model.block_size=12", "train.batch_size=16"];
    let text = run(&mut trainer(&settings).unwrap()).unwrap_err().to_string();
    assert!(text.contains("a prompt has") && text.contains("no room for an answer in 12"), "{text}");
    let events =
        run(&mut trainer(&[settings[0], settings[1], "rollout.on_bad_answer=skip"]).unwrap()).unwrap();
    assert!(metric(&events, "left_out").last().unwrap() > &0.0);
}

#[test]
fn the_value_model_is_trained_and_saved_beside_the_policy() {
    let mut trainer =
        trainer(&["objective.kind=ppo", "ppo.kl_coefficient=0", "train.freeze=['embedding']"]).unwrap();
    (0..2).for_each(|_| step(&mut trainer));
    let checkpoint = Checkpoint::from_files(files(&trainer)).unwrap();
    let state = checkpoint.objective_state().unwrap();
    let weights: BTreeMap<_, _> = state.iter().filter(|(name, _)| name.starts_with("value.")).collect();
    let policy = pollster::block_on(parameters::read(parameters::parameters(trainer.model()))).unwrap();
    for (name, own) in &policy {
        let value = weights.get(&format!("value.body.{name}"));
        match name.as_str() {
            "head.weight" => assert!(value.is_none(), "{name}"),
            "embedding" => assert!(value.is_some_and(|value| *value == own), "{name}"),
            _ => assert!(value.is_some_and(|value| *value != own), "{name}"),
        }
    }
    assert!(weights[&"value.head".to_owned()].values.iter().any(|&weight| weight != 0.0));
    let (_, moments) = checkpoint.training().unwrap();
    let moments = moments.floats;
    assert!(moments.contains_key("value.head.moment_1"), "{:?}", moments.keys());
}

#[test]
fn held_out_prompts_are_evaluated_by_their_reward() {
    let settings = ["train.max_steps=2", "train.eval_interval=2", "train.eval_batches=2"];
    let mut trainer = trainer(&settings).unwrap();
    let events = run(&mut trainer).unwrap();
    let evaluations = events.iter().filter_map(|event| match event {
        Event::Evaluation(report) => Some(report),
        _ => None,
    });
    let [report] = evaluations.collect::<Vec<_>>()[..] else { panic!("{events:?}") };
    let reward = report.metrics["reward"].values()[0];
    assert!(
        (f64::from(reward) + report.val_loss).abs() < 1e-6 && (0.0..=1.0).contains(&reward),
        "{report:?}"
    );
    assert!(report.train_loss.is_none() && report.gap.is_none() && report.perplexity.is_none());
}

#[test]
fn an_evaluation_without_a_finite_reward_is_an_error_and_no_reward_of_0() {
    for action in ["rollout.on_bad_answer=stop", "rollout.on_bad_answer=skip"] {
        let calls = std::cell::Cell::new(0);
        let nan_later: ScoreCommand = Box::new(move |_, answers| {
            calls.set(calls.get() + 1);
            Ok(vec![if calls.get() > 2 { f32::NAN } else { 1.0 }; answers.len()])
        });
        let settings =
            [COMMAND, action, "train.max_steps=2", "train.eval_interval=2", "train.eval_batches=2"];
        let error = run(&mut trainer(&settings).unwrap().with_score_command(nan_later)).unwrap_err();
        assert!(error.to_string().contains("an answer has no finite reward"), "{error}");
    }
}

#[test]
fn samples_come_with_their_rewards() {
    let settings = ["train.max_steps=6", "train.sample_interval=3", "rollout.samples=2"];
    let events = run(&mut trainer(&settings).unwrap()).unwrap();
    let samples = events.iter().filter_map(|event| match event {
        Event::Sample(report) => report.reward.map(|reward| (report.step, report.text.clone(), reward)),
        _ => None,
    });
    let samples: Vec<_> = samples.collect();
    // The first rollout, and those that are trained on when a sample is due.
    assert_eq!(samples.iter().map(|(step, ..)| *step).collect::<Vec<_>>(), [1, 1, 3, 3, 6, 6]);
    for (_, text, reward) in samples {
        let answer = text.split_once('=').unwrap().1;
        assert_eq!(reward, f32::from(answer.contains('a')), "{text}");
    }
}
