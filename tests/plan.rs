//! `kiln plan` and what is made of the same numbers: `train.batch_size = auto`, and runs that are refused.

use crate::support::{debug_train, fails, file, folder, kiln, ok, words};
use serde_json::Value;
use std::fs;

fn plan(more: &str) -> Value {
    let text = ok(&mut kiln(words(&format!("plan --device cpu --json {more}"))));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_plan_has_memory_by_part_and_settings_that_fit() {
    let small = plan("--preset debug --memory-only");
    assert_eq!((&small["fits"], &small["device"]), (&Value::Bool(true), &Value::from("cpu")));
    assert_eq!(small["seconds_per_step"], Value::Null);
    let phases = small["phases"].as_array().unwrap();
    let names: Vec<_> = phases.iter().map(|phase| phase["phase"].as_str().unwrap()).collect();
    assert_eq!(names, ["step", "checkpoint"]);
    for phase in phases {
        let parts =
            ["weights", "gradients", "moments", "activations", "logits", "cache", "files", "workspace"];
        let parts = parts.iter().chain(&["program"]).map(|part| phase[part].as_u64().unwrap());
        assert_eq!(parts.sum::<u64>(), phase["total"].as_u64().unwrap());
    }
    let most = phases.iter().map(|phase| phase["total"].as_u64().unwrap()).max();
    assert_eq!(small["total_bytes"].as_u64(), most);

    // 480 rows of a step do not fit at once.
    let large = "--preset shakespeare-char --memory-only --memory 2 --set train.batch_size=480";
    let large = plan(large);
    assert_eq!(large["fits"], Value::Bool(false));
    let first = &large["suggestions"][0];
    let number = |key: &str| first["settings"][key].as_str().unwrap().parse::<usize>().unwrap();
    let (batch, steps) = (number("train.batch_size"), number("train.gradient_accumulation_steps"));
    assert_eq!(batch * steps, 480);
    assert!(first["total_bytes"].as_u64().unwrap() < 2 << 30);
    let fitting = format!(
        "--preset shakespeare-char --memory-only --memory 2 --set train.batch_size={batch} \
         --set train.gradient_accumulation_steps={steps}"
    );
    assert_eq!(plan(&fitting)["fits"], Value::Bool(true));
    // `auto` is that.
    let auto = "--preset shakespeare-char --memory-only --memory 2 --set train.batch_size=480 \
                --set train.batch_size=auto";
    assert_eq!(plan(auto)["batch_size"].as_u64(), Some(batch as u64));
}

#[test]
fn a_plan_says_how_long_a_step_takes() {
    let small = plan("--preset debug");
    let (seconds, speed) = (&small["seconds_per_step"], &small["tokens_per_second"]);
    assert!(seconds.as_f64().unwrap() > 0.0 && speed.as_f64().unwrap() > 0.0, "{small}");
    let text = ok(&mut kiln(words("plan --device cpu --preset debug")));
    for part in ["at a step", "weights", "together", "It fits: ", "A step takes "] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
    fails(&mut kiln(words("plan --memory 0")), 2, &["`--memory`"]);
    fails(&mut kiln(words("plan --memory nan")), 2, &["`--memory`"]);
}

#[test]
fn a_run_that_does_not_fit_is_refused_with_settings_that_do() {
    // Some terabytes of activations.
    let much = "train --preset shakespeare-char --device cpu --set train.batch_size=262144";
    fails(&mut kiln(words(much)), 2, &["the run needs about", "it fits with `--set train.batch_size="]);
    let deep = "train --preset debug --device cpu --set model.n_layer=16000000";
    fails(&mut kiln(words(deep)), 2, &["the run needs about", "lower `model.block_size`"]);
}

#[test]
fn an_automatic_batch_is_saved_as_the_numbers_it_became() {
    let folder = folder();
    let run = folder.path().join("run");
    let settings =
        "--set train.batch_size=auto --set train.gradient_accumulation_steps=2 --set train.max_steps=2";
    ok(&mut debug_train(&run, settings));
    let saved = fs::read_to_string(run.join("checkpoints/latest/kiln.toml")).unwrap();
    assert!(saved.contains("fit_batch = false"), "{saved}");
    assert!(saved.contains("gradient_accumulation_steps = 1\n"), "{saved}");
    // From a file, too.
    let config = file(&folder, "auto.toml", "[train]\nbatch_size = \"auto\"\n");
    let text = ok(kiln(words("config show --json --config")).arg(config));
    let config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&config["train"]["fit_batch"], &config["train"]["batch_size"]), (&true.into(), &12.into()));
}
