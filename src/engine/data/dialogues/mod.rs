//! Dialogues as training data: files of messages, preferences, labels or prompts become rows of tokens with a
//! weight for each, through the model's chat template.

mod detect;
mod labels;
mod read;
mod table;
#[cfg(test)]
mod tests;

pub use labels::DialogueLabels;
pub use read::{DialogueFile, kind_of};

use super::{Labels, TokenSplit, Tokens, collate::special_tokens, dataset::hold_out};
use crate::{
    config::{Config, Format, Head, SampleKind, TokenizerKind},
    error::{Error, Result, hint},
    tokenizer::{END_OF_TEXT, Tokenizer},
};
use kiln_chat::{
    ChatTokenizer, Ending, RowMaker, RowOptions, Sample, Skipped, Statistics, Template, Text, builtin,
    marks::{Controls, Unmarked},
    rows,
};
use read::{Examples, Located};
use std::path::Path;

/// Dialogues as rows of tokens.
#[derive(Debug, Clone)]
pub struct Dialogues {
    /// The tokenizer, with the chat template, if messages were rendered. What ends a turn ends generation.
    pub tokenizer: Tokenizer,
    /// Origin of the chat template; `None` if no messages were rendered.
    pub template: Option<String>,
    /// Warnings about the chat template.
    pub warnings: Vec<String>,
    pub files: Vec<DialogueFile>,
    pub train: DialoguePart,
    pub val: DialoguePart,
    /// Largest number of tokens in a row.
    pub limit: usize,
    /// Examples that are left out.
    pub skipped: Skipped,
    /// Note on files that are not read, if there are any.
    pub passed_over: Option<String>,
}

/// The rows of a split.
#[derive(Debug, Clone)]
pub struct DialoguePart {
    /// Rows, one a document, with [`Labels::Dialogues`].
    pub split: TokenSplit,
    pub statistics: Statistics,
    /// File, by its index, and line of each row's record.
    pub places: Vec<(usize, usize)>,
}

impl Dialogues {
    /// Reads the dialogues that `config.data` names and turns them into rows; `None` if the objective or the
    /// files are of text. `tokenizer` is that of the model, with its chat template, if there is a model.
    ///
    /// # Errors
    /// Those of reading; [`Error::InvalidDialogue`] for files of no known format, and for examples that
    /// cannot be trained on, unless they are to be skipped; [`Error::ChatTemplate`] and
    /// [`Error::UnknownName`] for the template; [`Error::Tokenizer`].
    pub fn prepare(config: &Config, tokenizer: Option<&Tokenizer>) -> Result<Option<Self>> {
        match config.sample_kind() {
            None => Ok(None),
            Some(kind) => Self::prepare_as(config, kind, tokenizer),
        }
    }

