//! `kiln tokenizer`: trains and describes tokenizers, encodes text and decodes tokens.

use super::{table::grouped, texts::standard_input};
use crate::{
    checkpoint::{names, resolve},
    config::{Config, TokenizerConfig, TokenizerKind},
    data::{Dataset, check_shard_path, write_shard},
    error::{Error, Result, hint},
    platform::{Instant, storage},
    tokenizer::Tokenizer,
};
use std::{
    io::Write,
    path::{Path, PathBuf},
};

#[derive(Debug, clap::Args)]
pub struct TokenizerArguments {
    #[command(subcommand)]
    command: TokenizerCommand,
}

#[derive(Debug, clap::Subcommand)]
enum TokenizerCommand {
    /// Train a tokenizer on text and write a tokenizer.json
    Train {
        /// Text or JSONL files or folders of them; default: the embedded corpus
        #[arg(value_name = "PATH")]
        data: Vec<PathBuf>,
        /// char, byte or bpe
        #[arg(long, default_value = "bpe", value_parser = trainable_kind)]
        kind: TokenizerKind,
        /// Number of tokens, for bpe
        #[arg(long, default_value_t = 1024, value_name = "N")]
        vocab_size: usize,
        /// Where to write
        #[arg(long, default_value = "tokenizer.json", value_name = "FILE")]
        out: PathBuf,
    },
    /// Turn text into tokens: numbers on a line each document, or a shard with --out
    Encode {
        #[command(flatten)]
        tokenizer: WhichTokenizer,
        /// Text to encode; default: standard input
        #[arg(value_name = "TEXT", conflicts_with_all = ["data", "out"])]
        text: Option<String>,
        /// Text or JSONL files or folders of them
        #[arg(long, value_name = "PATH")]
        data: Vec<PathBuf>,
        /// Write a token shard (.bin, which `kiln train --data` maps) instead of printing
        #[arg(long, value_name = "FILE", requires = "data")]
        out: Option<PathBuf>,
    },
    /// Turn tokens back into text
    Decode {
        #[command(flatten)]
        tokenizer: WhichTokenizer,
        /// Token numbers; default: standard input
        #[arg(value_name = "TOKEN")]
        tokens: Vec<u32>,
    },
    /// Describe a tokenizer
    Info {
        #[command(flatten)]
        tokenizer: WhichTokenizer,
        /// Also count the tokens of these files
        #[arg(long, value_name = "PATH")]
        data: Vec<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
struct WhichTokenizer {
    /// A tokenizer.json or a .gguf file, or a run or checkpoint folder that has a tokenizer
    #[arg(long, short, value_name = "PATH", default_value = "tokenizer.json")]
    tokenizer: PathBuf,
}

impl WhichTokenizer {
    fn load(&self) -> Result<Tokenizer> {
        let path = match self.tokenizer.is_dir() {
            true if self.tokenizer.join(names::TOKENIZER).is_file() => self.tokenizer.join(names::TOKENIZER),
            true => resolve(&self.tokenizer)?.join(names::TOKENIZER),
            false => self.tokenizer.clone(),
        };
        if !path.is_file() {
            return Err(Error::NotFound {
                path,
                hint: hint![
                    "name a `tokenizer.json` or a run with ",
                    hint::command("--tokenizer"),
                    "; ",
                    hint::command("kiln tokenizer train"),
                    " makes one"
                ],
            });
        }
        Tokenizer::from_file(&path)
    }
}

fn trainable_kind(name: &str) -> Result<TokenizerKind, String> {
    match name {
        "char" => Ok(TokenizerKind::Char),
        "byte" => Ok(TokenizerKind::Byte),
        "bpe" => Ok(TokenizerKind::Bpe),
        _ => Err("char, byte or bpe".into()),
    }
}

pub(super) fn run(arguments: TokenizerArguments) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match arguments.command {
        TokenizerCommand::Train { data, kind, vocab_size, out } => {
            let config = TokenizerConfig { kind, vocab_size, path: None };
            let start = Instant::now();
            let tokenizer = dataset(data, config, None)?.tokenizer;
            storage::write_atomic(&out, tokenizer.to_json()?.as_bytes())?;
            let (count, seconds) = (tokenizer.vocab_size(), start.elapsed().as_secs_f64());
            writeln!(stdout, "{}: {count} tokens, trained in {seconds:.1} s", out.display())?;
        }
        TokenizerCommand::Encode { tokenizer, text, data, out } => {
            let tokenizer = tokenizer.load()?;
            if data.is_empty() {
                let text = text.map_or_else(standard_input, Ok)?;
                print_tokens(&mut stdout, tokenizer.encode(&text)?)?;
                return Ok(());
            }
            out.as_deref().map_or(Ok(()), check_shard_path)?;
            let split = dataset(data, TokenizerConfig::default(), Some(tokenizer.clone()))?.train;
            match out {
                Some(out) => {
                    write_shard(&out, &split, &tokenizer)?;
                    let (tokens, documents) = (grouped(split.len() as u64), split.document_count());
                    writeln!(stdout, "{}: {tokens} tokens, documents: {documents}", out.display())?;
                }
                None => {
                    for document in (0..split.document_count()).map(|index| split.document(index)) {
                        let mut tokens = vec![0; document.len()];
                        split.copy(document, &mut tokens);
                        print_tokens(&mut stdout, tokens)?;
                    }
                }
            }
        }
        TokenizerCommand::Decode { tokenizer, mut tokens } => {
            let tokenizer = tokenizer.load()?;
            if tokens.is_empty() {
                tokens = numbers(&standard_input()?)?;
            }
            writeln!(stdout, "{}", tokenizer.decode(&tokens)?)?;
        }
        TokenizerCommand::Info { tokenizer, data } => {
            let tokenizer = tokenizer.load()?;
            let kind = serde_json::to_value(tokenizer.kind())?;
            writeln!(stdout, "kind         {}", kind.as_str().unwrap_or_default())?;
            writeln!(stdout, "tokens       {}", tokenizer.vocab_size())?;
            let end = tokenizer.end_of_text().map_or_else(|| "none".into(), |id| id.to_string());
            writeln!(stdout, "end of text  {end}")?;
            writeln!(stdout, "fingerprint  {}", tokenizer.fingerprint())?;
            for path in data {
                count(&mut stdout, &tokenizer, &path)?;
            }
        }
    }
    Ok(())
}

fn count(out: &mut impl Write, tokenizer: &Tokenizer, path: &Path) -> anyhow::Result<()> {
    let start = Instant::now();
    let dataset = dataset(vec![path.into()], TokenizerConfig::default(), Some(tokenizer.clone()))?;
    let seconds = start.elapsed().as_secs_f64();
    let tokens = dataset.train.len();
    let bytes = dataset.train_bytes.unwrap_or(0) as f64;
    let per_token = bytes / tokens.max(1) as f64;
    let tokens = grouped(tokens as u64);
    let speed = bytes / 1e6 / seconds;
    writeln!(out, "{}  {tokens} tokens, {per_token:.2} bytes a token, {speed:.1} MB/s", path.display())?;
    Ok(())
}

fn print_tokens<T: ToString>(out: &mut impl Write, tokens: Vec<T>) -> std::io::Result<()> {
    let numbers: Vec<String> = tokens.iter().map(T::to_string).collect();
    writeln!(out, "{}", numbers.join(" "))
}

/// Reads all text at `paths` as one split; without paths, the embedded corpus.
fn dataset(paths: Vec<PathBuf>, tokenizer: TokenizerConfig, given: Option<Tokenizer>) -> Result<Dataset> {
    let mut config = Config { tokenizer, ..Default::default() };
    config.data.paths = paths;
    config.data.val_fraction = 0.0;
    config.model.block_size = 1;
    config.validate()?;
    let dataset = Dataset::prepare(&config, given)?;
    super::show_notes(&dataset.notes);
    Ok(dataset)
}

fn numbers(text: &str) -> Result<Vec<u32>> {
    let words = text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
    words
        .map(|word| word.parse().map_err(|_| Error::invalid_value("TOKEN", word, "is not a token number")))
        .collect()
}
