//! Tests of families: every mapping in both directions, and configurations that are refused.

use super::*;
use crate::{
    config::{Activation, AttentionConfig, Norm, Position, RopeConfig, RopeLayout, RopeScaling},
    kernels::Mode,
    model::{Model, parameters},
};

fn llama(layout: RopeLayout, bias: bool) -> ModelConfig {
    ModelConfig {
        vocab_size: 11,
        n_embd: 16,
        n_head: 4,
        n_kv_head: Some(2),
        n_layer: 2,
        position: Position::Rotary,
        norm: Norm::Rmsnorm,
        activation: Activation::Swiglu,
        tie_embeddings: false,
        rope: RopeConfig { layout, ..Default::default() },
        bias,
        ..Default::default()
    }
}

/// A Llama configuration with a change.
fn with(change: impl FnOnce(&mut ModelConfig)) -> ModelConfig {
    let mut config = llama(RopeLayout::Half, false);
    change(&mut config);
    config
}

fn gemma2(config: &mut ModelConfig) {
    *config = ModelConfig {
        norm_position: crate::config::NormPosition::Both,
        norm_offset: true,
        scale_embeddings: true,
        attention: AttentionConfig {
            sliding_window: Some(4),
            full_attention_every: Some(2),
            full_attention_offset: 1,
            scale: Some(1.0 / 11f64.sqrt()),
            softcap: Some(50.0),
            ..Default::default()
        },
        logit_softcap: Some(30.0),
        activation: Activation::Geglu,
        tie_embeddings: true,
        ..config.clone()
    };
}

fn t5(tie_embeddings: bool, scale_logits: bool) -> ModelConfig {
    with(|config| {
        config.architecture = Architecture::EncoderDecoder;
        config.position = Position::Relative;
        config.n_kv_head = None;
        config.attention.scale = Some(1.0);
        (config.tie_embeddings, config.scale_logits) = (tie_embeddings, scale_logits);
    })
}

fn bert(tie_embeddings: bool) -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Encoder,
        norm_position: crate::config::NormPosition::Post,
        embedding_norm: true,
        token_types: 2,
        tie_embeddings,
        ..gpt2(true)
    }
}

fn gpt2(bias: bool) -> ModelConfig {
    ModelConfig { vocab_size: 11, n_embd: 16, n_layer: 2, bias, ..Default::default() }
}

