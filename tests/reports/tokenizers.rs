//! Tests of tokenizer files.

use super::report;
use crate::support::{fails, folder, kiln, ok};
use kiln::tokenizer::Tokenizer;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Text with joined emoji, Hindi, Persian with a non-joiner, a superscript, numbers and a line break.
const TEXT: &str = "1234 👨\u{200D}👩\u{200D}👧 हिन्दी می\u{200C}خواهم a²b the heron, it's 12,345!\r\n";

/// Returns the tokens that `kiln tokenizer encode` prints for [`TEXT`].
fn encode(tokenizer: &Path) -> Vec<u32> {
    let mut command = kiln(["tokenizer", "encode", "-t"]);
    let printed = ok(command.arg(tokenizer).arg(TEXT));
    printed.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

/// The expected tokens come from `Tokenizer.from_file(FILE).encode(TEXT, add_special_tokens=False).ids` of
/// Python's tokenizers 0.23.3.
#[test]
fn patterns_mean_what_they_mean_in_python() {
    assert_eq!(
        encode(&report("split-patterns").join("word-chars.json")),
        [
            326, 329, 221, 261, 240, 102, 279, 294, 101, 221, 257, 118, 307, 102, 313, 100, 263, 223, 221,
            275, 152, 235, 267, 235, 149, 107, 150, 231, 300, 150, 230, 275, 221, 65, 127, 111, 66, 221, 84,
            288, 221, 357, 368, 12, 221, 289, 7, 83, 221, 326, 12, 329, 21, 1, 276
        ]
    );
    assert_eq!(
        encode(&report("split-patterns").join("brace_plus.json")),
        [
            331, 334, 306, 240, 102, 281, 295, 101, 221, 257, 118, 310, 257, 102, 315, 257, 100, 263, 223,
            221, 277, 152, 235, 269, 235, 149, 107, 150, 231, 301, 150, 230, 277, 221, 65, 127, 111, 66, 221,
            84, 289, 221, 360, 371, 265, 290, 7, 83, 221, 331, 12, 334, 21, 1, 278
        ]
    );
}

/// The expected tokens were made in the same way as in [`patterns_mean_what_they_mean_in_python`].
#[test]
fn version_lines_among_merges_are_skipped() {
    assert_eq!(
        encode(&report("merges-version-line").join("version-line.json")),
        [
            17, 18, 19, 20, 314, 240, 102, 285, 299, 101, 269, 118, 319, 257, 102, 323, 257, 100, 263, 223,
            221, 276, 152, 235, 267, 235, 149, 107, 150, 231, 303, 150, 230, 276, 268, 127, 111, 66, 279,
            293, 277, 265, 79, 78, 12, 316, 7, 83, 308, 18, 12, 19, 20, 21, 1, 202, 199
        ]
    );
}

/// The expected tokens were made in the same way as in [`patterns_mean_what_they_mean_in_python`], from the
/// file with `"dropout": null`.
#[test]
fn dropout_is_off_for_encoding() {
    let file = report("bpe-dropout").join("dropout.json");
    for _ in 0..3 {
        assert_eq!(
            encode(&file),
            [
                17, 337, 20, 314, 240, 102, 285, 299, 101, 269, 118, 319, 257, 102, 323, 257, 100, 263, 223,
                221, 276, 152, 235, 267, 235, 149, 107, 150, 231, 303, 150, 230, 276, 268, 127, 111, 66, 279,
                293, 277, 265, 370, 12, 316, 7, 83, 308, 18, 12, 19, 20, 21, 1, 202, 199
            ]
        );
    }
    let saved = Tokenizer::from_file(&file).unwrap().to_json().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&saved).unwrap()["model"]["dropout"], 0.1);
}

/// When a run is resumed, the tokens of its data are compared.
#[test]
fn a_run_with_dropout_in_its_tokenizer_can_be_resumed() {
    let folder = folder();
    let run = folder.path().join("run");
    let text = crate::support::file(&folder, "text.txt", "the heron stood in the water. ".repeat(400));
    let mut command = kiln(["train", "--preset", "debug", "--device", "cpu", "--set", "train.max_steps=2"]);
    command
        .args(["--set", "tokenizer.kind=file", "--set"])
        .arg(format!("tokenizer.path={}", report("bpe-dropout").join("dropout.json").display()));
    ok(command.arg("--data").arg(text).arg("--out").arg(&run));
    let mut command = kiln(["train", "--device", "cpu", "--set", "train.max_steps=4", "--resume"]);
    let output = command.arg(&run).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !stderr.contains("changed"), "{stderr}");
}

