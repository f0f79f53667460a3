//! Writes `RUN/log.jsonl`, with every event of a run as one line of JSON, over all resumes, and reads it for
//! plots and reports.
//!
//! A line is the event with its `type` tag and `time`, the seconds since 1970:
//!
//! ```json
//! {"time":1760000000.5,"type":"step","step":120,"loss":2.43,…}
//! ```

use crate::{
    error::{Error, Result},
    platform::{storage, unix_seconds},
    train::event::Event,
};
use serde::{
    Deserialize, Serialize,
    de::{Deserializer, IntoDeserializer, Visitor, value::MapDeserializer},
};
use serde_json::Value;
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

/// Name of the log in a run folder.
pub const FILE_NAME: &str = "log.jsonl";

/// An event, and the time when it was logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoggedEvent {
    /// Seconds since 1970-01-01 UTC.
    pub time: f64,
    #[serde(flatten)]
    pub event: Event,
}

/// The log of a run, open for appending.
pub struct LogFile {
    file: RecordFile,
}

impl LogFile {
    /// Opens the log of the run folder `run`. With `resume_step`, the lines of later steps are removed, since
    /// the resumed process takes those steps again. Without it, the log starts empty.
    pub fn open(run: &Path, resume_step: Option<u64>) -> Result<Self> {
        let path = run.join(FILE_NAME);
        if path.exists() {
            let old = storage::read(&path)?;
            let kept = match resume_step {
                Some(step) => lines_up_to(&old, step),
                None => Vec::new(),
            };
            if kept != old {
                storage::write_atomic(&path, &kept)?;
            }
        }
        Self::at(&path)
    }

    /// Opens the file `path` without changing it.
    pub(super) fn at(path: &Path) -> Result<Self> {
        Ok(Self { file: RecordFile::append(path)? })
    }

    /// Appends one line. After an error the file ends with the last complete line.
    pub fn write(&mut self, event: &Event) -> Result<()> {
        let logged = LoggedEvent { time: unix_seconds(), event: event.clone() };
        let mut line = serde_json::to_vec(&logged)
            .map_err(|e| Error::io("write", &self.file.path, std::io::Error::other(e)))?;
        line.push(b'\n');
        self.file.write(&line)
    }
}

/// Reads a log. Lines that are no event, such as one cut off by a crash, are skipped. Numbers that JSON
/// cannot hold become NaN.
pub fn read_events(path: &Path) -> Result<Vec<LoggedEvent>> {
    let bytes = storage::read(path)?;
    Ok(bytes.split(|&b| b == b'\n').filter_map(parse_line).collect())
}

/// Selects the complete lines of a log whose step is at most `step`, byte for byte.
fn lines_up_to(log: &[u8], step: u64) -> Vec<u8> {
    log.split_inclusive(|&b| b == b'\n')
        .filter(|line| line.ends_with(b"\n"))
        .filter(|line| parse_line(line).is_some_and(|logged| event_step(&logged.event) <= step))
        .flatten()
        .copied()
        .collect()
}

fn parse_line(line: &[u8]) -> Option<LoggedEvent> {
    let mut value: Value = serde_json::from_slice(line).ok()?;
    read_router(&mut value);
    LoggedEvent::deserialize(NullIsNan { key: String::new(), value }).ok()
}

/// Renames the numbers of a mixture of experts in logs of earlier versions to the present metrics.
fn read_router(value: &mut Value) {
    let Some(Value::Object(router)) = value.get_mut("router").map(Value::take) else { return };
    let renamed = router.into_iter().map(|(name, number)| match name.as_str() {
        "utilization" => ("router/expert".to_owned(), number),
        name => (format!("router/{name}"), number),
    });
    value["metrics"] = renamed.collect();
}

/// Step that an event belongs to.
fn event_step(event: &Event) -> u64 {
    match event {
        Event::Started(info) => info.first_step,
        Event::Step(report) => report.step,
        Event::Evaluation(report) => report.step,
        Event::Overfitting(report) => report.step,
        Event::Memorization(report) => report.step,
        Event::Tasks(report) => report.step,
        Event::Sample(report) => report.step,
        Event::Checkpoint(report) => report.step,
        Event::Skipped { step, .. } => *step,
        Event::Finished(report) => report.step,
    }
}

