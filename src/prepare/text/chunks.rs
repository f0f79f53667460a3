//! Splits text between white space as spaCy does (`tokenizer.pyx`, MIT): prefixes and suffixes are cut off
//! until an exception is left or nothing more can be cut; then addresses stay whole and other words are split
//! at infixes.

use super::{
    affixes::{prefix, split_infixes, suffix},
    characters::Classes,
    exceptions::Exceptions,
    url::is_url,
};

/// Appends the lengths in bytes of a chunk's tokens, which cover it.
pub(super) fn split(classes: &Classes, exceptions: Option<&Exceptions>, chunk: &str, lengths: &mut Vec<u32>) {
    let exception = |word: &str| exceptions.and_then(|exceptions| exceptions.of(word));
    let mut rest = chunk;
    let mut suffixes = Vec::new();
    loop {
        if exception(rest).is_some() {
            break;
        }
        let front = prefix(classes, rest);
        if front > 0 && exception(&rest[front..]).is_some() {
            lengths.push(front as u32);
            rest = &rest[front..];
            break;
        }
        // What looks behind a suffix does not see a prefix that is cut in the same turn.
        let back = suffix(classes, &rest[front..]);
        if back > 0 && exception(&rest[..rest.len() - back]).is_some() {
            suffixes.push(back as u32);
            rest = &rest[..rest.len() - back];
            break;
        }
        if front > 0 {
            lengths.push(front as u32);
        }
        if back > 0 {
            suffixes.push(back as u32);
        }
        rest = &rest[front..rest.len() - back];
        if front + back == 0 || rest.is_empty() {
            break;
        }
    }
    if !rest.is_empty() {
        if let Some(tokens) = exception(rest) {
            lengths.extend_from_slice(tokens);
        } else if is_url(rest) {
            lengths.push(rest.len() as u32);
        } else {
            split_infixes(classes, rest, lengths);
        }
    }
    lengths.extend(suffixes.into_iter().rev());
}
