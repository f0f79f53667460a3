//! Reads runs from CSV, tab-separated text, a JSON array or JSON Lines. The kind is known from the first
//! character of the text: `[` begins an array, `{` JSON Lines, anything else a table with a header.
//!
//! ```text
//! parameters,tokens,loss
//! 1.2e6,2.4e7,4.31
//! ```
//!
//! Columns may also be called `n` and `d`, in capitals or not. An optional column `group` names runs of equal
//! compute, and `vocabulary` has the number of tokens of a run's tokenizer. Other columns are ignored.

use crate::{
    error::{Error, Result},
    runs::{Place, Run, Runs},
};
use serde_json::{Map, Value, value::RawValue};

/// Column of a run and the names that it may have.
#[derive(Clone, Copy)]
struct Column(&'static [&'static str]);

const PARAMETERS: Column = Column(&["n", "parameters"]);
const TOKENS: Column = Column(&["d", "tokens"]);
const LOSS: Column = Column(&["loss"]);
const BITS_PER_BYTE: Column = Column(&["bits_per_byte"]);
const GROUP: Column = Column(&["group"]);
const VOCABULARY: Column = Column(&["vocabulary", "vocab_size"]);

/// Column that has the loss of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossColumn {
    /// `loss`, in nats per token. Runs with different tokenizers are refused.
    Loss,
    /// `bits_per_byte`, which runs with different tokenizers have in common.
    BitsPerByte,
}

impl LossColumn {
    fn column(self) -> Column {
        match self {
            Self::Loss => LOSS,
            Self::BitsPerByte => BITS_PER_BYTE,
        }
    }
}

/// Reads the runs of a text; `path` is only used in messages.
///
/// # Errors
/// [`Error::Record`] with line and column for a record that is not a run, and those of [`Runs::new`].
pub fn parse(path: &str, text: &str, loss: LossColumn) -> Result<Runs> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let runs = match text.trim_start().chars().next() {
        None => Vec::new(),
        Some('[') => json_array(path, text, loss)?,
        Some('{') => json_lines(path, text, loss)?,
        Some(_) => table(path, text, loss)?,
    };
    match runs.is_empty() {
        true => Err(Error::NoRuns { path: path.into() }),
        false => Runs::new(runs),
    }
}

/// Position of a column among names, without regard to case and spaces.
fn find<'a>(
    place: &Place,
    column: Column,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<Option<(usize, &'a str)>> {
    let matches = |name: &str| column.0.iter().any(|known| known.eq_ignore_ascii_case(name.trim()));
    let mut found = names.into_iter().enumerate().filter(|(_, name)| matches(name));
    match (found.next(), found.next()) {
        (Some((_, first)), Some((_, second))) => {
            let message = format!("the columns `{first}` and `{second}` hold the same quantity");
            Err(Error::record(place.clone(), None, message))
        }
        (first, _) => Ok(first),
    }
}

/// Refusal of a record or a header that does not have a column.
fn missing(place: &Place, column: Column) -> Error {
    let names: Vec<String> = column.0.iter().map(|name| format!("`{name}`")).collect();
    Error::record(place.clone(), None, format!("there is no column {}", names.join(" or ")))
}

