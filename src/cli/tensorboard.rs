//! `RUN/tensorboard/`: the curves and samples of a run in TensorBoard's own format, without
//! TensorFlow. View them with `tensorboard --logdir RUN`.
//!
//! A file is a sequence of TFRecords (length, masked CRC-32C of the length, data, masked CRC-32C of
//! the data), each holding one `tensorflow.Event` message in protocol-buffer encoding. Field numbers
//! are those of `event.proto`, `summary.proto` and `tensor.proto` of TensorBoard.

use super::logfile::RecordFile;
use crate::{
    error::Result,
    eval::exposure::Exposure,
    objective::{MetricValue, Metrics},
    platform::{storage, unix_seconds},
    train::event::Event,
};
use std::path::Path;

/// An event file, open for appending.
pub struct TensorBoard {
    file: RecordFile,
}

impl TensorBoard {
    /// Starts a new event file in the folder `tensorboard` of `run`. Its session start makes TensorBoard
    /// discard what earlier files have about steps after `resume_step`, or about all steps without it.
    pub fn create(run: &Path, resume_step: Option<u64>) -> Result<Self> {
        let folder = run.join("tensorboard");
        storage::create_folder(&folder)?;
        let time = unix_seconds();
        let host =
            sysinfo::System::host_name().unwrap_or_else(|_| "localhost".into()).replace(['/', '\\'], "-");
        let name = format!("events.out.tfevents.{:010}.{host}.{}", time as u64, std::process::id());
        let mut file = RecordFile::append(&folder.join(name))?;
        file.write(&record(&version_event(time)))?;
        let first_step = resume_step.map_or(0, |step| step + 1);
        file.write(&record(&session_start_event(time, first_step)))?;
        Ok(Self { file })
    }

    /// Appends the scalars or the text of an event; events that have neither are skipped.
    pub fn write(&mut self, event: &Event) -> Result<()> {
        let (step, values) = match event {
            Event::Step(report) => {
                let mut scalars = vec![
                    scalar("train/loss", report.loss),
                    scalar("train/grad_norm", report.grad_norm),
                    scalar("train/learning_rate", report.learning_rate as f32),
                    scalar("train/tokens_per_second", report.tokens_per_second as f32),
                ];
                scalars.extend(metrics("train", &report.metrics));
                (report.step, scalars)
            }
            Event::Evaluation(report) => {
                let mut scalars = vec![scalar("val/loss", report.val_loss as f32)];
                scalars.extend(report.gap.map(|gap| scalar("val/gap", gap as f32)));
                scalars.extend(report.perplexity.map(|number| scalar("val/perplexity", number as f32)));
                scalars.extend(report.macro_f1.map(|f1| scalar("val/macro_f1", f1 as f32)));
                scalars.extend(report.exact_match.map(|share| scalar("val/exact_match", share as f32)));
                scalars.extend(metrics("val", &report.metrics));
                (report.step, scalars)
            }
            Event::Tasks(report) => (report.step, metrics("tasks", &report.metrics).collect()),
            Event::Sample(report) => (report.step, vec![text("samples", &report.text)]),
            Event::Memorization(report) => {
                let memorization = &report.memorization;
                let verbatim = memorization.train.as_ref().map(|extraction| extraction.verbatim as f32);
                let mut scalars: Vec<_> =
                    verbatim.map(|share| scalar("memorization/verbatim", share)).into_iter().collect();
                let canary = |(number, canary): (usize, &Exposure)| {
                    scalar(&format!("memorization/exposure_{number}"), canary.exposure as f32)
                };
                scalars.extend(memorization.canaries.iter().enumerate().map(canary));
                (report.step, scalars)
            }
            Event::Started(_)
            | Event::Overfitting(_)
            | Event::Checkpoint(_)
            | Event::Skipped { .. }
            | Event::Finished(_) => return Ok(()),
        };
        self.file.write(&record(&summary_event(unix_seconds(), step, &values)))
    }
}

