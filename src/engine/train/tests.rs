//! Tests of whole trainers: kernel modes, steps on given batches, objectives from outside, frozen parameters.

use super::*;
use crate::config::Architecture;
use crate::{
    checkpoint::{Checkpoint, Weights},
    config::{LossScaling, Offload, OptimizerKind, presets::Preset},
    data::evaluation_batches,
    device::Choice,
    eval::evaluate,
    generate::Generator,
    kernels::{Mode, counted},
    objective::{Average, Loss, StepTotals},
    predict::Predictor,
};

/// A small trainer with changed settings.
fn trainer(fused: bool, change: impl FnOnce(&mut Config)) -> Trainer {
    let mut config = Preset::find("debug").unwrap().config().unwrap();
    config.kernels.fused = fused;
    config.sample.max_new_tokens = 3;
    change(&mut config);
    let dataset = Dataset::prepare(&config, None).unwrap();
    let config = config.resolve(&dataset).unwrap();
    Trainer::new(config, dataset, &Choice::cpu().open().unwrap()).unwrap()
}

/// Trains a whole run without saving checkpoints.
fn run(trainer: &mut Trainer, mut observe: impl FnMut(&event::Event)) {
    let mut hooks = Hooks {
        observe: &mut |event| {
            observe(event);
            Ok(())
        },
        save: &mut |_, _, _| Ok("nowhere".into()),
        interrupted: &|| false,
        device: "cpu".into(),
        peak_flops: None,
    };
    pollster::block_on(trainer.run(&mut hooks)).unwrap();
}

fn opened(trainer: &Trainer) -> Checkpoint {
    Checkpoint::from_files(pollster::block_on(trainer.checkpoint()).unwrap()).unwrap()
}

/// Calls `check` with every use of a model, so that it can verify whether kernels are used.
fn uses(model: &Model, trainer: &Trainer, check: &impl Fn(&str, &dyn Fn())) {
    let device = Choice::cpu().open().unwrap();
    let (config, dataset) = (&trainer.config.model, &trainer.dataset);
    check("evaluation", &|| {
        let batches = evaluation_batches(dataset.val.clone(), trainer.layout.clone(), 2, 1);
        pollster::block_on(evaluate(model, config, batches, &device)).unwrap();
    });
    if config.architecture == Architecture::Encoder {
        check("filling in", &|| {
            let predictor = Predictor::new(model, config, &dataset.tokenizer, &device).unwrap();
            pollster::block_on(predictor.fill("to be or n[MASK]t to be", 1)).unwrap();
        });
        return;
    }
    let generator = Generator { model, config, tokenizer: &dataset.tokenizer, device: &device };
    for num_beams in [1, 2] {
        check("sampling", &|| {
            let sample = crate::config::SampleConfig { num_beams, ..trainer.config.sample.clone() };
            pollster::block_on(generator.generate(&sample, &mut |_| {}, &|| false)).unwrap();
        });
    }
    check("sampling of many", &|| {
        let generated = generator.generate_each(&["a", "to be"], 0, &trainer.config.sample, &|| false);
        pollster::block_on(generated).unwrap();
    });
}

#[test]
fn all_that_a_model_does_is_computed_the_way_its_configuration_asks_for() {
    let kinds: [fn(&mut Config); 5] = [
        |_| (),
        |config| {
            config.model.position = crate::config::Position::Rotary;
            config.model.norm = crate::config::Norm::Rmsnorm;
            config.model.activation = crate::config::Activation::Swiglu;
            config.model.moe.n_experts = 2;
            config.model.dropout = 0.1;
        },
        |config| config.model.architecture = Architecture::Encoder,
        |config| config.model.architecture = Architecture::EncoderDecoder,
        |config| config.train.optimizer = OptimizerKind::Sgd,
    ];
    for (fused, kind) in [true, false].into_iter().flat_map(|fused| kinds.map(|kind| (fused, kind))) {
        let mut trainer = trainer(fused, kind);
        let architecture = trainer.config.model.architecture;
        let check = |what: &str, work: &dyn Fn()| {
            let count = counted::fused(work);
            assert_eq!(count > 0, fused, "{what} of {architecture:?}: {count} operations by kernels");
        };
        assert_eq!(counted::fused(|| trainer.step()) > 0, fused);
        check("inspection", &|| drop(pollster::block_on(trainer.inspect()).unwrap()));
        check("attention", &|| drop(pollster::block_on(trainer.attention(&[1, 2, 3], 0)).unwrap()));
        uses(&trainer.trained_model(), &trainer, &check);

        // And of a checkpoint, whoever opens it.
        let checkpoint = opened(&trainer);
        assert_eq!(checkpoint.mode(), if fused { Mode::Fused } else { Mode::Reference });
        let device = Choice::cpu().open().unwrap();
        uses(&checkpoint.build(Weights::Latest, &device).unwrap(), &trainer, &check);
    }
}

