//! Finds the encoding of bytes and decodes them. The byte order mark decides first, then the HTTP header,
//! then what the page itself declares, and last a detector.

use super::{prescan, wide::Wide};
use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, ISO_2022_JP, REPLACEMENT, UTF_8, WINDOWS_1250, WINDOWS_1252};

/// Maximum bytes that the detector reads; it is slow, and certain long before.
const DETECT: usize = 1 << 16;
/// Text that is UTF-8 except for a few invalid bytes counts as damaged UTF-8: at most one invalid place in
/// this many bytes, or three in all.
const DAMAGE: usize = 200;

/// Encodings that were declared outside the text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hints<'a> {
    /// Value of the HTTP header `Content-Type`.
    pub content_type: Option<&'a str>,
    /// True if the bytes are an HTML page, which may declare its encoding in a `meta` element.
    pub html: bool,
}

/// Decoded text, and its encoding.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    pub text: String,
    /// Name of the encoding in the WHATWG's Encoding Standard.
    pub encoding: &'static str,
    /// True if bytes that are invalid in the encoding became U+FFFD.
    pub replaced: bool,
}

/// Decodes bytes; a byte order mark is dropped.
pub fn decode(bytes: &[u8], hints: &Hints<'_>) -> Decoded {
    if let Some(rest) = bytes.strip_prefix(b"\xef\xbb\xbf") {
        return decode_as(UTF_8, rest);
    }
    // No other encoding of text has zeros.
    if let Some((wide, mark)) = Wide::of(bytes) {
        let (text, replaced) = wide.decode(&bytes[mark..]);
        return Decoded { text, encoding: wide.name(), replaced };
    }
    let declared = hints.content_type.and_then(charset);
    let declared = declared.or_else(|| if hints.html { prescan::declared(bytes) } else { None });
    let utf_8 = std::str::from_utf8(bytes);
    match (declared, utf_8) {
        // The only declared encoding in which other text is valid UTF-8 by more than accident.
        (Some(encoding), _) if encoding == ISO_2022_JP => decode_as(encoding, bytes),
        // Servers often declare Latin-1 for whatever they hold; what is valid as UTF-8 is UTF-8, but for escapes that
        // may be those of ISO-2022-JP.
        (_, Ok(text)) if declared.is_some() || !bytes.contains(&0x1b) => {
            Decoded { text: text.into(), encoding: UTF_8.name(), replaced: false }
        }
        // A page that says that it is UTF-8 and is not has the encoding of its author's editor: the detector finds it.
        _ if is_damaged_utf_8(bytes, declared == Some(UTF_8)) => decode_as(UTF_8, bytes),
        (Some(encoding), _) if encoding != UTF_8 => decode_as(encoding, bytes),
        _ => decode_as(detect(bytes), bytes),
    }
}

fn decode_as(encoding: &'static Encoding, bytes: &[u8]) -> Decoded {
    let (text, replaced) = encoding.decode_without_bom_handling(bytes);
    Decoded { text: text.into_owned(), encoding: encoding.name(), replaced }
}

/// Finds the encoding that a label names; `None` for encodings that browsers refuse to decode, which are left
/// to the detector.
fn by_label(label: &[u8]) -> Option<&'static Encoding> {
    Encoding::for_label(label).filter(|&encoding| encoding != REPLACEMENT)
}

/// Finds the encoding in the parameter `charset` of a `Content-Type`. As browsers do, it removes quotes of
/// either kind and spaces around `=`. In a list of several types, as two headers of this name give, commas
/// separate the types.
fn charset(content_type: &str) -> Option<&'static Encoding> {
    let mut quoted = false;
    let separates = |character: char| {
        quoted ^= character == '"';
        matches!(character, ';' | ',') && !quoted
    };
    let mut parameters = content_type.split(separates).filter_map(|part| part.split_once('='));
    let (_, value) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
    let value = value.trim().trim_matches(['"', '\'']);
    by_label(value.split_ascii_whitespace().next()?.as_bytes())
}