/// Encodes metrics under their own group or else under `group`; a metric of several numbers becomes `NAME_0`,
/// `NAME_1`, ….
fn metrics<'a>(group: &'a str, metrics: &'a Metrics) -> impl Iterator<Item = Vec<u8>> + 'a {
    metrics.iter().flat_map(move |(name, value)| {
        let is_grouped = group == "train" && name.contains('/');
        let tag = if is_grouped { name.clone() } else { format!("{group}/{name}") };
        let scalar = |(i, number): (usize, &f32)| match value {
            MetricValue::One(_) => scalar(&tag, *number),
            MetricValue::Each(_) => scalar(&format!("{tag}_{i}"), *number),
        };
        value.values().iter().enumerate().map(scalar).collect::<Vec<_>>()
    })
}

/// Frames data as a TFRecord.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut bytes = Vec::with_capacity(data.len() + 16);
    bytes.extend(length);
    bytes.extend(masked_crc(&length).to_le_bytes());
    bytes.extend(data);
    bytes.extend(masked_crc(data).to_le_bytes());
    bytes
}

/// Computes TFRecord's checksum: CRC-32C, rotated and with a constant added, since a plain checksum is weak
/// for data that contains checksums.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Encodes `Event { wall_time = 1, file_version = 3 }`, the first record of every file.
fn version_event(time: f64) -> Vec<u8> {
    let mut message = Message::default();
    message.double(1, time).bytes(3, b"brain.Event:2");
    message.0
}

/// Encodes `Event { wall_time = 1, step = 2, session_log = 7 { status = 1: START = 1 } }`.
fn session_start_event(time: f64, step: u64) -> Vec<u8> {
    let mut log = Message::default();
    log.varint(1, 1);
    let mut message = Message::default();
    message.double(1, time).varint(2, step).bytes(7, &log.0);
    message.0
}

/// Encodes `Event { wall_time = 1, step = 2, summary = 5 { value = 1, repeated } }`.
fn summary_event(time: f64, step: u64, values: &[Vec<u8>]) -> Vec<u8> {
    let mut summary = Message::default();
    for value in values {
        summary.bytes(1, value);
    }
    let mut message = Message::default();
    message.double(1, time).varint(2, step).bytes(5, &summary.0);
    message.0
}

/// Encodes `Summary.Value { tag = 1, simple_value = 2 }`.
fn scalar(tag: &str, value: f32) -> Vec<u8> {
    let mut message = Message::default();
    message.bytes(1, tag.as_bytes()).float(2, value);
    message.0
}

/// Encodes `Summary.Value { tag = 1, tensor = 8, metadata = 9 }` for the text plugin. The plugin renders
/// Markdown, so the text is indented by four spaces to be shown as it is.
fn text(tag: &str, text: &str) -> Vec<u8> {
    let indented: String = text.split('\n').map(|line| format!("    {line}\n")).collect();
    // TensorProto { dtype = 1: DT_STRING = 7, tensor_shape = 2: scalar, string_val = 8 }
    let mut tensor = Message::default();
    tensor.varint(1, 7).bytes(2, &[]).bytes(8, indented.as_bytes());
    // SummaryMetadata { plugin_data = 1 { plugin_name = 1 }, data_class = 4: DATA_CLASS_TENSOR = 2 }
    let mut plugin = Message::default();
    plugin.bytes(1, b"text");
    let mut metadata = Message::default();
    metadata.bytes(1, &plugin.0).varint(4, 2);
    let mut message = Message::default();
    message.bytes(1, tag.as_bytes()).bytes(8, &tensor.0).bytes(9, &metadata.0);
    message.0
}

