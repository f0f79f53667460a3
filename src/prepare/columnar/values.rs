//! Reads the values of a column as text, one row at a time.

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::cast,
    datatypes::DataType,
    util::display::{ArrayFormatter, FormatOptions},
};
use std::{borrow::Cow, fmt};

/// Returns whether a column of this type may be text. Many writers of Parquet do not declare that bytes are
/// text: they are if they are valid UTF-8.
pub(super) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView => true,
        DataType::Dictionary(_, values) => is_text(values),
        DataType::RunEndEncoded(_, values) => is_text(values.data_type()),
        _ => false,
    }
}

/// Values of a column, by how they become text.
pub(super) enum Values<'a> {
    Utf8(&'a ArrayRef),
    Bytes(&'a ArrayRef),
    /// Numbers, dates and lists, which are formatted.
    Written(&'a ArrayRef, ArrayFormatter<'a>),
    /// Values that several rows share, or that have to be converted to this type.
    Converted(&'a ArrayRef, DataType),
}

/// Reason why a value cannot be read as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    NotUtf8,
    TooLong,
}

impl<'a> Values<'a> {
    /// Wraps a column; `None` if its values cannot be formatted as text.
    pub(super) fn of(column: &'a ArrayRef) -> Option<Self> {
        let data_type = column.data_type();
        Some(match data_type {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Utf8(column),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Self::Bytes(column),
            DataType::Dictionary(_, values) => Self::Converted(column, values.as_ref().clone()),
            DataType::RunEndEncoded(_, values) => Self::Converted(column, values.data_type().clone()),
            DataType::Boolean
            | DataType::List(_)
            | DataType::LargeList(_)
            | DataType::ListView(_)
            | DataType::LargeListView(_) => Self::written(column)?,
            _ if data_type.is_primitive() => Self::written(column)?,
            _ => {
                cast(&column.slice(0, 0), &DataType::Utf8).ok()?;
                Self::Converted(column, DataType::Utf8)
            }
        })
    }

    fn written(column: &'a ArrayRef) -> Option<Self> {
        const OPTIONS: FormatOptions<'static> = FormatOptions::new();
        Some(Self::Written(column, ArrayFormatter::try_new(column, &OPTIONS).ok()?))
    }

    /// Returns the value of a row as text of at most `most` bytes; `None` for a null.
    pub(super) fn get(&self, row: usize, most: usize) -> Result<Option<Cow<'a, str>>, Unreadable> {
        let short = |text: &'a str| if text.len() > most { Err(Unreadable::TooLong) } else { Ok(text) };
        Ok(Some(match self {
            Self::Utf8(column) | Self::Bytes(column) if column.is_null(row) => return Ok(None),
            Self::Utf8(column) => Cow::Borrowed(short(match column.data_type() {
                DataType::Utf8 => column.as_string::<i32>().value(row),
                DataType::LargeUtf8 => column.as_string::<i64>().value(row),
                _ => column.as_string_view().value(row),
            })?),
            Self::Bytes(column) => {
                let bytes = match column.data_type() {
                    DataType::Binary => column.as_binary::<i32>().value(row),
                    DataType::LargeBinary => column.as_binary::<i64>().value(row),
                    _ => column.as_binary_view().value(row),
                };
                Cow::Borrowed(short(std::str::from_utf8(bytes).map_err(|_| Unreadable::NotUtf8)?)?)
            }
            Self::Written(column, _) if column.is_null(row) => return Ok(None),
            Self::Written(_, formatter) => {
                let mut text = Bounded { text: String::new(), most, full: false };
                match formatter.value(row).write(&mut text) {
                    Ok(()) => Cow::Owned(text.text),
                    Err(_) if text.full => return Err(Unreadable::TooLong),
                    // A date that is none, for example.
                    Err(_) => return Ok(None),
                }
            }
            Self::Converted(column, data_type) => {
                let one = cast(&column.slice(row, 1), data_type).map_err(|_| Unreadable::NotUtf8)?;
                let Some(values) = Values::of(&one) else { return Ok(None) };
                let Some(text) = values.get(0, most)? else { return Ok(None) };
                Cow::Owned(text.into_owned())
            }
        }))
    }
}

/// Text that refuses to grow beyond `most` bytes.
struct Bounded {
    text: String,
    most: usize,
    full: bool,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.full |= self.text.len() + part.len() > self.most;
        if self.full {
            return Err(fmt::Error);
        }
        self.text.push_str(part);
        Ok(())
    }
}
