//! Weights of others: shards, the types they come in, what is refused, and training from them.

use crate::{
    parity::{copy_of, fixture},
    support::{debug_train, fails, folder, kiln, ok, words},
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use std::path::Path;

const INDEX: &str = "model.safetensors.index.json";

/// Replaces `model.safetensors` by two shards and an index.
fn split(folder: &Path) {
    let path = folder.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut map = serde_json::Map::new();
    let mut shards: [Vec<(String, TensorView)>; 2] = [Vec::new(), Vec::new()];
    for (i, (name, view)) in tensors.iter().enumerate() {
        map.insert(name.into(), shard(i % 2).into());
        shards[i % 2].push((name.into(), view));
    }
    for (i, tensors) in shards.into_iter().enumerate() {
        std::fs::write(folder.join(shard(i)), safetensors::serialize(tensors, None).unwrap()).unwrap();
    }
    write_index(folder, &json!({ "metadata": {}, "weight_map": map }));
    std::fs::remove_file(path).unwrap();
}

fn shard(i: usize) -> String {
    format!("model-0000{}-of-00002.safetensors", i + 1)
}

fn read_index(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join(INDEX)).unwrap()).unwrap()
}

fn write_index(folder: &Path, index: &Value) {
    std::fs::write(folder.join(INDEX), index.to_string()).unwrap();
}

fn verify(folder: &Path) -> std::process::Command {
    let mut command = kiln(words("verify --device cpu"));
    command.arg(folder);
    command
}

#[test]
fn shards_are_one_model() {
    let folder = folder();
    let copy = copy_of("llama", &folder);
    split(&copy);
    ok(&mut verify(&copy));
    let listed = ok(kiln(["inspect"]).arg(&copy));
    let row =
        listed.lines().find(|line| line.starts_with("model.layers.1.self_attn.q_proj.weight ")).unwrap();
    assert!(row.contains(" 48 x 48 ") && row.ends_with("2304"), "{row}");
    assert!(listed.contains("family       llama"), "{listed}");
}

#[test]
fn shards_that_are_not_right() {
    let broken = |damage: &dyn Fn(&Path), parts: &[&str]| {
        let folder = folder();
        let copy = copy_of("llama", &folder);
        split(&copy);
        damage(&copy);
        fails(&mut verify(&copy), 2, parts);
    };
    let change = |folder: &Path, name: &str, value: Value| {
        let mut index = read_index(folder);
        index["weight_map"][name] = value;
        write_index(folder, &index);
    };
    let missing = shard(1);
    broken(&|copy| std::fs::remove_file(copy.join(shard(1))).unwrap(), &[INDEX, &missing, "is missing"]);
    broken(
        &|copy| {
            let bytes = std::fs::read(copy.join(shard(1))).unwrap();
            std::fs::write(copy.join(shard(1)), &bytes[..bytes.len() / 2]).unwrap();
        },
        &[&missing, "not a complete safetensors file"],
    );
    broken(
        &|copy| std::fs::write(copy.join(shard(0)), (1u64 << 60).to_le_bytes()).unwrap(),
        &[&shard(0), "not a complete safetensors file"],
    );
    for outside in ["../model.safetensors", "/etc/passwd", "..\\x.safetensors"] {
        broken(&|copy| change(copy, "x", json!(outside)), &[INDEX, "no shard in the same folder"]);
    }
    broken(&|copy| change(copy, "x", json!(shard(0))), &[INDEX, "puts `x` into"]);
    broken(
        &|copy| {
            let mut index = read_index(copy);
            index["weight_map"].as_object_mut().unwrap().remove("lm_head.weight");
            write_index(copy, &index);
        },
        &[INDEX, "`lm_head.weight`"],
    );
    broken(&|copy| std::fs::write(copy.join(INDEX), "[]").unwrap(), &[INDEX, "is not an index"]);
    // As large as nothing real is; sparse, so that the test needs no such disk.
    broken(
        &|copy| std::fs::File::create(copy.join(INDEX)).unwrap().set_len(1 << 40).unwrap(),
        &[INDEX, "bytes, too many"],
    );
}

/// A tensor to be written.
type Stored = (Dtype, Vec<usize>, Vec<u8>);

