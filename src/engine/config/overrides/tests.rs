//! Tests of overrides, files, and the error messages for their mistakes.

use super::*;
use crate::config::{Order, ScheduleKind, TokenizerKind};
use std::path::PathBuf;

fn set(overrides: &[&str]) -> Result<Config> {
    let mut config = Config::default();
    config.apply(&overrides.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())?;
    Ok(config)
}

fn complaint(result: Result<Config>) -> (String, Option<String>) {
    let error = result.unwrap_err();
    assert!(error.is_user_error());
    (error.to_string(), error.hint().map(|hint| hint.to_string()))
}

#[test]
fn overrides_read_numbers_names_lists_and_text() {
    let config = set(&[
        "train.schedule=inverse-sqrt",
        "train.learning_rate=1",
        "train.min_lr = 3e-5",
        "model.n_layer=6",
        "model.bias=true",
        "data.paths=[\"a b\", \"c\"]",
        "data.order= shuffled",
        "sample.stop=[\"\\n\\n\"]",
        "sample.prompt=1",
        "tokenizer.kind=\"file\"",
        "tokenizer.path=tokens/tokenizer.json",
        "train.seed=9223372036854775807",
    ])
    .unwrap();
    assert_eq!(config.train.schedule, ScheduleKind::InverseSqrt);
    assert_eq!((config.train.learning_rate, config.train.min_lr), (1.0, 3e-5));
    assert_eq!((config.model.n_layer, config.model.bias), (6, true));
    assert_eq!(config.data.paths, [PathBuf::from("a b"), PathBuf::from("c")]);
    assert_eq!(config.data.order, Order::Shuffled);
    assert_eq!((config.sample.stop[0].as_str(), config.sample.prompt.as_str()), ("\n\n", "1"));
    assert_eq!(config.tokenizer.kind, TokenizerKind::File);
    assert_eq!(config.tokenizer.path, Some("tokens/tokenizer.json".into()));
    assert_eq!(config.train.seed, i64::MAX as u64);
}

#[test]
fn text_keeps_its_spaces_equals_signs_and_newlines() {
    assert_eq!(set(&["sample.prompt= a = b\nc = 1"]).unwrap().sample.prompt, " a = b\nc = 1");
    assert_eq!(set(&["sample.prompt="]).unwrap().sample.prompt, "");
    assert_eq!(set(&["sample.prompt=true\ntrain.seed=1"]).unwrap().train.seed, Config::default().train.seed);
}

#[test]
fn a_later_override_wins_and_a_refused_one_leaves_the_tree_alone() {
    assert_eq!(set(&["train.seed=1", "train.seed=2"]).unwrap().train.seed, 2);
    let mut config = Config::default();
    assert!(config.apply(&["train.seed=1".into(), "train.sed=2".into()]).is_err());
    assert_eq!(config, Config::default());
}

#[test]
fn unknown_keys_come_with_the_nearest_one() {
    for (given, meant) in [
        ("train.learning_rat=1", "train.learning_rate"),
        ("learning_rate=1", "train.learning_rate"),
        ("model.learning_rate=1", "train.learning_rate"),
        ("train.lr=1", "train.learning_rate"),
        ("max_iters=1", "train.max_steps"),
        ("model.nlayer=1", "model.n_layer"),
        ("n_heads=1", "model.n_head"),
        ("tokeniser.path=x", "tokenizer.path"),
    ] {
        let (message, hint) = complaint(set(&[given]));
        let key = given.split_once('=').unwrap().0;
        assert_eq!(message, format!("unknown configuration key `{key}`"));
        assert_eq!(hint.unwrap(), format!("did you mean `{meant}`?"));
    }
    for far in ["qqq=1", "train=1", "=1"] {
        assert_eq!(complaint(set(&[far])).1.unwrap(), "`kiln config show` lists every key");
    }
}

