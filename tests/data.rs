//! Tests of `kiln data` as a whole: its output, that the output is the same however it is run, and the effect
//! of bad input.

use crate::support::{debug_train, fails, file, folder, kiln, ok, words};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// Writes texts that differ, with some that are equal and some that are nearly equal.
fn corpus(folder: &Path, documents: usize) {
    let syllables = [
        "ba", "ke", "li", "mo", "nu", "ra", "se", "ti", "vo", "za", "dor", "fen", "gal", "hin", "jul", "pem",
    ];
    let word = |seed: usize| {
        let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (seed >> 3);
        (0..3).map(|k| syllables[(mixed >> (20 + 8 * k)) % syllables.len()]).collect::<String>()
    };
    let sentence = |seed: usize| {
        let word = |k: usize| word(seed.wrapping_mul(97).wrapping_add(k));
        format!(
            "The {} of the {} and a {} {} to have {} with {} {} that {} will be.",
            word(0),
            word(1),
            word(2),
            word(3),
            word(4),
            word(5),
            word(6),
            word(7)
        )
    };
    let text = |document: usize| {
        // Every tenth is the one before it again, every eleventh nearly so.
        let own = if document % 10 == 9 { document - 1 } else { document };
        let (own, changed) = if document % 11 == 10 { (document - 1, 1) } else { (own, 0) };
        let lines = (0..24).map(|line| {
            if line < changed { sentence(900_000 + document) } else { sentence(own * 31 + line) }
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    std::fs::create_dir_all(folder).unwrap();
    // Those of the second file go without an id.
    let record = |number: usize| match number < documents / 2 {
        true => json!({ "id": format!("d{number}"), "text": text(number) }),
        false => json!({ "text": text(number) }),
    };
    let lines = |range: std::ops::Range<usize>| -> String {
        range.map(|number| format!("{}\n", record(number))).collect()
    };
    std::fs::write(folder.join("a.jsonl"), lines(0..documents / 2)).unwrap();
    std::fs::write(folder.join("b.jsonl"), lines(documents / 2..documents)).unwrap();
}

pub const PIPELINE: &str = r#"
seed = 7
part_mb = 1
[[source]]
name = "made"
paths = ["corpus"]
[[step]]
kind = "clean"
[[step]]
kind = "language"
keep = ["en"]
[[step]]
kind = "exact-duplicates"
[[step]]
kind = "filter"
profile = "gopher-quality"
[[step]]
kind = "expression"
keep = "words >= 20 and mean_word_length < 12"
[[step]]
kind = "fuzzy-duplicates"
verify = 0.7
[blend]
epochs = 1.5
[tokenize]
vocab_size = 400
val_fraction = 0.1
shard_tokens = 60000
"#;

/// Makes a folder with a corpus and a pipeline.
pub fn workplace(pipeline: &str, documents: usize) -> TempDir {
    let folder = folder();
    corpus(&folder.path().join("corpus"), documents);
    file(&folder, "pipeline.toml", pipeline);
    folder
}

pub fn run(folder: &Path, out: &str, more: &str) -> Command {
    let mut command = kiln(words("data run pipeline.toml --out"));
    command.arg(out).args(words(more)).current_dir(folder);
    command
}

pub fn manifest(folder: &Path, out: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join(out).join("manifest.json")).unwrap()).unwrap()
}

/// Reads the names and contents of all shards.
pub fn shards(folder: &Path, out: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let shards = folder.join(out).join("shards");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&shards).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.file_name().unwrap().into(), std::fs::read(&file).unwrap())).collect()
}

pub fn stage<'a>(manifest: &'a Value, name: &str) -> &'a Value {
    manifest["stages"].as_array().unwrap().iter().find(|stage| stage["name"] == name).unwrap()
}

pub fn dropped(manifest: &Value, name: &str, reason: &str) -> u64 {
    stage(manifest, name)["tally"]["dropped"][reason]["documents"].as_u64().unwrap_or(0)
}

pub fn kept(manifest: &Value, name: &str) -> u64 {
    stage(manifest, name)["tally"]["kept"]["documents"].as_u64().unwrap()
}

