//! `kiln preview FILE`: dialogue data as a model sees it, token by token, with the part that is trained.

mod tokens;

use super::{config::ConfigSource, model::open_checkpoint, train::use_data};
use crate::{
    chat::SampleKind,
    config::{Config, OnBadRow, TokenizerConfig, TokenizerKind},
    data::{
        Labels, TokenSplit,
        dialogues::{DialoguePart, Dialogues, kind_of},
    },
    error::{Error, Result, hint},
    tokenizer::Tokenizer,
};
use serde_json::{Value, json};
use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
};
use tokens::{Row, Style};

#[derive(Debug, clap::Args)]
pub struct PreviewArguments {
    /// Files of dialogues, or folders of them; default: those of the configuration
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    source: ConfigSource,
    /// Model whose tokenizer and chat template are used; default: a tokenizer that is made of the files
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Number of examples to show
    #[arg(long, default_value_t = 3, value_name = "N")]
    rows: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Preset that a preview starts from if none is named.
const PRESET: &str = "sft";

/// Number of tokens of a tokenizer that is made for a preview.
const VOCABULARY: usize = 2048;

pub(super) fn run(arguments: PreviewArguments) -> anyhow::Result<()> {
    let (config, kind, tokenizer) = prepare(&arguments)?;
    let dialogues = match kind {
        Some(kind) => Dialogues::prepare_as(&config, kind, tokenizer.as_ref())?,
        None => None,
    };
    let dialogues = dialogues.ok_or_else(|| Error::InvalidValue {
        key: "data.paths".into(),
        value: config.data.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
        message: "there are no dialogues in it, but text or nothing".into(),
        hint: Some(hint![
            "dialogues are records such as those with `messages`; ",
            hint::command("kiln tokenizer encode"),
            " shows the tokens of a text"
        ]),
    })?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&as_json(&dialogues, arguments.rows))?)?;
        return Ok(());
    }
    for note in dialogues.notes() {
        writeln!(out, "{note}")?;
    }
    let style = Style::of(std::io::stdout().is_terminal());
    writeln!(out, "{}", style.legend())?;
    for example in shown(&dialogues, arguments.rows) {
        for row in example {
            writeln!(out, "\n{}\n{}", row.title(), row.tokens(style))?;
        }
    }
    Ok(())
}

/// The configuration of the preview, the kind of its samples, and the tokenizer of the model.
fn prepare(arguments: &PreviewArguments) -> Result<(Config, Option<SampleKind>, Option<Tokenizer>)> {
    let (mut config, keys) = arguments.source.read_with_keys(PRESET)?;
    let sets = |prefix: &str| keys.iter().any(|key| key.starts_with(prefix));
    use_data(&mut config, &arguments.files)?;
    if config.data.paths.is_empty() {
        return Err(Error::InvalidValue {
            key: "FILE".into(),
            value: String::new(),
            message: "no file of dialogues is named".into(),
            hint: Some(hint!["name one, for example ", hint::command("kiln preview talk.jsonl")]),
        });
    }
    if !sets("chat.on_bad_row") {
        config.chat.on_bad_row = OnBadRow::Skip;
    }
    // All of the rows, in their order.
    config.data.val_fraction = 0.0;
    let mut tokenizer = None;
    if let Some(path) = &arguments.model {
        let checkpoint = open_checkpoint(path)?;
        tokenizer = Some(checkpoint.tokenizer()?);
        if !sets("model.block_size") {
            config.model.block_size = checkpoint.model.block_size;
        }
        config.model.head = checkpoint.model.head;
    } else if !sets("tokenizer.") {
        config.tokenizer = TokenizerConfig {
            kind: TokenizerKind::Bpe,
            vocab_size: VOCABULARY,
            ..TokenizerConfig::default()
        };
    }
    // What the files are for, unless the user says it. Records of no format are refused with their fields.
    let says_kind = sets("objective.kind") || arguments.source.preset.is_some();
    let of_files = || kind_of(&config).map(|kind| kind.or(Some(SampleKind::Conversations)));
    let kind = if says_kind { config.sample_kind() } else { of_files()? };
    Ok((config, kind, tokenizer))
}

/// The rows of the first examples.
fn shown(dialogues: &Dialogues, examples: usize) -> Vec<Vec<Row<'_>>> {
    let DialoguePart { split, places, .. } = &dialogues.train;
    let rows = split.rows_per_example();
    let count = examples.min(split.document_count() / rows);
    let row = |index: usize, number: usize| {
        let (file, line) = places[index];
        Row {
            tokenizer: &dialogues.tokenizer,
            path: &dialogues.files[file].path,
            line,
            name: (rows == 2).then_some(if number == 0 { "chosen" } else { "rejected" }),
            tokens: split.read(split.document(index)).into_iter().map(|token| token as u32).collect(),
            weights: weights(split, index),
            value: value(split, index),
        }
    };
    (0..count).map(|example| (0..rows).map(|number| row(example * rows + number, number)).collect()).collect()
}

fn weights(split: &TokenSplit, row: usize) -> Vec<f32> {
    match split.labels() {
        Labels::Dialogues(labels) => labels.weights[split.document(row)].to_vec(),
        _ => Vec::new(),
    }
}

fn value(split: &TokenSplit, row: usize) -> Option<f32> {
    match split.labels() {
        Labels::Dialogues(labels) => labels.value(row),
        _ => None,
    }
}

fn as_json(dialogues: &Dialogues, examples: usize) -> Value {
    let files = dialogues.files.iter().map(|file| {
        json!({
            "path": file.path,
            "format": file.format,
            "is_detected": file.is_detected,
            "examples": file.examples,
        })
    });
    let statistics = &dialogues.train.statistics;
    json!({
        "files": files.collect::<Vec<_>>(),
        "template": dialogues.template,
        "limit": dialogues.limit,
        "rows": statistics.rows,
        "tokens": statistics.tokens,
        "targets": statistics.targets,
        "masked_share": statistics.masked_share(),
        "longest": statistics.longest,
        "truncated": statistics.truncated,
        "skipped": dialogues.skipped.count(),
        "notes": dialogues.notes(),
        "shown": shown(dialogues, examples).iter().flatten().map(Row::to_json).collect::<Vec<_>>(),
    })
}
