//! Finds the encoding that a page declares in its own bytes, as the HTML Standard's "prescan a byte stream to
//! determine its encoding" does (https://html.spec.whatwg.org/multipage/parsing.html#prescan-a-byte-stream-to-determine-its-encoding).
//!
//! Browsers deviate from the Standard in two places, and so does this:
//! - They look beyond the first 1024 bytes as long as the page is still in its head (Blink and WebKit in the same
//!   scan, Gecko when its parser meets the `meta`).
//! - Text within `script`, `style`, `title` and other elements that contain text only has no tags.

use encoding_rs::{Encoding, REPLACEMENT, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252, X_USER_DEFINED};

/// Number of bytes at the beginning of a page in which a `meta` element counts wherever it is.
const EVERYWHERE: usize = 1024;

/// Elements that a head may contain; any other element ends it.
const OF_THE_HEAD: [&[u8]; 10] =
    [b"html", b"head", b"meta", b"link", b"title", b"base", b"script", b"style", b"noscript", b"template"];

/// Elements that contain text only, in which nothing but their own end tag is a tag.
const OF_TEXT: [&[u8]; 8] =
    [b"script", b"style", b"title", b"textarea", b"xmp", b"iframe", b"noembed", b"noframes"];

/// Finds the encoding that a page declares, by a `meta` element or otherwise by an XML declaration.
pub(super) fn declared(page: &[u8]) -> Option<&'static Encoding> {
    by_meta(page).or_else(|| by_xml_declaration(page))
}

/// Finds the encoding that a label in a page names. A page whose label could be read as ASCII is not UTF-16,
/// whatever the label says. Encodings that browsers refuse to decode count as unknown.
fn by_label(label: &[u8]) -> Option<&'static Encoding> {
    match Encoding::for_label(label)? {
        encoding if encoding == REPLACEMENT => None,
        encoding if encoding == UTF_16BE || encoding == UTF_16LE => Some(UTF_8),
        encoding if encoding == X_USER_DEFINED => Some(WINDOWS_1252),
        encoding => Some(encoding),
    }
}

fn by_meta(page: &[u8]) -> Option<&'static Encoding> {
    let mut scan = Scan { bytes: page, at: 0 };
    let mut in_head = true;
    loop {
        scan.at += memchr::memchr(b'<', scan.rest())?;
        if !in_head && scan.at >= EVERYWHERE {
            return None;
        }
        let rest = scan.rest();
        if rest.starts_with(b"<!--") {
            // The two dashes may be those of the beginning: `<!-->` is a comment.
            scan.at += 2;
            scan.at += memchr::memmem::find(scan.rest(), b"-->")? + 3;
            continue;
        }
        let is_end = rest.get(1) == Some(&b'/');
        let name_at = if is_end { 2 } else { 1 };
        match rest.get(name_at) {
            Some(byte) if byte.is_ascii_alphabetic() => {}
            Some(_) if is_end || matches!(rest[1], b'!' | b'?') => {
                scan.at += memchr::memchr(b'>', rest)? + 1;
                continue;
            }
            _ => {
                scan.at += 1;
                continue;
            }
        }
        scan.at += name_at;
        let name = scan.tag_name();
        if !is_end && name == b"meta" {
            if let Some(encoding) = scan.encoding_of_meta() {
                return Some(encoding);
            }
        } else {
            while scan.attribute().is_some() {}
        }
        in_head &= OF_THE_HEAD.contains(&&name[..]) && !(is_end && matches!(&name[..], b"head" | b"html"));
        if !is_end && OF_TEXT.contains(&&name[..]) {
            scan.skip_text_of(&name)?;
        }
    }
}

