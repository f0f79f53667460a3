//! `train.batch_size = auto`. It keeps the number of rows that a step has, and sets another key, by which they are
//! divided into micro-batches that fit in memory.

use super::{get, insert, remove};
use toml::{Table, Value};

const BATCH: &str = "train.batch_size";
const FIT: &str = "train.fit_batch";
const AUTO: &str = "auto";

/// Replaces the value in a file.
pub(super) fn replace(table: &mut Table) {
    if get(table, BATCH).and_then(Value::as_str) == Some(AUTO) {
        remove(table, BATCH);
        insert(table, FIT, Value::Boolean(true));
    }
}

/// Applies an override of a key to a tree. Returns whether that was all that it asks for.
pub(super) fn apply(table: &mut Table, key: &str, value: &str) -> bool {
    if key != BATCH {
        return false;
    }
    let is_auto = value.trim().trim_matches(['"', '\'']) == AUTO;
    insert(table, FIT, Value::Boolean(is_auto));
    is_auto
}
