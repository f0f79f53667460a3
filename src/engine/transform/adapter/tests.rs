//! Tests of adapters in whole models: what they compute, which parameters get gradients, merging, names.

use super::*;
use crate::{
    config::{
        Activation, AdapterConfig, AdapterKind, Architecture, Head as HeadKind, MoeConfig, Norm, Position,
        RopeConfig, RopeLayout,
    },
    device::Choice,
    kernels::Mode,
    model::{DropoutSource, Input, families::Family, parameters::HostTensor},
};
use burn::{
    module::Module,
    optim::GradientsParams,
    tensor::{Device, Int},
};
use std::collections::BTreeSet;

fn cpu() -> Device {
    Choice::cpu().open().unwrap()
}

/// Models of every architecture, with fused matrices, experts, heads and tied embeddings among them.
fn models() -> Vec<(&'static str, ModelConfig)> {
    let base = ModelConfig {
        vocab_size: 13,
        block_size: 16,
        n_layer: 2,
        n_embd: 16,
        n_head: 4,
        bias: true,
        init_std: 0.3,
        ..Default::default()
    };
    let llama = ModelConfig {
        bias: false,
        position: Position::Rotary,
        rope: RopeConfig { layout: RopeLayout::Half, ..Default::default() },
        norm: Norm::Rmsnorm,
        activation: Activation::Swiglu,
        n_kv_head: Some(2),
        tie_embeddings: false,
        ..base.clone()
    };
    let interleaved = RopeConfig { layout: RopeLayout::Interleaved, ..Default::default() };
    vec![
        ("interleaved", ModelConfig { rope: interleaved, tie_embeddings: true, ..llama.clone() }),
        (
            "experts",
            ModelConfig {
                moe: MoeConfig {
                    n_experts: 3,
                    experts_per_token: 2,
                    shared_expert_inner: Some(8),
                    ..Default::default()
                },
                ..llama.clone()
            },
        ),
        (
            "encoder",
            ModelConfig {
                architecture: Architecture::Encoder,
                head: HeadKind::SequenceClassification,
                labels: vec!["a".into(), "b".into()],
                ..base.clone()
            },
        ),
        (
            "encoder-decoder",
            ModelConfig {
                architecture: Architecture::EncoderDecoder,
                position: Position::Relative,
                ..base.clone()
            },
        ),
        ("llama", llama),
        ("gpt2", base),
    ]
}

fn settings(kind: AdapterKind, targets: &[&str]) -> AdapterConfig {
    let targets = targets.iter().map(|target| (*target).to_owned()).collect();
    AdapterConfig { kind, r: 3, alpha: 6.0, targets, ..Default::default() }
}

fn layout(config: &ModelConfig, adapter: &AdapterConfig) -> AdapterLayout {
    AdapterLayout::of_config(adapter, Family::of(config), config, false).unwrap()
}

/// Numbers of an adapter of which none is 0.
fn numbers(layout: &AdapterLayout) -> NamedData {
    let mut numbers = layout.initial(5);
    for (index, HostTensor { values, .. }) in numbers.values_mut().enumerate() {
        for (place, value) in values.iter_mut().enumerate() {
            *value = ((index * 31 + place * 17) % 23) as f32 / 40.0 - 0.25;
        }
    }
    numbers
}

/// A model and the same one with an adapter of which no number is 0.
fn adapted(config: &ModelConfig, adapter: &AdapterConfig, mode: Mode, device: &Device) -> (Model, Model) {
    let base = Model::init(config, mode, 1, device);
    let layout = layout(config, adapter);
    let adapted = layout.attach(base.clone(), numbers(&layout), 1.0, 0.0);
    (base, adapted)
}

fn input(device: &Device) -> Input {
    Input::from(Tensor::<2, Int>::from_data([[1, 5, 2, 7, 12, 3], [4, 4, 0, 9, 11, 6]], device))
}