/// A page and the position up to which it was scanned.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.at.min(self.bytes.len())..]
    }

    fn byte(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Skips white space and all bytes for which `is_more` is true.
    fn skip(&mut self, is_more: impl Fn(u8) -> bool) {
        while self.byte().is_some_and(|byte| is_space(byte) || is_more(byte)) {
            self.at += 1;
        }
    }

    /// Reads the name of a tag, in lower case, up to white space, `/` or `>`.
    fn tag_name(&mut self) -> Vec<u8> {
        let start = self.at;
        while self.byte().is_some_and(|byte| !is_space(byte) && !matches!(byte, b'/' | b'>')) {
            self.at += 1;
        }
        self.bytes[start..self.at].to_ascii_lowercase()
    }

    /// Reads an attribute as the Standard's "get an attribute" does: name and value in lower case. `None` at
    /// the end of the tag, which is then skipped, or at the end of the page.
    fn attribute(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        self.skip(|byte| byte == b'/');
        if self.byte()? == b'>' {
            self.at += 1;
            return None;
        }
        let (mut name, mut value) = (Vec::new(), Vec::new());
        loop {
            match self.byte()? {
                b'=' if !name.is_empty() => break,
                b'/' | b'>' => return Some((name, value)),
                byte if is_space(byte) => {
                    self.skip(|_| false);
                    if self.byte()? != b'=' {
                        return Some((name, value));
                    }
                    break;
                }
                byte => name.push(byte.to_ascii_lowercase()),
            }
            self.at += 1;
        }
        self.at += 1;
        self.skip(|_| false);
        let quote = self.byte().filter(|byte| matches!(byte, b'"' | b'\''));
        self.at += usize::from(quote.is_some());
        loop {
            let byte = self.byte()?;
            match quote {
                Some(quote) if byte == quote => {
                    self.at += 1;
                    return Some((name, value));
                }
                None if is_space(byte) || byte == b'>' => return Some((name, value)),
                _ => value.push(byte.to_ascii_lowercase()),
            }
            self.at += 1;
        }
    }

    /// Reads the attributes of a `meta` element and returns the encoding that it declares.
    fn encoding_of_meta(&mut self) -> Option<&'static Encoding> {
        let mut seen: Vec<Vec<u8>> = Vec::new();
        let (mut is_content_type, mut needs_content_type) = (false, false);
        // Whether one is declared, and which: a label that names none is a declaration too.
        let mut declared: Option<Option<&'static Encoding>> = None;
        while let Some((name, value)) = self.attribute() {
            // Others say nothing, and a page may have any number of them.
            let is_known = matches!(&name[..], b"http-equiv" | b"content" | b"charset");
            if !is_known || seen.contains(&name) {
                continue;
            }
            match &name[..] {
                b"http-equiv" => is_content_type |= value == b"content-type",
                b"content" if declared.is_none() => {
                    if let Some(label) = label_in_content(&value) {
                        let encoding = by_label(label);
                        declared = encoding.map(Some);
                        needs_content_type = encoding.is_some();
                    }
                }
                b"charset" => {
                    declared = Some(by_label(&value));
                    needs_content_type = false;
                }
                _ => {}
            }
            seen.push(name);
        }
        // A tag that the page ends within is none.
        let is_whole = self.bytes[..self.at].ends_with(b">");
        declared.flatten().filter(|_| is_whole && (is_content_type || !needs_content_type))
    }

    /// Skips the text of an element whose start tag was read, up to its end tag.
    fn skip_text_of(&mut self, name: &[u8]) -> Option<()> {
        loop {
            self.at += memchr::memmem::find(self.rest(), b"</")? + 2;
            let rest = self.rest();
            let is_own = rest.get(..name.len()).is_some_and(|own| own.eq_ignore_ascii_case(name));
            let ends = rest.get(name.len()).is_none_or(|&byte| is_space(byte) || matches!(byte, b'/' | b'>'));
            if is_own && ends {
                self.at -= 2;
                return Some(());
            }
        }
    }
}

/// Returns whether a byte is white space within a tag.
fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | 0x0c | b'\r' | b' ')
}

/// Finds the label in `text/html; charset=LABEL`, which is in lower case, as the Standard's "extracting a
/// character encoding from a meta element" does.
fn label_in_content(mut content: &[u8]) -> Option<&[u8]> {
    let trimmed = |bytes: &[u8]| bytes.iter().take_while(|&&byte| is_space(byte)).count();
    loop {
        content = &content[memchr::memmem::find(content, b"charset")? + 7..];
        let rest = &content[trimmed(content)..];
        let Some(value) = rest.strip_prefix(b"=") else { continue };
        let value = &value[trimmed(value)..];
        return match value.first()? {
            quote @ (b'"' | b'\'') => {
                let value = &value[1..];
                memchr::memchr(*quote, value).map(|end| &value[..end])
            }
            _ => {
                let end = value.iter().position(|&byte| is_space(byte) || byte == b';');
                Some(&value[..end.unwrap_or(value.len())])
            }
        };
    }
}