#[test]
fn every_family_round_trips_bit_for_bit() {
    let device = crate::device::Choice::cpu().open().unwrap();
    let post = ModelConfig { norm_position: crate::config::NormPosition::Post, ..gpt2(true) };
    for (config, family) in [
        (gpt2(true), Family::GPT2),
        (gpt2(false), Family::GPT2),
        (llama(RopeLayout::Half, false), Family::LLAMA),
        (llama(RopeLayout::Interleaved, true), Family::LLAMA),
        (post, Family::KILN),
        (with(|c| c.attention.sliding_window = Some(4)), Family::MISTRAL),
        (with(|c| c.head_dim = Some(6)), Family::LLAMA),
        (with(|c| (c.rope.scaling, c.rope.factor) = (RopeScaling::Linear, 2.0)), Family::LLAMA),
        (
            with(|c| (c.rope.scaling, c.rope.original_context) = (RopeScaling::Llama3, Some(32))),
            Family::LLAMA,
        ),
        (with(|c| c.attention.qkv_bias = true), Family::QWEN2),
        (with(|c| c.attention.qk_norm = true), Family::QWEN3),
        (with(gemma2), Family::GEMMA2),
        (with(|c| c.moe.n_experts = 3), Family::MIXTRAL),
        (
            with(|c| (c.moe.n_experts, c.moe.shared_expert_inner, c.attention.qkv_bias) = (3, Some(8), true)),
            Family::QWEN2_MOE,
        ),
        (with(|c| (c.moe.n_experts, c.attention.qk_norm) = (3, true)), Family::QWEN3_MOE),
        // Interleaved columns can be put in order, but not norms over them.
        (with(|c| (c.attention.qk_norm, c.rope.layout) = (true, RopeLayout::Interleaved)), Family::KILN),
        (
            with(|c| (c.attention.sliding_window, c.attention.full_attention_every) = (Some(4), Some(2))),
            Family::KILN,
        ),
        (
            with(|c| {
                (c.attention.qkv_bias, c.attention.sliding_window, c.attention.full_attention_every) =
                    (true, Some(4), Some(2))
            }),
            Family::QWEN2,
        ),
        (with(|c| (c.attention.qk_norm, c.attention.sliding_window) = (true, Some(4))), Family::QWEN3),
        (
            with(|c| (c.moe.n_experts, c.attention.qk_norm, c.attention.sliding_window) = (3, true, Some(4))),
            Family::QWEN3_MOE,
        ),
        (with(|c| c.activation = Activation::GegluExact), Family::LLAMA),
        (t5(true, false), Family::T5),
        (t5(false, true), Family::T5),
        (bert(false), Family::BERT),
        (with(|c| (c.moe.n_experts, c.moe.normalize) = (3, false)), Family::QWEN2_MOE),
        (ModelConfig { head: Head::Regression, ..gpt2(true) }, Family::GPT2),
        (with(|c| c.head = Head::Regression), Family::LLAMA),
        (with(|c| (c.head, c.attention.qk_norm) = (Head::Regression, true)), Family::QWEN3),
        (
            with(|c| {
                gemma2(c);
                c.head = Head::Regression;
            }),
            Family::GEMMA2,
        ),
        (with(|c| (c.head, c.position) = (Head::Regression, Position::Alibi)), Family::KILN),
    ] {
        assert_eq!(Family::of(&config), family, "{config:?}");
        let model = Model::init(&config, Mode::Fused, 7, &device);
        let read = parameters::read(parameters::parameters(&model));
        let ours = pollster::block_on(read).unwrap();
        let theirs = family.store(&config, ours.clone()).unwrap();
        assert_eq!(family.load(&config, theirs).unwrap(), ours, "{config:?}");

        let json = family.to_json(&config, Some(3)).to_string();
        let (read_family, read) = Family::from_json(json.as_bytes(), Path::new("config.json")).unwrap();
        assert_eq!(read_family, family);
        if family == Family::KILN {
            assert_eq!(read, config);
        }
        assert_eq!(Family::of(&read), family);
        assert_eq!(read.n_embd, config.n_embd);
        assert_eq!(read.inner_size(), config.inner_size());
    }
}

/// Reads a `config.json` of the family that a configuration belongs to, with some fields changed.
fn changed(config: &ModelConfig, changes: Value) -> Result<(Family, ModelConfig)> {
    let mut json = Family::of(config).to_json(config, None);
    for (key, value) in changes.as_object().unwrap() {
        json[key] = value.clone();
    }
    Family::from_json(json.to_string().as_bytes(), Path::new("x/config.json"))
}

