//! The byte-level alphabet of GPT-2: every byte is written as one printable character, so that the
//! vocabulary of a byte-level tokenizer is text (openai/gpt-2, `src/encoder.py`).

/// The character that stands for each byte.
pub(super) const CHARACTERS: [char; 256] = characters();

/// Whether a byte stands for itself: printable and not white space in Latin-1.
const fn stands_for_itself(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

const fn characters() -> [char; 256] {
    let mut table = ['\0'; 256];
    let mut byte = 0;
    let mut others = 0;
    while byte < 256 {
        // The others take the code points from 256 on, in order.
        let code = if stands_for_itself(byte as u8) { byte as u32 } else { 256 + others };
        others += !stands_for_itself(byte as u8) as u32;
        table[byte] = match char::from_u32(code) {
            Some(character) => character,
            None => '\0',
        };
        byte += 1;
    }
    table
}

/// Spells bytes in the alphabet.
pub(super) fn spell(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| CHARACTERS[usize::from(byte)]).collect()
}

/// The bytes that a token of the alphabet stands for; a token with any other character (an added token)
/// stands for its own UTF-8 bytes, as in Hugging Face's `ByteLevel` decoder.
pub(super) fn read(token: &str) -> Box<[u8]> {
    let bytes: Option<Box<[u8]>> = token.chars().map(byte_of).collect();
    bytes.unwrap_or_else(|| token.as_bytes().into())
}

/// The byte that a character of the alphabet stands for.
pub(super) fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    match u8::try_from(code) {
        Ok(byte) => stands_for_itself(byte).then_some(byte),
        // 256 and up: the bytes that do not stand for themselves are 0..=0x20, 0x7F..=0xA0 and 0xAD.
        Err(_) => match code - 256 {
            n @ 0..=0x20 => Some(n as u8),
            n @ 0x21..=0x42 => Some((n - 0x21 + 0x7F) as u8),
            0x43 => Some(0xAD),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn is_a_bijection_with_gpt2s_choices() {
        let distinct: HashSet<char> = CHARACTERS.into_iter().collect();
        assert_eq!(distinct.len(), 256);
        for byte in 0..=255u8 {
            assert_eq!(byte_of(CHARACTERS[usize::from(byte)]), Some(byte));
        }
        assert_eq!(spell(b" the\n"), "ĠtheĊ");
        assert_eq!(byte_of(' '), None);
        assert_eq!(&*read("Ġthe"), b" the");
        assert_eq!(&*read("a b"), b"a b");
    }
}
