//! Decodes names of members, which are in UTF-8 or, in archives of MS-DOS, in code page 437.

/// Upper half of code page 437.
const UPPER: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
    αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// Decodes a name. Many writers of UTF-8 do not set its flag, so that only the bytes can tell.
pub(super) fn decode(name: Vec<u8>) -> String {
    String::from_utf8(name)
        .unwrap_or_else(|error| error.as_bytes().iter().map(|&byte| character(byte)).collect())
}

fn character(byte: u8) -> char {
    let upper = byte.checked_sub(0x80).and_then(|index| UPPER.chars().nth(index.into()));
    upper.unwrap_or(char::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_utf_8_or_of_ms_dos() {
        assert_eq!(UPPER.chars().count(), 128);
        assert_eq!(decode("größe.txt".into()), "größe.txt");
        // Python: "größe é.txt".encode("cp437").
        assert_eq!(decode(b"gr\x94\xe1e \x82.txt".to_vec()), "größe é.txt");
        assert_eq!(decode(b"\x80\xff".to_vec()), "Ç\u{a0}");
    }
}
