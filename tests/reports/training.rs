//! Tests of `kiln train`: which data it trains on, and which it refuses.

use super::report;
use crate::support::{debug_train, fails, file, folder, kiln, ok, words};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Makes a command that runs `kiln train` with the smallest preset for two steps on a file.
fn train(run: &Path, data: &Path, more: &str) -> Command {
    let mut command = debug_train(run, &format!("--set train.max_steps=2 {more}"));
    command.arg("--data").arg(data);
    command
}

/// Runs a command that must succeed, and returns its standard error, on which a run reports.
#[track_caller]
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{command:?}\n{stderr}");
    stderr
}

/// Counts the tokens of a file, with a character tokenizer that was trained on it.
fn characters(data: &Path) -> usize {
    let folder = folder();
    let tokenizer = folder.path().join("tokenizer.json");
    ok(kiln(words("tokenizer train --kind char --out")).arg(&tokenizer).arg(data));
    let shard = folder.path().join("train.bin");
    let mut encode = kiln(words("tokenizer encode --tokenizer"));
    ok(encode.arg(&tokenizer).arg("--data").arg(data).arg("--out").arg(&shard));
    fs::read(&shard).unwrap().len() / 2
}

#[test]
fn bin_of_four_bytes() {
    let folder = folder();
    // As `make.py` of the report makes them: a tokenizer of 70,000 characters and tokens of numpy's uint32.
    let characters = (0x21..).filter_map(char::from_u32).take(69_999);
    let vocabulary: serde_json::Map<String, serde_json::Value> = ["<|endoftext|>".to_owned()]
        .into_iter()
        .chain(characters.map(String::from))
        .zip(0..)
        .map(|(token, id): (String, u32)| (token, id.into()))
        .collect();
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [{
            "id": 0, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }],
        "pre_tokenizer": {
            "type": "Split", "pattern": { "Regex": "[\\s\\S]" }, "behavior": "Isolated", "invert": false,
        },
        "decoder": { "type": "Fuse" },
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>" },
    });
    file(&folder, "tokenizer.json", tokenizer.to_string());
    let ids = |count: usize| (0..count).map(|index| [5, 66_000, 69_999, 400_u32][index * 7 % 11 % 4]);
    let bytes = |count| ids(count).flat_map(u32::to_le_bytes).collect::<Vec<u8>>();
    file(&folder, "train.bin", bytes(4000));
    file(&folder, "val.bin", bytes(1000));
    let run = folder.path().join("run");
    let stderr = said(&mut train(&run, folder.path(), ""));
    assert!(stderr.contains("4.0k training tokens, 1.0k validation tokens"), "{stderr}");

    // A size that does not fit, and tokens of two bytes, which name none of the vocabulary.
    file(&folder, "train.bin", &bytes(4000)[..15_998]);
    fails(&mut train(&run, folder.path(), ""), 2, &["train.bin", "no multiple of 4", "hint: "]);
    let short: Vec<u8> = ids(4000).flat_map(|id| (id as u16).to_le_bytes()).collect();
    file(&folder, "train.bin", short);
    fails(&mut train(&run, folder.path(), ""), 2, &["train.bin", "holds the token", "70000 tokens"]);
}

#[test]
fn bin_of_four_bytes_for_a_small_vocabulary() {
    let folder = folder();
    let text = file(&folder, "text.txt", "the heron stood in the water. ".repeat(20));
    let tokenizer = folder.path().join("tokenizer.json");
    ok(kiln(words("tokenizer train --kind byte --out")).arg(&tokenizer).arg(&text));
    let bytes: Vec<u8> = (0..2000_u32).flat_map(|index| (1 + index % 90).to_le_bytes()).collect();
    file(&folder, "train.bin", &bytes);
    file(&folder, "val.bin", &bytes);
    let run = folder.path().join("run");
    fails(&mut train(&run, folder.path(), ""), 2, &["train.bin", "4 bytes or more for a token", "uint16"]);
}

