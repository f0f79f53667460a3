//! Checks the numbers in Parquet's Thrift structures (compact protocol) before the library trusts them.
//!
//! The library reserves memory for as many entries as a list states, and reads a field by its number whatever
//! its type is. [`check_footer`] refuses everything that would mislead it.

/// Maximum nesting of structures, and of columns.
const DEPTH: usize = 64;

/// Reader of a structure's bytes; it holds those that are not read yet.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

/// Reason why a structure cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The structure continues after the end of the bytes.
    Truncated,
    Broken(&'static str),
}

type Result<T> = std::result::Result<T, Wrong>;

/// Numbers of the types in the encoded bytes.
mod wire {
    pub const TRUE: u8 = 1;
    pub const FALSE: u8 = 2;
    pub const BYTE: u8 = 3;
    pub const I16: u8 = 4;
    pub const I32: u8 = 5;
    pub const I64: u8 = 6;
    pub const DOUBLE: u8 = 7;
    pub const BINARY: u8 = 8;
    pub const LIST: u8 = 9;
    pub const SET: u8 = 10;
    pub const MAP: u8 = 11;
    pub const STRUCT: u8 = 12;
}

/// Type that a field must have.
enum Type {
    Bool,
    Byte,
    I16,
    I32,
    I64,
    Double,
    Binary,
    List(&'static Type),
    Struct(&'static [(i16, Type)]),
}

use Type::{Binary, Bool, Byte, Double, I16, I32, I64, List, Struct};

const EMPTY: Type = Struct(&[]);
const KEY_VALUE: Type = Struct(&[(1, Binary), (2, Binary)]);
const TIME_UNIT: Type = Struct(&[(1, EMPTY), (2, EMPTY), (3, EMPTY)]);
const TIME: Type = Struct(&[(1, Bool), (2, TIME_UNIT)]);
const LOGICAL_TYPE: Type = Struct(&[
    (1, EMPTY),
    (2, EMPTY),
    (3, EMPTY),
    (4, EMPTY),
    (5, Struct(&[(1, I32), (2, I32)])),
    (6, EMPTY),
    (7, TIME),
    (8, TIME),
    (10, Struct(&[(1, Byte), (2, Bool)])),
    (11, EMPTY),
    (12, EMPTY),
    (13, EMPTY),
    (14, EMPTY),
    (15, EMPTY),
    (16, Struct(&[(1, Byte)])),
    (17, Struct(&[(1, Binary)])),
    (18, Struct(&[(1, Binary), (2, I32)])),
]);
const SCHEMA_ELEMENT: &[(i16, Type)] = &[
    (1, I32),
    (2, I32),
    (3, I32),
    (4, Binary),
    (CHILDREN, I32),
    (6, I32),
    (7, I32),
    (8, I32),
    (9, I32),
    (10, LOGICAL_TYPE),
];
/// Number of the field of a schema element that has the number of its children.
const CHILDREN: i16 = 5;
const STATISTICS: Type =
    Struct(&[(1, Binary), (2, Binary), (3, I64), (4, I64), (5, Binary), (6, Binary), (7, Bool), (8, Bool)]);
const BOUNDING_BOX: Type = Struct(&[
    (1, Double),
    (2, Double),
    (3, Double),
    (4, Double),
    (5, Double),
    (6, Double),
    (7, Double),
    (8, Double),
]);
const COLUMN_METADATA: Type = Struct(&[
    (1, I32),
    (2, List(&I32)),
    (3, List(&Binary)),
    (4, I32),
    (5, I64),
    (6, I64),
    (7, I64),
    (8, List(&KEY_VALUE)),
    (9, I64),
    (10, I64),
    (11, I64),
    (12, STATISTICS),
    (13, List(&Struct(&[(1, I32), (2, I32), (3, I32)]))),
    (14, I64),
    (15, I32),
    (16, Struct(&[(1, I64), (2, List(&I64)), (3, List(&I64))])),
    (17, Struct(&[(1, BOUNDING_BOX), (2, List(&I32))])),
]);
const COLUMN_CHUNK: Type = Struct(&[
    (1, Binary),
    (2, I64),
    (3, COLUMN_METADATA),
    (4, I64),
    (5, I32),
    (6, I64),
    (7, I32),
    (9, Binary),
]);
const ROW_GROUP: Type = Struct(&[
    (1, List(&COLUMN_CHUNK)),
    (2, I64),
    (3, I64),
    (4, List(&Struct(&[(1, I32), (2, Bool), (3, Bool)]))),
    (5, I64),
    (6, I64),
    (7, I16),
]);
/// Fields of the footer, without the schema, which is checked separately.
const FOOTER: &[(i16, Type)] = &[
    (1, I32),
    (3, I64),
    (4, List(&ROW_GROUP)),
    (5, List(&KEY_VALUE)),
    (6, Binary),
    (7, List(&Struct(&[(1, EMPTY), (2, EMPTY)]))),
    (9, Binary),
];
/// Number of the footer's field that has the schema.
const SCHEMA: i16 = 2;

impl Type {
    fn is_on_wire(&self, wire: u8) -> bool {
        match self {
            Bool => matches!(wire, wire::TRUE | wire::FALSE),
            Byte => wire == wire::BYTE,
            I16 => wire == wire::I16,
            I32 => wire == wire::I32,
            I64 => wire == wire::I64,
            Double => wire == wire::DOUBLE,
            Binary => wire == wire::BINARY,
            List(_) => wire == wire::LIST,
            Struct(_) => wire == wire::STRUCT,
        }
    }
}

/// Checks the metadata at the end of a Parquet file.
///
/// # Errors
/// The reason why the library must not read it.
pub(super) fn check_footer(bytes: &[u8]) -> std::result::Result<(), String> {
    let mut reader = Reader::new(bytes);
    let outcome = reader.footer().and_then(|children| check_tree(&children));
    outcome.map_err(|wrong| match wrong {
        Wrong::Truncated => "the metadata is truncated".into(),
        Wrong::Broken(what) => format!("the metadata is broken: {what}"),
    })
}

/// Checks that the numbers of children make a tree that is not too deep. The library walks it recursively.
fn check_tree(children: &[i64]) -> Result<()> {
    let mut open: Vec<i64> = Vec::new();
    for (index, &count) in children.iter().enumerate() {
        while open.last() == Some(&0) {
            open.pop();
        }
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        if count < 0 || count > (children.len() - index - 1) as i64 {
            return Err(Wrong::Broken("a column with more children than there are columns"));
        }
        if open.len() > DEPTH {
            return Err(Wrong::Broken("columns that are nested too deeply"));
        }
        if count > 0 {
            open.push(count);
        }
    }
    Ok(())
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Bytes that are not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        let (&byte, rest) = self.bytes.split_first().ok_or(Wrong::Truncated)?;
        self.bytes = rest;
        Ok(byte)
    }

    pub(super) fn pass(&mut self, count: usize) -> Result<()> {
        self.bytes = self.bytes.get(count..).ok_or(Wrong::Truncated)?;
        Ok(())
    }

    pub(super) fn unsigned(&mut self) -> Result<u64> {
        let mut number = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Wrong::Broken("a number that does not end"))
    }

