//! Writes `OUT/README.md`: a dataset card in Hugging Face's format
//! (<https://huggingface.co/docs/hub/datasets-cards>). It states what is known and nothing else.

use super::{
    figures::{self, megabytes, percent},
    files::Files,
};
use crate::{
    cli::table::{bytes, grouped},
    prepare::{Manifest, Split},
};
use anyhow::Result;
use serde_json::Value;
use std::{collections::BTreeSet, fmt::Write, path::Path};

/// Name of the card in a run's folder.
const FILE_NAME: &str = "README.md";

/// Sentences of the card about limitations: kinds of steps, the sentence if one of them ran, and the sentence
/// if none did.
const LIMITATIONS: [(&[&str], &str, &str); 7] = [
    (
        &["pii"],
        "Patterns of personal data were looked for; what has another form is still there.",
        "Personal data was not looked for.",
    ),
    (
        &["exact-duplicates", "fuzzy-duplicates", "semantic-duplicates"],
        "Duplicates were removed by the comparisons listed above, and by no others.",
        "Duplicates were not looked for.",
    ),
    (
        &["decontaminate"],
        "Texts were compared with the held-out sets listed above; other evaluation sets may be contained.",
        "Texts were not compared with evaluation sets, which may be contained.",
    ),
    (
        &["language"],
        "Languages were told by a classifier, which errs on short and mixed texts.",
        "Languages were not identified; where one is named, the source said so.",
    ),
    (
        &["word-list"],
        "Documents with too many listed words were dropped; no other filter looked for harmful content.",
        "No filter looked for harmful content.",
    ),
    (
        &["quality", "perplexity", "gibberish"],
        "Models scored texts, and prefer what resembles their training data.",
        "No model scored the quality of texts.",
    ),
    (
        &["filter", "expression"],
        "Rules filtered texts by their form, not by what they say.",
        "No rules filtered texts by their form.",
    ),
];

/// Writes the card into the run's folder.
///
/// # Errors
/// Errors of writing.
pub(super) fn write(files: &Files, manifest: &Manifest) -> Result<()> {
    files.write(FILE_NAME, &card(&files.name(), manifest)?)
}

fn card(name: &str, manifest: &Manifest) -> Result<String> {
    let stages = figures::document_stages(manifest);
    let kept = stages.last().map(|stage| stage.counts.kept).unwrap_or_default();
    let mut text = front_matter(name, manifest)?;
    let _ = write!(
        text,
        "\n# {}\n\n{} documents, {} of text",
        inline(name),
        grouped(kept.documents),
        megabytes(kept.bytes)
    );
    if !manifest.shards.is_empty() {
        let (train, val) =
            (figures::tokens(manifest, Some(Split::Train)), figures::tokens(manifest, Some(Split::Val)));
        let _ = write!(text, ", {} tokens to train on and {} to validate", grouped(train), grouped(val));
    }
    let _ = write!(text, ". Made with Kiln {}.\n\n## Sources\n\n", inline(&manifest.kiln));
    let rows = manifest.sources.iter().map(|source| {
        let stated = |text: &str| if text.is_empty() { "not stated".to_owned() } else { text.to_owned() };
        let (license, version) = (stated(&source.license), stated(&source.version));
        [source.name.clone(), license, version, grouped(source.files as u64), bytes(source.bytes)]
    });
    table(&mut text, ["source", "licence", "version", "files", "size"], rows);
    text.push_str("\n## Processing\n\nEach step sees what those before it kept.\n\n");
    for step in steps(manifest) {
        let kind = step.get("kind").and_then(Value::as_str).unwrap_or("step");
        let json = serde_json::to_string(&without_folders(step))?;
        let _ = writeln!(text, "1. {}: {}", inline(kind), code(&json));
    }
    text.push_str("\n## What is left after each step\n\n");
    let rows = figures::funnel(manifest).into_iter().map(|row| {
        [
            row.stage,
            grouped(row.documents),
            percent(row.documents_share),
            megabytes(row.bytes),
            percent(row.bytes_share),
        ]
    });
    table(&mut text, ["after", "documents", "share", "text", "share of text"], rows);
    if !manifest.blend.is_empty() {
        text.push_str("\n## Blend\n\n");
        let rows = manifest.blend.iter().map(|source| {
            [
                source.name.clone(),
                percent(source.asked),
                percent(source.reached),
                format!("{:.2}", source.epochs),
                grouped(source.tokens),
            ]
        });
        table(&mut text, ["source", "share asked", "share reached", "epochs", "tokens"], rows);
    }
    if !manifest.shards.is_empty() {
        text.push_str(
            "\n## Files\n\nUnder `shards`, little-endian tokens of the `tokenizer.json` beside them, documents in shuffled order.\n\n",
        );
        let rows = manifest.shards.iter().map(|shard| {
            [
                shard.file.clone(),
                figures::split_name(shard.split).into(),
                grouped(shard.tokens),
                grouped(shard.documents),
                shard.sha256.clone(),
            ]
        });
        table(&mut text, ["file", "split", "tokens", "documents", "SHA-256"], rows);
    }
    let _ = write!(
        text,
        "\n## How to make it again\n\nWith Kiln {}, the same source files and the same pipeline file (all of its settings \
         are under `pipeline` in `manifest.json`; the seed is {}), on any number of workers:\n\n\
         ```sh\nkiln data run {} --out {}\n```\n\n## Limitations\n\n{}\n",
        inline(&manifest.kiln),
        manifest.seed,
        word(&manifest.pipeline_file),
        word(name),
        limitations(manifest)
    );
    Ok(text)
}