#[test]
fn settings_that_change_the_computation_are_refused() {
    use serde_json::json;
    let llama = llama(RopeLayout::Half, false);
    let of_five = with(|c| (c.attention.qk_norm, c.n_layer) = (true, 5));
    for (config, changes) in [
        (&gpt2(true), json!({ "scale_attn_by_inverse_layer_idx": true })),
        (&gpt2(true), json!({ "scale_attn_weights": false })),
        (&gpt2(true), json!({ "add_cross_attention": true })),
        (
            &llama,
            json!({ "partial_rotary_factor": 0.5, "rope_scaling": { "type": "linear", "factor": 2.0 } }),
        ),
        (&llama, json!({ "rope_parameters": { "rope_type": "dynamic", "factor": 8.0 } })),
        (&llama, json!({ "rope_scaling": "yarn" })),
        (&with(gemma2), json!({ "layer_types": ["full_attention"] })),
        (&with(gemma2), json!({ "layer_types": ["full_attention", "chunked_attention"] })),
        (&of_five, json!({ "max_window_layers": 2, "use_sliding_window": true })),
        (&llama, json!({ "per_layer_config": { "0": { "head_dim": 8 } } })),
    ] {
        let key = changes.as_object().unwrap().keys().next().unwrap().clone();
        let error = changed(config, changes).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("x/config.json") && message.contains(&format!("`{key}`")), "{message}");
        assert!(error.hint().is_some());
    }
    for (config, changes) in [
        (&gpt2(true), json!({ "scale_attn_weights": true, "scale_attn_by_inverse_layer_idx": false })),
        (&llama, json!({ "partial_rotary_factor": 1, "rope_scaling": null })),
        (&llama, json!({ "rope_scaling": { "rope_type": "default" } })),
        // Not read by transformers' class: heads rotate whole.
        (&llama, json!({ "partial_rotary_factor": 0.5 })),
        (&llama, json!({ "rope_parameters": { "rope_type": "default", "partial_rotary_factor": 0.5 } })),
        (&with(gemma2), json!({ "layer_types": ["full_attention", "full_attention"] })),
        // Windows begin behind these two layers.
        (&with(|c| c.attention.qk_norm = true), json!({ "use_sliding_window": true })),
        (&llama, json!({ "per_layer_config": {} })),
    ] {
        changed(config, changes).unwrap();
    }
    // It hides plain `rope_parameters`; a factor without a type is not read.
    for (scaling, expected) in [
        (json!({ "type": "linear", "factor": 2.0 }), (RopeScaling::Linear, 2.0)),
        (json!({ "factor": 2.0 }), (RopeScaling::None, 1.0)),
    ] {
        let (_, read) = changed(&llama, json!({ "rope_scaling": scaling })).unwrap();
        assert_eq!((read.rope.scaling, read.rope.factor), expected);
    }
    let incomplete = json!({ "rope_parameters": { "rope_type": "llama3", "factor": 8.0 } });
    let message = changed(&llama, incomplete).unwrap_err().to_string();
    assert!(message.contains("`low_freq_factor` in `rope_parameters`"), "{message}");
    let factors = json!({ "rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4 });
    let (_, read) = changed(&llama, json!({ "rope_parameters": factors })).unwrap();
    assert_eq!(read.rope.original_context, Some(llama.block_size));
    let huge = json!({ "head_dim": 1usize << 40, "num_attention_heads": 1usize << 40, "hidden_size": 0 });
    // Sizes are verified later, by `Config::validate`.
    let (_, read) = changed(&llama, huge).unwrap();
    assert!(crate::config::Config { model: read, ..Default::default() }.validate().is_err());
}

#[test]
fn a_reward_model_is_transformers_sequence_classification_with_one_label() {
    let device = crate::device::Choice::cpu().open().unwrap();
    for (config, class) in [
        (ModelConfig { head: Head::Regression, ..gpt2(true) }, "GPT2ForSequenceClassification"),
        (with(|c| c.head = Head::Regression), "LlamaForSequenceClassification"),
        (with(|c| (c.head, c.moe.n_experts) = (Head::Regression, 3)), "MixtralForSequenceClassification"),
    ] {
        let json = Family::of(&config).to_json(&config, None);
        assert_eq!(json["architectures"], serde_json::json!([class]));
        assert_eq!(json["id2label"], serde_json::json!({ "0": "LABEL_0" }));
        let (_, read) = changed(&config, serde_json::json!({})).unwrap();
        assert_eq!(read.head, Head::Regression);
        let model = Model::init(&config, Mode::Fused, 7, &device);
        let ours = pollster::block_on(parameters::read(parameters::parameters(&model))).unwrap();
        let theirs = Family::of(&config).store(&config, ours).unwrap();
        assert_eq!(theirs["score.weight"].shape, [1, 16]);
        assert!(!theirs.contains_key("lm_head.weight"));
        let two = serde_json::json!({ "id2label": { "0": "a", "1": "b" } });
        let error = changed(&config, two).unwrap_err().to_string();
        assert!(error.contains(class) && error.contains("2 classes"), "{error}");
    }
}

#[test]
fn checkpoints_of_the_hub_may_lack_the_prefix_and_carry_buffers() {
    let device = crate::device::Choice::cpu().open().unwrap();
    for (config, family, prefix, buffers) in [
        (gpt2(true), Family::GPT2, "transformer.", ["h.0.attn.bias", "h.1.attn.masked_bias"]),
        (
            llama(RopeLayout::Half, false),
            Family::LLAMA,
            "model.",
            ["layers.0.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq"],
        ),
    ] {
        let model = Model::init(&config, Mode::Fused, 7, &device);
        let read = parameters::read(parameters::parameters(&model));
        let ours = pollster::block_on(read).unwrap();
        let theirs = family.store(&config, ours.clone()).unwrap();
        let bare = |name: &str| name.strip_prefix(prefix).unwrap_or(name).to_owned();
        let mut stripped: NamedData =
            theirs.iter().map(|(name, tensor)| (bare(name), tensor.clone())).collect();
        for name in buffers {
            stripped.insert(name.into(), HostTensor::new([1], vec![0.0]));
        }
        assert_eq!(family.load(&config, stripped).unwrap(), ours);
        // A name that is missing is missing, prefix or not.
        let mut missing = theirs.clone();
        missing.remove(theirs.keys().next_back().unwrap());
        assert!(family.load(&config, missing).unwrap_err().contains("is missing"));
    }
}

#[test]
fn more_layers_than_a_file_can_hold_are_refused_before_they_are_listed() {
    let config = ModelConfig { n_layer: 1 << 24, ..gpt2(true) };
    let theirs = NamedData::from([("transformer.wte.weight".into(), HostTensor::new([1], vec![0.0]))]);
    let error = Family::GPT2.load(&config, theirs).unwrap_err();
    assert!(error.contains("16777216 layers"), "{error}");
}

#[test]
fn a_missing_an_extra_and_an_unknown_model_type_are_named() {
    let config = gpt2(true);
    let mut theirs = NamedData::from([("x".to_owned(), HostTensor::new([1], vec![0.0]))]);
    theirs.insert("y".into(), HostTensor::new([1], vec![0.0]));
    let error = Family::GPT2.load(&config, theirs).unwrap_err();
    assert!(error.contains("`transformer.wte.weight`"), "{error}");
    let path = Path::new("x/config.json");
    let error = Family::from_json(br#"{"model_type": "rwkv"}"#, path).unwrap_err().to_string();
    assert!(error.contains("`rwkv`"), "{error}");
    let error = Family::from_json(br#"{"architectures": ["RwkvForCausalLM"]}"#, path).unwrap_err();
    assert!(error.to_string().contains("`model_type` is missing") && error.hint().is_some(), "{error}");
}

/// The expected counts are `sum(p.numel() for p in
/// AutoModel…from_config(CONFIG_MAPPING[name]()).parameters())` on the device `meta`, with transformers 5.23.
#[test]
fn a_configuration_without_keys_is_that_of_its_class() {
    for (name, parameters) in PARAMETERS_BY_DEFAULT {
        let json = format!(r#"{{"model_type": "{name}"}}"#);
        let (family, config) = Family::from_json(json.as_bytes(), Path::new("config.json")).unwrap();
        assert_eq!(family.name(), name);
        assert_eq!(crate::model::size::parameter_count(&config), parameters, "{name}");
    }
    for (class, expected) in [
        ("GPT2LMHeadModel", Family::GPT2),
        ("Qwen2ForCausalLM", Family::QWEN2),
        ("Qwen2MoeForCausalLM", Family::QWEN2_MOE),
        ("BertModel", Family::BERT),
        ("ModernBertForMaskedLM", Family::MODERNBERT),
        ("T5ForConditionalGeneration", Family::T5),
    ] {
        let json = format!(r#"{{"architectures": ["{class}"]}}"#);
        let (family, _) = Family::from_json(json.as_bytes(), Path::new("config.json")).unwrap();
        assert_eq!(family, expected, "{class}");
    }
}

const PARAMETERS_BY_DEFAULT: [(&str, usize); 12] = [
    ("gpt2", 124_439_808),
    ("llama", 6_738_415_616),
    ("mistral", 7_241_732_096),
    ("qwen2", 12_049_846_272),
    ("qwen3", 12_049_461_248),
    ("gemma2", 2_614_341_888),
    ("mixtral", 46_702_792_704),
    ("qwen2_moe", 14_315_784_192),
    ("qwen3_moe", 15_350_731_776),
    ("bert", 109_514_298),
    ("modernbert", 149_655_232),
    ("t5", 60_506_624),
];