    pub(super) fn integer(&mut self) -> Result<i64> {
        let number = self.unsigned()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// Reads the number and type of the field after field `last`; `None` at the end of the structure.
    pub(super) fn field(&mut self, last: i16) -> Result<Option<(i16, u8)>> {
        let byte = self.byte()?;
        if byte & 0x0f == 0 {
            return Ok(None);
        }
        let id = match byte >> 4 {
            0 => i16::try_from(self.integer()?).map_err(|_| Wrong::Broken("a field without a number"))?,
            delta => last.checked_add(delta.into()).ok_or(Wrong::Broken("a field without a number"))?,
        };
        if id <= last {
            return Err(Wrong::Broken("fields that are not in order"));
        }
        Ok(Some((id, byte & 0x0f)))
    }

    /// Reads the type and the number of a list's entries. Each entry has at least a byte.
    fn list(&mut self) -> Result<(u8, usize)> {
        let byte = self.byte()?;
        let count = match byte >> 4 {
            15 => self.unsigned()?,
            count => count.into(),
        };
        if count > self.bytes.len() as u64 {
            return Err(Wrong::Broken("a list of more entries than there are bytes"));
        }
        Ok((byte & 0x0f, count as usize))
    }

    /// Skips a value of the type `wire`.
    pub(super) fn skip(&mut self, wire: u8, depth: usize) -> Result<()> {
        if depth == 0 {
            return Err(Wrong::Broken("fields that are nested too deeply"));
        }
        match wire {
            wire::TRUE | wire::FALSE => Ok(()),
            wire::BYTE => self.pass(1),
            wire::I16 | wire::I32 | wire::I64 => self.unsigned().map(|_| ()),
            wire::DOUBLE => self.pass(8),
            wire::BINARY => {
                let length = self.unsigned()?;
                self.pass(usize::try_from(length).unwrap_or(usize::MAX))
            }
            wire::LIST | wire::SET => {
                let (wire, count) = self.list()?;
                (0..count).try_for_each(|_| self.skip_entry(wire, depth - 1))
            }
            wire::MAP => {
                let count = self.unsigned()?;
                if count > self.bytes.len() as u64 {
                    return Err(Wrong::Broken("a map of more entries than there are bytes"));
                }
                let types = if count > 0 { self.byte()? } else { 0 };
                (0..count).try_for_each(|_| {
                    self.skip_entry(types >> 4, depth - 1)?;
                    self.skip_entry(types & 0x0f, depth - 1)
                })
            }
            wire::STRUCT => {
                let mut last = 0;
                while let Some((id, wire)) = self.field(last)? {
                    self.skip(wire, depth - 1)?;
                    last = id;
                }
                Ok(())
            }
            _ => Err(Wrong::Broken("a field of an unknown type")),
        }
    }

    /// Skips an entry of a list, in which booleans have a byte.
    fn skip_entry(&mut self, wire: u8, depth: usize) -> Result<()> {
        if matches!(wire, wire::TRUE | wire::FALSE) { self.pass(1) } else { self.skip(wire, depth) }
    }

    fn value(&mut self, required: &Type, wire: u8, depth: usize) -> Result<()> {
        match required {
            _ if !required.is_on_wire(wire) => Err(Wrong::Broken("a field of another type than its own")),
            List(entry) => {
                let (wire, count) = self.list()?;
                // Some writers give an empty list no type.
                if count > 0 && !entry.is_on_wire(wire) {
                    return Err(Wrong::Broken("a list of another type than its own"));
                }
                (0..count).try_for_each(|_| self.value(entry, wire, depth - 1))
            }
            Struct(fields) => self.structure(fields, depth - 1),
            _ => self.skip(wire, depth),
        }
    }

    fn structure(&mut self, fields: &[(i16, Type)], depth: usize) -> Result<()> {
        let mut last = 0;
        while let Some((id, wire)) = self.field(last)? {
            last = id;
            self.known(fields, id, wire, depth)?;
        }
        Ok(())
    }

    fn known(&mut self, fields: &[(i16, Type)], id: i16, wire: u8, depth: usize) -> Result<()> {
        match fields.iter().find(|(known, _)| *known == id) {
            Some((_, required)) => self.value(required, wire, depth),
            None => self.skip(wire, depth),
        }
    }

    /// Reads the footer and returns the number of children of each element of the schema.
    fn footer(&mut self) -> Result<Vec<i64>> {
        let mut children = Vec::new();
        let mut last = 0;
        while let Some((id, wire)) = self.field(last)? {
            last = id;
            if id == SCHEMA {
                self.schema(wire, &mut children)?;
            } else {
                self.known(FOOTER, id, wire, DEPTH)?;
            }
        }
        Ok(children)
    }

    fn schema(&mut self, wire: u8, children: &mut Vec<i64>) -> Result<()> {
        if wire != wire::LIST {
            return Err(Wrong::Broken("a field of another type than its own"));
        }
        let (entry, count) = self.list()?;
        if count > 0 && entry != wire::STRUCT {
            return Err(Wrong::Broken("a list of another type than its own"));
        }
        for _ in 0..count {
            let before = self.bytes;
            self.value(&Struct(SCHEMA_ELEMENT), wire::STRUCT, DEPTH)?;
            children.push(Reader::new(before).children()?);
        }
        Ok(())
    }

    /// Reads the number of children of the next schema element, which was already checked.
    fn children(&mut self) -> Result<i64> {
        let mut last = 0;
        while let Some((id, wire)) = self.field(last)? {
            if id == CHILDREN {
                return self.integer();
            }
            self.skip(wire, DEPTH)?;
            last = id;
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a footer with a version, a schema with these numbers of children, and the bytes `rest`.
    fn footer(children: &[u8], rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x15, 2, 0x19, 0xfc, children.len() as u8];
        // Each element has a name, `a`, and twice its number of children, as zigzag has it.
        children.iter().for_each(|count| bytes.extend([0x48, 1, b'a', 0x15, count * 2, 0]));
        bytes.extend(rest);
        bytes
    }

    fn reason(bytes: &[u8]) -> String {
        check_footer(bytes).unwrap_err()
    }

    #[test]
    fn footers_that_hold_what_they_say_are_accepted() {
        // No rows (field 3), no row groups (4), a name (6), and a field that nobody knows.
        let rest = [0x16, 0, 0x19, 0x0c, 0x28, 2, b'm', b'e', 0xf5, 1, 0];
        assert_eq!(check_footer(&footer(&[2, 0, 1, 0], &rest)), Ok(()));
        assert_eq!(check_footer(&footer(&[], &[0])), Ok(()));
    }

    #[test]
    fn footers_that_would_lead_the_library_astray_are_refused() {
        // Row groups: 2^28 of them, a number instead of them, and texts instead of them.
        assert!(reason(&footer(&[0], &[0x29, 0xfc, 0x80, 0x80, 0x80, 0x80, 1, 0])).contains("more entries"));
        assert!(reason(&footer(&[0], &[0x25, 2, 0])).contains("another type"));
        assert!(reason(&footer(&[0], &[0x29, 0x18, 1, b'a', 0])).contains("another type"));
        assert!(reason(&footer(&[60, 0], &[0])).contains("more children"));
        let deep = [[1; 89].as_slice(), &[0]].concat();
        assert!(reason(&footer(&deep, &[0])).contains("too deeply"));
        assert!(reason(&footer(&[0], &[])).contains("truncated"));
        assert!(reason(&footer(&[0], &[0x48, 0xff, 0xff, 0x7f, 0])).contains("truncated"));
        assert!(reason(&[0x15, 2, 0x05, 2, 2, 0]).contains("not in order"));
        assert!(reason(&[&[0xfc][..], &[0x1c; 100]].concat()).contains("too deeply"));
        assert!(
            reason(&[0xf5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).contains("end")
        );
    }
}