#[test]
fn answers_cut_off() {
    let folder = folder();
    let run = |name: &str| folder.path().join(name);
    let answers = "--set data.layout=documents --set data.answer_after==";
    let all_cut = report("answers-cut-off").join("all-cut.jsonl");
    let says = ["`data.answer_after`", "no document of the train split has a target", "`model.block_size`"];
    fails(&mut train(&run("all"), &all_cut, answers), 2, &says);
    // Where a block has room for them, all 40 are rows.
    let stderr = said(&mut train(&run("room"), &all_cut, &format!("{answers} --set model.block_size=96")));
    assert!(!stderr.contains("note: "), "{stderr}");

    // Some rows of each kind: what remains is what training on the good ones alone sees.
    let record = |text: &str| format!("{{\"text\": \"{text}\"}}\n");
    let good: Vec<String> = (0..20).map(|index| record(&format!("copy {index}={index} abcdefghi"))).collect();
    let long = "abc ".repeat(30);
    let bad: String = [format!("{long}=x"), "no mark here at all".into(), "nothing=".into()]
        .iter()
        .map(|text| record(text))
        .collect();
    // The validation split, from the end, is the same.
    let mixed = file(&folder, "mixed.jsonl", format!("{bad}{}", good.concat()));
    let alone = file(&folder, "alone.jsonl", good.concat());
    let settings =
        format!("{answers} --set tokenizer.kind=byte --set model.block_size=32 --set data.val_fraction=0");
    let stderr = said(&mut train(&run("mixed"), &mixed, &settings));
    let note = "note: 3 of 23 documents of the train split are left out, since they have no target: 1 without `=`, \
                1 with nothing behind `=`, 1 with the targets beyond `model.block_size` (32 tokens)";
    assert!(stderr.contains(note), "{stderr}");
    let stderr = said(&mut train(&run("alone"), &alone, &settings));
    assert!(!stderr.contains("note: "), "{stderr}");
    let losses = |name: &str| -> Vec<serde_json::Value> {
        let log = fs::read_to_string(run(name).join("log.jsonl")).unwrap();
        let events = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        events.filter(|event| event["type"] == "step").map(|event| event["loss"].clone()).collect()
    };
    assert!(!losses("mixed").is_empty());
    assert_eq!(losses("mixed"), losses("alone"));
    // And it is resumed as it was.
    let mut resume = kiln(words("train --device cpu --set train.max_steps=4 --resume"));
    assert!(said(resume.arg(run("mixed"))).contains(note));
}

#[test]
fn encodings() {
    let folder = folder();
    let run = folder.path().join("run");
    let report = report("encodings");
    // The column `text` alone: "the heron, number N, sat" of 0 to 49.
    let table = report.join("table.csv");
    let lines = fs::read_to_string(&table).unwrap().lines().count() - 1;
    let expected: usize = (0..lines).map(|index| format!("the heron, number {index}, sat").len()).sum();
    assert_eq!(characters(&table), expected);
    let records: String =
        (0..lines).map(|index| format!("{{\"text\": \"the heron, number {index}, sat\"}}\n")).collect();
    let records = file(&folder, "same.jsonl", records);
    ok(&mut train(&folder.path().join("a"), &table, ""));
    ok(&mut train(&folder.path().join("b"), &records, ""));
    let weights =
        |name: &str| fs::read(folder.path().join(name).join("checkpoints/latest/model.safetensors"));
    assert!(weights("a").unwrap() == weights("b").unwrap());

    for lossy in ["", "--set data.lossy=true"] {
        let packed = report.join("lines.jsonl.gz");
        fails(&mut train(&run, &packed, lossy), 2, &["compressed by gzip", "gunzip", "kiln data run"]);
        let utf_16 = report.join("utf16le-no-bom.txt");
        fails(&mut train(&run, &utf_16, lossy), 2, &["UTF-16LE without", "iconv -f UTF-16LE -t UTF-8"]);
    }
}

