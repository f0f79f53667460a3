//! Tests of `kiln inspect`.

use crate::{
    parity::{copy_of, fixture},
    support::{debug_train, fails, folder, kiln, ok},
};
use serde_json::Value;
use std::{fs, path::Path};

fn inspect(path: &Path) -> Value {
    serde_json::from_str(&ok(kiln(["inspect", "--json"]).arg(path))).unwrap()
}

#[test]
fn tensors_and_totals_of_a_model() {
    let report = inspect(&fixture("gpt2"));
    let model = &report["model"];
    assert_eq!((&model["family"], &model["tied"]), (&"gpt2".into(), &true.into()), "{report}");
    for (key, value) in [
        ("layers", 2),
        ("heads", 4),
        ("width", 48),
        ("inner_width", 192),
        ("context", 32),
        ("vocabulary", 101),
        // 101·48 + 32·48 + 2·(12·48² + 13·48) + 2·48, as PyTorch counts.
        ("parameters", 63_024),
        ("weight_bytes", 252_096),
        // Two layers of 32 keys and values, 48 wide.
        ("kv_cache_bytes", 4 * 2 * 2 * 32 * 48),
        ("inference_bytes", 252_096 + 24_576),
    ] {
        assert_eq!(model[key], value, "{key}: {report}");
    }
    assert!(model["training_bytes"].as_u64().unwrap() > 4 * 252_096, "{report}");
    assert_eq!(report["parameters"], 63_024);
    let tensor =
        report["tensors"].as_array().unwrap().iter().find(|row| row["name"] == "transformer.wpe.weight");
    assert_eq!(tensor.unwrap()["shape"], serde_json::json!([32, 48]));

    let text = ok(kiln(["inspect"]).arg(fixture("llama")));
    for part in
        ["model.layers.1.mlp.down_proj.weight", "[48, 96]", "F32", "4,608", "llama", "4, 2 of keys", "own"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn what_kiln_does_not_know_is_listed_all_the_same() {
    let folder = folder();
    let copy = copy_of("gpt2", &folder);
    let config = fs::read_to_string(copy.join("config.json")).unwrap();
    fs::write(
        copy.join("config.json"),
        config.replace("\"model_type\": \"gpt2\"", "\"model_type\": \"rwkv\""),
    )
    .unwrap();
    let report = inspect(&copy);
    assert!(report["model"].is_null() && report["unknown"].as_str().unwrap().contains("`rwkv`"), "{report}");
    assert_eq!(report["parameters"], 63_024);
    assert!(ok(kiln(["inspect"]).arg(&copy)).contains("unknown to kiln"));
    // Not even a configuration, and one file of it.
    fs::remove_file(copy.join("config.json")).unwrap();
    assert_eq!(inspect(&copy)["parameters"], 63_024);
    assert_eq!(inspect(&copy.join("model.safetensors"))["files"], serde_json::json!(["model.safetensors"]));
    fails(kiln(["inspect"]).arg(folder.path()), 2, &["no complete checkpoint", "hint: "]);
    fails(&mut kiln(["inspect", "no/model.safetensors"]), 2, &["does not exist", "hint: "]);
}

#[test]
fn a_run_is_its_newest_checkpoint() {
    let folder = folder();
    let run = folder.path().join("run");
    ok(&mut debug_train(&run, "--set train.max_steps=2"));
    let report = inspect(&run);
    assert!(report["folder"].as_str().unwrap().ends_with("step-000002"), "{report}");
    assert_eq!(report["model"]["training_batch_size"], 4);
}
