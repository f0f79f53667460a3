//! spaCy's cuts between white space: ends are cut off until an exception or nothing to
//! cut is left, then addresses stay whole and other words are cut at infixes (`tokenizer.pyx`, MIT).

use super::{
    affixes::{prefix, split_infixes, suffix},
    characters::Classes,
    exceptions::Exceptions,
    url::is_url,
};

/// Appends the lengths in bytes of the tokens of a chunk, which cover it.
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
