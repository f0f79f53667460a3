//! Tests with files that pyarrow wrote (`tests/fixtures/columnar/make.py`).

use super::*;
use datafusion::{
    arrow::{
        array::{
            Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Float64Array, Int64Array,
            LargeStringArray, ListArray, NullArray, StringArray, StringViewArray, StructArray,
        },
        compute::cast,
        datatypes::{Field, Int32Type},
        ipc::writer::{FileWriter, StreamWriter},
    },
    parquet::arrow::ArrowWriter,
};
use std::{path::PathBuf, sync::Arc};

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/columnar");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| is_columnar(path)).collect();
    files.sort();
    files
}

/// Reads a file and returns its documents and the reasons of its bad records.
fn read_all(path: &Path) -> (Vec<Document>, Vec<String>) {
    let (mut documents, mut bad_records) = (Vec::new(), Vec::new());
    read(path, "file", &ExtractConfig::default(), |record| {
        match record {
            Ok(document) => documents.push(document),
            Err(bad_record) => bad_records.push(bad_record.reason),
        }
        Ok(())
    })
    .unwrap();
    (documents, bad_records)
}

#[test]
fn every_compression_and_encoding_gives_the_same_rows() {
    // `TEXTS` of the script.
    let words = [
        "the heron stood",
        "in the water",
        "caf\u{e9} \u{65e5}\u{672c}",
        "",
        "a longer text that no view holds by itself",
    ];
    let rows: Vec<usize> = (0..40).filter(|row| row % 11 != 7).collect();
    let files = fixtures();
    assert!(files.len() > 25);
    for path in files {
        let (documents, bad_records) = read_all(&path);
        if path.ends_with("one.feather") {
            assert!(
                documents.is_empty() && bad_records[0].contains("Feather of version 1"),
                "{bad_records:?}"
            );
            continue;
        }
        let nulls = [7, 18, 29].map(|row| format!("row {row}: the text is null"));
        assert_eq!(bad_records, nulls, "{}", path.display());
        assert_eq!(documents.len(), rows.len());
        for (document, &row) in documents.iter().zip(&rows) {
            assert_eq!(document.text, format!("{} {}", words[row % 5], row / 10));
            assert_eq!(document.id, format!("{}", 100 + row));
            assert_eq!(document.url.as_deref(), Some(format!("http://example.org/{}", row % 3).as_str()));
            let score = (row % 4 != 0).then(|| format!("{:?}", row as f64 / 8.0));
            assert_eq!(document.metadata.get("score"), score.map(Into::into).as_ref());
            if let Some(tags) = document.metadata.get("tags") {
                let tag = format!("tag {}", row % 3);
                assert_eq!(*tags, format!("[{}]", vec![tag; row % 4].join(", ")));
                assert_eq!(document.metadata["good"], (row % 2 == 0).to_string());
                assert_eq!(document.metadata["price"], format!("{:.2}", row as f64 / 4.0));
                assert_eq!(
                    document.metadata["when"],
                    format!(
                        "1970-01-01T00:00:00{}",
                        match row {
                            0 => String::new(),
                            _ => format!(".{row:03}"),
                        }
                    )
                );
            }
            if let Some(run) = document.metadata.get("run") {
                assert_eq!(*run, if row < 10 { "first" } else { "second" });
                assert!(!document.metadata.contains_key("nothing"));
            }
        }
    }
}

/// Writes a file with one column, `text`, in each format.
fn write(folder: &Path, column: &ArrayRef) -> Vec<PathBuf> {
    let batch = RecordBatch::try_from_iter_with_nullable([("text", Arc::clone(column), true)]).unwrap();
    let schema = batch.schema();
    let paths = ["a.parquet", "a.arrow", "a.feather"].map(|name| folder.join(name));
    let file = |index: usize| File::create(&paths[index]).unwrap();
    if let Ok(mut parquet) = ArrowWriter::try_new(file(0), Arc::clone(&schema), None) {
        parquet.write(&batch).unwrap();
        parquet.close().unwrap();
    }
    let mut stream = StreamWriter::try_new(file(1), &schema).unwrap();
    stream.write(&batch).unwrap();
    stream.finish().unwrap();
    let mut arrow = FileWriter::try_new(file(2), &schema).unwrap();
    arrow.write(&batch).unwrap();
    arrow.finish().unwrap();
    paths.to_vec()
}

