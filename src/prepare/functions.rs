//! SQL functions that plans call by name, so that a cluster's executors find them too. Settings travel as
//! JSON in the first argument; the step or model that they describe is loaded once in each process.

use super::{
    duplicates::{
        clusters,
        exact::{self, ExactConfig},
        minhash::MinHash,
    },
    neural::CheckpointModel,
    rowwise::{Outcome, Row, RowStep, clear_words, prepare, split_words, with_words},
    rules::statistics::statistic,
    sources,
    steps::Step,
    text::Text,
};
use crate::{
    error::{Error, Result},
    tokenizer::Tokenizer,
};
use datafusion::{
    arrow::{
        array::{
            Array, ArrayRef, AsArray, BinaryBuilder, FixedSizeBinaryBuilder, Float32Builder, Float64Array,
            ListBuilder, StringArray, StringBuilder, StructBuilder, UInt32Builder, UInt64Array,
        },
        datatypes::{DataType, Field, Fields, UInt32Type},
    },
    common::{DataFusionError, Result as PlanResult, ScalarValue},
    logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf},
};
use std::{
    any::Any,
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Length of a text's digest and of a band's key, in bytes.
const KEY_BYTES: i32 = 16;

/// Reason of a document that was dropped because its step failed on it.
pub(super) const FAILED: &str = "failed";

/// All functions of this file, to be registered with a session.
pub(super) fn all() -> Vec<ScalarUDF> {
    use DataType::{Binary, Float64, UInt32, UInt64, Utf8};
    let list = |item: DataType| DataType::List(Arc::new(Field::new_list_field(item, true)));
    let pure = Volatility::Immutable;
    let text = || vec![Utf8, Utf8, Utf8];
    vec![
        create_udf("kiln_step", vec![Utf8, Utf8, Utf8, Utf8], list(outcome()), pure, Arc::new(step)),
        create_udf("kiln_statistic", text(), Float64, pure, Arc::new(statistics)),
        create_udf("kiln_keys", text(), list(DataType::FixedSizeBinary(KEY_BYTES)), pure, Arc::new(keys)),
        create_udf("kiln_jaccard", vec![Utf8; 5], Float64, pure, Arc::new(jaccard)),
        create_udf("kiln_embedding", vec![Utf8, Utf8], list(DataType::Float32), pure, Arc::new(embedding)),
        create_udf("kiln_pieces", vec![Utf8, Utf8], list(piece()), pure, Arc::new(pieces)),
        create_udf("kiln_without", vec![Utf8, Utf8, list(UInt32)], Utf8, pure, Arc::new(without)),
        create_udf("kiln_tokens", vec![Utf8, Utf8], Binary, pure, Arc::new(tokens)),
        create_udf("kiln_hash", vec![UInt64, Utf8], UInt64, pure, Arc::new(hash)),
        // Reads files and writes others: never to be folded into a constant.
        create_udf("kiln_extract", vec![Utf8], Utf8, Volatility::Volatile, Arc::new(extract)),
    ]
}

fn outcome() -> DataType {
    let field = |name: &str| Field::new(name, DataType::Utf8, true);
    DataType::Struct(Fields::from(["text", "language", "reason", "detail"].map(field).to_vec()))
}

fn piece() -> DataType {
    DataType::Struct(Fields::from(vec![
        Field::new("piece", DataType::UInt32, true),
        Field::new("key", DataType::FixedSizeBinary(KEY_BYTES), true),
    ]))
}

/// Cache of values that are built from settings, keyed by the settings. A caller waits while another builds
/// its value.
struct Cache<T>(Mutex<Option<HashMap<String, Arc<T>>>>);

impl<T> Cache<T> {
    /// Maximum number of values; a process that lives long, such as an executor, meets many pipelines.
    const MOST: usize = 64;

    const fn new() -> Self {
        Self(Mutex::new(None))
    }

    fn get(&self, settings: &str, make: impl FnOnce() -> Result<T>) -> PlanResult<Arc<T>> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cache = cache.get_or_insert_default();
        if let Some(value) = cache.get(settings) {
            return Ok(Arc::clone(value));
        }
        if cache.len() >= Self::MOST {
            cache.clear();
        }
        let new = Arc::new(make().map_err(external)?);
        cache.insert(settings.into(), Arc::clone(&new));
        Ok(new)
    }

    /// Stores a value that was built elsewhere.
    fn insert(&self, settings: &str, new: T) {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get_or_insert_default().insert(settings.into(), Arc::new(new));
    }

    fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Settings of a call: its first argument, which is the same for all rows.
fn settings(arguments: &[ColumnarValue]) -> PlanResult<&str> {
    match arguments.first() {
        Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(settings)))) => Ok(settings),
        other => Err(DataFusionError::Execution(format!("settings are no text: {other:?}"))),
    }
}

