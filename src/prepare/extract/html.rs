//! Extracts the main content of an HTML page as plain text: paragraphs with a blank line between them, list
//! items one a line. Navigation, scripts and footers are removed as Readability does (`dom_smoothie`).

use super::{
    super::clean::{encoding, panics},
    BadRecord, Document, Metadata, Records,
    source::Source,
};
use dom_query::Document as Dom;
use dom_smoothie::{Config, Readability, TextMode};

/// Maximum elements of a page. The time to score them also grows with their depth.
const ELEMENTS: usize = 200_000;
/// Maximum depth of nested elements; a deeper page is an attack on the stack or the clock.
const DEPTH: usize = 1000;
/// Elements that are never main text. Readability keeps some of them on short pages.
const NOISE: &str = "style, noscript, template, nav, footer, aside, iframe, svg, button, select, dialog, \
    script:not([type='application/ld+json'])";
/// Elements that are removed as well if Readability finds nothing and the whole page is used.
const MORE_NOISE: &str = "script, header, form";

/// Elements that begin lines of their own but that the library joins with the text after them.
const LINES: &str = "dt, dd, caption, figcaption, summary, legend, address, option, center";

/// Main content of a page.
#[derive(Debug)]
pub struct Page {
    pub text: String,
    /// The page's `title`, `language`, `byline` and `published`, as far as it states them.
    pub metadata: Metadata,
}

pub(super) struct HtmlReader {
    source: Source,
    /// Bad record that is reported after the page.
    waiting: Option<BadRecord>,
    index: u64,
    ended: bool,
}

impl HtmlReader {
    pub(super) fn new(source: Source) -> Self {
        Self { source, waiting: None, index: 0, ended: false }
    }

    fn read(&mut self, bytes: &mut Vec<u8>) -> Result<(), BadRecord> {
        let start = self.source.offset();
        let limit = self.source.limit();
        loop {
            let chunk = self.source.fill()?;
            if chunk.is_empty() {
                self.ended = true;
                return Ok(());
            }
            let count = chunk.len();
            if bytes.len() + count > limit {
                *bytes = Vec::new();
                self.source.skip(u64::MAX)?;
                self.ended = true;
                return Err(self.source.bad_record(start, format!("a page of more than {limit} bytes")));
            }
            bytes.extend_from_slice(chunk);
            self.source.consume(count);
        }
    }
}

impl Records for HtmlReader {}

impl Iterator for HtmlReader {
    type Item = Result<Document, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(bad_record) = self.waiting.take() {
                self.index += 1;
                return Some(Err(bad_record));
            }
            if self.ended {
                return None;
            }
            let start = self.source.offset();
            let mut bytes = Vec::new();
            self.waiting = self.read(&mut bytes).err();
            if bytes.is_empty() {
                if self.waiting.is_none() && self.index == 0 {
                    self.waiting = Some(self.source.bad_record(0, "the file is empty"));
                }
                continue;
            }
            let name = self.source.name();
            let record = match extract(&bytes, None) {
                Ok(Page { text, metadata }) => {
                    let id = format!("{name}#{}", self.index);
                    Ok(Document { id, text, url: None, source: name.into(), metadata })
                }
                Err(reason) => Err(self.source.bad_record(start, reason)),
            };
            self.index += 1;
            return Some(record);
        }
    }
}

/// Decodes a page and extracts its main content.
///
/// # Errors
/// A message that says why there is none.
pub fn extract(bytes: &[u8], content_type: Option<&str>) -> Result<Page, String> {
    extract_with(bytes, content_type, main_text)
}

fn extract_with(
    bytes: &[u8],
    content_type: Option<&str>,
    parse: impl FnOnce(&str) -> Result<Page, String>,
) -> Result<Page, String> {
    panics::catch(|| {
        let decoded = encoding::decode(bytes, &encoding::Hints { content_type, html: true });
        let mut page = parse(&decoded.text)?;
        if decoded.replaced {
            page.metadata.insert("replaced_bytes".into(), true.into());
        }
        Ok(page)
    })?
}

/// Extracts the main content of a page.
///
/// # Errors
/// A message that says why there is none.
pub fn extract_text(page: &str) -> Result<Page, String> {
    panics::catch(|| main_text(page))?
}

fn main_text(page: &str) -> Result<Page, String> {
    let depth = depth(page.as_bytes());
    if depth > DEPTH {
        return Err(format!("the page has {depth} elements within one another, more than {DEPTH}"));
    }
    let config =
        Config { text_mode: TextMode::Formatted, max_elements_to_parse: ELEMENTS, ..Config::default() };
    let mut metadata = Metadata::new();
    let mut text = String::new();
    if let Ok(article) = Readability::with_document(without_noise(page), None, Some(config))
        .and_then(|mut reader| reader.parse())
    {
        text = tidy(&article.text_content);
        let fields = [
            ("title", Some(article.title)),
            ("language", article.lang),
            ("byline", article.byline),
            ("published", article.published_time),
        ];
        for (name, value) in fields {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                metadata.insert(name.into(), value.into());
            }
        }
    }
    if text.is_empty() {
        let document = without_noise(page);
        document.select(MORE_NOISE).remove();
        text = tidy(&document.select("body").formatted_text());
    }
    if text.is_empty() { Err("the page has no text".into()) } else { Ok(Page { text, metadata }) }
}

fn without_noise(page: &str) -> Dom {
    let document = Dom::from(page);
    document.select(NOISE).remove();
    for line in document.select(LINES).nodes() {
        line.append_child(&document.tree.new_element("br"));
    }
    document
}

