//! Tests of archives, compressed files and columnar files.

use super::report;
use crate::{
    data::{dropped, kept, manifest, run, stage},
    support::{fails, file, folder, kiln, ok, words},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Text of all documents in the reports.
const HERON: &str = "The grey heron stood in the shallow water near the reeds, and it waited for a small fish to \
                     swim past its feet. ";

/// A pipeline over the files in the folder `in`.
const IN: &str = "[[source]]\nname = \"in\"\npaths = [\"in\"]\n";

/// Makes a command that runs the pipeline of a report.
fn run_report(name: &str, out: &Path, more: &str) -> Command {
    let mut command = kiln(words("data run"));
    command.arg(report(name).join("pipeline.toml")).arg("--out").arg(out).args(words(more));
    command
}

/// Runs the pipeline of a report, and returns the identifiers and texts of the kept documents, and the
/// manifest.
fn report_of(name: &str) -> (BTreeMap<String, String>, Value) {
    let folder = folder();
    let out = folder.path().join("out");
    ok(&mut run_report(name, &out, ""));
    (kept_texts(&out), manifest(folder.path(), "out"))
}

fn kept_texts(out: &Path) -> BTreeMap<String, String> {
    let shown = ok(kiln(words("data inspect --reason kept --json --full --count 1000")).arg(out));
    let shown: Vec<Value> = serde_json::from_str(&shown).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    shown.iter().map(|document| (text(&document["id"]), text(&document["text"]))).collect()
}

/// Runs a pipeline over these files, and returns the identifiers and texts of the kept documents, and the
/// manifest.
fn prepared(files: &[(&str, &[u8])]) -> (BTreeMap<String, String>, Value) {
    let folder = folder();
    fs::create_dir(folder.path().join("in")).unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join("in").join(name), bytes).unwrap();
    }
    file(&folder, "pipeline.toml", IN);
    ok(&mut run(folder.path(), "out", ""));
    (kept_texts(&folder.path().join("out")), manifest(folder.path(), "out"))
}

fn failed(manifest: &Value) -> u64 {
    dropped(manifest, "extract", "failed")
}

#[test]
fn warc_deflate() {
    // Python: warcio, `record.content_stream().read()`.
    let page = |title: &str| format!("{title}. {}", HERON.repeat(4)).trim().to_owned();
    let (texts, found) = report_of("warc-deflate");
    let mut texts: Vec<String> = texts.into_values().collect();
    texts.sort();
    let expected = [
        page("deflate without zlib"),
        format!("plain text, deflate without zlib. {HERON}"),
        page("zlib of a small window"),
        page("zlib of the usual window"),
    ];
    assert_eq!(texts, expected);
    assert_eq!(failed(&found), 0);
}

#[test]
fn parquet_list() {
    let folder = folder();
    // There is nothing but the fault.
    fs::copy(report("parquet-list").join("list.parquet"), folder.path().join("list.parquet")).unwrap();
    file(&folder, "good.jsonl", "{\"text\": \"good\"}\n");
    let pipeline = "[[source]]\nname = \"in\"\npaths = [\"list.parquet\", \"good.jsonl\"]\n";
    file(&folder, "pipeline.toml", pipeline);
    ok(&mut run(folder.path(), "out", ""));
    let found = manifest(folder.path(), "out");
    assert_eq!(kept_texts(&folder.path().join("out")).into_values().collect::<Vec<_>>(), ["good"]);
    assert_eq!(failed(&found), 1);
    fails(
        &mut run(folder.path(), "stop", "--set on_bad_record=stop"),
        1,
        &["column `text` is not text but List"],
    );
}

#[test]
fn broken_columnar() {
    let (texts, found) = {
        let folder = folder();
        fs::create_dir(folder.path().join("in")).unwrap();
        for path in broken_files() {
            fs::copy(&path, folder.path().join("in").join(path.file_name().unwrap())).unwrap();
        }
        file(&folder, "in/good.jsonl", "{\"text\": \"good\"}\n");
        file(&folder, "pipeline.toml", IN);
        ok(&mut run(folder.path(), "out", ""));
        (kept_texts(&folder.path().join("out")), manifest(folder.path(), "out"))
    };
    assert!(texts.values().any(|text| text == "good"), "{texts:?}");
    assert_eq!(failed(&found), 5, "{}", stage(&found, "extract"));
    for path in broken_files() {
        let bytes = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (texts, found) =
            prepared(&[("a.jsonl", b"{\"text\": \"good\"}"), (&name, &bytes), ("b.txt", b"fine")]);
        assert!(texts.values().any(|text| text == "good") && texts.values().any(|text| text == "fine"));
        assert_eq!(failed(&found), 1, "{name}");
    }
}

fn broken_files() -> Vec<PathBuf> {
    let files = fs::read_dir(report("broken-columnar").join("in")).unwrap();
    let files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 5);
    files
}

#[test]
fn zip_streamed() {
    // Python: `zipfile.ZipFile(FILE).read(NAME)`.
    let (texts, found) = report_of("zip-streamed");
    let expected = [0, 1, 2]
        .map(|number| (format!("streamed.zip!doc{number}.txt#0"), format!("document {number}: {HERON}")));
    assert_eq!(texts, expected.into());
    assert_eq!(failed(&found), 0);
}

#[test]
fn zstd_long_window() {
    // Python: `zstandard.ZstdDecompressor(max_window_size=2**31)`.
    let (texts, found) = report_of("zstd-long-window");
    let name = |number: usize| format!("window28.jsonl.zst#{number}");
    let expected = (0..40).map(|number| (name(number), format!("document {number}: {HERON}")));
    assert_eq!(texts, expected.collect());
    assert_eq!(failed(&found), 0);
    let folder = folder();
    let stop = "--set source.1.zstd_window_mb=128 --set on_bad_record=stop";
    let parts = ["needs a window of 256 MB", "`source.zstd_window_mb` (128)"];
    fails(&mut run_report("zstd-long-window", &folder.path().join("out"), stop), 1, &parts);
    let wrong = "--set source.1.zstd_window_mb=4096";
    let parts = ["source.zstd_window_mb", "4096", "between 1 and 2048"];
    fails(&mut run_report("zstd-long-window", &folder.path().join("out"), wrong), 2, &parts);
}

#[test]
fn warc_zst_dictionary() {
    // Python: `zstandard.ZstdDecompressor(dict_data=ZstdCompressionDict(FRAME))`.
    let (texts, found) = report_of("warc-zst-dictionary");
    let id = |number: usize| format!("urn:uuid:00000000-0000-0000-0000-00000000000{}", number + 1);
    let expected = [0, 1, 2, 3]
        .map(|number| (id(number), format!("document {number}: {}{}", HERON.repeat(3), 77 * number)));
    assert_eq!(texts, expected.into());
    assert_eq!(failed(&found), 0);
    // Without its dictionary.
    let bytes = fs::read(report("warc-zst-dictionary").join("dictionary.warc.zst")).unwrap();
    let frames = &bytes[8 + u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize..];
    let (texts, found) = prepared(&[("a.warc.zst", frames), ("b.txt", b"fine")]);
    assert_eq!((texts.len(), failed(&found), kept(&found, "extract")), (1, 1, 1));
}