#[test]
fn wrong_types_say_what_the_key_takes() {
    for (given, message, hint) in [
        (
            "model.n_layer=six",
            "invalid value `six` for `model.n_layer`: expected a whole number, 0 or more",
            None,
        ),
        (
            "model.n_layer=-1",
            "invalid value `-1` for `model.n_layer`: expected a whole number, 0 or more",
            None,
        ),
        (
            "train.max_steps=1e4",
            "invalid value `1e4` for `train.max_steps`: expected a whole number, 0 or more",
            Some("write `train.max_steps=10000`"),
        ),
        ("train.beta1=big", "invalid value `big` for `train.beta1`: expected a number", None),
        ("model.bias=yes", "invalid value `yes` for `model.bias`: expected `true` or `false`", None),
        (
            "data.paths=a.txt",
            "invalid value `a.txt` for `data.paths`: expected a list",
            Some("write `data.paths=[\"a.txt\"]`"),
        ),
        (
            "model.position=rotery",
            "invalid value `rotery` for `model.position`: expected one of `learned`, `sinusoidal`, `rotary`, `relative`, `alibi`",
            Some("did you mean `rotary`?"),
        ),
        (
            "model.rope.layout=7",
            "invalid value `7` for `model.rope.layout`: expected one of `half`, `interleaved`",
            None,
        ),
    ] {
        assert_eq!(complaint(set(&[given])), (message.to_owned(), hint.map(str::to_owned)));
    }
    let (message, _) = complaint(set(&["train.max_steps"]));
    assert_eq!(message, "invalid value `train.max_steps` for `--set`: expected KEY=VALUE");
}