#[test]
fn a_pipeline_makes_shards_that_train() {
    let folder = workplace(PIPELINE, 400);
    let path = folder.path();
    ok(&mut run(path, "out", ""));
    let found = manifest(path, "out");
    assert_eq!(kept(&found, "extract"), 400);
    // A tenth is there twice, and an eleventh nearly so; some of each are both.
    assert!((30..=40).contains(&dropped(&found, "exact-duplicates", "exact_duplicate")));
    assert!((28..=36).contains(&dropped(&found, "fuzzy-duplicates", "fuzzy_duplicate")));
    let blend = &found["blend"][0];
    assert_eq!(blend["epochs"], 1.5);
    let (reached, available) = (blend["tokens"].as_f64().unwrap(), blend["available"].as_f64().unwrap());
    assert!((reached / available - 1.5).abs() < 0.15, "{reached} of {available}");
    let names: Vec<PathBuf> = shards(path, "out").into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"train-00001.bin".into()) && names.contains(&"val.bin".into()), "{names:?}");
    let mut train = debug_train(&path.join("run"), "--set train.max_steps=2 --data");
    ok(train.arg(path.join("out/shards")));
    ok(kiln(words("data explain pipeline.toml --out out")).current_dir(path));
}

#[test]
fn finished_stages_are_skipped_and_what_changed_is_redone() {
    let folder = workplace(PIPELINE, 60);
    let path = folder.path();
    let said = |more: &str| {
        let output = run(path, "out", more).output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<String> =
            text.lines().filter(|line| line.contains(" documents, ")).map(str::to_owned).collect();
        lines.iter().filter(|line| line.ends_with("finished before")).count()
    };
    assert_eq!(said(""), 0);
    let first = shards(path, "out");
    assert_eq!(said(""), 9);
    // The fourth step and what follows: extraction, and the three steps before it, are kept.
    assert_eq!(said("--set step.4.min_words=60"), 4);
    assert_eq!(said("--set seed=8"), 7);
    assert_ne!(shards(path, "out"), first);
    assert_eq!(said(""), 9);
    assert_eq!(shards(path, "out"), first);
    let stages = || {
        let names = std::fs::read_dir(path.join("out/work")).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with(|c: char| c.is_ascii_digit())).count()
    };
    assert!(stages() > 9);
    assert_eq!(said("--prune"), 9);
    assert_eq!(stages(), 9);
}

#[test]
fn workers_ranks_and_kills_give_the_same_bytes() {
    let folder = workplace(PIPELINE, 1500);
    let path = folder.path();
    ok(&mut run(path, "one", "--workers 1"));
    let expected = shards(path, "one");
    ok(&mut run(path, "many", "--workers 3 --memory-mb 64"));
    assert!(shards(path, "many") == expected, "workers");

    let ranks: Vec<_> = (0..3)
        .map(|rank| {
            run(path, "ranks", &format!("--quiet --workers 1 --rank {rank} --world-size 3")).spawn().unwrap()
        })
        .collect();
    for mut rank in ranks {
        assert!(rank.wait().unwrap().success());
    }
    assert!(shards(path, "ranks") == expected, "ranks");

    let moved = workplace(PIPELINE, 1500);
    ok(&mut run(moved.path(), "out", ""));
    assert!(shards(moved.path(), "out") == expected, "in another place");

    for kill in 0..12 {
        let mut killed = run(path, "killed", "--quiet").stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(30 + 67 * kill % 500));
        killed.kill().unwrap();
        killed.wait().unwrap();
    }
    ok(&mut run(path, "killed", ""));
    assert!(shards(path, "killed") == expected, "kills");
}

