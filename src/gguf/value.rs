//! Values of the metadata: numbers, texts, and lists of one type.

use crate::cursor::Cursor;
use std::borrow::Cow;

/// Depth to which lists may be nested. Models have none in one another.
const DEEPEST: usize = 4;

/// Defines [`Value`] and [`Array`] with a variant for each type that the format has, by its number.
macro_rules! values {
    ($($name:ident: $type:ty = $number:literal,)*) => {
        /// A value of the metadata. Texts are parts of the file that was read.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Value<'a> {
            $($name($type),)*
            Bool(bool),
            Text(Cow<'a, str>),
            Array(Array<'a>),
        }

        /// A list of values of one type.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Array<'a> {
            $($name(Vec<$type>),)*
            Bool(Vec<bool>),
            Text(Vec<Cow<'a, str>>),
            Array(Vec<Array<'a>>),
        }

        impl<'a> Value<'a> {
            /// Reads a value of the type with this number.
            fn read_as(kind: u32, cursor: &mut Cursor<'a>) -> Result<Self, String> {
                Ok(match kind {
                    $($number => Self::$name(<$type>::from_le_bytes(cursor.number()?)),)*
                    BOOL => Self::Bool(flag(cursor)?),
                    TEXT => Self::Text(cursor.text("a text")?.into()),
                    ARRAY => Self::Array(Array::read(cursor, 0)?),
                    _ => return Err(unknown(kind)),
                })
            }

            /// Appends the number of the type and the value.
            pub(crate) fn write(&self, bytes: &mut Vec<u8>) {
                match self {
                    $(Self::$name(value) => {
                        put_u32(bytes, $number);
                        bytes.extend_from_slice(&value.to_le_bytes());
                    })*
                    Self::Bool(value) => {
                        put_u32(bytes, BOOL);
                        bytes.push(u8::from(*value));
                    }
                    Self::Text(text) => {
                        put_u32(bytes, TEXT);
                        put_text(bytes, text);
                    }
                    Self::Array(array) => {
                        put_u32(bytes, ARRAY);
                        array.write(bytes);
                    }
                }
            }
        }

        impl<'a> Array<'a> {
            fn read(cursor: &mut Cursor<'a>, depth: usize) -> Result<Self, String> {
                let kind = cursor.u32()?;
                let least = match kind {
                    $($number => size_of::<$type>(),)*
                    BOOL => 1,
                    TEXT => size_of::<u64>(),
                    ARRAY => size_of::<u32>() + size_of::<u64>(),
                    _ => return Err(unknown(kind)),
                };
                let count = cursor.count(least, "values of a list")?;
                Ok(match kind {
                    $($number => {
                        let bytes = cursor.take((count * size_of::<$type>()) as u64)?;
                        let (values, _) = bytes.as_chunks();
                        Self::$name(values.iter().map(|value| <$type>::from_le_bytes(*value)).collect())
                    })*
                    BOOL => Self::Bool((0..count).map(|_| flag(cursor)).collect::<Result<_, _>>()?),
                    TEXT => {
                        let text = |_| Ok(cursor.text("a text of a list")?.into());
                        Self::Text((0..count).map(text).collect::<Result<_, String>>()?)
                    }
                    _ if depth == DEEPEST => return Err(format!("lists are nested over {DEEPEST} deep")),
                    _ => {
                        let lists = (0..count).map(|_| Self::read(cursor, depth + 1));
                        Self::Array(lists.collect::<Result<_, _>>()?)
                    }
                })
            }

            fn write(&self, bytes: &mut Vec<u8>) {
                match self {
                    $(Self::$name(values) => {
                        put_u32(bytes, $number);
                        put_u64(bytes, values.len());
                        values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
                    })*
                    Self::Bool(values) => {
                        put_u32(bytes, BOOL);
                        put_u64(bytes, values.len());
                        bytes.extend(values.iter().map(|value| u8::from(*value)));
                    }
                    Self::Text(texts) => {
                        put_u32(bytes, TEXT);
                        put_u64(bytes, texts.len());
                        texts.iter().for_each(|text| put_text(bytes, text));
                    }
                    Self::Array(arrays) => {
                        put_u32(bytes, ARRAY);
                        put_u64(bytes, arrays.len());
                        arrays.iter().for_each(|array| array.write(bytes));
                    }
                }
            }

            /// Number of values.
            pub fn len(&self) -> usize {
                match self {
                    $(Self::$name(values) => values.len(),)*
                    Self::Bool(values) => values.len(),
                    Self::Text(texts) => texts.len(),
                    Self::Array(arrays) => arrays.len(),
                }
            }

            /// Whether there are no values.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }
        }
    };
}

values! {
    U8: u8 = 0,
    I8: i8 = 1,
    U16: u16 = 2,
    I16: i16 = 3,
    U32: u32 = 4,
    I32: i32 = 5,
    F32: f32 = 6,
    U64: u64 = 10,
    I64: i64 = 11,
    F64: f64 = 12,
}

/// Numbers of the types that are no numbers.
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

impl<'a> Value<'a> {
    /// Reads the number of a type and a value of it.
    pub(crate) fn read(cursor: &mut Cursor<'a>) -> Result<Self, String> {
        let kind = cursor.u32()?;
        Self::read_as(kind, cursor)
    }

    /// The value as a whole number that is not negative.
    pub fn unsigned(&self) -> Option<u64> {
        match *self {
            Self::U8(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::U64(value) => Some(value),
            Self::I8(value) => value.try_into().ok(),
            Self::I16(value) => value.try_into().ok(),
            Self::I32(value) => value.try_into().ok(),
            Self::I64(value) => value.try_into().ok(),
            _ => None,
        }
    }

    /// The value as a number. A 32-bit float becomes the shortest decimal number that it stands for, so that
    /// 1e-5 stays 1e-5.
    pub fn number(&self) -> Option<f64> {
        match *self {
            Self::F32(value) => value.to_string().parse().ok(),
            Self::F64(value) => Some(value),
            Self::I8(value) => Some(value.into()),
            Self::I16(value) => Some(value.into()),
            Self::I32(value) => Some(value.into()),
            _ => self.unsigned().map(|value| value as f64),
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

fn flag(cursor: &mut Cursor<'_>) -> Result<bool, String> {
    match cursor.number()? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => Err(format!("{other} is neither true (1) nor false (0)")),
    }
}

fn unknown(kind: u32) -> String {
    format!("its type has the number {kind}, which the format does not have")
}

fn put_u32(bytes: &mut Vec<u8>, value: u32) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

fn put_u64(bytes: &mut Vec<u8>, value: usize) {
    bytes.extend_from_slice(&(value as u64).to_le_bytes());
}

pub(crate) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_u64(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: &Value<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        value.write(&mut bytes);
        bytes
    }

    #[test]
    fn every_type_is_read_as_it_was_written() {
        let texts = Array::Text(vec!["".into(), "Ġt".into()]);
        let values = [
            Value::U8(200),
            Value::I8(-7),
            Value::U16(65_535),
            Value::I16(-300),
            Value::U32(1 << 31),
            Value::I32(i32::MIN),
            Value::F32(1e-5),
            Value::U64(u64::MAX),
            Value::I64(-1),
            Value::F64(0.1),
            Value::Bool(true),
            "chat".into(),
            Value::Array(texts.clone()),
            Value::Array(Array::F32(vec![1.5, f32::INFINITY])),
            Value::Array(Array::Bool(vec![true, false])),
            Value::Array(Array::U8(vec![])),
            Value::Array(Array::Array(vec![texts, Array::I64(vec![1, -2])])),
        ];
        for value in values {
            let bytes = written(&value);
            let mut cursor = Cursor::new(&bytes);
            assert_eq!(Value::read(&mut cursor).unwrap(), value);
            assert_eq!(cursor.position(), bytes.len());
            for length in 0..bytes.len() {
                assert!(Value::read(&mut Cursor::new(&bytes[..length])).is_err(), "{value:?} {length}");
            }
        }
    }

    #[test]
    fn what_is_no_value_is_refused_before_it_is_allocated() {
        let list = |kind: u32, count: u64| {
            let mut bytes = ARRAY.to_le_bytes().to_vec();
            bytes.extend_from_slice(&kind.to_le_bytes());
            bytes.extend_from_slice(&count.to_le_bytes());
            bytes
        };
        let mut deep = list(ARRAY, 1);
        for _ in 0..10 {
            deep.extend_from_slice(&list(ARRAY, 1)[4..]);
        }
        for (bytes, part) in [
            (list(4, u64::MAX), "18446744073709551615 values of a list"),
            (list(TEXT, 1 << 40), "1099511627776 values"),
            (list(99, 1), "the number 99"),
            (deep, "nested over 4"),
            (vec![13, 0, 0, 0], "the number 13"),
            (vec![7, 0, 0, 0, 2], "2 is neither true"),
            (vec![8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xFF], "not UTF-8"),
        ] {
            let error = Value::read(&mut Cursor::new(&bytes)).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn numbers_are_compared_across_types() {
        assert_eq!(Value::I32(7).unsigned(), Some(7));
        assert_eq!(Value::I32(-7).unsigned(), None);
        assert_eq!(Value::F32(7.0).unsigned(), None);
        assert_eq!(Value::F32(1e-5).number(), Some(1e-5));
        assert_eq!(Value::I16(-2).number(), Some(-2.0));
        assert_eq!(Value::Bool(true).number(), None);
    }
}