#[test]
fn a_run_that_goes_on_may_compute_another_way() {
    let mut first = trainer(true, |_| ());
    first.step();
    let checkpoint = opened(&first);
    let device = Choice::cpu().open().unwrap();
    for fused in [true, false] {
        let mut config = first.config.clone();
        config.kernels.fused = fused;
        let dataset = || Dataset::prepare(&config, Some(checkpoint.tokenizer().unwrap())).unwrap();
        let resumed = Trainer::resume(config.clone(), dataset(), &device, &checkpoint).unwrap();
        let begun = Trainer::start_from(config.clone(), dataset(), &device, &checkpoint).unwrap();
        for mut trainer in [resumed, begun] {
            assert_eq!(counted::fused(|| trainer.step()) > 0, fused);
            assert_eq!(counted::fused(|| drop(pollster::block_on(trainer.inspect()).unwrap())) > 0, fused);
        }
    }
}

#[test]
fn a_whole_run_without_kernels_uses_none() {
    let mut trainer = trainer(false, |config| {
        config.train.max_steps = 2;
        config.train.eval_interval = 1;
        config.train.eval_batches = 1;
        config.train.sample_interval = 1;
        config.train.ema_decay = Some(0.5);
    });
    let mut events = 0;
    let count = counted::fused(|| {
        run(&mut trainer, |_| events += 1);
    });
    assert_eq!(count, 0);
    assert!(events > 6, "{events}");
}

/// Weights by name.
fn weights(trainer: &Trainer) -> crate::model::parameters::NamedData {
    pollster::block_on(parameters::read(parameters::parameters(&trainer.model))).unwrap()
}

#[test]
fn a_step_on_given_batches_is_the_step_of_the_loader_however_rows_are_grouped() {
    let dropout = |config: &mut Config| {
        config.model.dropout = 0.1;
        config.train.batch_size = 4;
    };
    let (mut first, mut second) = (trainer(true, dropout), trainer(true, dropout));
    for _ in 0..3 {
        first.step();
        let batches = [second.loader.rows(second.step, 0..4)];
        second.step_on(&batches);
    }
    assert_eq!(weights(&first), weights(&second));
    let numbers = |trainer: &mut Trainer| pollster::block_on(trainer.last_numbers()).unwrap();
    let together = numbers(&mut first);
    first.step();
    let uneven = [second.loader.rows(3, 0..1), second.loader.rows(3, 1..4)];
    second.step_on(&uneven);
    let (whole, parts) = (numbers(&mut first), numbers(&mut second));
    assert!((whole.0 - parts.0).abs() < 1e-5 && (whole.1 - parts.1).abs() < 1e-4, "{whole:?} {parts:?}");
    assert_ne!(together, whole);
}

#[test]
fn targets_count_by_their_weights() {
    let build = || {
        trainer(true, |config| {
            config.train.batch_size = 2;
            config.train.gradient_accumulation_steps = 1;
        })
    };
    let mut batch = build().loader.rows(0, 0..2);
    let loss = |batch: &crate::data::HostBatch| {
        let mut trainer = build();
        trainer.step_on(std::slice::from_ref(batch));
        pollster::block_on(trainer.last_numbers()).unwrap().0
    };
    let half = batch.weights.len() / 2;
    let halves = [0, 1].map(|row| {
        let mut only = batch.clone();
        only.weights[row * half..(row + 1) * half].fill(0.0);
        loss(&only)
    });
    batch.weights[..half].fill(3.0);
    // The first half of the weights stands for row 0, which counts three times.
    let expected = (3.0 * halves[1] + halves[0]) / 4.0;
    assert!((loss(&batch) - expected).abs() < 1e-5);
}

/// An objective with a metric of each kind, which evaluates a frozen copy of the model.
struct Asking(crate::objective::Frozen);

impl Objective for Asking {
    fn loss(&self, model: &Model, batch: &crate::objective::Batch, step: StepTotals) -> Loss {
        let own = batch.row_log_probabilities(model); // [B, 1]
        let before = self.0.log_probabilities(batch).sum(); // [1]
        let ratio = own.clone().sum() - before; // [1]
        Loss::new(own.sum().neg().div_scalar(step.divisor()))
            .with_metric("rows", ratio.ones_like(), Average::OverRows)
            .with_metric("ratio", ratio, Average::Sum)
            .with_metric(
                "pair",
                Tensor::<1>::from_data([1.0, 3.0], &batch.targets.weights.device()),
                Average::OverTargets,
            )
    }
}