#[test]
fn tensors_that_are_not_right() {
    let changed = |change: &dyn Fn(&str, TensorView<'_>) -> Option<Stored>| {
        let folder = folder();
        let copy = copy_of("llama", &folder);
        let path = copy.join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let changed: Vec<_> =
            tensors.iter().filter_map(|(name, view)| Some((name.to_owned(), change(name, view)?))).collect();
        let views = changed.iter().map(|(name, (dtype, shape, data))| {
            (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        (folder, copy)
    };
    let same = |view: TensorView<'_>| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
    let wanted = "model.layers.0.self_attn.k_proj.weight";

    let (_folder, copy) = changed(&|name, view| (name != wanted).then(|| same(view)));
    fails(&mut verify(&copy), 2, &[&format!("`{wanted}` is missing")]);
    let (_folder, copy) = changed(&|name, view| {
        let (dtype, mut shape, data) = same(view);
        if name == wanted {
            shape.swap(0, 1);
        }
        Some((dtype, shape, data))
    });
    fails(&mut verify(&copy), 2, &[&format!("`{wanted}` has an unexpected shape")]);
    let (_folder, copy) = changed(&|name, view| {
        let (dtype, shape, data) = same(view);
        Some((if name == wanted { Dtype::I32 } else { dtype }, shape, data))
    });
    fails(&mut verify(&copy), 2, &[&format!("`{wanted}` has type I32")]);

    // Half precision is read: every number of these comes out as the nearest of its type.
    let half = |value: &[u8; 4]| half::bf16::from_f32(f32::from_le_bytes(*value)).to_le_bytes();
    let (_folder, copy) = changed(&|_, view| {
        let data = view.data().as_chunks::<4>().0.iter().flat_map(half).collect();
        Some((Dtype::BF16, view.shape().to_vec(), data))
    });
    ok(verify(&copy).args(["--tolerance", "0.05"]));
    assert!(ok(kiln(["inspect"]).arg(&copy)).contains("BF16"));
}

#[test]
fn a_model_is_listed_with_its_sizes() {
    let mut command = kiln(["inspect", "--json"]);
    let listed: Value = serde_json::from_str(&ok(command.arg(fixture("mixtral")))).unwrap();
    let (model, tensors) = (&listed["model"], listed["tensors"].as_array().unwrap());
    let count: u64 = tensors
        .iter()
        .map(|tensor| {
            tensor["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).product::<u64>()
        })
        .sum();
    assert_eq!(model["parameters"], count);
    assert!(model["active_parameters"].as_u64().unwrap() < count);
    // K and V, layers, heads, width, context, f32.
    assert_eq!(model["kv_cache_bytes"], 2 * 2 * 2 * 12 * 64 * 4);

    let folder = folder();
    let copy = copy_of("llama", &folder);
    let config = std::fs::read_to_string(copy.join("config.json")).unwrap();
    std::fs::write(copy.join("config.json"), config.replace("\"llama\"", "\"rwkv\"")).unwrap();
    let listed = ok(kiln(["inspect"]).arg(&copy));
    assert!(listed.contains("lm_head.weight") && listed.contains("`rwkv`"), "{listed}");
}

#[test]
fn training_begins_with_the_weights_of_another_model() {
    let folder = folder();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let quick = "--set train.eval_interval=20 --set train.sample_interval=0 --set sample.max_new_tokens=1";
    ok(&mut debug_train(&first, &format!("{quick} --set train.max_steps=60 --set train.learning_rate=0.01")));
    let mut begin = debug_train(&second, &format!("{quick} --set train.max_steps=1 --set model.dropout=0.1"));
    ok(begin.arg("--init-from").arg(&first));
    let losses = |run: &Path| -> Vec<f64> {
        let log = std::fs::read_to_string(run.join("log.jsonl")).unwrap();
        let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events
            .filter(|event| event["type"] == "evaluation")
            .map(|event| event["val_loss"].as_f64().unwrap())
            .collect()
    };
    let trained = *losses(&first).last().unwrap();
    let begun = losses(&second)[0];
    assert!((begun - trained).abs() < 0.05, "{begun} after one more step, {trained} before");

    // A model of transformers has no tokenizer of ours: bytes fit into its vocabulary, or do not.
    let foreign = folder.path().join("foreign");
    let mut begin = debug_train(&foreign, "--set tokenizer.kind=byte --init-from");
    fails(begin.arg(fixture("mistral")), 2, &["`model.vocab_size`", "256 tokens"]);
    let mut begin = debug_train(&foreign, "--set model.n_layer=3 --init-from");
    fails(
        begin.arg(&first),
        2,
        &["`3` for `model.n_layer`", "the model comes from", "hint: ", "model.dropout"],
    );
    let mut begin = debug_train(&foreign, "--init-from");
    fails(begin.arg(folder.path().join("nowhere")), 2, &["nowhere", "does not exist"]);
}
