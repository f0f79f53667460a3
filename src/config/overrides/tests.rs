//! Overrides, files, and what is said of their mistakes.

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
    for (written, meant) in [
        ("train.learning_rat=1", "train.learning_rate"),
        ("learning_rate=1", "train.learning_rate"),
        ("model.learning_rate=1", "train.learning_rate"),
        ("train.lr=1", "train.learning_rate"),
        ("max_iters=1", "train.max_steps"),
        ("model.nlayer=1", "model.n_layer"),
        ("n_heads=1", "model.n_head"),
        ("tokeniser.path=x", "tokenizer.path"),
    ] {
        let (message, hint) = complaint(set(&[written]));
        let key = written.split_once('=').unwrap().0;
        assert_eq!(message, format!("unknown configuration key `{key}`"));
        assert_eq!(hint.unwrap(), format!("did you mean `{meant}`?"));
    }
    for far in ["qqq=1", "train=1", "=1"] {
        assert_eq!(complaint(set(&[far])).1.unwrap(), "`kiln config show` lists every key");
    }
}

#[test]
fn wrong_types_say_what_the_key_takes() {
    for (written, message, hint) in [
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
            "model.rope_layout=7",
            "invalid value `7` for `model.rope_layout`: expected one of `half`, `interleaved`",
            None,
        ),
    ] {
        assert_eq!(complaint(set(&[written])), (message.to_owned(), hint.map(str::to_owned)));
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
