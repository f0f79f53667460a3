//! A GGUF file is a model like any other: it computes what PyTorch does, its tokens are Python's, and what is
//! written is read again. `tests/fixtures/gguf/make.py` made the files with the Python packages `gguf`,
//! `tokenizers` and `sentencepiece`.

use crate::{
    parity::fixture,
    support::{debug_train, fails, file, folder, kiln, ok, words},
};
use kiln::{
    checkpoint::{Checkpoint, Weights, tensors},
    device::Choice,
    eval::verify::{Tolerances, verify_model},
    tokenizer::Tokenizer,
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Models whose files were made of those in `tests/fixtures/models`.
const MODELS: [&str; 4] = ["gpt2", "llama3", "qwen2", "qwen3"];

fn gguf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf").join(name)
}

fn convert(source: &Path, destination: &Path, more: &str) -> String {
    ok(kiln(["convert"]).arg(source).arg(destination).args(words(more)))
}

#[test]
fn logits_and_gradients_of_a_file_equal_pytorch() {
    let device = Choice::cpu().open().unwrap();
    for name in MODELS {
        let folder = folder();
        fs::copy(gguf(&format!("{name}.gguf")), folder.path().join("model.gguf")).unwrap();
        let reference = "fixture.safetensors";
        fs::copy(fixture(name).join(reference), folder.path().join(reference)).unwrap();
        // A folder with one such file is the model.
        let found = pollster::block_on(verify_model(folder.path(), &device)).unwrap();
        assert_eq!(found.failures(&Tolerances::strict()), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn weights_of_a_file_are_those_of_the_folder() {
    for name in MODELS {
        let of_file = Checkpoint::open_model(&gguf(&format!("{name}.gguf"))).unwrap();
        let of_folder = Checkpoint::open_model(&fixture(name)).unwrap();
        assert_eq!(of_file.family, of_folder.family);
        let weights = |checkpoint: &Checkpoint| checkpoint.weights(Weights::Latest).unwrap();
        assert_eq!(weights(&of_file), weights(&of_folder), "{name}");
        assert_eq!(of_file.model.rope, of_folder.model.rope, "{name}");
        assert!(!of_file.has_tokenizer() && of_file.tokenizer().is_err());
    }
}

#[test]
fn tokens_are_those_of_python() {
    let cases: Value = serde_json::from_slice(&fs::read(gguf("texts.json")).unwrap()).unwrap();
    let texts = cases["texts"].as_array().unwrap();
    let mut compared = 0;
    for (name, ids) in cases["ids"].as_object().unwrap() {
        let tokenizer = Tokenizer::from_file(&gguf(&format!("vocabulary-{name}.gguf"))).unwrap();
        for (text, ids) in texts.iter().zip(ids.as_array().unwrap()) {
            let text = text.as_str().unwrap();
            let found: Vec<Value> = tokenizer.encode(text).unwrap().into_iter().map(Value::from).collect();
            assert_eq!(&found, ids.as_array().unwrap(), "{name}: {text:?}");
            compared += 1;
        }
    }
    assert!(compared > 6 * 30, "{compared}");
}

#[test]
fn the_tokenizer_of_a_file_is_described() {
    let text = ok(kiln(["tokenizer", "info", "--tokenizer"]).arg(gguf("vocabulary-smollm.gguf")));
    assert!(text.contains("641"), "{text}");
}

#[test]
fn what_is_converted_to_a_file_and_back_is_the_same() {
    for name in MODELS {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        let source = fixture(name);
        let text = convert(&source, &at("model.gguf"), "");
        assert!(text.contains("in f32") && text.contains("files: 1"), "{text}");
        convert(&at("model.gguf"), &at("back"), "");
        let read =
            |folder: &Path| tensors::read(&fs::read(folder.join("model.safetensors")).unwrap()).unwrap();
        assert_eq!(read(&at("back")), read(&source), "{name}");
        let inspected = ok(kiln(["inspect", "--json"]).arg(at("model.gguf")));
        let inspected: Value = serde_json::from_str(&inspected).unwrap();
        let original: Value = serde_json::from_str(&ok(kiln(["inspect", "--json"]).arg(&source))).unwrap();
        assert_eq!(inspected["tensors"], original["tensors"], "{name}");
        assert_eq!(inspected["files"], serde_json::json!(["model.gguf"]));
        for key in ["family", "parameters", "context", "kv_heads", "tied"] {
            assert_eq!(inspected["model"][key], original["model"][key], "{name} {key}");
        }
        // Half precision is exact for what was half precision.
        convert(&source, &at("f16.gguf"), "--dtype f16");
        convert(&at("f16.gguf"), &at("f16"), "");
        convert(&at("f16"), &at("f16-again.gguf"), "--dtype f16");
        assert_eq!(fs::read(at("f16.gguf")).unwrap(), fs::read(at("f16-again.gguf")).unwrap(), "{name}");
    }
}

/// Trains a model of Llama's architecture with a BPE for some steps.
pub fn trained(run: &Path) {
    let settings = "--set tokenizer.kind=bpe --set tokenizer.vocab_size=300 --set model.position=rotary \
                    --set model.norm=rmsnorm --set model.activation=swiglu --set model.rope.layout=half \
                    --set model.n_kv_head=1 --set model.bias=false --set train.max_steps=2";
    ok(&mut debug_train(run, settings));
}

#[test]
fn a_run_survives_as_a_file_with_tokenizer_and_template() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    trained(&at("run"));
    convert(&at("run"), &at("folder"), "");
    fs::write(at("folder/chat_template.jinja"), "{{ messages[0]['content'] }}").unwrap();
    convert(&at("folder"), &at("model.gguf"), "");
    convert(&at("model.gguf"), &at("back"), "");
    let read = |path: &str| fs::read(at(path)).unwrap();
    assert_eq!(read("back/chat_template.jinja"), read("folder/chat_template.jinja"));
    assert_eq!(read("back/model.safetensors"), read("folder/model.safetensors"));
    let tokenizer = |path: &str| Tokenizer::from_file(&at(path)).unwrap();
    let original = tokenizer("folder/tokenizer.json");
    for path in ["back/tokenizer.json", "model.gguf"] {
        assert_eq!(tokenizer(path).fingerprint(), original.fingerprint());
        assert_eq!(tokenizer(path).encode("To be, or 12").unwrap(), original.encode("To be, or 12").unwrap());
    }
    let end = |path: &str| Checkpoint::open_model(&at(path)).unwrap().tokenizer().unwrap().end_of_text();
    assert_eq!(end("model.gguf"), end("folder"));

    let generate = |path: &str| {
        let options = words("generate --device cpu --max-new-tokens 12 --temperature 0 --prompt KING");
        ok(kiln(options).arg(at(path)))
    };
    assert_eq!(generate("model.gguf"), generate("folder"));
    // Eight bits are near enough to generate.
    convert(&at("folder"), &at("small.gguf"), "--dtype q8_0");
    assert!(generate("small.gguf").starts_with("KING"));
    let size = |path: &str| fs::metadata(at(path)).unwrap().len();
    assert!(size("small.gguf") < size("model.gguf") / 2);

    // Training begins from it, with its tokenizer, and keeps on from its own checkpoint.
    let mut train = debug_train(&at("tuned"), "--set train.max_steps=2");
    ok(train.arg("--init-from").arg(at("small.gguf")));
    let tuned = Checkpoint::open_model(&at("tuned")).unwrap();
    assert_eq!(tuned.tokenizer().unwrap().fingerprint(), original.fingerprint());
    ok(kiln(words("train --device cpu --resume --set train.max_steps=3 --out")).arg(at("tuned")));
    ok(kiln(words("eval --device cpu"))
        .arg(at("small.gguf"))
        .arg("--data")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tinyshakespeare.txt")));
}

#[test]
fn what_gguf_cannot_express_is_refused() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    ok(&mut debug_train(&at("run"), "--set train.max_steps=2"));
    let convert = |source: &Path, destination: &str, more: &str| {
        let mut command = kiln(["convert"]);
        command.arg(source).arg(at(destination)).args(words(more));
        command
    };
    // nanoGPT's activation, and after it a tokenizer of characters.
    fails(&mut convert(&at("run"), "x.gguf", ""), 2, &["`activation_function` is \"gelu\""]);
    ok(&mut debug_train(&at("tanh"), "--set train.max_steps=2 --set model.activation=gelu-tanh"));
    fails(&mut convert(&at("tanh"), "x.gguf", ""), 2, &["its model is \"WordLevel\"", "tokenizer.kind=bpe"]);
    fails(&mut convert(&fixture("t5"), "x.gguf", ""), 2, &["its family is t5", "--layout huggingface"]);
    fails(&mut convert(&fixture("gpt2"), "x", "--layout gguf"), 2, &["`DST`", "ends with `.gguf`"]);
    fails(&mut convert(&fixture("gpt2"), "x", "--dtype q8_0"), 2, &["only GGUF files have it"]);
    let mine = file(&folder, "mine.gguf", "mine");
    fails(&mut convert(&fixture("gpt2"), "mine.gguf", ""), 2, &["something is there already"]);
    assert_eq!(fs::read(mine).unwrap(), b"mine");
    let left = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!left.into_iter().any(|name| name.to_string_lossy().ends_with(".tmp") || name == "x.gguf"));
}

#[test]
fn damaged_files_are_an_error_of_one_line() {
    let folder = folder();
    let whole = fs::read(gguf("qwen2.gguf")).unwrap();
    let inspect = |name: &str, bytes: &[u8]| {
        let mut command = kiln(["inspect"]);
        command.arg(file(&folder, name, bytes));
        command
    };
    fails(&mut inspect("empty.gguf", b""), 2, &["empty.gguf`: it is too short", "hint: copy or download"]);
    fails(&mut inspect("zip.gguf", b"PK\x03\x04 an archive"), 2, &["does not begin with `GGUF`"]);
    fails(&mut inspect("half.gguf", &whole[..whole.len() / 2]), 2, &["it is truncated: tensor `"]);
    fails(&mut inspect("header.gguf", &whole[..300]), 2, &["truncated"]);
    let mut old = whole.clone();
    old[4] = 1;
    fails(&mut inspect("old.gguf", &old), 2, &["version 1 of the format", "hint: "]);
    // Of an architecture that is not known, tensors are listed.
    let mut other = whole.clone();
    let at = other.windows(5).position(|window| window == b"qwen2").unwrap();
    other[at..at + 5].copy_from_slice(b"qwen9");
    let text = ok(&mut inspect("other.gguf", &other));
    assert!(
        text.contains("blk.0.attn_q.weight") && text.contains("`general.architecture` is `qwen9`"),
        "{text}"
    );
    let several = folder.path();
    fails(kiln(["inspect"]).arg(several), 2, &["GGUF files here", "hint: name one of them"]);
    fails(kiln(["generate"]).arg(folder.path().join("none.gguf")), 2, &["does not exist"]);
}