#[test]
fn patterns_that_cannot_be_translated_are_refused() {
    let folder = folder();
    let file = report("split-patterns").join("word-chars.json");
    let mut document: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    document["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(?~the)".into();
    let path = crate::support::file(&folder, "absent.json", document.to_string());
    fails(
        kiln(["tokenizer", "encode", "-t"]).arg(&path).arg(TEXT),
        2,
        &["absent.json", "`pre_tokenizer.pretokenizers[0].pattern`", "`(?~the)`", "absent operators"],
    );
}

/// Builds the tokenizer file of a recorded case.
fn document(models: &Value, case: &Value) -> Value {
    let mut document = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": models[case["model"].as_str().unwrap()],
    });
    for (key, value) in case.as_object().unwrap() {
        if document.get(key).is_some() && key != "model" {
            document[key] = value.clone();
        }
    }
    document
}

/// Lists the differences from the recorded results of a case.
fn differences(tokenizer: &Tokenizer, case: &Value, texts: &[String]) -> Vec<String> {
    let mut differences = Vec::new();
    let special: Vec<u64> = case["added_tokens"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|token| token["special"] == true)
        .map(|token| token["id"].as_u64().unwrap())
        .collect();
    for result in case["results"].as_array().unwrap() {
        let text = &texts[result[0].as_u64().unwrap() as usize];
        let found = tokenizer.encode(text);
        let Some(ids) = result[1].as_array() else {
            if let Ok(found) = found {
                differences.push(format!("{text:?} is an error in Python, not {found:?}"));
            }
            continue;
        };
        let ids: Vec<u32> = ids.iter().map(|id| id.as_u64().unwrap() as u32).collect();
        match found {
            Ok(found) if found == ids => {}
            other => {
                differences.push(format!("{text:?}:\n    {other:?}\n    {ids:?}"));
                continue;
            }
        }
        let plain: Vec<u32> = ids.iter().copied().filter(|&id| !special.contains(&u64::from(id))).collect();
        let default = Value::from(text.as_str());
        let with = result.get(2).unwrap_or(&default);
        let without = result.get(3).unwrap_or(with);
        for (ids, expected) in [(&ids, with), (&plain, without)] {
            let decoded = tokenizer.decode(ids);
            if decoded.as_ref().ok().map(String::as_str) != expected.as_str() {
                differences.push(format!("{text:?} decoded:\n    {decoded:?}\n    {expected:?}"));
            }
        }
    }
    if let Some(count) = case["long"][0].as_u64() {
        let tokens = tokenizer.encode(&(texts.join("\n").repeat(60))).unwrap_or_default();
        let mut hash = Sha256::new();
        tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
        let digest: String = hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        if case["long"][1] != digest {
            differences.push(format!("the long text has {} tokens, not {count}", tokens.len()));
        }
    }
    differences
}

/// The cases have models, normalizers, pre-tokenizers, decoders and added tokens of all kinds.
/// `tokenizers/generate.py` draws them and records the results of Python's tokenizers 0.23.3, without the
/// truncation and padding that some of the files ask for: Kiln's loader truncates and pads rows.
#[test]
fn generated_files_give_what_they_give_in_python() {
    let path = report("tokenizers").join("cases.json");
    let recorded: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let texts: Vec<String> = serde_json::from_value(recorded["texts"].clone()).unwrap();
    let cases = recorded["cases"].as_array().unwrap();
    assert!(cases.len() >= 200);
    let (mut differing, mut refused) = (Vec::new(), 0);
    for (index, case) in cases.iter().enumerate() {
        let document = document(&recorded["models"], case);
        let tokenizer = match Tokenizer::from_bytes(document.to_string().as_bytes(), "test") {
            Ok(tokenizer) => tokenizer,
            // Those on which the crate panics, in Python too.
            Err(error) => {
                let reasons = ["(`Strip` with a `stop` above 0)", "replaces empty text before another one"];
                assert!(
                    reasons.iter().any(|reason| error.to_string().contains(reason)),
                    "case {index}: {error}"
                );
                refused += 1;
                continue;
            }
        };
        let mut found = differences(&tokenizer, case, &texts);
        let saved = tokenizer.to_json().unwrap();
        let again = Tokenizer::from_bytes(saved.as_bytes(), "saved").unwrap();
        if again.to_json().unwrap() != saved {
            found.push("is saved otherwise the second time".into());
        }
        let saved: Value = serde_json::from_str(&saved).unwrap();
        for key in ["truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"] {
            if saved[key] != document[key] {
                found.push(format!("`{key}` is saved as {}, not {}", saved[key], document[key]));
            }
        }
        if !found.is_empty() {
            let mut case = case.clone();
            case.as_object_mut().unwrap().remove("results");
            differing.push(format!("case {index}: {case}\n  {}", found.join("\n  ")));
        }
    }
    assert!(differing.is_empty(), "{} of {} differ:\n{}", differing.len(), cases.len(), differing.join("\n"));
    assert_eq!(refused, 10);
}
