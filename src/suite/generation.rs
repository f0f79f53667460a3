//! Settings of generation (`generation_kwargs`).

use crate::{
    entries::{Entries, Entry, Unsupported},
    error::Result,
    value::{Map, Value},
};

/// Settings of a generated text.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Texts that each end the generated text, without being part of it.
    pub until: Vec<String>,
    /// Maximum number of generated tokens.
    pub max_gen_toks: usize,
    /// Whether tokens are drawn at random. Otherwise each is the most likely one.
    pub do_sample: bool,
    pub temperature: f64,
    pub top_p: Option<f64>,
    pub top_k: Option<usize>,
    /// The keys as the task file has them, with the defaults of lm-evaluation-harness, for results and logs.
    pub keys: Map,
}

const KEYS: [&str; 10] = [
    "until",
    "max_gen_toks",
    "max_new_tokens",
    "max_tokens",
    "max_completion_tokens",
    "do_sample",
    "temperature",
    "top_p",
    "top_k",
    "num_beams",
];

const UNSUPPORTED: [Unsupported; 1] = [("max_length", "set `max_gen_toks`, the number of generated tokens")];

/// Number of generated tokens if the task does not say it.
const DEFAULT_TOKENS: usize = 256;

impl Generation {
    /// Reads the settings of a task. Without any, generation is greedy and ends at the text that stands after
    /// each few-shot example.
    ///
    /// # Errors
    /// [`Error::UnknownKey`](crate::error::Error::UnknownKey) and
    /// [`Error::InvalidKey`](crate::error::Error::InvalidKey).
    pub fn new(entry: Option<&Entry>, fewshot_delimiter: &str) -> Result<Self> {
        let Some(entry) = entry else { return Ok(Self::greedy(fewshot_delimiter)) };
        let entries = entry.map()?;
        entries.check(&KEYS, &UNSUPPORTED)?;
        let number = |name: &str| entries.get(name).map(Entry::number).transpose();
        let until = match entries.get("until") {
            Some(until) => until.one_or_list().iter().map(Entry::text).collect::<Result<_>>()?,
            None => vec![fewshot_delimiter.into()],
        };
        if let Some(beams) = entries.get("num_beams").filter(|beams| beams.integer().ok() != Some(1)) {
            return Err(beams.origin.invalid("must be 1: beam search is not supported here"));
        }
        let mut keys = entries.to_map();
        let temperature = number("temperature")?;
        if let Some(temperature) = temperature {
            keys.set("temperature", temperature);
        }
        if keys.get("until").is_none() {
            keys.set("until", until.clone());
        }
        let temperature = temperature.unwrap_or(0.0);
        let do_sample = entries.get("do_sample").map(Entry::boolean).transpose()?;
        let do_sample = do_sample.unwrap_or(temperature > 0.0);
        let max_gen_toks = max_tokens(&entries)?;
        let top_k = entries.get("top_k").map(Entry::count).transpose()?;
        let temperature = if do_sample { temperature } else { 0.0 };
        Ok(Self { until, max_gen_toks, do_sample, temperature, top_p: number("top_p")?, top_k, keys })
    }

    fn greedy(delimiter: &str) -> Self {
        let until = vec![delimiter.to_owned()];
        let keys = Map::from_iter([
            ("temperature", Value::Float(0.0)),
            ("do_sample", Value::Bool(false)),
            ("max_gen_toks", DEFAULT_TOKENS.into()),
            ("until", until.clone().into()),
        ]);
        let (max_gen_toks, temperature) = (DEFAULT_TOKENS, 0.0);
        Self { until, max_gen_toks, do_sample: false, temperature, top_p: None, top_k: None, keys }
    }
}

/// Maximum number of tokens, by the first of its names that is set.
fn max_tokens(entries: &Entries) -> Result<usize> {
    let entry = KEYS[1..5].iter().find_map(|name| entries.get(name));
    let Some(entry) = entry else { return Ok(DEFAULT_TOKENS) };
    match entry.count()? {
        0 => Err(entry.origin.invalid("must be at least 1")),
        tokens => Ok(tokens),
    }
}