/// Formats the metadata that the Hugging Face Hub reads.
fn front_matter(name: &str, manifest: &Manifest) -> Result<String> {
    let stages = figures::document_stages(manifest);
    let mut text = String::from("---\n");
    let _ = writeln!(text, "pretty_name: {}", serde_json::to_string(name)?);
    let licenses: BTreeSet<String> = manifest.sources.iter().map(|source| license(&source.license)).collect();
    list(&mut text, "license", licenses)?;
    let languages = stages.last().map(|stage| stage.counts.languages.keys().cloned());
    let languages: BTreeSet<String> =
        languages.into_iter().flatten().filter(|code| !code.is_empty() && code != "und").collect();
    list(&mut text, "language", languages)?;
    let documents = stages.last().map_or(0, |stage| stage.counts.kept.documents);
    list(&mut text, "size_categories", [size_category(documents).to_owned()])?;
    list(&mut text, "task_categories", ["text-generation".to_owned()])?;
    text.push_str("---\n");
    Ok(text)
}

/// Adds a YAML list. Its strings are written as in JSON, since a plain one might mean something else (`no`).
/// An empty list is left out.
fn list(text: &mut String, key: &str, values: impl IntoIterator<Item = String>) -> Result<()> {
    for (index, value) in values.into_iter().enumerate() {
        if index == 0 {
            let _ = writeln!(text, "{key}:");
        }
        let _ = writeln!(text, "- {}", serde_json::to_string(&value)?);
    }
    Ok(())
}

/// Converts a licence to the hub's name: an SPDX identifier in lower case, or `other` for anything else.
fn license(name: &str) -> String {
    let is_identifier = name.chars().all(|c| c.is_ascii_alphanumeric() || "-.+".contains(c));
    match name {
        "" => "unknown".into(),
        _ if is_identifier => name.to_ascii_lowercase(),
        _ => "other".into(),
    }
}

/// Names the hub's category for a number of documents.
fn size_category(documents: u64) -> &'static str {
    match documents {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        1_000_000..10_000_000 => "1M<n<10M",
        10_000_000..100_000_000 => "10M<n<100M",
        100_000_000..1_000_000_000 => "100M<n<1B",
        1_000_000_000..10_000_000_000 => "1B<n<10B",
        10_000_000_000..100_000_000_000 => "10B<n<100B",
        100_000_000_000..1_000_000_000_000 => "100B<n<1T",
        _ => "n>1T",
    }
}

/// Returns the pipeline's steps as JSON.
fn steps(manifest: &Manifest) -> &[Value] {
    manifest.pipeline.get("step").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Removes the folders from absolute paths, since they concern nobody else.
fn without_folders(value: &Value) -> Value {
    match value {
        Value::String(text) if Path::new(text).is_absolute() => {
            let path = Path::new(text);
            Value::String(path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned())
        }
        Value::Array(values) => Value::Array(values.iter().map(without_folders).collect()),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, value)| (key.clone(), without_folders(value))).collect())
        }
        value => value.clone(),
    }
}

