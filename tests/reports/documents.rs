//! Tests of raw documents: HTML, JSON and the texts extracted from them.

use super::report;
use crate::{
    data::{PIPELINE, kept, manifest, run, shards, workplace},
    support::{fails, file, folder, kiln, ok, words},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Runs the pipeline of a report, and returns the names and texts of the kept documents.
fn texts_of(report_name: &str) -> BTreeMap<String, String> {
    let folder = folder();
    let out = folder.path().join("out");
    ok(kiln(words("data run")).arg(report(report_name).join("pipeline.toml")).arg("--out").arg(&out));
    kept_texts(&out)
}

/// Identifiers and texts of the documents that a run kept.
fn kept_texts(out: &Path) -> BTreeMap<String, String> {
    let shown = ok(kiln(words("data inspect --reason kept --json --full --count 1000")).arg(out));
    let shown: Vec<Value> = serde_json::from_str(&shown).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    shown.iter().map(|document| (text(&document["id"]), text(&document["text"]))).collect()
}

/// Runs a pipeline over the files of `in`, and returns the kept documents.
fn prepared(files: &[(&str, &[u8])]) -> BTreeMap<String, String> {
    let folder = folder();
    fs::create_dir(folder.path().join("in")).unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join("in").join(name), bytes).unwrap();
    }
    file(&folder, "pipeline.toml", "[[source]]\nname = \"in\"\npaths = [\"in\"]\n");
    ok(&mut run(folder.path(), "out", ""));
    kept_texts(&folder.path().join("out"))
}

#[test]
fn html_charset() {
    // Python: `open(FILE, "rb").read().decode("cp1252")`, of the first `decode("shift_jis")`.
    let german = "Der Fluß fließt über Köln, die Möwe hört schöne Klänge, und müde Bäume grüßen süße Äpfel.";
    let german = format!("Seite. {}", [german; 4].join(" "));
    let heron = "灰色の鷺が葦の近くの浅い水の中に立ち、小さな魚が足元を泳ぐのを待っていた。";
    let texts = texts_of("html-charset");
    let expected = [
        ("pages/meta-name-charset.html#0", german.clone()),
        ("pages/sjis.html#0", format!("頁. {}", heron.repeat(6))),
        ("pages/wrong-meta-1252.html#0", german),
    ];
    assert_eq!(texts, expected.map(|(name, text)| (name.to_owned(), text)).into());
}

#[test]
fn other_pages_are_decoded_as_a_browser_does() {
    let sentence = "Съешь же ещё этих мягких французских булок, да выпей чаю. ";
    // Python: `sentence.encode("cp1251")`; all of its letters are one byte, those from А on in their order.
    let bytes: Vec<u8> = sentence
        .chars()
        .map(|character| match character {
            'ё' => 0xb8,
            'А'..='я' => (character as u32 - 'А' as u32 + 0xc0) as u8,
            other => other as u8,
        })
        .collect();
    let page = |head: &str| {
        let start = format!("<!doctype html><html><head>{head}</head><body><article><p>");
        [start.as_bytes(), &bytes.repeat(4), b"</p></article></body></html>"].concat()
    };
    let heads = [
        "<!-- <meta charset=shift_jis> --><meta charset=windows-1251>",
        "<meta name=description content='charset=koi8-r'><meta charset=cp1251>",
        "<meta data-charset=gbk><meta http-equiv=Content-Type content='text/html; charset=windows-1251'>",
        "<script>'<meta charset=gbk>'</script><meta content='text/html; charset=x-cp1251' http-equiv=content-type>",
        "<meta charset=utf-8>",
        "<meta charset=utf-16>",
    ];
    let pages: Vec<(String, Vec<u8>)> =
        (0..).zip(heads).map(|(number, head)| (format!("{number}.html"), page(head))).collect();
    let files: Vec<(&str, &[u8])> =
        pages.iter().map(|(name, page)| (name.as_str(), page.as_slice())).collect();
    let texts = prepared(&files);
    assert_eq!(texts.len(), heads.len());
    for ((name, text), head) in texts.iter().zip(heads) {
        assert_eq!(text, sentence.repeat(4).trim(), "{name}: {head}");
    }
}

#[test]
fn json_without_extension() {
    let texts = texts_of("json-without-extension");
    let expected = [("space-no-extension#0", "one"), ("space-no-extension#1", "two")];
    assert_eq!(texts, expected.map(|(id, text)| (id.to_owned(), text.to_owned())).into());
    let texts = prepared(&[
        ("array", b"[\n  {\"text\": \"one\"}, {\"text\": \"two\"}\n]"),
        ("mark", b"\xef\xbb\xbf{\"text\":\"one\"}\n{\"text\":\"two\"}\n"),
        ("pretty", b"{\n\t\"text\" :\n\t\"one\"\n}\n"),
        ("tabs.data", b"\n{\t\"text\"\t:\t\"one\"\t}\r\n"),
        ("words", b"{ a set } of words"),
    ]);
    let ids: Vec<&str> = texts.keys().map(String::as_str).collect();
    let expected =
        ["in/array#0", "in/array#1", "in/mark#0", "in/mark#1", "in/pretty#0", "in/tabs.data#0", "in/words#0"];
    assert_eq!(ids, expected);
    assert!(texts.iter().all(|(id, text)| !text.contains('{') || id == "in/words#0"), "{texts:?}");
}