#[test]
fn an_objective_from_outside_trains_and_its_metrics_are_reported() {
    let trainer = trainer(true, |config| {
        config.train.max_steps = 3;
        config.train.batch_size = 2;
        config.train.gradient_accumulation_steps = 2;
        config.train.warmup_steps = 0;
        config.train.eval_interval = 3;
        config.train.eval_batches = 2;
        config.train.log_interval = 1;
    });
    let frozen = crate::objective::Frozen::new(trainer.model());
    let mut trainer = trainer.with_objective(Asking(frozen));
    let (mut steps, mut evaluations) = (Vec::new(), Vec::new());
    run(&mut trainer, |event| match event {
        event::Event::Step(report) => steps.push(report.clone()),
        event::Event::Evaluation(report) => evaluations.push(report.clone()),
        event::Event::Started(info) => assert!(!info.has_perplexity && info.uniform_loss.is_none()),
        _ => {}
    });
    assert_eq!((steps.len(), evaluations.len()), (3, 1));
    let value = |report: &event::StepReport, name: &str| report.metrics[name].values().to_vec();
    for report in &steps {
        assert_eq!(value(report, "rows"), [1.0]);
        assert_eq!(value(report, "pair"), [1.0, 3.0]);
    }
    // At first the model is its own copy; then it has learned.
    assert!(value(&steps[0], "ratio")[0].abs() < 1e-3, "{steps:?}");
    assert!(value(&steps[2], "ratio")[0] > 1.0, "{steps:?}");
    assert!(steps[2].loss < steps[0].loss);
    let evaluation = &evaluations[0];
    assert!(evaluation.perplexity.is_none() && evaluation.val_loss > 1.0, "{evaluation:?}");
    assert_eq!(evaluation.metrics["pair"].values(), [1.0, 3.0]);
}

#[test]
fn frozen_parameters_stay_and_cost_no_state() {
    for optimizer in [OptimizerKind::Adamw, OptimizerKind::Muon] {
        let build = |freeze: &[&str]| {
            trainer(true, |config| {
                config.train.freeze = freeze.iter().map(|pattern| (*pattern).to_owned()).collect();
                config.train.optimizer = optimizer;
                config.train.warmup_steps = 0;
                config.train.ema_decay = Some(0.5);
            })
        };
        let mut trainer = build(&["embedding", "blocks.0.*"]);
        let before = weights(&trainer);
        (0..2).for_each(|_| trainer.step());
        let is_frozen = |name: &str| name == "embedding" || name.starts_with("blocks.0.");
        for (name, after) in weights(&trainer) {
            assert_eq!(before[&name] == after, is_frozen(&name), "{name}");
            assert_eq!(trainer.optimizer.state.contains_key(&name), !is_frozen(&name), "{name}");
        }
        // The copy that an evaluation uses, a checkpoint, and the run that goes on from it have all weights.
        let averaged = pollster::block_on(parameters::read(parameters::parameters(&trainer.trained_model())));
        assert!(averaged.unwrap().iter().all(|(name, host)| (before[name] == *host) == is_frozen(name)));
        let checkpoint = opened(&trainer);
        let device = Choice::cpu().open().unwrap();
        let dataset = Dataset::prepare(&trainer.config, Some(checkpoint.tokenizer().unwrap())).unwrap();
        let mut resumed = Trainer::resume(trainer.config.clone(), dataset, &device, &checkpoint).unwrap();
        for trainer in [&mut trainer, &mut resumed] {
            trainer.step();
        }
        assert_eq!(weights(&trainer), weights(&resumed));
    }
    let refused = |freeze: &[&str]| {
        let mut config = Preset::find("debug").unwrap().config().unwrap();
        config.train.freeze = freeze.iter().map(|pattern| (*pattern).to_owned()).collect();
        let dataset = Dataset::prepare(&config, None).unwrap();
        let config = config.resolve(&dataset).unwrap();
        let built = Trainer::new(config, dataset, &Choice::cpu().open().unwrap());
        built.err().expect("it is refused").to_string()
    };
    assert!(refused(&["embeding"]).contains("`embeding` for `train.freeze`: no parameter has such a name"));
    assert!(refused(&["*"]).contains("nothing is left to train"));
}