/// Estimates how deep the deepest element is nested. It counts tags only. Most pages omit some end tags; such
/// an element counts as open up to the next end tag of an element around it.
fn depth(page: &[u8]) -> usize {
    /// Elements without content, and elements whose end tag is often omitted.
    const FLAT: [&[u8]; 22] = [
        b"area",
        b"base",
        b"br",
        b"col",
        b"embed",
        b"hr",
        b"img",
        b"input",
        b"link",
        b"meta",
        b"source",
        b"track",
        b"wbr",
        b"p",
        b"li",
        b"td",
        b"th",
        b"tr",
        b"dt",
        b"dd",
        b"option",
        b"!doctype",
    ];
    let (mut depth, mut deepest) = (0_usize, 0);
    for at in memchr::memchr_iter(b'<', page) {
        let rest = &page[at + 1..];
        match rest.first() {
            Some(b'/') => depth = depth.saturating_sub(1),
            Some(byte) if byte.is_ascii_alphabetic() => {
                let length = rest.iter().take(16).take_while(|byte| byte.is_ascii_alphanumeric()).count();
                if !FLAT.iter().any(|name| name.eq_ignore_ascii_case(&rest[..length])) {
                    depth += 1;
                    deepest = deepest.max(depth);
                }
            }
            _ => {}
        }
    }
    deepest
}

/// Trims lines and leaves at most one blank line between them.
fn tidy(text: &str) -> String {
    let mut tidied = String::with_capacity(text.len());
    let mut blank = false;
    for line in text.lines().map(str::trim) {
        if line.is_empty() {
            blank = !tidied.is_empty();
            continue;
        }
        if !tidied.is_empty() {
            tidied.push_str(if blank { "\n\n" } else { "\n" });
        }
        tidied.push_str(line);
        blank = false;
    }
    tidied
}

#[cfg(test)]
mod tests {
    use super::super::ExtractConfig;
    use super::super::tests::*;
    use super::*;

    fn page(body: &str) -> String {
        format!(
            "<!doctype html><html lang=en><head><meta charset=utf-8><title>A title</title>\
             <script>var tracker = 1;</script><style>p {{ color: red }}</style></head><body>\
             <nav><ul><li><a href=/>Home</a></li><li><a href=/about>About</a></li></ul></nav>\
             <main><article>{body}</article></main>\
             <footer><p>Copyright notice. <a href=/terms>Terms</a></p></footer></body></html>"
        )
    }

    #[test]
    fn the_main_content_is_kept_with_its_paragraphs_and_lists() {
        let long =
            "This sentence, with a comma, is long enough to be taken for the content of a page. ".repeat(5);
        let html =
            page(&format!("<p>{long}</p><ul><li>first item</li><li>second item</li></ul><p>{long}</p>"));
        let Page { text, metadata } = extract_text(&html).unwrap();
        let long = long.trim();
        assert_eq!(text, format!("{long}\n\nfirst item\nsecond item\n\n{long}"));
        assert_eq!((&metadata["title"], &metadata["language"]), (&"A title".into(), &"en".into()));
    }

    #[test]
    fn terms_and_captions_have_lines_of_their_own() {
        let long =
            "This sentence, with a comma, is long enough to be taken for the content of a page. ".repeat(5);
        let list = "<dl><dt>term<dd>meaning<dt>other<dd><p>in a paragraph</p></dl>";
        let table = "<table><caption>Caption</caption><tr><td>cell</td><td>next</td></tr></table>";
        let Page { text, .. } = extract_text(&page(&format!("<p>{long}</p>{list}{table}"))).unwrap();
        let lists = "term\nmeaning\nother\n\nin a paragraph\n\nCaption\ncell next";
        assert_eq!(text, format!("{}\n\n{lists}", long.trim()));
    }

    #[test]
    fn a_page_without_a_main_part_gives_what_it_has() {
        assert_eq!(
            extract_text("<body><nav>menu</nav><div>short text</div></body>").unwrap().text,
            "short text"
        );
        assert_eq!(extract_text("<body><script>1</script></body>").unwrap_err(), "the page has no text");
        assert_eq!(extract_text("no tags").unwrap().text, "no tags");
    }

    #[test]
    fn deep_pages_are_refused_and_what_is_let_through_is_read() {
        let deep = "<div>".repeat(100_000) + "text";
        assert!(extract_text(&deep).unwrap_err().contains("100000 elements"));
        for tag in ["<div>", "<b>", "<p>", "<li>", "<table><tr><td>", "<a>", "<font>", "<ul><li>"] {
            let count = if tag.len() > 5 { 400 } else { 900 };
            let _ = extract_text(&(tag.repeat(count) + &"text, ".repeat(100)));
        }
    }

    #[test]
    fn a_parser_that_panics_costs_its_page() {
        let bad_record = extract_with(b"<p>text", None, |page| panic!("at {}", page.len())).unwrap_err();
        assert_eq!(bad_record, "the parser failed: at 7");
    }

    #[test]
    fn a_file_is_one_page_in_its_own_charset() {
        let body = "<p>".to_string()
            + &"\u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}, \u{43c}\u{438}\u{440}. ".repeat(60);
        let html = page(&body).replace("utf-8", "windows-1251");
        let (bytes, ..) = encoding_rs::WINDOWS_1251.encode(&html);
        let (documents, bad_records) = read_all("a.html", &bytes, &ExtractConfig::default());
        assert!(bad_records.is_empty());
        assert!(documents[0].text.starts_with("\u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}, "));
        let config = ExtractConfig { record_limit: 100, ..Default::default() };
        let (documents, bad_records) = read_all("a.html", &bytes, &config);
        assert_eq!((documents.len(), bad_records.len()), (0, 1));
    }
}