fn table(path: &str, text: &str, column: LossColumn) -> Result<Vec<Run>> {
    let header = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#')).unwrap_or("");
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(if header.contains('\t') { b'\t' } else { b',' })
        .comment(Some(b'#'))
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let place = |position: Option<&csv::Position>| {
        // The position of a record is where the previous one ends: blank lines and comments may lie between.
        let skipped = |offset: usize| {
            let rest = text.get(offset..).unwrap_or("").split_inclusive('\n');
            rest.take_while(|line| line.trim().is_empty() || line.starts_with('#')).count()
        };
        let line = position.map(|position| position.line() as usize + skipped(position.byte() as usize));
        Place { path: path.to_owned(), line }
    };
    let failed = |error: csv::Error| Error::record(place(error.position()), None, error.to_string());
    let header_place = place(Some(&csv::Position::new()));
    let header = reader.headers().map_err(failed)?.clone();
    let required = |column| -> Result<(usize, &str)> {
        find(&header_place, column, header.iter())?.ok_or_else(|| missing(&header_place, column))
    };
    let [parameters, tokens, loss] = [required(PARAMETERS)?, required(TOKENS)?, required(column.column())?];
    let group = find(&header_place, GROUP, header.iter())?;
    let vocabulary = match column {
        LossColumn::Loss => find(&header_place, VOCABULARY, header.iter())?,
        LossColumn::BitsPerByte => None,
    };
    let mut runs = Vec::new();
    for record in reader.records() {
        let record = record.map_err(failed)?;
        let place = place(record.position());
        let number = |(index, name): (usize, &str)| {
            let refuse = |message| Error::record(place.clone(), name.to_owned(), message);
            match record.get(index) {
                None | Some("") => Err(refuse("the value is missing".to_owned())),
                Some(text) => text.parse().map_err(|_| refuse(format!("`{text}` is not a number"))),
            }
        };
        runs.push(Run {
            parameters: number(parameters)?,
            tokens: number(tokens)?,
            loss: number(loss)?,
            group: group
                .and_then(|(index, _)| record.get(index))
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            vocabulary: vocabulary.and_then(|(index, _)| record.get(index)?.parse().ok()),
            place,
        });
    }
    Ok(runs)
}

fn json_array(path: &str, text: &str, loss: LossColumn) -> Result<Vec<Run>> {
    let place = |line| Place { path: path.to_owned(), line: Some(line) };
    let failed = |error: serde_json::Error| Error::record(place(error.line()), None, error.to_string());
    let records: Vec<&RawValue> = serde_json::from_str(text).map_err(failed)?;
    let (mut line, mut counted) = (1, 0);
    let mut runs = Vec::with_capacity(records.len());
    for record in records {
        // The records are slices of the text.
        let offset = (record.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        line += text.as_bytes()[counted..offset].iter().filter(|&&byte| byte == b'\n').count();
        counted = offset;
        runs.push(json_run(place(line), record.get(), loss)?);
    }
    Ok(runs)
}

fn json_lines(path: &str, text: &str, loss: LossColumn) -> Result<Vec<Run>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| json_run(Place { path: path.to_owned(), line: Some(index + 1) }, line, loss))
        .collect()
}