/// Returns whether bytes are UTF-8 with characters beyond ASCII and few invalid places. A last character that
/// is cut off counts as valid. If UTF-8 `is_declared`, more invalid places are allowed.
fn is_damaged_utf_8(bytes: &[u8], is_declared: bool) -> bool {
    let (mut valid, mut damaged) = (0_usize, 0_usize);
    let whole = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    };
    for chunk in whole.utf8_chunks() {
        valid += chunk.valid().bytes().filter(|&byte| byte >= 0xc0).count();
        damaged += usize::from(!chunk.invalid().is_empty());
    }
    let least = if is_declared { 1 } else { 4 };
    valid > least * damaged && damaged <= (bytes.len() / DAMAGE).max(3)
}

/// Guesses the encoding with a detector.
fn detect(bytes: &[u8]) -> &'static Encoding {
    let start = bytes.iter().position(|&byte| byte >= 0x80 || byte == 0x1b).unwrap_or(0);
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    // From where it matters: what lies before is ASCII.
    let start = start.saturating_sub(64);
    let end = bytes.len().min(start + DETECT);
    detector.feed(&bytes[start..end], end == bytes.len());
    let guess = detector.guess(None, Utf8Detection::Allow);
    // What the detector has seen may be UTF-8 where all of it is not, which was told apart before.
    let is_wrong = guess == UTF_8 && std::str::from_utf8(bytes).is_err();
    let guess = if is_wrong { detector.guess(None, Utf8Detection::Deny) } else { guess };
    if guess == WINDOWS_1252 && is_hungarian(&bytes[start..end]) { WINDOWS_1250 } else { guess }
}