/// Describes the known limitations of the data.
fn limitations(manifest: &Manifest) -> String {
    let ran: BTreeSet<&str> =
        steps(manifest).iter().filter_map(|step| step.get("kind").and_then(Value::as_str)).collect();
    let mut sentences = Vec::new();
    for (kinds, present, absent) in LIMITATIONS {
        let has_run = kinds.iter().any(|kind| ran.contains(kind));
        sentences.push(if has_run { present } else { absent });
    }
    let mut text = sentences.join(" ");
    let failures: u64 = figures::document_stages(manifest).iter().map(|stage| figures::failures(stage)).sum();
    if failures > 0 {
        let _ =
            write!(text, " {} records could not be read or processed and are missing.", grouped(failures));
    }
    if manifest.sources.iter().any(|source| source.license.is_empty()) {
        text.push_str(" The licence of some sources is not stated.");
    }
    text
}

/// Adds a Markdown table; all columns but the first are numbers or short.
fn table<const N: usize>(text: &mut String, names: [&str; N], rows: impl Iterator<Item = [String; N]>) {
    let _ = writeln!(text, "| {} |", names.join(" | "));
    let _ = writeln!(text, "|{}", " --- |".repeat(N));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.map(|cell| inline(&cell)).join(" | "));
    }
}

/// Escapes text for Markdown.
fn inline(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' => escaped.extend(['\\', c]),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Formats text as code, between more backticks than it has in a row.
fn code(text: &str) -> String {
    let longest = text.split(|c: char| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest + 1);
    let space = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

/// Returns a folder's name as an argument for a shell, or `DIR` if it would need quotes.
fn word(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !name.is_empty() && name.chars().all(is_plain) { name.into() } else { "DIR".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::{Count, Counts, ShardSummary, StageSummary};
    use std::collections::BTreeMap;

    #[test]
    fn front_matter_is_lists_of_strings() {
        let kept = Count { documents: 12_000, bytes: 5, lines: 1 };
        let languages = ["no", "en", "", "und"].map(|code| (code.to_owned(), kept));
        let counts = Counts { kept, languages: BTreeMap::from(languages), ..Counts::default() };
        let stages = vec![StageSummary { name: "extract".into(), counts, ..StageSummary::default() }];
        let manifest = Manifest { stages, ..Manifest::default() };
        assert_eq!(
            front_matter("a \"b\"", &manifest).unwrap(),
            "---\npretty_name: \"a \\\"b\\\"\"\nlanguage:\n- \"en\"\n- \"no\"\nsize_categories:\n- \"10K<n<100K\"\n\
             task_categories:\n- \"text-generation\"\n---\n"
        );
        let names = ["", "CC-BY-4.0", "see the file"].map(license);
        assert_eq!(names, ["unknown", "cc-by-4.0", "other"]);
    }

    #[test]
    fn the_card_says_what_ran_and_what_did_not() {
        let file = std::env::temp_dir().join("model.bin");
        let step = serde_json::json!({ "kind": "quality", "model": file });
        let shard = ShardSummary {
            file: "train.bin".into(),
            split: Split::Train,
            tokens: 1234,
            documents: 5,
            sha256: "ab".repeat(32),
            sources: BTreeMap::new(),
        };
        let manifest = Manifest {
            kiln: "1.2.3".into(),
            seed: 7,
            pipeline: serde_json::json!({ "step": [step] }),
            shards: vec![shard],
            ..Manifest::default()
        };
        let text = card("my data", &manifest).unwrap();
        for part in [
            "1. quality: `{\"kind\":\"quality\",\"model\":\"model.bin\"}`",
            "1,234 tokens to train on and 0 to validate",
            "| train.bin | train | 1,234 | 5 |",
            "Kiln 1.2.3",
            "the seed is 7",
            "--out DIR",
            "Models scored texts",
            "Personal data was not looked for.",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.contains(&"ab".repeat(32)) && !text.contains("No model scored"));
    }

    #[test]
    fn markdown_takes_names_for_text() {
        assert_eq!(inline("a|b\n<c> `d`"), "a\\|b &lt;c> \\`d\\`");
        assert_eq!(code("a"), "`a`");
        assert_eq!(code("a``b`"), "``` a``b` ```");
        assert_eq!(["data_1", "my data"].map(word), ["data_1", "DIR"]);
    }
}