/// Arguments after the settings, as arrays of one length.
fn columns<const N: usize>(arguments: &[ColumnarValue]) -> PlanResult<[ArrayRef; N]> {
    let arrays = ColumnarValue::values_to_arrays(&arguments[1..])?;
    let count = arrays.len();
    arrays.try_into().map_err(|_| DataFusionError::Execution(format!("{count} arguments instead of {N}")))
}

fn strings(column: &ArrayRef) -> &StringArray {
    column.as_string::<i32>()
}

/// Text of a row, empty if it is null.
fn at(column: &StringArray, row: usize) -> &str {
    if column.is_null(row) { "" } else { column.value(row) }
}

static STEPS: Cache<RowStep> = Cache::new();

/// `kiln_step(step, id, text, language)`: list of the outcomes of a step for a document.
fn step(arguments: &[ColumnarValue]) -> PlanResult<ColumnarValue> {
    let settings = settings(arguments)?;
    let step = STEPS.get(settings, || prepare(&Step::from_json(settings)?))?;
    let [ids, texts, languages] = columns(arguments)?;
    let (ids, texts, languages) = (strings(&ids), strings(&texts), strings(&languages));
    let DataType::Struct(fields) = outcome() else {
        return Err(DataFusionError::Internal("an outcome is a struct".into()));
    };
    let mut list = ListBuilder::new(StructBuilder::from_fields(fields, texts.len()));
    for row in 0..texts.len() {
        let document = Row { id: at(ids, row), text: at(texts, row), language: at(languages, row) };
        // A parser of somebody else's that panics costs this document, not the run.
        let outcomes = match catch_unwind(AssertUnwindSafe(|| step(document))) {
            Ok(outcomes) => outcomes.map_err(external)?,
            Err(payload) => vec![Outcome {
                reason: Some(FAILED.into()),
                detail: Some(panic_message(payload.as_ref())),
                ..Outcome::default()
            }],
        };
        let builder = list.values();
        for outcome in outcomes {
            for (index, value) in
                [outcome.text, outcome.language, outcome.reason, outcome.detail].iter().enumerate()
            {
                let builder = builder.field_builder::<StringBuilder>(index);
                let builder =
                    builder.ok_or_else(|| DataFusionError::Internal("outcomes are texts".into()))?;
                builder.append_option(value.as_deref());
            }
            builder.append(true);
        }
        list.append(true);
    }
    Ok(ColumnarValue::Array(Arc::new(list.finish())))
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let message = payload.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| payload.downcast_ref::<&str>().copied());
    format!("the step broke off: {}", message.unwrap_or("no message"))
}

static TOKENIZERS: Cache<Tokenizer> = Cache::new();

/// Clears all caches that the plans of a stage filled.
pub(super) fn clear() {
    clear_words();
    TOKENIZERS.clear();
    STEPS.clear();
    KEYS.clear();
    MODELS.clear();
}

/// `kiln_statistic(name, text, language)`: value of the statistic of this name.
fn statistics(arguments: &[ColumnarValue]) -> PlanResult<ColumnarValue> {
    let name = settings(arguments)?;
    let statistic = statistic(name)
        .ok_or_else(|| external(Error::invalid_value("expression", name, "is no statistic")))?;
    let [texts, languages] = columns(arguments)?;
    let (texts, languages) = (strings(&texts), strings(&languages));
    let values: Float64Array = with_words(|words| {
        let of = |row| statistic.of(&Text::new(at(texts, row), at(languages, row), words));
        (0..texts.len()).map(|row| Some(of(row))).collect()
    });
    Ok(ColumnarValue::Array(Arc::new(values)))
}

/// Functions that turn a text into keys; documents with a common key are duplicates, or candidates.
enum Keys {
    Exact(ExactConfig),
    Fuzzy(MinHash),
}

static KEYS: Cache<Keys> = Cache::new();