#[test]
fn a_column_that_is_not_of_texts_is_a_bad_record() {
    let folder = tempfile::tempdir().unwrap();
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None]), None]);
    let field = Arc::new(Field::new("a", DataType::Int64, true));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    for column in [
        Arc::new(list) as ArrayRef,
        Arc::clone(&numbers),
        Arc::new(Float64Array::from(vec![0.5, 1.0])),
        Arc::new(BooleanArray::from(vec![true, false])),
        Arc::new(Date32Array::from(vec![1, 2])),
        cast(&numbers, &DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Int64))).unwrap(),
        Arc::new(StructArray::from(vec![(field, numbers)])),
        Arc::new(NullArray::new(2)),
    ] {
        for path in write(folder.path(), &column) {
            let (documents, bad_records) = read_all(&path);
            assert!(documents.is_empty(), "{documents:?}");
            assert_eq!(bad_records.len(), 1, "{bad_records:?}");
            assert!(bad_records[0].starts_with("row 0: column `text` is not text but "), "{bad_records:?}");
        }
    }
    let path = &write(folder.path(), &(Arc::new(StringArray::from(vec!["one"])) as ArrayRef))[0];
    let config = ExtractConfig { text_field: "body".into(), ..Default::default() };
    let mut reason = String::new();
    read(path, "file", &config, |record| {
        reason = record.unwrap_err().reason;
        Ok(())
    })
    .unwrap();
    assert_eq!(reason, "row 0: no column `body` of text; there are text");
}

#[test]
fn every_type_of_text_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let texts = ["one", "a text of more than twelve bytes"];
    let plain: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
    for column in [
        Arc::clone(&plain),
        Arc::new(LargeStringArray::from(texts.to_vec())),
        Arc::new(StringViewArray::from(texts.to_vec())),
        Arc::new(BinaryArray::from(texts.map(str::as_bytes).to_vec())),
        cast(&plain, &DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::LargeUtf8))).unwrap(),
    ] {
        for path in write(folder.path(), &column) {
            let (documents, bad_records) = read_all(&path);
            let found: Vec<&str> = documents.iter().map(|document| document.text.as_str()).collect();
            assert_eq!((found, bad_records), (texts.to_vec(), vec![]), "{}", column.data_type());
        }
    }
    let column: ArrayRef = Arc::new(BinaryArray::from(vec![&b"one"[..], b"\xff\xfe", b"two"]));
    for path in write(folder.path(), &column) {
        let (documents, bad_records) = read_all(&path);
        assert_eq!(
            (documents.len(), bad_records),
            (2, vec!["row 1: the text is not valid UTF-8".to_string()])
        );
    }
}

#[test]
fn the_first_bytes_count_more_than_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let paths = write(folder.path(), &(Arc::new(StringArray::from(vec!["one"])) as ArrayRef));
    for (path, name) in paths.iter().zip(["b.arrow", "b.feather", "b.parquet"]) {
        let other = folder.path().join(name);
        std::fs::copy(path, &other).unwrap();
        // A stream begins with nothing that is its own.
        if name != "b.parquet" || path.extension().is_some_and(|extension| extension == "feather") {
            assert_eq!(read_all(&other).0.len(), 1, "{name}");
        }
    }
    std::fs::write(folder.path().join("c.parquet"), b"").unwrap();
    std::fs::write(folder.path().join("c.arrow"), b"").unwrap();
    for name in ["c.parquet", "c.arrow"] {
        assert_eq!(read_all(&folder.path().join(name)).1.len(), 1);
    }
}

/// Damages bytes in a way that differs from round to round: changed bytes, numbers that are far too large,
/// and parts that are cut off, repeated or removed.
fn damage(bytes: &mut Vec<u8>, seed: &mut u64) {
    let mut next = |below: usize| {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        (*seed >> 16) as usize % below.max(1)
    };
    for _ in 0..1 + next(3) {
        let length = bytes.len();
        // The numbers of a file stand at its end more often than elsewhere.
        let at = if next(2) == 0 { next(length) } else { length - 1 - next(length.min(1500)) };
        let width = [1, 2, 4, 8][next(4)].min(length - at);
        match next(8) {
            0 => bytes[at] ^= 1 << next(8),
            1 => bytes[at] = next(256) as u8,
            2 => bytes[at..at + width].fill(0xff),
            3 => {
                bytes[at..at + width].fill(0xff);
                bytes[at + width - 1] = 0x7f;
            }
            4 => bytes[at..at + width].fill(0),
            5 => bytes.truncate(at + 1),
            6 => {
                bytes.drain(at..at + width);
            }
            _ => {
                let doubled = bytes[at..at + width].to_vec();
                bytes.splice(at..at, doubled);
            }
        }
    }
}

#[test]
fn damaged_files_are_bad_records() {
    let folder = tempfile::tempdir().unwrap();
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    for fixture in fixtures() {
        let sound = std::fs::read(&fixture).unwrap();
        for round in 0..100 {
            let name = format!("{round}-{}", fixture.file_name().unwrap().to_string_lossy());
            let path = folder.path().join(name);
            let mut bytes = sound.clone();
            damage(&mut bytes, &mut seed);
            std::fs::write(&path, &bytes).unwrap();
            let (documents, bad_records) = read_all(&path);
            assert!(documents.len() + bad_records.len() < 100_000, "{}", path.display());
        }
    }
}