#[test]
fn other_files_are_read_as_records_or_refused() {
    let folder = folder();
    let run = folder.path().join("run");
    let heron = |index: usize| format!("the heron, number {index}, sat");
    let expected: usize = (0..50).map(|index| heron(index).len()).sum();
    let record = |index| format!("{{\"id\": {index}, \"text\": \"{}\"}}", heron(index));
    let records: Vec<String> = (0..50).map(record).collect();
    for (name, content) in [
        ("array.json", format!("[{}]", records.join(",\n "))),
        ("lines.json", records.join("\n")),
        ("pretty.json", records.join("\n").replace(", \"text\"", ",\n  \"text\"")),
        ("without-extension", format!("\u{feff}{}", records.join("\r\n").replace("{\"", "{ \""))),
        (
            "rows.tsv",
            format!("id\ttext\n{}", (0..50).map(|i| format!("{i}\t{}\n", heron(i))).collect::<String>()),
        ),
    ] {
        assert_eq!(characters(&file(&folder, name, content)), expected, "{name}");
    }
    // A byte order mark and line breaks of Windows are no part of a text.
    let windows = file(&folder, "windows.txt", "\u{feff}one\r\ntwo\r\n");
    assert_eq!(characters(&windows), "one\ntwo\n".len());

    let utf_16: Vec<u8> = "\u{feff}the heron".repeat(50).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let latin: Vec<u8> =
        "Füße für süße Bären. ".repeat(50).chars().map(|character| character as u8).collect();
    let cases: [(&str, Vec<u8>, &[&str]); 9] = [
        (
            "object.json",
            b"{\"body\": \"x\"}".to_vec(),
            &["object.json` line 1", "no field `text`", "data.text_field"],
        ),
        ("strings.json", b"[\"one\", \"two\"]".to_vec(), &["strings.json` line 1", "not a JSON object"]),
        ("other.csv", b"id;body\n1;x\n".to_vec(), &["no column `text`", "`id;body`", "data.text_field"]),
        ("utf16.txt", utf_16, &["is UTF-16", "iconv -f UTF-16 -t UTF-8", "kiln data run"]),
        ("a.zst", b"\x28\xb5\x2f\xfd\x04\x00".to_vec(), &["compressed by zstd", "unzstd", "kiln data run"]),
        ("a.zip", b"PK\x03\x04\x14\0".to_vec(), &["a zip archive", "unzip", "kiln data run"]),
        ("a.parquet", b"PAR1\x15\0".to_vec(), &["a Parquet file", "kiln data run"]),
        ("a.pdf", b"%PDF-1.7\n".to_vec(), &["a PDF", "export its text"]),
        ("latin.txt", latin, &["is not UTF-8", "iconv", "kiln data run"]),
    ];
    for (name, content, says) in cases {
        fails(&mut train(&run, &file(&folder, name, content), ""), 2, says);
    }
}

#[test]
fn a_run_that_resumes_with_another_max_steps() {
    let folder = folder();
    let run: PathBuf = folder.path().join("run");
    ok(&mut debug_train(&run, ""));
    let resume = |more: &str| said(kiln(words("train --device cpu --resume")).arg(&run).args(words(more)));
    // The rates are those of the schedule: nanoGPT's `get_lr` with its numbers gives 1.1e-4 for the last step
    // of 20, and 6.5e-4 for the step after it of 40.
    let stderr = resume("--set train.max_steps=40");
    let note = "note: the learning rate jumps from 1.1e-4 at step 20 to 6.5e-4 at step 21: `train.max_steps` was 20 \
                and is 40";
    assert!(stderr.contains(note), "{stderr}");

    // A run that goes on as it was says nothing, and neither does one that stops earlier.
    let whole = folder.path().join("whole");
    ok(&mut debug_train(&whole, "--set train.stop_after=10"));
    let resume = |more: &str| said(kiln(words("train --device cpu --resume")).arg(&whole).args(words(more)));
    assert!(!resume("--set train.stop_after=12").contains("note: "));
    let stderr = resume("--set train.stop_after=14 --set train.learning_rate=1e-5 --set train.min_lr=1e-6");
    assert!(
        stderr.contains("note: the learning rate jumps") && stderr.contains("`train.learning_rate`"),
        "{stderr}"
    );
}