/// Fields that are always numbers: `null` in one is a NaN or an infinity, which JSON cannot hold.
const NUMBERS: [&str; 11] = [
    "time",
    "loss",
    "grad_norm",
    "learning_rate",
    "tokens_per_second",
    "epoch",
    "seconds",
    "val_loss",
    "perplexity",
    "flops_per_step",
    "uniform_loss",
];

/// Deserializer of a JSON value that reads `null` as NaN under a key in [`NUMBERS`].
struct NullIsNan {
    key: String,
    value: Value,
}

impl<'de> Deserializer<'de> for NullIsNan {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> serde_json::Result<V::Value> {
        match self.value {
            Value::Null if NUMBERS.contains(&self.key.as_str()) => visitor.visit_f64(f64::NAN),
            Value::Object(map) => {
                let fields = map.into_iter().map(|(key, value)| (key.clone(), NullIsNan { key, value }));
                visitor.visit_map(MapDeserializer::new(fields))
            }
            value => value.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> serde_json::Result<V::Value> {
        self.value.deserialize_option(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl IntoDeserializer<'_, serde_json::Error> for NullIsNan {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

/// A file of records that grows by whole records only.
pub(super) struct RecordFile {
    file: File,
    path: PathBuf,
    length: u64,
}

impl RecordFile {
    pub(super) fn append(path: &Path) -> Result<Self> {
        let file = storage::append(path)?;
        Ok(Self { file, path: path.into(), length: storage::len(path)? })
    }

    /// Appends a record. If that fails, the part that was written is removed again, so that later records
    /// stay readable.
    pub(super) fn write(&mut self, record: &[u8]) -> Result<()> {
        match self.file.write_all(record) {
            Ok(()) => {
                self.length += record.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Best effort: the error that is reported is the first one.
                let _ = self.file.set_len(self.length);
                Err(Error::io("write", &self.path, error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{objective::Metrics, train::event::*};

    fn step(step: u64, loss: f32) -> Event {
        Event::Step(StepReport {
            step,
            loss,
            grad_norm: 0.5,
            learning_rate: 1e-3,
            tokens: step * 768,
            tokens_per_second: 1000.0,
            mfu: None,
            epoch: 0.1,
            seconds: step as f64,
            metrics: Metrics::new(),
        })
    }

    fn evaluation(step: u64) -> Event {
        Event::Evaluation(EvaluationReport {
            step,
            train_loss: None,
            val_loss: f64::INFINITY,
            perplexity: Some(f64::NAN),
            gap: None,
            exact_match: None,
            macro_f1: None,
            metrics: Metrics::new(),
            is_best: false,
            seconds: 1.0,
        })
    }

    fn started(first_step: u64) -> Event {
        Event::Started(RunInfo {
            device: "cpu".into(),
            parameters: 10,
            vocab_size: 65,
            train_tokens: 100,
            val_tokens: 10,
            tokens_per_step: 8,
            flops_per_step: f64::NAN,
            peak_flops: None,
            first_step,
            last_step: 20,
            log_interval: 1,
            uniform_loss: Some(f64::NAN),
            has_perplexity: true,
            notes: Vec::new(),
        })
    }

    fn finished(step: u64) -> Event {
        Event::Finished(FinishReport {
            step,
            reason: FinishReason::Interrupted,
            best_val_loss: None,
            best_step: None,
            seconds: 2.0,
            tokens: 9,
            skipped_steps: 0,
            peak_memory_bytes: None,
        })
    }

    fn steps(run: &Path) -> Vec<u64> {
        read_events(&run.join(FILE_NAME)).unwrap().iter().map(|logged| event_step(&logged.event)).collect()
    }

    #[test]
    fn every_event_comes_back_with_nan_for_what_json_cannot_hold() {
        let run = tempfile::tempdir().unwrap();
        let events = [
            started(0),
            step(1, f32::NAN),
            evaluation(1),
            Event::Sample(SampleReport { step: 1, text: "line\nbreak \"quoted\"".into(), reward: None }),
            Event::Checkpoint(CheckpointReport { step: 1, path: "a/b".into(), is_best: true }),
            Event::Skipped { step: 2, loss: f32::INFINITY, grad_norm: f32::NAN, batch: "rows 3, 4".into() },
            finished(2),
        ];
        let mut log = LogFile::open(run.path(), None).unwrap();
        for event in &events {
            log.write(event).unwrap();
        }
        let read = read_events(&run.path().join(FILE_NAME)).unwrap();
        assert_eq!(read.len(), events.len());
        assert!(read.iter().all(|logged| logged.time > 1.7e9));
        // NaN differs from itself: compare what is printed, with infinity read as NaN.
        let printed = |event: &Event| format!("{event:?}").replace("inf", "NaN");
        for (logged, event) in read.iter().zip(&events) {
            assert_eq!(printed(&logged.event), printed(event));
        }
    }

    /// Earlier versions did not log which runs have a perplexity: all had one.
    #[test]
    fn logs_of_earlier_versions_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let lines = [
            r#"{"time":1.5,"type":"started","device":"cpu","parameters":10,"vocab_size":65,"train_tokens":100,"val_tokens":10,"tokens_per_step":8,"flops_per_step":1e9,"peak_flops":null,"first_step":0,"last_step":20,"log_interval":1,"uniform_loss":4.25}"#,
            r#"{"time":1.5,"type":"evaluation","step":5,"train_loss":null,"val_loss":2.5,"perplexity":12.0,"is_best":true,"seconds":0.5}"#,
            r#"{"time":1.5,"type":"step","step":5,"loss":2.5,"grad_norm":1.0,"learning_rate":0.1,"tokens":1,"tokens_per_second":1.0,"mfu":null,"epoch":0.5,"seconds":1.0,"router":{"load_balancing":1.5,"z":0.5,"utilization":[0.25,0.75]}}"#,
        ];
        std::fs::write(&path, lines.join("\n")).unwrap();
        let events = read_events(&path).unwrap();
        let Event::Started(info) = &events[0].event else { panic!("{events:?}") };
        assert!(info.has_perplexity && info.uniform_loss == Some(4.25), "{info:?}");
        let Event::Evaluation(report) = &events[1].event else { panic!("{events:?}") };
        assert!(report.perplexity == Some(12.0) && report.macro_f1.is_none(), "{report:?}");
        let Event::Step(report) = &events[2].event else { panic!("{events:?}") };
        assert_eq!(report.metrics["router/z"].values(), [0.5]);
        assert_eq!(report.metrics["router/expert"].values(), [0.25, 0.75]);
    }

    #[test]
    fn resuming_drops_the_stale_future_and_keeps_the_rest_byte_for_byte() {
        let run = tempfile::tempdir().unwrap();
        let path = run.path().join(FILE_NAME);
        let mut log = LogFile::open(run.path(), None).unwrap();
        for event in [started(0), step(5, 3.0), step(10, 2.0), evaluation(10)] {
            log.write(&event).unwrap();
        }
        let kept = std::fs::read(&path).unwrap();
        for event in [step(11, 1.9), finished(11), started(11), step(12, 1.8)] {
            log.write(&event).unwrap();
        }
        drop(log);

        let mut log = LogFile::open(run.path(), Some(10)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), kept);
        log.write(&started(10)).unwrap();
        log.write(&step(11, 1.95)).unwrap();
        assert_eq!(steps(run.path()), [0, 5, 10, 10, 10, 11]);
    }

    #[test]
    fn a_truncated_last_line_and_garbage_are_passed_over() {
        let run = tempfile::tempdir().unwrap();
        let path = run.path().join(FILE_NAME);
        let mut log = LogFile::open(run.path(), None).unwrap();
        log.write(&step(1, 3.0)).unwrap();
        drop(log);
        let mut bytes = std::fs::read(&path).unwrap();
        let line = bytes.clone();
        bytes.extend_from_slice(b"\xff\xfe not json\n{\"type\":\"unknown\",\"time\":1}\n");
        bytes.extend_from_slice(&line[..line.len() / 2]);
        std::fs::write(&path, &bytes).unwrap();

        assert_eq!(steps(run.path()), [1]);
        let mut log = LogFile::open(run.path(), Some(9)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), line);
        log.write(&step(2, 2.0)).unwrap();
        assert_eq!(steps(run.path()), [1, 2]);
    }

    #[test]
    fn a_new_run_starts_an_empty_log() {
        let run = tempfile::tempdir().unwrap();
        LogFile::open(run.path(), None).unwrap().write(&step(1, 3.0)).unwrap();
        LogFile::open(run.path(), None).unwrap().write(&step(2, 3.0)).unwrap();
        assert_eq!(steps(run.path()), [2]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_that_names_the_file() {
        let mut file = RecordFile::append(Path::new("/dev/full")).unwrap();
        let error = file.write(b"record").unwrap_err();
        assert!(error.to_string().starts_with("cannot write `/dev/full`"), "{error}");
    }
}
