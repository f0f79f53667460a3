//! The way of computing that a configuration asks for is that of all that its model does.

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
    predict::Predictor,
};

/// A small run with some settings.
fn trainer(fused: bool, change: impl FnOnce(&mut Config)) -> Trainer {
    let mut config = Preset::find("debug").unwrap().config().unwrap();
    config.kernels.fused = fused;
    config.sample.max_new_tokens = 3;
    change(&mut config);
    let dataset = Dataset::prepare(&config, None).unwrap();
    let config = config.resolve(&dataset).unwrap();
    Trainer::new(config, dataset, &Choice::cpu().open().unwrap()).unwrap()
}

fn opened(trainer: &Trainer) -> Checkpoint {
    Checkpoint::from_files(pollster::block_on(trainer.checkpoint()).unwrap()).unwrap()
}

/// Everything that is done with a model, by kernels or without any.
fn uses(model: &Model, trainer: &Trainer, check: &impl Fn(&str, &dyn Fn())) {
    let device = Choice::cpu().open().unwrap();
    let (config, dataset) = (&trainer.config.model, &trainer.dataset);
    check("evaluation", &|| {
        let batches = evaluation_batches(dataset.val.clone(), trainer.cut.clone(), 2, 1);
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
        let written = generator.generate_each(&["a", "to be"], 0, &trainer.config.sample, &|| false);
        pollster::block_on(written).unwrap();
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
        let mut hooks = Hooks {
            observe: &mut |_| {
                events += 1;
                Ok(())
            },
            save: &mut |_, _, _| Ok("nowhere".into()),
            interrupted: &|| false,
            device: "cpu".into(),
            peak_flops: None,
        };
        pollster::block_on(trainer.run(&mut hooks)).unwrap();
    });
    assert_eq!(count, 0);
    assert!(events > 6, "{events}");
}