#[test]
fn what_cannot_be_read_is_counted_or_fatal() {
    let pipeline =
        "part_mb = 1\n[[source]]\nname = \"x\"\npaths = [\"corpus\", \"http://127.0.0.1:9/none.jsonl\"]\n";
    let folder = workplace(pipeline, 10);
    let path = folder.path();
    let corpus = path.join("corpus");
    std::fs::write(corpus.join("broken.jsonl"), "{\"text\": \"fine\"}\n{\"text\": \n{\"no\": 1}\n").unwrap();
    std::fs::write(corpus.join("empty.txt"), "").unwrap();
    std::fs::write(corpus.join("cut.jsonl.gz"), [0x1f, 0x8b, 8, 0, 0]).unwrap();
    std::fs::write(corpus.join("no.parquet"), "PAR1 and nothing else").unwrap();
    ok(&mut run(path, "out", ""));
    let found = manifest(path, "out");
    assert_eq!(kept(&found, "extract"), 11);
    assert_eq!(dropped(&found, "extract", "failed"), 6);
    assert_eq!(stage(&found, "extract")["read"]["documents"], 17);
    let mut stop = run(path, "stop", "--set on_bad_record=stop");
    fails(&mut stop, 1, &["data preparation failed", "hint: "]);
}

#[test]
fn other_scripts_pass_the_split_and_all_profiles() {
    let folder = folder();
    let samples = include_str!("fixtures/languages.jsonl");
    file(&folder, "languages.jsonl", samples);
    let mut pipeline = String::from("[[source]]\nname = \"x\"\npaths = [\"languages.jsonl\"]\n");
    pipeline.push_str("[[step]]\nkind = \"clean\"\n[[step]]\nkind = \"language\"\nby_paragraph = true\n");
    for profile in ["gopher-repetition", "gopher-quality", "c4", "fineweb", "curator", "lines"] {
        pipeline.push_str(&format!("[[step]]\nkind = \"filter\"\nprofile = \"{profile}\"\n"));
    }
    pipeline.push_str(
        "[[step]]\nkind = \"gibberish\"\n[[step]]\nkind = \"word-list\"\n[[step]]\nkind = \"pii\"\n",
    );
    file(&folder, "pipeline.toml", pipeline);
    ok(&mut run(folder.path(), "out", ""));
    let found = manifest(folder.path(), "out");
    let languages = &stage(&found, "pii")["tally"]["languages"];
    for (language, line) in ["zh", "ja", "ar", "ru", "th"].into_iter().zip(samples.lines()) {
        let text = serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().len() as f64;
        let bytes = languages[language]["bytes"].as_f64().unwrap_or(0.0);
        assert!((bytes / text - 1.0).abs() < 0.02, "{language}: {bytes} of {text} bytes in {languages}");
    }
}

#[test]
fn duplicates_of_lines_and_held_out_texts_go() {
    let folder = folder();
    let letter = |number: usize| char::from(b'a' + number as u8);
    let body = |number: usize| {
        let line = |line| format!("Line {} of page {} says something.", letter(line), letter(number));
        let lines = (0..12).map(line);
        lines.collect::<Vec<_>>().join("\n")
    };
    let page = |number: usize| json!({ "text": format!("Home | About | Contact us\n{}\n", body(number)) });
    let pages: String = (0..20).map(|number| format!("{}\n", page(number))).collect();
    file(&folder, "pages.jsonl", pages);
    let held_out = "The quick brown fox jumps over the lazy dog while the sleepy cat watches from the wall of the garden.";
    file(&folder, "held-out.txt", held_out);
    file(&folder, "leak.jsonl", format!("{}\n", json!({ "text": format!("Before. {held_out} After.") })));
    let pipeline = r#"
[[source]]
name = "x"
paths = ["pages.jsonl", "leak.jsonl"]
[[step]]
kind = "exact-duplicates"
level = "line"
[[step]]
kind = "decontaminate"
against = ["held-out.txt"]
[[step]]
kind = "fuzzy-duplicates"
shingle = { words = 3 }
bands = 40
rows = 2
verify = 0.9
"#;
    file(&folder, "pipeline.toml", pipeline);
    ok(&mut run(folder.path(), "out", ""));
    let found = manifest(folder.path(), "out");
    let bytes = |name: &str| stage(&found, name)["tally"]["kept"]["bytes"].as_u64().unwrap();
    assert_eq!(bytes("extract") - bytes("exact-duplicates"), 19 * "Home | About | Contact us\n".len() as u64);
    assert_eq!(dropped(&found, "decontaminate", "contaminated"), 1);
    // They look alike in their bands, and are not as similar as asked.
    assert_eq!(kept(&found, "fuzzy-duplicates"), 20);
}

