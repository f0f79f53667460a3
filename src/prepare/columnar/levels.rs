//! Counts runs of levels and of packed numbers in the pages of Parquet files, without unpacking them.

use super::thrift::{Reader, Wrong};
use datafusion::parquet::{
    basic::Encoding,
    errors::{ParquetError, Result},
};

/// Maximum values of a nested column in the rows that are read at a time.
const VALUES: usize = 1 << 24;

fn broken(what: &str) -> ParquetError {
    ParquetError::General(what.into())
}

fn bits(level: i16) -> usize {
    (i16::BITS - level.leading_zeros()) as usize
}

#[expect(deprecated, reason = "old files have it")]
fn is_bit_packed(encoding: Encoding) -> bool {
    encoding == Encoding::BIT_PACKED
}

/// Splits the levels from the start of a page of the first version; returns them and the bytes after them.
pub(super) fn split(bytes: &[u8], encoding: Encoding, level: i16, count: u32) -> Result<(&[u8], &[u8])> {
    let truncated = || broken("the levels of a page are truncated");
    if is_bit_packed(encoding) {
        let length = (count as usize * bits(level)).div_ceil(8);
        return bytes.split_at_checked(length).ok_or_else(truncated);
    }
    let (length, rest) = bytes.split_first_chunk().ok_or_else(truncated)?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(truncated)
}

/// Counts the values in rows that are read together.
pub(super) struct RowCounter {
    /// Number of rows that are read at a time.
    most: usize,
    /// Number of these rows found so far.
    rows: usize,
    /// Number of values in these rows.
    values: usize,
}

impl RowCounter {
    pub(super) fn new(most: usize) -> Self {
        Self { most, rows: 0, values: 0 }
    }

    /// Adds `count` values that either all begin a row or all continue one.
    fn add(&mut self, count: usize, begin: bool) -> Result<()> {
        if begin && self.rows + count > self.most {
            self.rows = (self.rows + count - 1) % self.most + 1;
            self.values = self.rows;
        } else {
            self.rows += if begin { count } else { 0 };
            self.values += count;
        }
        if self.values > VALUES {
            return Err(broken("rows of more values than can be read at a time"));
        }
        Ok(())
    }

    /// Adds the repetition levels of a page.
    pub(super) fn count(&mut self, levels: &[u8], encoding: Encoding, level: i16, count: u32) -> Result<()> {
        let (bits, mut left) = (bits(level), count as usize);
        if is_bit_packed(encoding) {
            return if left * bits <= levels.len() * 8 {
                self.add(left, false)
            } else {
                Err(broken("the levels of a page are truncated"))
            };
        }
        let mut reader = Reader::new(levels);
        while left > 0 {
            let truncated = |_: Wrong| broken("the levels of a page are truncated");
            let run = reader.unsigned().map_err(truncated)?;
            let length = usize::try_from(run >> 1).unwrap_or(usize::MAX);
            if run & 1 == 0 {
                let value =
                    (0..bits.div_ceil(8)).try_fold(0, |value, _| reader.byte().map(|byte| value | byte));
                let length = length.min(left);
                self.add(length, value.map_err(truncated)? == 0)?;
                left -= length;
                continue;
            }
            // Eights of values, packed.
            let packed = reader.rest();
            let bytes = length.saturating_mul(bits).min(packed.len());
            for index in 0..length.saturating_mul(8).min(left).min(bytes * 8 / bits) {
                let at = index * bits;
                let is_zero = (at..at + bits).all(|bit| packed[bit / 8] >> (bit % 8) & 1 == 0);
                self.add(1, is_zero)?;
                left -= 1;
            }
            if left > 0 && bytes < length.saturating_mul(bits) {
                return Err(broken("the levels of a page are truncated"));
            }
            reader = Reader::new(&packed[bytes..]);
        }
        Ok(())
    }
}

