//! Tests of whole trainers: kernel modes, steps on given batches, objectives from outside, frozen parameters.

use super::*;
use crate::config::Architecture;
use crate::{
    checkpoint::{Checkpoint, Weights},
    config::{OptimizerKind, presets::Preset},
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