/// Returns whether a text beyond ASCII has the letters of Hungarian and no others. All of them except `ő` and
/// `ű` are the same in windows-1252, which has `õ` and `û` in their place, so that the detector takes short
/// Hungarian texts for windows-1252.
fn is_hungarian(bytes: &[u8]) -> bool {
    let (mut doubles, mut acutes, mut dots) = (false, false, false);
    for &byte in bytes.iter().filter(|&&byte| byte >= 0xc0) {
        match byte | 0x20 {
            0xf5 | 0xfb => doubles = true,
            0xe1 | 0xe9 | 0xed | 0xf3 | 0xfa => acutes = true,
            0xf6 | 0xfc => dots = true,
            _ => return false,
        }
    }
    // Estonian has no acutes, and Portuguese no dots beside its `õ`.
    doubles && acutes && dots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(bytes: &[u8]) -> Decoded {
        decode(bytes, &Hints::default())
    }

    #[test]
    fn a_byte_order_mark_is_believed_and_dropped() {
        assert_eq!(plain(b"\xef\xbb\xbfabc").text, "abc");
        assert_eq!(
            plain(b"\xff\xfea\0\xe9\0"),
            Decoded { text: "aé".into(), encoding: "UTF-16LE", replaced: false }
        );
        assert_eq!(plain(b"\xfe\xff\0a").encoding, "UTF-16BE");
    }

    #[test]
    fn the_header_comes_before_the_meta_and_both_before_the_detector() {
        let page = b"<html><meta charset='windows-1251'>\xcf\xf0\xe8";
        let with = |content_type| decode(page, &Hints { content_type, html: true });
        assert!(with(None).text.ends_with("При"));
        assert!(with(Some("text/html; charset=\"KOI8-R\"")).text.ends_with("оПХ"));
        assert!(with(Some("text/html; charset=nonsense")).text.ends_with("При"));
        let old =
            b"<META http-equiv=Content-Type content=\"text/html; charset = shift_jis\"/>\x93\xfa\x96\x7b";
        assert!(decode(old, &Hints { content_type: None, html: true }).text.ends_with("日本"));
        let both = "text/html; x=\"; charset=gbk\", text/html; charset = 'koi8-r'";
        assert!(with(Some(both)).text.ends_with("оПХ"));
        for none in ["text/html; x-charset=gbk", "text/html; x=charset=gbk", "charset"] {
            assert!(with(Some(none)).text.ends_with("При"), "{none}");
        }
        let xml = b"<?xml version=\"1.0\" encoding=\"iso-8859-2\"?><p>\xb1";
        assert!(decode(xml, &Hints { content_type: None, html: true }).text.ends_with('ą'));
    }

    #[test]
    fn what_is_valid_utf_8_is_so_whatever_the_header_says() {
        let hints = Hints { content_type: Some("text/html; charset=iso-8859-1"), html: false };
        assert_eq!(decode("Füße".as_bytes(), &hints).text, "Füße");
        assert_eq!(decode(b"F\xfc\xdfe", &hints).text, "Füße");
    }

    #[test]
    fn a_declared_utf_8_that_is_not_valid_goes_to_the_detector() {
        let german =
            "Der Fluß fließt über Köln, die Möwe hört schöne Klänge, und müde Bäume grüßen süße Äpfel. ";
        let (latin, _, _) = encoding_rs::WINDOWS_1252.encode(german);
        for content_type in [Some("text/html; charset=utf-8"), None] {
            let page = [b"<html><meta charset=utf-8>", &latin[..]].concat();
            let decoded = decode(&page, &Hints { content_type, html: true });
            assert_eq!((decoded.encoding, decoded.replaced), ("windows-1252", false));
            assert!(decoded.text.ends_with(german));
        }
        // But one that is UTF-8 with damage, or cut within a character, stays so.
        let hints = Hints { content_type: Some("text/plain; charset=utf-8"), html: false };
        for damaged in [&b"\xc3\xbc \xc3\xa4 \xff \xc3\xb6"[..], b"F\xc3\xbc\xc3"] {
            assert_eq!(decode(damaged, &hints).encoding, "UTF-8");
        }
        let cut = "Füße, so schön".as_bytes();
        assert_eq!(plain(&cut[..cut.len() - 2]).text, "Füße, so sch\u{fffd}");
    }

    #[test]
    fn a_declared_utf_16_without_zeros_is_what_it_looks_like() {
        let hints = Hints { content_type: Some("text/html; charset=utf-16le"), html: true };
        assert_eq!(decode(b"<p>plain</p>", &hints).text, "<p>plain</p>");
        let chinese: Vec<u8> = "沒有空格的文字，".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(decode(&chinese, &hints).text, "沒有空格的文字，");
    }

    #[test]
    fn the_detector_knows_the_usual_encodings() {
        let samples = [
            ("windows-1251", "Съешь же ещё этих мягких французских булок, да выпей чаю."),
            ("Shift_JIS", "今日は天気がいいので、散歩に行きました。これは日本語の文章です。"),
            ("EUC-JP", "いろはにほへと ちりぬるを わかよたれそ つねならむ 日本語の文章です。"),
            ("ISO-2022-JP", "いろはにほへと ちりぬるを 日本語の文章です。"),
            ("GBK", "我们在这里学习如何处理大量的中文文本，这是一个很长的句子。"),
            ("Big5", "我們在這裡學習如何處理大量的中文文本，這是一個很長的句子。"),
            ("EUC-KR", "우리는 여기에서 많은 양의 한국어 텍스트를 처리하는 방법을 배웁니다."),
            ("windows-1252", "Le café est très bon, et la forêt est à côté de l'église."),
            ("windows-1250", "Příliš žluťoučký kůň úpěl ďábelské ódy, protože měl žízeň."),
            ("windows-1250", "Árvíztűrő tükörfúrógép, mondta az öreg halász, és később hazament."),
            ("windows-1252", "Põhja pool öösel jõudis tüdruk üle õue."),
            ("windows-1252", "Ela põe só três pães à mesa e diz que não põe mais, pois já é noite."),
        ];
        for (label, text) in samples {
            let encoding = Encoding::for_label(label.as_bytes()).unwrap();
            let decoded = plain(&encoding.encode(text).0);
            assert_eq!((decoded.encoding, decoded.text.as_str()), (label, text));
        }
        assert_eq!(
            plain(&"plain text".bytes().flat_map(|byte| [byte, 0]).collect::<Vec<_>>()).text,
            "plain text"
        );
    }

    #[test]
    fn a_damaged_byte_does_not_make_utf_8_something_else() {
        let mut bytes = "Größere Füße für süße Bären. ".repeat(10).into_bytes();
        bytes.insert(10, 0xff);
        let decoded = plain(&bytes);
        assert_eq!((decoded.encoding, decoded.replaced), ("UTF-8", true));
        assert_eq!(decoded.text.matches('\u{fffd}').count(), 1);
    }
}