/// Returns the number of values that the bytes begin with as `DELTA_BINARY_PACKED`, and the position where
/// they end.
pub(super) fn delta(bytes: &[u8]) -> Result<(u64, usize)> {
    let mut reader = Reader::new(bytes);
    let mut end = || -> std::result::Result<(u64, usize), Wrong> {
        let wrong = Wrong::Broken("blocks of packed numbers");
        let (block, minis, count) = (reader.unsigned()?, reader.unsigned()?, reader.unsigned()?);
        reader.unsigned()?;
        let per_mini = block.checked_div(minis).ok_or(wrong.clone())?;
        // As the library has it, which refuses others.
        if per_mini == 0 || per_mini % 32 != 0 || per_mini > 1 << 32 {
            return Err(wrong);
        }
        let mut left = count.saturating_sub(1);
        while left > 0 {
            reader.unsigned()?;
            let mut widths = reader.rest().iter();
            for _ in 0..minis {
                reader.byte()?;
            }
            for _ in 0..minis {
                let width = u64::from(*widths.next().ok_or(Wrong::Truncated)?);
                if left > 0 {
                    // The last ones may be cut where they are not filled.
                    let length = usize::try_from(width * per_mini / 8).unwrap_or(usize::MAX);
                    let length = if left < per_mini { length.min(reader.rest().len()) } else { length };
                    reader.pass(length)?;
                    left = left.saturating_sub(per_mini);
                }
            }
        }
        Ok((count, bytes.len() - reader.rest().len()))
    };
    end().map_err(|_| broken("packed numbers are truncated or broken"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_their_values_are_counted() {
        // Levels of one bit: five ones (a run), then 0 1 1 1 0 1 1 1 (packed).
        let levels = [5 << 1, 1, 3, 0b1110_1110];
        let mut rows = RowCounter::new(256);
        rows.count(&levels, Encoding::RLE, 1, 13).unwrap();
        assert_eq!((rows.rows, rows.values), (2, 13));
        // Batches of two rows: the third begins another one.
        let mut rows = RowCounter::new(2);
        rows.count(&[1 << 1, 0, 3 << 1, 1, 2 << 1, 0, 4 << 1, 1], Encoding::RLE, 1, 10).unwrap();
        assert_eq!((rows.rows, rows.values), (1, 5));
        for (levels, count) in [(&levels[..], 14), (&levels[..3], 13), (&[], 1), (&[0x80], 1)] {
            assert!(RowCounter::new(256).count(levels, Encoding::RLE, 1, count).is_err());
        }
        // A run of 2^25 in six bytes, which the library would make room for.
        let long = [0x80, 0x80, 0x80, 0x20, 1];
        let outcome = RowCounter::new(256).count(&long, Encoding::RLE, 1, 1 << 25);
        assert!(outcome.is_err_and(|error| error.to_string().contains("more values")));
        let zeros = [0x80, 0x80, 0x80, 0x20, 0];
        assert!(RowCounter::new(256).count(&zeros, Encoding::RLE, 1, 1 << 25).is_ok());
    }

    #[test]
    fn levels_are_told_from_what_follows() {
        assert_eq!(split(&[1, 0, 0, 0, 9, 7], Encoding::RLE, 1, 8).unwrap(), (&[9][..], &[7][..]));
        assert!(split(&[9, 0, 0, 0, 9], Encoding::RLE, 1, 8).is_err());
        assert!(split(&[9, 0], Encoding::RLE, 1, 8).is_err());
    }

    #[test]
    fn packed_numbers_are_counted() {
        // Of `DELTA_BINARY_PACKED` as the format's description has it: 1 to 5, in blocks of 128 numbers of 4 parts.
        let numbers = [128, 1, 4, 5, 2, 2, 0, 0, 0, 0];
        assert_eq!(delta(&numbers).unwrap(), (5, 10));
        assert_eq!(delta(&[&numbers[..], b"more"].concat()).unwrap(), (5, 10));
        // None but the first.
        assert_eq!(delta(&[128, 1, 4, 1, 2]).unwrap(), (1, 5));
        for wrong in [&numbers[..7], &[128, 1, 0, 5, 2], &[7, 4, 5, 2], &[]] {
            assert!(delta(wrong).is_err());
        }
        // 2^40 numbers.
        assert!(delta(&[128, 1, 4, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 2, 2, 0, 0, 0, 0]).is_err());
    }
}