/// Finds the encoding that an XML declaration names, as the Standard's "get an XML encoding" does.
fn by_xml_declaration(page: &[u8]) -> Option<&'static Encoding> {
    let trimmed = |bytes: &[u8]| bytes.iter().take_while(|&&byte| byte <= 0x20).count();
    let declaration = page.strip_prefix(b"<?xml")?;
    let declaration = &declaration[..memchr::memchr(b'>', declaration)?];
    let rest = &declaration[memchr::memmem::find(declaration, b"encoding")? + 8..];
    let value = rest[trimmed(rest)..].strip_prefix(b"=")?;
    let value = &value[trimmed(value)..];
    let quote = *value.first().filter(|byte| matches!(byte, b'"' | b'\''))?;
    let label = &value[1..];
    let label = &label[..memchr::memchr(quote, label)?];
    if label.iter().any(|&byte| byte <= 0x20) { None } else { by_label(label) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(page: impl AsRef<[u8]>) -> &'static str {
        declared(page.as_ref()).map_or("", Encoding::name)
    }

    #[test]
    fn both_forms_of_meta_count() {
        for (page, expected) in [
            ("<meta charset=windows-1251>", "windows-1251"),
            ("<meta charset='windows-1251'>", "windows-1251"),
            ("<META\nCHARSET = \"Shift_JIS\" />", "Shift_JIS"),
            ("<meta/charset=gbk>", "GBK"),
            ("<meta name=x charset=big5>", "Big5"),
            ("<meta content='text/html; charset=koi8-r' http-equiv=Content-Type>", "KOI8-R"),
            ("<meta http-equiv=content-type content='text/html; charset = \"euc-jp\"; x'>", "EUC-JP"),
            ("<meta http-equiv=content-type content='charset charset=euc-kr'>", "EUC-KR"),
            ("<meta charset=utf-16le>", "UTF-8"),
            ("<meta charset=x-user-defined>", "windows-1252"),
            ("<meta charset=latin1>", "windows-1252"),
            ("<meta charset=' utf8 '>", "UTF-8"),
            ("<meta charset=nonsense><meta charset=gbk>", "GBK"),
            ("<meta charset=iso-2022-kr><meta charset=gbk>", "GBK"),
            ("<html lang=de><head><!-- x --><meta charset=gbk>", "GBK"),
        ] {
            assert_eq!(name(page), expected, "{page}");
        }
    }

    #[test]
    fn what_only_looks_like_a_meta_does_not_count() {
        for page in [
            "<!-- <meta charset=gbk> -->",
            "<!doctype html \"<meta charset=gbk\">",
            "<?php '<meta charset=gbk' ?>",
            "<metadata charset=gbk>",
            "</meta charset=gbk>",
            "<meta name=description content='how to declare charset=gbk'>",
            "<meta http-equiv=refresh content='charset=gbk'>",
            "<meta data-charset=gbk>",
            "<meta x='charset=gbk'>",
            "<meta name='<meta charset=gbk>'>",
            "<p title='<meta charset=gbk>'>",
            "<a href=x <meta charset=gbk",
            "<meta charset=gbk",
            "<meta charset='gbk'",
            "<meta http-equiv=content-type content='text/html; charset=\"gbk'>",
            "<meta http-equiv=content-type content='text/html; charset'>",
            // A label of no encoding is a declaration: `content` does not replace it.
            "<meta charset=nonsense http-equiv=content-type content='text/html; charset=gbk'>",
            // The first of two attributes of the same name counts.
            "<meta charset=nonsense charset=gbk>",
            "<title><meta charset=gbk></title>",
            "<script>document.write('<meta charset=gbk>')</script>",
            "<style>/* <meta charset=gbk> */</style>",
            "<script>'</scripted> <meta charset=gbk>'",
        ] {
            assert_eq!(name(page), "", "{page}");
        }
        assert_eq!(name("<!--><meta charset=gbk>"), "GBK");
        assert_eq!(name("<script>x</SCRIPT ><meta charset=gbk>"), "GBK");
        assert_eq!(name("a < b <meta charset=gbk>"), "GBK");
    }

    #[test]
    fn the_head_is_read_to_its_end_and_what_follows_up_to_1024_bytes() {
        let late = format!("<head>{}<meta charset=gbk>", "<link rel=x>".repeat(1000));
        assert_eq!(name(late), "GBK");
        let comment = format!("<head><!--{}--><meta charset=gbk>", "x".repeat(5000));
        assert_eq!(name(comment), "GBK");
        let body = |length| format!("<body>{}<meta charset=gbk>", "x".repeat(length));
        assert_eq!((name(body(1000)), name(body(2000))), ("GBK", ""));
        assert_eq!(name(format!("</head>{}<meta charset=gbk>", "x".repeat(2000))), "");
    }

    #[test]
    fn an_xml_declaration_counts_where_no_meta_does() {
        assert_eq!(name("<?xml version='1.0' encoding='iso-8859-2'?><p>"), "ISO-8859-2");
        assert_eq!(name("<?xml encoding = \"UTF-16\"?>"), "UTF-8");
        assert_eq!(name("<?xml encoding='iso-8859-2'?><meta charset=gbk>"), "GBK");
        for page in ["<?xml encoding=iso-8859-2?>", " <?xml encoding='gbk'?>", "<?xml?><p encoding='gbk'>"] {
            assert_eq!(name(page), "", "{page}");
        }
    }

    #[test]
    fn no_page_is_too_broken() {
        let page = b"<meta charset='windows-1251' http-equiv=x><!-- x --><script>a</script></head><p a='b'>";
        for end in 0..page.len() {
            declared(&page[..end]);
            declared(&page[end..]);
        }
    }
}