    /// Like [`prepare`](Self::prepare), for an objective that learns from samples of this kind.
    ///
    /// # Errors
    /// Those of [`prepare`](Self::prepare).
    pub fn prepare_as(
        config: &Config,
        kind: SampleKind,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<Option<Self>> {
        match read::read(config, kind)? {
            None => Ok(None),
            Some(examples) => Self::of_examples(config, kind, examples, tokenizer).map(Some),
        }
    }

    /// Like [`prepare`](Self::prepare), with the text of one file.
    pub fn from_text(
        config: &Config,
        name: &Path,
        text: &str,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<Option<Self>> {
        let Some(kind) = config.sample_kind() else { return Ok(None) };
        let mut examples = Examples::default();
        match examples.push_file(config, kind, name, text, true)? {
            false => Ok(None),
            true => Self::of_examples(config, kind, examples, tokenizer).map(Some),
        }
    }

    fn of_examples(
        config: &Config,
        kind: SampleKind,
        mut examples: Examples,
        given: Option<&Tokenizer>,
    ) -> Result<Self> {
        if !config.data.canaries.is_empty() {
            let message = "dialogues have no place for canaries, which are text of no turn";
            let value = format!("{} canaries", config.data.canaries.len());
            return Err(Error::invalid_value("data.canaries", value, message));
        }
        let (mut train, val) = (std::mem::take(&mut examples.examples), examples.val.take());
        if train.is_empty() {
            examples.check_refused(config)?;
            return Err(nothing_left(&examples));
        }
        let val = match val {
            Some(val) => val,
            None => {
                let (_, held_out) = hold_out(train.len(), config.data.val_fraction)?;
                let mut is_held_out = vec![false; train.len()];
                held_out.iter().for_each(|&index| is_held_out[index] = true);
                let mut flags = is_held_out.into_iter();
                let (val, kept) = train.into_iter().partition(|_| flags.next().unwrap_or(false));
                train = kept;
                val
            }
        };
        let mut samples = train.iter().chain(&val).flat_map(|located| &located.samples);
        let needs_template = samples.any(Sample::needs_template);
        let tokenizer = match given {
            Some(tokenizer) => tokenizer.clone(),
            None => make_tokenizer(config, &train, &val)?,
        };
        let chat = match needs_template {
            true => Some(chat_tokenizer(config, tokenizer.clone(), given.is_some())?),
            false => None,
        };
        let limit = match (kind, config.model.head) {
            // The last token of a row is a target only.
            (SampleKind::Prompts, _) => config.model.block_size,
            (_, Head::LanguageModel) => config.model.block_size + 1,
            _ => config.model.block_size,
        };
        let options = RowOptions {
            loss_on: config.chat.loss_on,
            role_weights: config.chat.role_weights.clone(),
            truncation: config.chat.truncate,
            limit,
        };
        let template = chat.as_ref().map(|chat| chat.template().origin().to_owned());
        let warnings = chat.as_ref().map_or_else(Vec::new, ChatTokenizer::warnings);
        let tokenizer = chat.as_ref().map_or(tokenizer, with_turn_end);
        let maker = RowMaker::new(tokenizer.clone(), chat, kind, options);
        let rows = rows_per_example(kind, &examples.files)?;
        let train = rows_of("train", train, rows, &maker, &tokenizer, &mut examples);
        let val = rows_of("validation", val, rows, &maker, &tokenizer, &mut examples);
        examples.check_refused(config)?;
        if train.split.is_empty() {
            return Err(nothing_left(&examples));
        }
        let Examples { files, skipped, passed_over, .. } = examples;
        Ok(Self { tokenizer, template, warnings, files, train, val, limit, skipped, passed_over })
    }

    /// Describes files, rows, and what is left out, for the user.
    pub fn notes(&self) -> Vec<String> {
        let file = |file: &DialogueFile| {
            let told = if file.is_detected { ", told by its records" } else { "" };
            let (path, examples, format) = (file.path.display(), file.examples, file.format.name());
            format!("`{path}`: {examples} examples of the format `{format}`{told}")
        };
        let part = |part: &DialoguePart| {
            let name = part.split.name();
            format!("{name} split: {}", part.statistics.describe(self.limit))
        };
        let template =
            self.template.iter().map(|origin| format!("messages are rendered by the chat template {origin}"));
        let parts = [&self.train, &self.val].into_iter().filter(|part| part.statistics.rows > 0);
        let all = self.files.iter().map(|file| file.examples).sum();
        let files = self.files.iter().map(file).chain(self.passed_over.clone());
        let files = files.chain(template).chain(self.warnings.iter().cloned());
        files.chain(parts.map(part)).chain(self.skipped.describe(all)).collect()
    }
}

/// Refuses files in which no example is left, with the reasons.
fn nothing_left(examples: &Examples) -> Error {
    let files = &examples.files;
    let all = files.iter().map(|file| file.examples).sum();
    let reasons = examples.skipped.describe(all).map_or_else(String::new, |reasons| format!("; {reasons}"));
    let of_first = examples.refused.as_ref().and_then(|(_, _, refusal)| refusal.hint.clone());
    Error::InvalidValue {
        key: "data.paths".into(),
        value: files.iter().map(|file| file.path.display().to_string()).collect::<Vec<_>>().join(", "),
        message: format!("there is no example that can be trained on{reasons}"),
        hint: Some(of_first.unwrap_or_else(|| "correct the examples, or name other files".into())),
    }
}

/// Number of rows of each example: 2 of a pair, otherwise 1.
///
/// # Errors
/// [`Error::InvalidDialogue`] if files of pairs and of single answers are mixed.
fn rows_per_example(kind: SampleKind, files: &[DialogueFile]) -> Result<usize> {
    let is_pair = |file: &&DialogueFile| file.format == Format::Preference && kind != SampleKind::Labelled;
    match (files.iter().find(is_pair), files.iter().find(|file| !is_pair(file))) {
        (Some(_), None) => Ok(2),
        (None, _) => Ok(1),
        (Some(_), Some(other)) => Err(Error::InvalidDialogue {
            path: other.path.clone(),
            line: 1,
            message: format!("is of the format `{}`, but other files hold pairs", other.format.name()),
            hint: Some("name files of pairs, or of single answers".into()),
        }),
    }
}

/// Turns examples into the rows of a split. Those that are refused are counted.
fn rows_of(
    name: &'static str,
    located: Vec<Located>,
    rows_per_example: usize,
    maker: &RowMaker,
    tokenizer: &Tokenizer,
    examples: &mut Examples,
) -> DialoguePart {
    let mut tokens = Tokens::for_vocabulary(tokenizer.vocab_size());
    let (mut starts, mut weights, mut values, mut places) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut records = Vec::new();
    let mut statistics = Statistics::default();
    for Located { file, line, samples, record } in located {
        for sample in &samples {
            let rows = match maker.rows(sample) {
                Ok(rows) => rows,
                Err(refusal) => {
                    let path = examples.files[file].path.clone();
                    examples.refuse(&path, file, line, refusal);
                    continue;
                }
            };
            for (number, row) in rows.iter().enumerate() {
                statistics.add(row);
                starts.push(tokens.len());
                tokens.extend(&row.tokens);
                weights.extend_from_slice(&row.weights);
                places.push((file, line));
                // The margin of a pair is in its preferred row.
                values.push(sample.value.filter(|_| number == 0));
            }
            records.extend(record.clone());
        }
    }
    let has_values = values.iter().any(Option::is_some);
    let values = values.into_iter().filter(|_| has_values).map(|value| value.unwrap_or(0.0)).collect();
    let labels = DialogueLabels {
        weights: weights.into(),
        values,
        rows_per_example,
        records: records.into(),
        truncated: statistics.truncated,
    };
    let split = TokenSplit::from_tokens(name, tokens, starts).with_labels(Labels::Dialogues(labels));
    DialoguePart { split, statistics, places }
}

/// Makes a tokenizer of the texts of dialogues, with the special tokens of the template.
fn make_tokenizer(config: &Config, train: &[Located], val: &[Located]) -> Result<Tokenizer> {
    let name = config.chat.template.as_deref().unwrap_or(builtin::DEFAULT);
    let mut special = special_tokens(config);
    let template = builtin::open(name, config.chat.seconds()?)?;
    match builtin::Builtin::find(name) {
        Some(builtin) => special.extend(builtin.special_tokens()),
        None => {
            let own = template.control_texts().into_iter().filter(|text| *text != END_OF_TEXT);
            special.extend(own.chain([END_OF_TEXT]).map(str::to_owned));
        }
    }
    special.dedup();
    let mut texts = Vec::new();
    let mut add = |sample: &Sample| sample.visit_texts(&mut |text| texts.push(text.to_owned()));
    train.iter().flat_map(|located| &located.samples).for_each(&mut add);
    if config.tokenizer.kind != TokenizerKind::Bpe {
        val.iter().flat_map(|located| &located.samples).for_each(&mut add);
        // What a template writes between the texts is of characters too.
        let named = [("eos_token".to_owned(), String::new())].into();
        let samples = train.iter().chain(val).flat_map(|located| &located.samples);
        for sample in samples.filter(|sample| sample.needs_template()) {
            let nothing = [Text::Messages(Vec::new())];
            let answers = if sample.answers.is_empty() { &nothing[..] } else { &sample.answers[..] };
            let whole = answers.iter().map(|answer| rows::conversation(sample, answer).0);
            let rendered = whole.filter_map(|whole| template.render(&whole, Ending::Prompt, &named).ok());
            texts.extend(rendered.map(|text| Unmarked::of(&text, &Controls::default()).text));
        }
    }
    Tokenizer::train(&config.tokenizer, &special, texts.iter().map(String::as_str))
}

/// Puts the chat template to a tokenizer: the one that the user names, otherwise that of the model.
fn chat_tokenizer(config: &Config, tokenizer: Tokenizer, is_given: bool) -> Result<ChatTokenizer> {
    let now = config.chat.seconds()?;
    if let Some(name) = &config.chat.template {
        let chat = ChatTokenizer::new(builtin::open(name, now)?, tokenizer);
        chat.check_tokens()?;
        return Ok(chat);
    }
    if let Some(source) = tokenizer.chat_template() {
        let template = Template::new(source, "of the model", now)?;
        return Ok(ChatTokenizer::new(template, tokenizer));
    }
    // A tokenizer from a file has no template either.
    if is_given || config.tokenizer.kind == TokenizerKind::File {
        let names: Vec<String> = builtin::Builtin::names().map(|name| format!("`{name}`")).collect();
        return Err(Error::InvalidValue {
            key: "chat.template".into(),
            value: String::new(),
            message: "the model has no chat template, and the data has messages".into(),
            hint: Some(hint![
                "name one of ",
                names.join(", "),
                ", or a file, with ",
                hint::choose("chat.template", "NAME")
            ]),
        });
    }
    let chat = ChatTokenizer::new(builtin::open(builtin::DEFAULT, now)?, tokenizer);
    chat.check_tokens()?;
    Ok(chat)
}

/// The tokenizer with its template, at whose end of a turn generation stops.
fn with_turn_end(chat: &ChatTokenizer) -> Tokenizer {
    let tokenizer = chat.tokenizer().clone().with_chat_template(chat.template().source());
    let mut ends = tokenizer.end_tokens().to_vec();
    match chat.turn_end().token {
        Some(token) if !ends.contains(&token) => {
            ends.push(token);
            let end_of_text = tokenizer.end_of_text();
            tokenizer.with_end_tokens(end_of_text, &ends)
        }
        _ => tokenizer,
    }
}