fn cached_keys(settings: &str) -> PlanResult<Arc<Keys>> {
    KEYS.get(settings, || match Step::from_json(settings)? {
        Step::ExactDuplicates(config) => Ok(Keys::Exact(config)),
        Step::FuzzyDuplicates(config) => Ok(Keys::Fuzzy(config.build()?)),
        step => Err(Error::invalid_value("step", step.name(), "has no keys")),
    })
}

/// `kiln_keys(step, text, language)`: list of the keys of a text, one for exact and one a band for fuzzy
/// duplicates.
fn keys(arguments: &[ColumnarValue]) -> PlanResult<ColumnarValue> {
    let keys = cached_keys(settings(arguments)?)?;
    let [texts, languages] = columns(arguments)?;
    let (texts, languages) = (strings(&texts), strings(&languages));
    let mut list = ListBuilder::new(FixedSizeBinaryBuilder::new(KEY_BYTES));
    for row in 0..texts.len() {
        let text = at(texts, row);
        match &*keys {
            Keys::Exact(config) => {
                list.values().append_value(exact::digest(text, &config.normalization).to_be_bytes())?;
            }
            Keys::Fuzzy(minhash) => {
                let signature = minhash.signature(text, &mut |text| split_words(at(languages, row), text));
                for key in signature.iter().flat_map(|signature| minhash.band_keys(signature)) {
                    list.values().append_value(key.to_be_bytes())?;
                }
            }
        }
        list.append(true);
    }
    Ok(ColumnarValue::Array(Arc::new(list.finish())))
}

/// `kiln_jaccard(step, text, language, text, language)`: Jaccard similarity of the shingles of two texts.
fn jaccard(arguments: &[ColumnarValue]) -> PlanResult<ColumnarValue> {
    let keys = cached_keys(settings(arguments)?)?;
    let Keys::Fuzzy(minhash) = &*keys else {
        return Err(external(Error::invalid_value("step", "exact-duplicates", "compares no shingles")));
    };
    let [texts, languages, others, other_languages] = columns(arguments)?;
    let shingles = |texts: &ArrayRef, languages: &ArrayRef, row: usize| {
        let language = at(strings(languages), row);
        minhash.shingles(at(strings(texts), row), &mut |text| split_words(language, text))
    };
    let similarity = |row| {
        let (a, b) = (shingles(&texts, &languages, row), shingles(&others, &other_languages, row));
        Some(clusters::jaccard(&a, &b))
    };
    let values: Float64Array = (0..texts.len()).map(similarity).collect();
    Ok(ColumnarValue::Array(Arc::new(values)))
}

static MODELS: Cache<CheckpointModel> = Cache::new();

/// `kiln_embedding(model, text)`: embedding of the text under the encoder in the folder `model`.
fn embedding(arguments: &[ColumnarValue]) -> PlanResult<ColumnarValue> {
    let path = settings(arguments)?;
    let model = MODELS.get(path, || CheckpointModel::load(Path::new(path)))?;
    let [texts] = columns(arguments)?;
    let mut list = ListBuilder::new(Float32Builder::with_capacity(texts.len() * model.width()));
    for text in strings(&texts) {
        list.values().append_slice(&model.embedding(text.unwrap_or_default()).map_err(external)?);
        list.append(true);
    }
    Ok(ColumnarValue::Array(Arc::new(list.finish())))
}

/// Settings of a step that removes duplicate paragraphs or lines.
fn exact_config(settings: &str) -> PlanResult<ExactConfig> {
    match Step::from_json(settings).map_err(external)? {
        Step::ExactDuplicates(config) => Ok(config),
        step => Err(external(Error::invalid_value("step", step.name(), "has no pieces"))),
    }
}

/// `kiln_pieces(step, text)`: number and digest of the paragraphs or lines that are compared.
fn pieces(arguments: &[ColumnarValue]) -> PlanResult<ColumnarValue> {
    let config = exact_config(settings(arguments)?)?;
    let [texts] = columns(arguments)?;
    let DataType::Struct(fields) = piece() else {
        return Err(DataFusionError::Internal("a piece is a struct".into()));
    };
    let broken = || DataFusionError::Internal("a piece has a number and a key".into());
    let mut list = ListBuilder::new(StructBuilder::from_fields(fields, texts.len()));
    for text in strings(&texts) {
        for (number, digest) in (0..).zip(exact::digests(text.unwrap_or_default(), &config)) {
            let Some(digest) = digest else { continue };
            let builder = list.values();
            builder.field_builder::<UInt32Builder>(0).ok_or_else(broken)?.append_value(number);
            let keys = builder.field_builder::<FixedSizeBinaryBuilder>(1).ok_or_else(broken)?;
            keys.append_value(digest.to_be_bytes())?;
            builder.append(true);
        }
        list.append(true);
    }
    Ok(ColumnarValue::Array(Arc::new(list.finish())))
}