#[test]
fn files_fill_up_with_defaults_and_name_the_line_of_a_mistake() {
    let read = |text: &str| Config::from_toml(text, "`run.toml`");
    assert_eq!(read("").unwrap(), Config::default());
    let config = read("[train]\nlearning_rate = 1\n").unwrap();
    assert_eq!((config.train.learning_rate, config.train.beta1), (1.0, 0.9));

    let (message, hint) = complaint(read("[train]\n\n# speed\nlearning_rte = 1\n"));
    assert_eq!(message, "`run.toml` line 4: unknown configuration key `train.learning_rte`");
    assert_eq!(hint.unwrap(), "did you mean `train.learning_rate`?");
    let (message, _) = complaint(read("train.seed = 1\nmodel.bias = \"no\"\n"));
    assert_eq!(message, "`run.toml` line 2: invalid value `no` for `model.bias`: expected `true` or `false`");
    let (message, hint) = complaint(read("\n[modle]\nbias = true\n"));
    assert_eq!(message, "`run.toml` line 2: unknown configuration key `modle`");
    assert_eq!(hint.unwrap(), "did you mean `model`?");
    let (message, _) = complaint(read("train = 5"));
    assert_eq!(
        message,
        "`run.toml` line 1: invalid value `5` for `train`: expected a table of keys, `[train]`"
    );
    let (message, _) = complaint(read("[train]\nseed = \n"));
    assert!(message.starts_with("cannot parse `run.toml`: line 2: "), "{message}");
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn the_tree_survives_toml() {
    let config = set(&[
        "train.learning_rate=0.1",
        "train.epsilon=1e-30",
        "tokenizer.path=x",
        "sample.prompt=\"a\\n\\\"b\\u00e9\"",
        "data.paths=[\"x/y\"]",
    ])
    .unwrap();
    assert_eq!(Config::from_toml(&config.to_toml().unwrap(), "here").unwrap(), config);
}

#[test]
fn numbers_that_toml_lacks_are_named() {
    let mut config = Config::default();
    config.sample.seed = u64::MAX;
    let message = config.to_toml().unwrap_err().to_string();
    assert!(message.starts_with("invalid value `18446744073709551615` for `sample.seed`"), "{message}");
}

#[test]
fn optional_keys_have_a_value_or_none() {
    let set_two = ["model.n_kv_head=2", "model.attention.softcap=30", "tokenizer.path=x"];
    let config = set(&set_two).unwrap();
    assert_eq!((config.model.n_kv_head, config.model.attention.softcap), (Some(2), Some(30.0)));
    for unset in ["", "none", " none ", "0"] {
        let mut config = config.clone();
        let unset = ["model.n_kv_head", "model.attention.softcap"].map(|key| format!("{key}={unset}"));
        config.apply(&unset).unwrap();
        assert_eq!((config.model.n_kv_head, config.model.attention.softcap), (None, None), "{unset:?}");
    }
    // Quoted it is a text, and a space is one too.
    let config = set(&["tokenizer.path=\"none\"", "data.answer_after= "]).unwrap();
    assert_eq!((config.tokenizer.path, config.data.answer_after), (Some("none".into()), Some(" ".into())));
    // Elsewhere `none` is a name or plain text, and 0 a number.
    let config = set(&["model.rope.scaling=none", "sample.prompt=none", "model.moe.n_experts=0"]).unwrap();
    assert_eq!((config.sample.prompt.as_str(), config.model.moe.n_experts), ("none", 0));
    let (message, _) = complaint(set(&["model.n_layer="]));
    assert_eq!(message, "invalid value `` for `model.n_layer`: expected a whole number, 0 or more");
    let (message, _) = complaint(set(&["model.n_kv_head=two"]));
    assert_eq!(message, "invalid value `two` for `model.n_kv_head`: expected a whole number, 0 or more");
}

#[test]
fn keys_of_nested_sections_are_found_and_named() {
    let read = |text: &str| Config::from_toml(text, "`run.toml`");
    let config = read("[model.rope]\ntheta = 5\n[model]\nmoe.n_experts = 2\n").unwrap();
    assert_eq!((config.model.rope.theta, config.model.moe.n_experts), (5.0, 2));
    let (message, hint) = complaint(read("[model]\nn_layer = 1\n[model.rope]\ntehta = 5\n"));
    assert_eq!(message, "`run.toml` line 4: unknown configuration key `model.rope.tehta`");
    assert_eq!(hint.unwrap(), "did you mean `model.rope.theta`?");
    let (message, hint) = complaint(read("[model.rpoe]\ntheta = 5\n"));
    assert_eq!(message, "`run.toml` line 1: unknown configuration key `model.rpoe`");
    assert_eq!(hint.unwrap(), "did you mean `model.rope`?");
    let (message, _) = complaint(read("[model]\nrope = 5\n"));
    assert_eq!(
        message,
        "`run.toml` line 2: invalid value `5` for `model.rope`: expected a table of keys, `[model.rope]`"
    );
    let (message, _) = complaint(read("model.rope.scaling = \"lama3\"\n"));
    assert!(
        message.contains("`model.rope.scaling`: expected one of `none`, `linear`, `llama3`"),
        "{message}"
    );
}

const COMPLETE: &str = include_str!("../../../../tests/fixtures/old/complete.toml");

/// Each new name, and its value in a file that uses the earlier names.
const RENAMED_VALUES: [(&str, &str); RENAMED.len()] = [
    ("model.rope.layout", "interleaved"),
    ("model.rope.theta", "500"),
    ("model.rope.scaling", "llama3"),
    ("model.rope.factor", "8"),
    ("model.rope.original_context", "32"),
    ("model.rope.low_freq_factor", "2"),
    ("model.rope.high_freq_factor", "3"),
    ("model.rope.local_theta", "100"),
    ("model.attention.sliding_window", "5"),
    ("model.attention.full_attention_every", "2"),
    ("model.attention.full_attention_offset", "1"),
    ("model.attention.prefix", "true"),
    ("model.attention.sparse_block", "4"),
    ("model.attention.sparse_local_blocks", "2"),
    ("model.attention.sparse_global_tokens", "3"),
    ("model.attention.scale", "0.25"),
    ("model.attention.softcap", "50"),
    ("model.attention.qk_norm", "true"),
    ("model.attention.qkv_bias", "true"),
    ("model.moe.n_experts", "4"),
    ("model.moe.experts_per_token", "3"),
    ("model.moe.shared_expert_inner", "16"),
    ("model.moe.normalize", "false"),
    ("model.moe.capacity", "1.5"),
    ("model.moe.aux_loss", "0.01"),
    ("model.moe.z_loss", "0.001"),
];

#[test]
fn a_file_with_all_earlier_names_is_read_as_before() {
    let Reading { config, keys, notes } = Reading::of(COMPLETE, "`run.toml`").unwrap();
    let mut expected = crate::config::presets::Preset::find("debug").unwrap().config().unwrap();
    let overrides = RENAMED_VALUES.map(|(key, value)| format!("{key}={value}"));
    assert!(expected.apply(&overrides).unwrap().is_empty());
    assert_eq!(config, expected);

    assert!(RENAMED.iter().all(|(_, now)| keys.contains(now)) && keys.len() > 110, "{keys:?}");
    assert_eq!(notes.len(), RENAMED.len());
    assert!(notes.contains(&"`model.rope_theta` is called `model.rope.theta` now".to_owned()), "{notes:?}");
}

#[test]
fn overrides_with_earlier_names_are_taken_and_noted_once() {
    for ((earlier, now), (key, value)) in RENAMED.into_iter().zip(RENAMED_VALUES) {
        assert_eq!(now, key);
        let (mut old, mut new) = (Config::default(), Config::default());
        let notes = old.apply(&[format!("{earlier}={value}"), format!("{earlier}={value}")]).unwrap();
        assert_eq!(notes, [format!("`{earlier}` is called `{now}` now")]);
        assert!(new.apply(&[format!("{now}={value}")]).unwrap().is_empty());
        assert!(old == new && new != Config::default(), "{now}");
        assert!(is_key(now) && !is_key(earlier), "{earlier}");
    }
}

#[test]
fn mistakes_under_earlier_names_have_their_line() {
    let read = |text: &str| Config::from_toml(text, "`run.toml`");
    let (message, _) = complaint(read("[model]\nn_layer = 1\nrope_theta = \"x\"\n"));
    assert_eq!(message, "`run.toml` line 3: invalid value `x` for `model.rope.theta`: expected a number");
    let (message, hint) = complaint(read("[model]\nrope_theta = 5\nrope.theta = 6\n"));
    assert_eq!(
        message,
        "`run.toml` line 2: invalid value `5` for `model.rope_theta`: it is called `model.rope.theta` now, \
         which is set too"
    );
    assert_eq!(hint.unwrap(), "leave the earlier name out");
}

#[test]
fn a_model_in_json_may_have_earlier_names_and_null() {
    let json = serde_json::json!({ "n_head": 2, "n_kv_head": 0, "head_dim": null, "rope_theta": 500.0 });
    let model = Config::model_from_json(json).unwrap();
    assert_eq!((model.n_head, model.n_kv_head, model.head_dim, model.rope.theta), (2, None, None, 500.0));
    let whole = Config::default().model;
    assert_eq!(Config::model_from_json(serde_json::to_value(&whole).unwrap()).unwrap(), whole);
    for (wrong, message) in [
        (serde_json::json!({ "n_heads": 2 }), "unknown configuration key `model.n_heads`"),
        (serde_json::json!({ "n_head": 0.5 }), "invalid value `0.5` for `model.n_head`"),
        (serde_json::json!(null), "invalid value `null` for `model`"),
    ] {
        let found = Config::model_from_json(wrong).unwrap_err().to_string();
        assert!(found.starts_with(message), "{found}");
    }
}

#[test]
fn keys_without_a_default_are_those_that_may_be_absent() {
    let tree = serde_json::to_value(Config::default()).unwrap();
    for key in KEYS.iter() {
        let default =
            tree.pointer(&key.pointer()).unwrap_or_else(|| panic!("{} is not in the tree", key.name));
        // An optional key that had a default would get it back from a file that leaves it out.
        let takes_none = {
            let mut changed = tree.clone();
            *changed.pointer_mut(&key.pointer()).unwrap() = serde_json::Value::Null;
            serde_json::from_value::<Config>(changed).is_ok()
        };
        assert_eq!(takes_none, default.is_null(), "{}", key.name);
    }
}

#[test]
fn an_earlier_name_without_its_section_is_found() {
    for (earlier, now) in RENAMED {
        // `sliding_window` and others have kept their last part.
        assert_eq!(nearest_key(last_part(earlier)), Some(now), "{earlier}");
    }
    assert_eq!(nearest_key("z_loss"), Some("objective.z_loss"));
    assert_eq!(nearest_key("train.z_loss"), Some("objective.z_loss"));
}

#[test]
fn an_automatic_batch_keeps_the_rows_of_a_step() {
    let batch = |config: &Config| (config.train.batch_size, config.train.fit_batch);
    for text in ["auto", " auto", "\"auto\"", "'auto'"] {
        let config = set(&["train.batch_size=6", &format!("train.batch_size={text}")]).unwrap();
        assert_eq!(batch(&config), (6, true), "{text}");
    }
    assert_eq!(batch(&set(&["train.batch_size=auto", "train.batch_size=8"]).unwrap()), (8, false));
    let of_file = Config::from_toml("[train]\nbatch_size = \"auto\"\n", "`a.toml`").unwrap();
    assert_eq!(batch(&of_file), (12, true));
    assert_eq!(Config::from_toml(&of_file.to_toml().unwrap(), "`b.toml`").unwrap(), of_file);
    let (message, _) = complaint(set(&["train.batch_size=automatic"]));
    assert!(message.contains("`automatic` for `train.batch_size`"), "{message}");
}