/// A protocol-buffer message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    const VARINT: u64 = 0;
    const FIXED64: u64 = 1;
    const LENGTH_DELIMITED: u64 = 2;
    const FIXED32: u64 = 5;

    fn key(&mut self, field: u64, wire_type: u64) {
        self.raw_varint(field << 3 | wire_type);
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u64, value: u64) -> &mut Self {
        self.key(field, Self::VARINT);
        self.raw_varint(value);
        self
    }

    fn double(&mut self, field: u64, value: f64) -> &mut Self {
        self.key(field, Self::FIXED64);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn float(&mut self, field: u64, value: f32) -> &mut Self {
        self.key(field, Self::FIXED32);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(&mut self, field: u64, value: &[u8]) -> &mut Self {
        self.key(field, Self::LENGTH_DELIMITED);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::event::SampleReport;

    // The expected bytes are those of TensorBoard 2.21.0 (`pip install tensorboard`):
    //
    // import struct
    // from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    // from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    // from tensorboard.compat.proto.tensor_pb2 import TensorProto
    // from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    // from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
    //
    // def record(e):
    //     d = e.SerializeToString(); n = struct.pack("<Q", len(d))
    //     return n + struct.pack("<I", masked_crc32c(n)) + d + struct.pack("<I", masked_crc32c(d))
    //
    // scalar = lambda tag, x: Summary.Value(tag=tag, simple_value=x)
    // text = Summary.Value(
    //     tag="samples",
    //     tensor=TensorProto(dtype=7, tensor_shape=TensorShapeProto(), string_val=[b"    a\n    <b>\n"]),
    //     metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"), data_class=2))
    // for e in [
    //     Event(wall_time=1.5, file_version="brain.Event:2"),
    //     Event(wall_time=1.5, step=300, session_log=SessionLog(status=SessionLog.START)),
    //     Event(wall_time=1.5, step=300, summary=Summary(value=[
    //         scalar("train/loss", 2.5), scalar("val/loss", 0.1)])),
    //     Event(wall_time=1.5, step=300, summary=Summary(value=[text])),
    // ]:
    //     print(record(e).hex())
    #[test]
    fn records_are_those_of_tensorboard() {
        let scalars = [scalar("train/loss", 2.5), scalar("val/loss", 0.1)];
        let records = [
            version_event(1.5),
            session_start_event(1.5, 300),
            summary_event(1.5, 300, &scalars),
            summary_event(1.5, 300, &[text("samples", "a\n<b>")]),
        ];
        let expected = [
            "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c",
            "100000000000000095fbfe1809000000000000f83f10ac023a020801713b788a",
            "3200000000000000241956ec09000000000000f83f10ac022a240a110a0a747261696e2f6c6f7373150000\
             20400a0f0a0876616c2f6c6f737315cdcccc3da2b6a52f",
            "3b000000000000001a23ac5c09000000000000f83f10ac022a2d0a2b0a0773616d706c6573421408071200\
             420e20202020610a202020203c623e0a4a0a0a060a0474657874200281019296",
        ];
        for (event, expected) in records.iter().zip(expected) {
            let bytes: String = record(event).iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(bytes, expected);
        }
    }

    #[test]
    fn a_file_is_a_chain_of_whole_records() {
        let run = tempfile::tempdir().unwrap();
        let mut board = TensorBoard::create(run.path(), Some(10)).unwrap();
        board.write(&Event::Sample(SampleReport { step: 11, text: "to be".into(), reward: None })).unwrap();
        board
            .write(&Event::Skipped { step: 12, loss: f32::NAN, grad_norm: f32::NAN, batch: String::new() })
            .unwrap();
        let files = storage::list(&run.path().join("tensorboard")).unwrap();
        assert_eq!(files.len(), 1);
        assert!(files[0].file_name().unwrap().to_str().unwrap().starts_with("events.out.tfevents."));

        let bytes = storage::read(&files[0]).unwrap();
        let (mut rest, mut records) = (&bytes[..], 0);
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(rest[8..12], masked_crc(&rest[..8]).to_le_bytes());
            let data = &rest[12..12 + length];
            assert_eq!(rest[12 + length..16 + length], masked_crc(data).to_le_bytes());
            rest = &rest[16 + length..];
            records += 1;
        }
        assert_eq!(records, 3);
    }
}