/// `kiln_without(step, text, pieces)`: text without the paragraphs or lines whose numbers are in `pieces`.
fn without(arguments: &[ColumnarValue]) -> PlanResult<ColumnarValue> {
    let config = exact_config(settings(arguments)?)?;
    let [texts, removed] = columns(arguments)?;
    let removed = removed.as_list::<i32>();
    let mut remaining = StringBuilder::new();
    for (row, text) in strings(&texts).iter().enumerate() {
        let text = text.unwrap_or_default();
        if removed.is_null(row) {
            remaining.append_value(text);
            continue;
        }
        let numbers = removed.value(row);
        let numbers = numbers.as_primitive::<UInt32Type>().values();
        let kept =
            (0u32..).zip(exact::pieces(text, config.level)).filter(|(number, _)| !numbers.contains(number));
        remaining.append_value(kept.map(|(_, piece)| piece).collect::<String>());
    }
    Ok(ColumnarValue::Array(Arc::new(remaining.finish())))
}

/// Puts a tokenizer into the cache as that of the file `path`, so that it is not read again in this stage.
pub(super) fn cache_tokenizer(path: &str, tokenizer: Tokenizer) {
    TOKENIZERS.insert(path, tokenizer);
}

/// `kiln_tokens(path, text)`: tokens of the text and of its end, as four bytes each, little-endian.
fn tokens(arguments: &[ColumnarValue]) -> PlanResult<ColumnarValue> {
    let path = settings(arguments)?;
    let tokenizer = TOKENIZERS.get(path, || Tokenizer::from_file(Path::new(path)))?;
    let [texts] = columns(arguments)?;
    let texts = strings(&texts);
    // A token stands for four bytes of text, more or less.
    let mut builder = BinaryBuilder::with_capacity(texts.len(), texts.value_data().len());
    let mut bytes = Vec::new();
    for text in texts {
        bytes.clear();
        let mut push = |tokens: &[u32]| {
            tokens.iter().for_each(|token| bytes.extend_from_slice(&token.to_le_bytes()));
        };
        tokenizer.encode_each(text.unwrap_or_default(), &mut push).map_err(external)?;
        if let Some(end) = tokenizer.end_of_text() {
            push(&[end]);
        }
        builder.append_value(&bytes);
    }
    Ok(ColumnarValue::Array(Arc::new(builder.finish())))
}

/// `kiln_hash(seed, id)`: 64-bit hash (XXH3) of a document's identifier.
fn hash(arguments: &[ColumnarValue]) -> PlanResult<ColumnarValue> {
    let Some(ColumnarValue::Scalar(ScalarValue::UInt64(Some(seed)))) = arguments.first() else {
        return Err(DataFusionError::Execution("a seed is a number".into()));
    };
    let [ids] = columns(arguments)?;
    let hash = |id: Option<&str>| Some(xxh3_64_with_seed(id.unwrap_or_default().as_bytes(), *seed));
    let hashes: UInt64Array = strings(&ids).iter().map(hash).collect();
    Ok(ColumnarValue::Array(Arc::new(hashes)))
}

/// `kiln_extract(task)`: reads the files of a task into parts and reports what it read, as JSON.
fn extract(arguments: &[ColumnarValue]) -> PlanResult<ColumnarValue> {
    let tasks = ColumnarValue::values_to_arrays(arguments)?;
    let reports = strings(&tasks[0]).iter().map(|task| {
        let task = sources::Task::from_json(task.unwrap_or_default()).map_err(external)?;
        let report = task.run().map_err(external)?;
        serde_json::to_string(&report).map_err(|error| DataFusionError::External(Box::new(error)))
    });
    let reports: StringArray = reports.map(|report| report.map(Some)).collect::<PlanResult<_>>()?;
    Ok(ColumnarValue::Array(Arc::new(reports)))
}