fn logits(model: &Model) -> Vec<f32> {
    let device = model.devices().remove(0);
    model.forward(input(&device)).0.inner().into_data().try_into_vec_as::<f32>().unwrap()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn b_zero_at_the_start_gives_the_bases_logits_exactly() {
    for (name, config) in models() {
        for mode in [Mode::Fused, Mode::Reference] {
            let base = Model::init(&config, mode, 1, &cpu());
            let lora = layout(&config, &settings(AdapterKind::Lora, &["all-linear"]));
            let start = lora.attach(base.clone(), lora.initial(2), 1.0, 0.0);
            assert_eq!(logits(&start), logits(&base), "{name} {mode:?}");
            let dora = layout(&config, &settings(AdapterKind::Dora, &["all-linear"]));
            let start = dora.attach(base.clone(), dora.initial(2), 1.0, 0.0);
            assert!(largest_difference(&logits(&start), &logits(&base)) < 5e-4, "{name} {mode:?}");
        }
    }
}

#[test]
fn fused_and_unfused_adapters_agree() {
    for (name, config) in models() {
        for kind in [AdapterKind::Lora, AdapterKind::Dora] {
            let [(base, fused), (_, reference)] = [Mode::Fused, Mode::Reference]
                .map(|mode| adapted(&config, &settings(kind, &["all-linear"]), mode, &cpu()));
            let fused = logits(&fused);
            assert!(largest_difference(&fused, &logits(&reference)) < 1e-4, "{name} {kind:?}");
            assert!(largest_difference(&fused, &logits(&base)) > 1e-2, "{name} {kind:?}");
        }
    }
}

#[test]
fn merging_is_taken_back_exactly_and_computes_the_same() {
    for (name, config) in models() {
        for kind in [AdapterKind::Lora, AdapterKind::Dora] {
            let adapter = settings(kind, &["all-linear"]);
            let (base, adapted) = adapted(&config, &adapter, Mode::Fused, &cpu());
            let before = logits(&adapted);
            let merged = merge(&adapted);
            for other in [&merged, &merge(&merged), &fold(&adapted)] {
                assert!(largest_difference(&logits(other), &before) < 1e-4, "{name} {kind:?}");
            }
            assert_eq!(logits(&unmerge(&merged)), before, "{name} {kind:?}");
            for bare in [without(&adapted), without(&merged)] {
                assert_eq!(logits(&bare), logits(&base), "{name} {kind:?}");
                assert_eq!(parameters::shapes(&bare), parameters::shapes(&base));
            }
            assert!(parameters::shapes(&fold(&adapted)).keys().all(|name| !is_adapter(name)), "{name}");
            let (weights, merged_config) = pollster::block_on(merged_weights(&adapted, &config)).unwrap();
            assert_eq!(merged_config, config);
            let loaded =
                parameters::load(Model::uninitialized(&config, Mode::Fused, &cpu()), weights).unwrap();
            assert!(largest_difference(&logits(&loaded), &before) < 1e-4, "{name} {kind:?}");
        }
    }
}

#[test]
fn shares_of_several_adapters_add_up() {
    let config = &models()[4].1;
    let base = Model::init(config, Mode::Fused, 1, &cpu());
    let layout = layout(config, &settings(AdapterKind::Lora, &["all-linear"]));
    let attach = |model: &Model, share| layout.attach(model.clone(), numbers(&layout), share, 0.0);
    let whole = logits(&attach(&base, 1.0));
    let halves = attach(&attach(&base, 0.25), 0.75);
    assert!(largest_difference(&logits(&halves), &whole) < 1e-4);
    assert!(largest_difference(&logits(&fold(&halves)), &whole) < 1e-4);
    let none = attach(&attach(&base, 1.0), -1.0);
    assert!(largest_difference(&logits(&none), &logits(&base)) < 1e-4);
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> BTreeSet<String> {
    names.cloned().collect()
}

#[test]
fn gradients_are_those_of_the_adapter_alone() {
    let device = cpu().autodiff();
    for (name, config) in models() {
        for kind in [AdapterKind::Lora, AdapterKind::Dora] {
            let layout = layout(&config, &settings(kind, &["all-linear"]));
            let model =
                layout.attach(Model::init(&config, Mode::Fused, 1, &device), numbers(&layout), 1.0, 0.0);
            let model = freeze_base(model.train(), &layout);
            let loss = model.forward(input(&device)).0.square().mean();
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            let gradients =
                pollster::block_on(parameters::read(parameters::gradients(&model, &gradients))).unwrap();
            let shapes = parameters::shapes(&model);
            let own = names(shapes.keys().filter(|name| is_adapter(name)));
            assert_eq!(names(gradients.keys()), own, "{name} {kind:?}");
            assert_eq!(names(parameters::trainable_shapes(&model).keys()), own, "{name} {kind:?}");
            for (parameter, gradient) in &gradients {
                // An expert that no token chooses has no part in the loss.
                let is_used = !parameter.contains(".experts.");
                assert!(!is_used || gradient.values.iter().any(|value| *value != 0.0), "{name}: {parameter}");
            }
        }
    }
}

#[test]
fn an_adapter_survives_the_names_of_peft() {
    for (name, config) in models() {
        for (kind, targets) in
            [(AdapterKind::Lora, &["all-linear"][..]), (AdapterKind::Dora, &["all-linear", "*"])]
        {
            let layout = layout(&config, &settings(kind, targets));
            let model =
                layout.attach(Model::init(&config, Mode::Fused, 1, &cpu()), numbers(&layout), 1.0, 0.0);
            let mut own = parameters::parameters(&model);
            own.retain(|name, _| layout.owns(name) || (layout.stores_table() && name == "embedding"));
            let own = pollster::block_on(parameters::read(own)).unwrap();
            let tensors = layout.store(own.clone()).unwrap().into_tensors();
            assert!(tensors.keys().all(|key| key.starts_with("base_model.model.")), "{name}");
            let settings = PeftConfig::parse(&layout.settings.to_json()).unwrap();
            let read = HostAdapter::from_tensors(tensors).unwrap();
            let (read_layout, mut numbers) =
                AdapterLayout::of_files(settings, read, layout.family, &config, false).unwrap();
            let modules =
                |layout: &AdapterLayout| layout.modules().map(str::to_owned).collect::<BTreeSet<_>>();
            assert_eq!(modules(&read_layout), modules(&layout), "{name}");
            if layout.stores_table() {
                numbers.insert("embedding".into(), own["embedding"].clone());
            }
            assert_eq!(numbers, own, "{name}");
        }
    }
}

#[test]
fn a_tied_embedding_is_untied_where_only_the_input_changes() {
    let tied = &models()[0].1;
    let family = Family::of(tied);
    let embedding = family.matrices(tied)[0].module.clone();
    let mut adapter = settings(AdapterKind::Lora, &[embedding.as_str()]);
    let (base, changed) = adapted(tied, &adapter, Mode::Fused, &cpu());
    let before = logits(&changed);
    assert!(largest_difference(&before, &logits(&base)) > 1e-2);
    let (weights, config) = pollster::block_on(merged_weights(&changed, tied)).unwrap();
    assert!(!config.tie_embeddings);
    let loaded = parameters::load(Model::uninitialized(&config, Mode::Fused, &cpu()), weights).unwrap();
    assert!(largest_difference(&logits(&loaded), &before) < 1e-4);
    assert!(largest_difference(&logits(&fold(&changed)), &before) < 1e-4);

    // With tying, the output follows.
    adapter.weight_tying = true;
    let (_, both) = adapted(tied, &adapter, Mode::Fused, &cpu());
    let (weights, config) = pollster::block_on(merged_weights(&both, tied)).unwrap();
    assert_eq!(&config, tied);
    let loaded = parameters::load(Model::uninitialized(&config, Mode::Fused, &cpu()), weights).unwrap();
    assert!(largest_difference(&logits(&loaded), &logits(&both)) < 1e-4);
    assert!(largest_difference(&logits(&both), &before) > 1e-2);

    // It has no output projection that could be named.
    adapter.modules_to_save = vec!["lm_head".into()];
    let error = AdapterLayout::of_config(&adapter, family, tied, false).unwrap_err();
    assert!(
        error.to_string().contains("`lm_head`") && error.to_string().contains("token embedding"),
        "{error}"
    );
}

#[test]
fn a_saved_module_is_a_copy_that_is_trained() {
    let llama = &models()[4].1;
    let modules_to_save = vec!["lm_head".into(), "embed_tokens".into()];
    let adapter = AdapterConfig { modules_to_save, ..settings(AdapterKind::Lora, &["q_proj"]) };
    let layout = layout(llama, &adapter);
    let base = Model::init(llama, Mode::Fused, 1, &cpu());
    let start = layout.attach(base.clone(), layout.initial(1), 1.0, 0.0);
    assert_eq!(logits(&start), logits(&base));
    let mut changed = numbers(&layout);
    for (name, shape) in parameters::shapes(&start).into_iter().filter(|(name, _)| name.contains(".saved.")) {
        let values = (0..shape.iter().product()).map(|i: usize| (i % 7) as f32 / 10.0).collect();
        changed.insert(name, HostTensor { shape, values });
    }
    let trained = layout.attach(base.clone(), changed, 1.0, 0.0);
    let before = logits(&trained);
    assert!(largest_difference(&before, &logits(&base)) > 1e-2);
    assert_eq!(logits(&without(&trained)), logits(&base));
    let (weights, _) = pollster::block_on(merged_weights(&trained, llama)).unwrap();
    let loaded = parameters::load(Model::uninitialized(llama, Mode::Fused, &cpu()), weights).unwrap();
    assert!(largest_difference(&logits(&loaded), &before) < 1e-4);
}

#[test]
fn what_an_adapter_drops_does_not_depend_on_how_rows_are_grouped() {
    let (device, config) = (cpu().autodiff(), &models()[4].1);
    let layout = layout(config, &settings(AdapterKind::Lora, &["all-linear"]));
    let model = layout.attach(Model::init(config, Mode::Fused, 1, &device), numbers(&layout), 1.0, 0.5);
    let forward = |first_row: usize, rows: usize| -> Vec<f32> {
        let tokens = input(&device).tokens.narrow(0, first_row, rows);
        let dropout = Some(DropoutSource { seed: 3, first_row });
        let logits = model.forward(Input { dropout, ..Input::from(tokens) }).0;
        logits.inner().into_data().try_into_vec_as().unwrap()
    };
    let (whole, rows) = (forward(0, 2), [forward(0, 1), forward(1, 1)].concat());
    assert!(largest_difference(&whole, &rows) < 1e-5);
    assert!(largest_difference(&whole, &logits(&model)) > 1e-2);
}

#[test]
fn adapters_of_other_shapes_are_refused() {
    let (llama, gpt2) = (&models()[4].1, &models()[5].1);
    let layout = layout(llama, &settings(AdapterKind::Lora, &["q_proj"]));
    let adapter = layout.store(numbers(&layout)).unwrap();
    let refused = |family: Family, config: &ModelConfig| {
        AdapterLayout::of_files(layout.settings.clone(), adapter.clone(), family, config, false).unwrap_err()
    };
    assert!(
        refused(Family::of(gpt2), gpt2).contains("no module `transformer.model.layers.0.self_attn.q_proj`")
    );
    let wider = ModelConfig { n_embd: 32, ..llama.clone() };
    let message = refused(layout.family, &wider);
    assert!(message.contains("[3, 16]") && message.contains("32 inputs"), "{message}");
}
