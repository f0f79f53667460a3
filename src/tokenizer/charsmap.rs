//! Checks the normalization table of SentencePiece, `precompiled_charsmap` of a `Precompiled` normalizer. In
//! base64, it holds the length of a double-array trie in bytes, the trie
//! (<https://github.com/s-yata/darts-clone>), and the texts that the values of the trie point into. The
//! `tokenizers` crate does not check it: a damaged table makes it panic when it reads the table or normalizes
//! a text.

/// Refuses a damaged table, given in base64.
pub(super) fn check(base64: &str) -> Result<(), String> {
    let damaged = || "has a damaged `precompiled_charsmap`".to_owned();
    let bytes = decode(base64).ok_or_else(damaged)?;
    let (length, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
    let length = u32::from_le_bytes(*length) as usize / 4 * 4;
    let (trie, texts) = rest.split_at_checked(length).ok_or_else(damaged)?;
    let trie: Vec<usize> = trie.as_chunks().0.iter().map(|unit| u32::from_le_bytes(*unit) as usize).collect();
    let texts = std::str::from_utf8(texts).map_err(|_| damaged())?;
    let holds = |base: &usize, unit: usize| {
        // A value is where a text begins.
        unit >> 8 & 1 == 0 || trie.get(*base).is_some_and(|value| texts.is_char_boundary(value & 0x7FFF_FFFF))
    };
    let mut known = vec![false; trie.len()];
    let mut pending = vec![offset(*trie.first().ok_or_else(damaged)?)];
    while let Some(node) = pending.pop() {
        for label in 1..=255 {
            let position = node ^ label;
            let unit = *trie.get(position).ok_or_else(damaged)?;
            if unit & 0x8000_00FF != label || std::mem::replace(&mut known[position], true) {
                continue;
            }
            let child = position ^ offset(unit);
            if !holds(&child, unit) {
                return Err(damaged());
            }
            pending.push(child);
        }
    }
    Ok(())
}

/// Offset of the children of a node, relative to the node.
fn offset(unit: usize) -> usize {
    unit >> 10 << ((unit & 1 << 9) >> 6)
}

fn decode(base64: &str) -> Option<Vec<u8>> {
    let digits = base64.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    // The crate wants all of the padding, and no bits that stand for nothing.
    (base64.len().is_multiple_of(4) && base64.len() - digits.len() <= 2 && bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Table of a model that sentencepiece 0.2.3 made with
    /// `SentencePieceTrainer.train(normalization_rule_tsv=FILE)` and nine rules such as `2460\t31`, read from
    /// `normalizer_spec.precompiled_charsmap`.
    const WHOLE: &str = include_str!("../../tests/reports/tokenizers/charsmap.txt");

    #[test]
    fn a_whole_table_is_taken() {
        check(WHOLE.trim()).unwrap();
    }

    #[test]
    fn damaged_tables_are_refused() {
        for text in ["", "AAAA", "/////wAAAAAA", "BAAAAP////9hAA==", "CAAAAP////8AAAAAYQA=", "é", "AAA"] {
            assert!(check(text).is_err(), "{text}");
        }
    }

    /// A table that passes the check does not panic when it is read or used.
    #[test]
    fn what_is_taken_can_be_used() {
        let whole = decode(WHOLE.trim()).unwrap();
        for at in 0..whole.len() {
            for value in [0, 1, 0x7F, 0xFF] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let text = encode(&bytes);
                if check(&text).is_ok() {
                    let table = json!({ "type": "Precompiled", "precompiled_charsmap": text }).to_string();
                    let table: tokenizers::normalizers::Precompiled = serde_json::from_str(&table).unwrap();
                    for text in ["①", "a①é", "\u{1}\u{7F}", "ÿ🙂①①"] {
                        table.normalize_string(text);
                    }
                }
            }
        }
    }

    fn encode(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let mut three = [0; 3];
            three[..chunk.len()].copy_from_slice(chunk);
            let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
            for index in 0..4 {
                let digit = char::from(DIGITS[(bits >> (18 - 6 * index) & 63) as usize]);
                text.push(if index <= chunk.len() { digit } else { '=' });
            }
        }
        text
    }
}