#[test]
fn a_state_that_is_kept_away_gives_the_same_bits() {
    for optimizer in
        [OptimizerKind::Adamw, OptimizerKind::Adamw8Bit, OptimizerKind::Adafactor, OptimizerKind::Muon]
    {
        let build = |offload: Offload| {
            trainer(true, |config| {
                config.train.optimizer = optimizer;
                config.train.offload = offload;
                config.train.freeze = vec!["blocks.0.*".to_owned()];
            })
        };
        let folder = tempfile::tempdir().unwrap();
        let (mut on_device, mut in_memory) = (build(Offload::None), build(Offload::OptimizerDisk));
        let mut in_file = build(Offload::OptimizerDisk);
        in_file.offload_to(folder.path()).unwrap();
        for step in 0..4 {
            for trainer in [&mut on_device, &mut in_memory, &mut in_file] {
                trainer.step();
                trainer.optimizer.check().unwrap();
            }
            if step == 1 {
                // With a state, it moves from memory to a file.
                in_memory.offload_to(folder.path()).unwrap();
            }
        }
        let state = |trainer: &Trainer| pollster::block_on(trainer.optimizer.read_state()).unwrap();
        for trainer in [&in_memory, &in_file] {
            assert!(trainer.optimizer.state.is_empty() && trainer.optimizer.is_away());
            assert_eq!(weights(&on_device), weights(trainer), "{optimizer:?}");
            assert_eq!(state(&on_device), state(trainer), "{optimizer:?}");
        }
        // The run that goes on has the same state, wherever that is kept.
        let checkpoint = opened(&in_file);
        let dataset = Dataset::prepare(&in_file.config, Some(checkpoint.tokenizer().unwrap())).unwrap();
        let device = Choice::cpu().open().unwrap();
        let mut config = in_file.config.clone();
        config.train.offload = Offload::None;
        let mut resumed = Trainer::resume(config, dataset, &device, &checkpoint).unwrap();
        assert_eq!(state(&on_device), state(&resumed), "{optimizer:?}");
        on_device.step();
        resumed.step();
        assert_eq!(weights(&on_device), weights(&resumed), "{optimizer:?}");
    }
}

/// Settings of a run whose loss is multiplied by `initial`.
fn scaled(initial: f64) -> impl Fn(&mut Config) {
    move |config| {
        config.train.loss_scale.scaling = LossScaling::On;
        config.train.loss_scale.initial = initial;
        config.train.warmup_steps = 0;
        config.train.eval_interval = 0;
        config.train.log_interval = 1;
    }
}

#[test]
fn the_factor_of_the_loss_changes_nothing_but_steps_that_overflow() {
    let (mut plain, mut doubled) =
        (trainer(true, |config| config.train.warmup_steps = 0), trainer(true, scaled(1024.0)));
    for _ in 0..5 {
        plain.step();
        doubled.step();
    }
    for (name, expected) in weights(&plain) {
        let found = &weights(&doubled)[&name];
        let apart = expected.values.iter().zip(&found.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-5, "{name}: {apart}");
    }

    // Squares of such gradients are infinite until the factor has been halved a few times.
    let mut overflowing = trainer(true, scaled(1e21));
    let (mut skipped, mut skipped_first, mut scales, mut losses) = (0, None, Vec::new(), Vec::new());
    run(&mut overflowing, |event| match event {
        event::Event::Skipped { loss, .. } => {
            assert!(loss.is_finite());
            skipped += 1;
        }
        event::Event::Step(report) => {
            skipped_first.get_or_insert(skipped);
            losses.push(report.loss);
            scales.extend(report.metrics[LOSS_SCALE].values().iter().copied());
        }
        _ => {}
    });
    assert!((2..15).contains(&skipped), "{skipped}");
    assert_eq!(overflowing.skipped_steps, skipped);
    let halved = |times: u64| 1e21 * 0.5f32.powi(times as i32);
    assert_eq!(Some(scales[0]), skipped_first.map(halved));
    assert!(losses[losses.len() - 1] < losses[0], "{losses:?}");
    let (state, _) = opened(&overflowing).training().unwrap();
    assert_eq!(state.loss_scale.unwrap().scale, halved(skipped));
}

#[test]
fn a_factor_below_its_floor_ends_the_run_and_keeps_its_weights() {
    let mut trainer = trainer(true, |config| {
        scaled(1e21)(config);
        config.train.loss_scale.floor = 1e20;
    });
    let mut saved = 0;
    let mut hooks = Hooks {
        observe: &mut |_| Ok(()),
        save: &mut |_, _, _| {
            saved += 1;
            Ok("nowhere".into())
        },
        interrupted: &|| false,
        device: "cpu".into(),
        peak_flops: None,
    };
    let error = pollster::block_on(trainer.run(&mut hooks)).unwrap_err();
    assert!(matches!(error, Error::LossScale { step: 4, .. }), "{error}");
    assert!(error.hint().unwrap().to_string().contains("train.learning_rate"));
    assert_eq!(saved, 1);
}