fn json_run(place: Place, text: &str, loss: LossColumn) -> Result<Run> {
    let object: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
        // serde_json counts lines from the beginning of the record, which is not that of the file.
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        Error::record(place.clone(), None, format!("character {}: {message}", error.column()))
    })?;
    let value = |column| -> Result<Option<(&str, &Value)>> {
        let found = find(&place, column, object.keys().map(String::as_str))?;
        Ok(found.and_then(|(_, name)| Some((name, object.get(name)?))))
    };
    let number = |column| {
        let (name, value) = value(column)?.ok_or_else(|| missing(&place, column))?;
        let refuse = || Error::record(place.clone(), name.to_owned(), format!("`{value}` is not a number"));
        value.as_f64().ok_or_else(refuse)
    };
    let group = match value(GROUP)? {
        None | Some((_, Value::Null)) => None,
        Some((_, Value::String(name))) => Some(name.clone()),
        Some((_, value)) => Some(value.to_string()),
    };
    let vocabulary = match loss {
        LossColumn::Loss => value(VOCABULARY)?.and_then(|(_, value)| value.as_u64()),
        LossColumn::BitsPerByte => None,
    };
    let (parameters, tokens) = (number(PARAMETERS)?, number(TOKENS)?);
    Ok(Run { parameters, tokens, loss: number(loss.column())?, group, vocabulary, place })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(f64, f64, f64)> {
        let runs = parse("runs", text, LossColumn::Loss).unwrap();
        runs.as_slice().iter().map(|run| (run.parameters, run.tokens, run.loss)).collect()
    }

    fn message(text: &str) -> String {
        parse("runs", text, LossColumn::Loss).unwrap_err().to_string()
    }

    #[test]
    fn all_formats_give_the_same_runs() {
        let expected = [(1e6, 2e7, 4.5), (2e6, 4e7, 4.25)];
        assert_eq!(values("N,name,D,Loss\n1e6,\"a, b\",2e7,4.5\r\n\n# note\n2000000,c,4e7,4.25\n"), expected);
        assert_eq!(values("\u{feff}tokens\tPARAMETERS\tloss\n2e7\t1e6\t4.5\n4e7\t2e6\t4.25"), expected);
        assert_eq!(
            values(
                "[{\"n\": 1e6, \"d\": 2e7, \"loss\": 4.5},\n {\"n\": 2e6, \"d\": 4e7, \"loss\": 4.25, \"x\": []}]"
            ),
            expected
        );
        assert_eq!(
            values(
                "{\"Parameters\":1e6,\"tokens\":2e7,\"loss\":4.5}\n\n{\"n\":2e6,\"D\":4e7,\"loss\":4.25}\n"
            ),
            expected
        );
    }

    #[test]
    fn groups_are_read() {
        let runs = parse("runs", "n,d,loss,group\n1,2,3,a\n1,2,4,\n", LossColumn::Loss).unwrap();
        let groups: Vec<Option<&str>> = runs.as_slice().iter().map(|run| run.group.as_deref()).collect();
        assert_eq!(groups, [Some("a"), None]);
        let runs = parse("runs", "{\"n\":1,\"d\":2,\"loss\":3,\"group\":1e18}", LossColumn::Loss).unwrap();
        assert_eq!(runs.as_slice()[0].group.as_deref(), Some("1e+18"));
    }

    #[test]
    fn runs_of_two_tokenizers_have_bits_per_byte_in_common() {
        let table = "n,d,loss,vocabulary,bits_per_byte\n1e6,1e8,1.5,65,2.1\n1e6,2e8,3.9,512,2\n";
        let lines = "{\"n\":1,\"d\":1,\"loss\":2,\"vocabulary\":65,\"bits_per_byte\":2.1}\n{\"n\":1,\"d\":2,\"loss\":2,\"vocab_size\":512,\"bits_per_byte\":2}";
        for text in [table, lines] {
            let error = parse("runs", text, LossColumn::Loss).unwrap_err();
            assert!(matches!(error, Error::MixedTokenizers { vocabularies: [65, 512], .. }), "{error}");
            let runs = parse("runs", text, LossColumn::BitsPerByte).unwrap();
            assert_eq!(runs.as_slice().iter().map(|run| run.loss).collect::<Vec<_>>(), [2.1, 2.0]);
        }
    }

    #[test]
    fn errors_name_line_and_column() {
        assert_eq!(message("n,d,loss\n1,2,3\n\n1,2,x"), "`runs` line 4, column `loss`: `x` is not a number");
        assert_eq!(
            message("n,d,loss\r\n1,2,3\r\n\r\n1,2,x\r\n"),
            "`runs` line 4, column `loss`: `x` is not a number"
        );
        assert_eq!(message("n,D,loss\n# a\n\n1\n"), "`runs` line 4, column `D`: the value is missing");
        assert_eq!(message("n,d,loss\n1,2,inf\n"), "`runs` line 2, column `loss`: `inf` is not finite");
        assert_eq!(message("\nn,d\n1,2\n"), "`runs` line 2: there is no column `loss`");
        assert_eq!(
            message("n,parameters,d,loss\n"),
            "`runs` line 1: the columns `n` and `parameters` hold the same quantity"
        );
        assert_eq!(
            message("[\n{\"n\": 1, \"d\": 2, \"loss\": 3},\n{\"n\": 1, \"d\": \"2\", \"loss\": 3}]"),
            "`runs` line 3, column `d`: `\"2\"` is not a number"
        );
        assert_eq!(message("{\"n\": 1, \"loss\": 3}"), "`runs` line 1: there is no column `d` or `tokens`");
        assert_eq!(message("{\"n\": 1}\n{\"n\": NaN}"), "`runs` line 1: there is no column `d` or `tokens`");
        assert_eq!(message("{\"n\": NaN}"), "`runs` line 1: character 7: expected value");
        assert!(message("[1, 2]").starts_with("`runs` line 1: character 1: invalid type"));
        assert!(message("[{\"n\": 1,").starts_with("`runs` line 1: EOF"));
        assert_eq!(message(" \n"), "`runs` holds no runs");
        assert_eq!(message("n,d,loss\n"), "`runs` holds no runs");
        assert!(parse("runs", "", LossColumn::Loss).unwrap_err().hint().is_some());
    }
}