#[test]
fn filters_are_trained_and_used() {
    let folder = folder();
    let good: String = (0..60).map(|n| format!("{}\n", json!({ "text": format!("The committee discussed report {n} with care and decided to publish its findings.") }))).collect();
    let bad: String = (0..60).map(|n| format!("{}\n", json!({ "text": format!("BUY NOW!!! cheap pills {n} click here click here free free winner") }))).collect();
    file(&folder, "good.jsonl", &good);
    file(&folder, "bad.jsonl", &bad);
    file(&folder, "all.jsonl", good + &bad);
    let said = ok(kiln(words("data train-filter --good good.jsonl --bad bad.jsonl --out quality.model"))
        .current_dir(&folder));
    assert!(said.contains("F1 1.0000"), "{said}");
    ok(kiln(words("data train-filter --ngrams --good good.jsonl --out letters.model")).current_dir(&folder));
    let encoder = folder.path().join("encoder");
    ok(&mut debug_train(&encoder, "--set train.max_steps=1 --set model.architecture=encoder"));
    let decoder = folder.path().join("decoder");
    ok(&mut debug_train(&decoder, "--set train.max_steps=1 --set tokenizer.kind=byte"));
    let pipeline = r#"
[[source]]
name = "x"
paths = ["all.jsonl"]
[[step]]
kind = "quality"
model = "quality.model"
select = { threshold = 0.5 }
[[step]]
kind = "perplexity"
model = "letters.model"
max = 100.0
[[step]]
kind = "perplexity"
model = "decoder"
max = 1e9
[[step]]
kind = "semantic-duplicates"
model = "encoder"
clusters = 2
epsilon = 1e-9
"#;
    file(&folder, "pipeline.toml", pipeline);
    ok(&mut run(folder.path(), "out", ""));
    let found = manifest(folder.path(), "out");
    assert_eq!(dropped(&found, "quality", "quality"), 60);
    assert_eq!(kept(&found, "perplexity"), 60);
    assert!(kept(&found, "semantic-duplicates") > 0);
}

#[test]
fn pipelines_that_make_no_sense_are_refused() {
    let folder = workplace("", 2);
    let refused = |text: &str, parts: &[&str]| {
        file(&folder, "pipeline.toml", text);
        fails(&mut run(folder.path(), "out", ""), 2, parts);
    };
    let source = "[[source]]\npaths = [\"corpus\"]\n";
    refused("", &["`source`", "hint: add `[[source]]`"]);
    refused("[[source]]\npaths = [\"nothing\"]", &["nothing", "does not exist"]);
    refused(&format!("{source}[[step]]\nkind = \"claen\""), &["step 1 (line 3)", "did you mean `clean`?"]);
    refused(&format!("{source}[[step]]\nkind = \"clean\"\nmojibakes = 1"), &["step 1 (line 3)", "mojibakes"]);
    refused(&format!("{source}[tokenize]\nval_fraction = 2.0"), &["tokenize.val_fraction", "`2`"]);
    refused(&format!("{source}[[step]]\nkind = \"expression\"\nkeep = \"wrods > 3\""), &["wrods"]);
    refused(&format!("{source}[[step]]\nkind = \"quality\"\nmodel = \"none\""), &["none", "does not exist"]);
    refused("seed = ", &["line 1"]);
    fails(kiln(words("data run nothing.toml")).current_dir(&folder), 2, &["nothing.toml"]);
    file(&folder, "pipeline.toml", source);
    fails(&mut run(folder.path(), "out", "--cluster nonsense"), 2, &["--cluster"]);
    fails(&mut run(folder.path(), "out", "--rank 3 --world-size 2"), 2, &["--rank"]);
    fails(&mut run(folder.path(), "out", "--workers 0"), 2, &["--workers", "nobody would work"]);
}