#[test]
fn what_is_no_text_is_a_fault() {
    let texts = prepared(&[
        ("paper.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n"),
        ("image", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
        ("notes.txt", b"some notes"),
    ]);
    assert_eq!(texts.values().collect::<Vec<_>>(), ["some notes"]);
}

#[test]
fn a_run_whose_every_input_is_a_fault() {
    let folder = folder();
    let path = folder.path();
    fs::create_dir(path.join("in")).unwrap();
    fs::write(path.join("in/a.jsonl"), "{\"tex\": 1}\n{\"text\": 3}\n{\"tex\": 2}\n").unwrap();
    fs::write(path.join("in/b.pdf"), "%PDF-1.7 broken").unwrap();
    let source = "seed = 1\n[[source]]\nname = \"in\"\npaths = [\"in\"]\n";
    file(&folder, "pipeline.toml", format!("{source}[tokenize]\nkind = \"byte\"\n"));
    // Twice: what is finished says the same.
    for _ in 0..2 {
        let says = [
            "none of 4 records could be read",
            "none of 4 records could be read; 2 for this reason: `in/a.jsonl` at byte 0: there is no field `text`",
            "hint: `kiln data inspect ",
            "--reason failed` shows more",
        ];
        fails(&mut run(path, "out", ""), 2, &says);
    }
    let shown = ok(kiln(words("data inspect out --reason failed")).current_dir(path));
    assert!(shown.contains("the file is a PDF, not text"), "{shown}");

    // Where no tokens are asked for, that is no error, but said.
    file(&folder, "pipeline.toml", source);
    let output = run(path, "texts", "").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("note: no document was kept: `kiln data inspect "), "{stderr}");

    // What the steps have dropped is named as well.
    fs::remove_file(path.join("in/b.pdf")).unwrap();
    fs::write(path.join("in/a.jsonl"), "{\"text\": \"too short\"}\n").unwrap();
    let step = "[[step]]\nkind = \"filter\"\nprofile = \"gopher-quality\"\n";
    file(&folder, "pipeline.toml", format!("{source}{step}[tokenize]\nkind = \"byte\"\n"));
    fails(&mut run(path, "steps", ""), 2, &["no document is left", "dropped 1 for", "kiln data inspect"]);
}

#[test]
fn more_workers_than_any_machine_has() {
    let folder = workplace(PIPELINE, 10);
    for (option, value) in [("--workers", u64::MAX), ("--workers", 1 << 40), ("--memory-mb", u64::MAX)] {
        fails(&mut run(folder.path(), "out", &format!("{option} {value}")), 2, &[option, &value.to_string()]);
    }
    let sample = format!("--set tokenize.sample_mb={}", i64::MAX);
    fails(&mut run(folder.path(), "out", &sample), 2, &["tokenize.sample_mb"]);
}

/// Path of the first object of a stage in a store.
fn object(bucket: &Path, stage: &str, of: &str) -> PathBuf {
    let stages = fs::read_dir(bucket.join("work")).unwrap().map(|entry| entry.unwrap().path());
    let is_of = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().contains(stage);
    let folder = stages.into_iter().find(is_of).unwrap();
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let is_wanted = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().ends_with(of);
    files.into_iter().find(is_wanted).unwrap()
}

#[test]
fn an_object_that_was_lost_or_changed_in_the_store_is_noticed() {
    let folder = workplace(PIPELINE, 60);
    let path = folder.path();
    let bucket = path.join("bucket");
    let store = format!("file://{}", bucket.display());
    ok(&mut run(path, &store, "--cache cache"));
    let expected = shards(path, "bucket");
    let part = object(&bucket, "clean", ".parquet");
    let good = fs::read(&part).unwrap();
    let shard = object(&bucket, "shards", "shards").join("train.bin");
    let good_shard = fs::read(&shard).unwrap();

    // Lost, overwritten, overwritten by as many bytes: sent again from the cache.
    let zeros = vec![0; good.len().max(good_shard.len())];
    for bad in [None, Some(&b"garbage"[..]), Some(&zeros)] {
        for (object, good) in [(&part, &good), (&shard, &good_shard)] {
            match bad {
                None => fs::remove_file(object).unwrap(),
                Some(bytes) => fs::write(object, &bytes[..bytes.len().min(good.len())]).unwrap(),
            }
            ok(&mut run(path, &store, "--cache cache"));
            assert!(fs::read(object).unwrap() == *good, "{bad:?}");
        }
    }
    assert!(shards(path, "bucket") == expected);

    // A store that was copied has objects of the same content and other times.
    fs::remove_file(&part).unwrap();
    fs::write(&part, &good).unwrap();
    ok(&mut run(path, &store, "--cache cache-2"));

    // Without the cache it is an error that names the object and what makes it anew.
    fs::remove_file(&part).unwrap();
    let name = part.file_name().unwrap().to_string_lossy().into_owned();
    fails(&mut run(path, &store, "--cache cache-3"), 1, &[&name, "is gone or is another", "remove `file://"]);
    fs::remove_dir_all(part.parent().unwrap()).unwrap();
    ok(&mut run(path, &store, "--cache cache-3"));
    assert!(fs::read(&part).is_ok() && shards(path, "bucket") == expected);
    assert!(kept(&manifest(path, "bucket"), "clean") > 0);
}
