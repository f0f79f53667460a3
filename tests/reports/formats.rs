//! A hundred small files of each data format, each with the content that the format's Python counterpart
//! reads from it. `formats/generate.py` made the files and the expected contents, and documents their fields.

use super::report;
use crate::support::{folder, kiln, ok, words};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, path::Path};

#[derive(Debug, Deserialize)]
struct Case {
    format: String,
    name: String,
    length: usize,
    answer: Answer,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    documents: Vec<Expected>,
    faults: bool,
    #[serde(default)]
    broken: bool,
    refused: Option<String>,
    #[serde(default)]
    words: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    text: String,
    id: Option<String>,
    /// Expected address; `Some(None)` if there must be none, `None` if it is not compared.
    #[serde(default, deserialize_with = "present")]
    url: Option<Option<String>>,
    metadata: Option<Map<String, Value>>,
    member: Option<String>,
}

fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Option<String>>, D::Error> {
    Deserialize::deserialize(value).map(Some)
}

/// A document, or a record that could not be read, as `kiln data inspect` shows it.
#[derive(Debug, Deserialize)]
struct Found {
    row: u64,
    id: String,
    file: String,
    url: String,
    text: String,
    metadata: String,
    detail: String,
}

/// Reads the cases by format, with their files.
fn cases() -> BTreeMap<String, Vec<(Case, Vec<u8>)>> {
    let packed = std::fs::read(report("formats").join("cases.zst")).unwrap();
    let bytes = zstd::decode_all(&packed[..]).unwrap();
    let mut cases: BTreeMap<String, Vec<(Case, Vec<u8>)>> = BTreeMap::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let end = rest.iter().position(|&byte| byte == b'\n').unwrap();
        let case: Case = serde_json::from_slice(&rest[..end]).unwrap();
        let (file, behind) = rest[end + 1..].split_at(case.length);
        let file = file.to_vec();
        rest = behind;
        cases.entry(case.format.clone()).or_default().push((case, file));
    }
    cases
}

/// Runs the first stage over a folder of files, and returns the documents and the bad records.
fn extract(folder: &Path, format: &str) -> [Vec<Found>; 2] {
    let pipeline = folder.join(format!("{format}.toml"));
    std::fs::write(&pipeline, format!("[[source]]\nname = \"x\"\npaths = [\"{format}\"]\n")).unwrap();
    let out = folder.join(format!("out-{format}"));
    ok(kiln(words("data run --quiet")).arg(&pipeline).arg("--out").arg(&out));
    ["kept", "failed"].map(|reason| {
        let mut inspect = kiln(words("data inspect --stage extract --full --json --count 1000000 --reason"));
        let mut found: Vec<Found> = serde_json::from_str(&ok(inspect.arg(reason).arg(&out))).unwrap();
        found.sort_by_key(|document| document.row);
        found
    })
}

/// Lists the differences between the documents and bad records of a file and its expected content.
fn differences(answer: &Answer, documents: &[&Found], faults: &[&Found]) -> Vec<String> {
    let mut differences = Vec::new();
    let text = |text: &str| match answer.words {
        true => text.split_whitespace().collect::<Vec<_>>().join(" "),
        false => text.to_owned(),
    };
    let found: Vec<String> = documents.iter().map(|document| text(&document.text)).collect();
    let expected: Vec<String> = answer.documents.iter().map(|document| text(&document.text)).collect();
    if answer.broken {
        let mut rest = expected.iter();
        if !found.iter().all(|found| rest.any(|expected| expected == found)) {
            differences.push(format!("{found:?} are not among {expected:?}"));
        }
    } else if found != expected {
        differences.push(format!("texts {found:?}, not {expected:?}"));
    } else {
        for (found, expected) in documents.iter().zip(&answer.documents) {
            if expected.id.as_ref().is_some_and(|id| *id != found.id) {
                differences.push(format!("id `{}`, not {:?}", found.id, expected.id));
            }
            let url = (!found.url.is_empty()).then_some(&found.url);
            if expected.url.as_ref().is_some_and(|expected| expected.as_ref() != url) {
                differences.push(format!("URL {url:?}, not {:?}", expected.url));
            }
            let member = found.file.split_once('!').map(|(_, member)| member);
            if expected.member.is_some() && expected.member.as_deref() != member {
                differences.push(format!("member {member:?}, not {:?}", expected.member));
            }
            let metadata = match found.metadata.as_str() {
                "" => Map::new(),
                metadata => serde_json::from_str(metadata).unwrap(),
            };
            if expected.metadata.as_ref().is_some_and(|expected| *expected != metadata) {
                differences.push(format!("metadata {metadata:?}, not {:?}", expected.metadata));
            }
        }
    }
    let reasons: Vec<&str> = faults.iter().map(|fault| fault.detail.as_str()).collect();
    if reasons.is_empty() == answer.faults {
        differences.push(format!("faults {reasons:?}, not {}", answer.faults));
    }
    if let Some(refused) = &answer.refused
        && !reasons.iter().any(|reason| reason.contains(refused.as_str()))
    {
        differences.push(format!("no fault of {reasons:?} says `{refused}`"));
    }
    differences
}

#[test]
fn files_of_all_formats_are_read_as_their_python_counterparts_read_them() {
    let folder = folder();
    let (mut wrong, mut from_damaged) = (String::new(), 0);
    for (format, cases) in cases() {
        assert!(cases.len() >= 100, "{format} has {} cases", cases.len());
        let files = folder.path().join(&format);
        std::fs::create_dir(&files).unwrap();
        for (case, bytes) in &cases {
            std::fs::write(files.join(&case.name), bytes).unwrap();
        }
        let found = extract(folder.path(), &format);
        for (case, _) in &cases {
            let path = format!("{format}/{}", case.name);
            let [documents, faults] = found.each_ref().map(|found| {
                let is_own = |found: &&Found| found.file.split('!').next() == Some(&path);
                found.iter().filter(is_own).collect::<Vec<_>>()
            });
            if case.answer.broken {
                from_damaged += documents.len();
            }
            for difference in differences(&case.answer, &documents, &faults) {
                wrong.push_str(&format!("{path}: {difference}\n"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    // What stands before the damage is read.
    assert!(from_damaged >= 112, "only {from_damaged} documents of damaged files");
}
