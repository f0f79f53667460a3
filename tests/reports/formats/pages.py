"""Pages as html5lib reads them, and WARC and WET files as warcio reads them."""

import gzip
import io
import json
import zlib

import brotli
import html5lib
import webencodings
import zstandard
from warcio.archiveiterator import ArchiveIterator
from warcio.bufferedreaders import BufferedReader

from texts import SENTENCES, answer, sentence

XHTML = "{http://www.w3.org/1999/xhtml}"
INLINE = {
    "a", "abbr", "b", "bdi", "bdo", "cite", "code", "data", "dfn", "em", "font", "i", "kbd", "mark", "q", "s", "samp",
    "small", "span", "ruby", "rp", "rt", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr", "ins", "del", "big", "strike",
}
NO_TEXT = {"script", "style", "noscript", "template", "head", "iframe", "noframes"}


def words_of(element):
    """The text of an element, with a space around all but inline elements."""
    name = element.tag.removeprefix(XHTML) if isinstance(element.tag, str) else None
    parts = []
    if name is not None and name not in NO_TEXT:
        around = "" if name in INLINE else " "
        parts += [around, element.text or ""]
        for child in element:
            parts += [words_of(child), child.tail or ""]
        parts.append(around)
    return "".join(parts)


def read_page(data, content_type=None):
    charset = content_type.partition("charset=")[2] if content_type else None
    tree = html5lib.parse(data, transport_encoding=charset or None)
    articles = list(tree.iter(XHTML + "article")) or [tree.find(XHTML + "body")]
    return " ".join(" ".join(words_of(article) for article in articles).split())


def wrap(language, inside="", head="", doctype="<!DOCTYPE html>", around=("<html>", "</html>")):
    paragraphs = "".join(f"<p>{SENTENCES[language]}</p>\n" for _ in range(2))
    return f"{doctype}{around[0]}<head>{head}</head><body><article>{paragraphs}{inside}</article></body>{around[1]}"


# Encodings by the name of the WHATWG, and languages.
CHARSETS = [
    ("utf-8", "ru"), ("windows-1250", "cs"), ("windows-1251", "ru"), ("windows-1252", "fr"), ("windows-1253", "el"),
    ("windows-1254", "tr"), ("windows-1255", "he"), ("windows-1256", "ar"), ("windows-1257", "lt"),
    ("iso-8859-2", "pl"), ("iso-8859-5", "ru"), ("iso-8859-7", "el"), ("iso-8859-8", "he"), ("koi8-r", "ru"),
    ("koi8-u", "uk"), ("ibm866", "ru"), ("macintosh", "de"), ("x-mac-cyrillic", "ru"), ("windows-874", "th"),
    ("shift_jis", "ja"), ("euc-jp", "ja"), ("iso-2022-jp", "ja"), ("gbk", "zh"), ("gb18030", "zh"), ("big5", "zh-hant"),
    ("euc-kr", "ko"), ("iso-8859-4", "lv"), ("iso-8859-10", "de"), ("iso-8859-13", "lt"), ("iso-8859-15", "fr"),
    ("iso-8859-16", "hu"),
]  # fmt: skip

PARSED = [
    "<p>AT&amp;T &lt;tag&gt; &quot;quoted&quot; &apos;single&apos; &nbsp;space</p>",
    "<p>&copy 2020 &eacute;t&eacute &notit; &notin; &unknown; &amp;amp;</p>",
    "<p>&#65;&#x42;&#X43; &#128; &#150; &#x1F986; &#0; &#xD800; &#x110000; &#13;</p>",
    "<p>&hellip;&mdash;&ldquo;words&rdquo; &CounterClockwiseContourIntegral; &NotEqualTilde;</p>",
    "<p>one<p>two<p>three",
    "<p>one <b>bold <i>both</b> italic</i> none</p>",
    "<p>in<b>with</b>in <em>em</em><strong>strong</strong></p>",
    "<p>one<br>two<br/>three<br />four</p>",
    "<pre>  kept\n    white   space\n</pre>",
    "<pre>\nfirst line</pre>",
    "<ul><li>one<li>two<li>three</ul>",
    "<ol><li><p>first</p></li><li>second <b>bold</b></li></ol>",
    "<ul><li>outer<ul><li>inner</li></ul></li><li>last</li></ul>",
    "<dl><dt>term<dd>meaning<dt>other<dd>another meaning</dl>",
    "<table><tr><td>a</td><td>b</td></tr><tr><td>c<td>d</table>",
    "<table><thead><tr><th>Name</th><th>Value</th></tr></thead><tbody><tr><td>one</td><td>1</td></tr></tbody></table>",
    "<blockquote><p>A quotation of several words, with a comma.</p></blockquote>",
    "<p>before<!-- a comment with <p>markup</p> -->after</p>",
    "<p>before<!-- unusual -- comment --!>after</p>",
    "<p>before<!>after<!x>more</p>",
    "<p>before<?php echo '<p>x</p>'; ?>after</p>",
    "<p>before<![CDATA[cdata]]>after</p>",
    "<script>document.write('<p>no</p>');</script><p>after the script</p>",
    "<script>if (a < b) { x = '</p>'; }</script><p>after</p>",
    "<style>p { color: red }</style><p>after the style</p>",
    "<template><p>template</p></template><p>after the template</p>",
    "<p>a < b and c > d & e</p>",
    "<p>a <b c> d</p>",
    "<p title='a > b' data-x=\"<p>\">attributes</p>",
    "<p title=unquoted/>closed</p>",
    "<P CLASS=X>UPPER</P><DiV>mixed</dIv>",
    "<p>text</p></p></div></b><p>stray ends</p>",
    "<div><div><div><p>deep</p></div></div></div>",
    "<h2>A heading</h2><p>Text below it, with a few words.</p>",
    "<section><h3>Part</h3><p>Within a section, with a few words.</p></section>",
    "<p>soft&shy;hyphen zero&#8203;width no&#8288;break</p>",
    "<p>tab\tand\nline\r\nbreaks   collapse</p>",
    "<p>a<wbr>b<span>c</span><span> d</span></p>",
    "<p>x<sub>2</sub> and y<sup>3</sup></p>",
    "<p>日本<ruby>語<rp>(</rp><rt>ご</rt><rp>)</rp></ruby>文</p>",
    "<p dir=rtl>שלום עולם</p>",
    "<center><font size=2>old <tt>markup</tt></font></center>",
    "<custom-element>custom words here</custom-element><p>after</p>",
    "<p>emoji &#x1F468;&#x200D;&#x1F469; 🦆</p>",
    "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>",
    "<dl><dt>one</dt><dt>two</dt><dd><p>meaning</p></dd></dl><p>after</p>",
    "<table><caption>A caption</caption><tr><td>cell</td></tr></table>",
    "<figure><img src=x><figcaption>A caption</figcaption></figure>words after it",
    "<address>An address of words</address>words after it",
    "<p>unclosed <b>bold<p>next <i>paragraph",
    "<a href=x><p>block within a link</p></a>",
    "<p>" + "word " * 300 + "</p>",
    "<p>null \x00 character</p>",
    "<p>form\x0cfeed</p>",
    "<figure><figcaption>A caption of a picture</figcaption></figure>",
    "<details><summary>Summary</summary><p>Detail of some words.</p></details>",
    "<hr><p>after a rule</p>",
    "<p>end of file within a tag <b",
    "<p>end within an entity &am",
]  # fmt: skip


def html(rng):
    number = 0

    def case(label, data, extension=".html", expected=None):
        nonlocal number
        number += 1
        text = read_page(data) if expected is None else expected
        return f"{number:03}-{label}{extension}", data, answer([text], words=True)

    for encoding, language in CHARSETS:
        found = webencodings.lookup(encoding)
        labels = [label for label, name in webencodings.LABELS.items() if name == found.name]
        label = rng.choice(labels + [encoding])
        style = rng.randrange(5)
        meta = [
            f"<meta charset={label}>",
            f'<meta charset="{label.upper()}" />',
            f'<META http-equiv="Content-Type" content="text/html; charset={label}">',
            f"<meta content='text/html;charset = {label}' http-equiv=content-type>",
            f"<!-- <meta charset=utf-8> --><title>charset=utf-8</title><meta name=x charset='{label}'>",
        ][style]
        page = wrap(language, head=meta)
        data = found.codec_info.encode(page, "ignore")[0]
        yield case(f"charset-{encoding}", data, rng.choice([".html", ".htm", ".HTML", ""]))
    for label, data in [
        ("mark-beats-meta", b"\xef\xbb\xbf" + wrap("ru", head="<meta charset=windows-1251>").encode()),
        ("mark-utf16le", b"\xff\xfe" + wrap("ru").encode("utf-16-le")),
        ("mark-utf16be", b"\xfe\xff" + wrap("ru").encode("utf-16-be")),
        ("meta-utf16", wrap("ru", head="<meta charset=utf-16>").encode()),
        ("meta-twice", wrap("ru", head="<meta charset=koi8-r><meta charset=utf-8>").encode("koi8-r")),
        ("meta-description", wrap(
            "ru", head="<meta name=description content='charset=utf-8'><meta charset=koi8-r>").encode("koi8-r")),
        ("meta-unknown", wrap("ru", head="<meta charset=none><meta charset=koi8-r>").encode("koi8-r")),
        ("meta-data", wrap("ru", head="<meta data-charset=utf-8><meta charset=koi8-r>").encode("koi8-r")),
        ("meta-in-script", wrap(
            "ru", head="<title>t</title><meta charset=koi8-r><script>'<meta charset=utf-8>'</script>"
        ).encode("koi8-r")),
        ("meta-slash", wrap("ru", head="<meta/charset=koi8-r/>").encode("koi8-r")),
        ("meta-late", wrap("ru", head="<!--" + "x" * 900 + "--><meta charset=koi8-r>").encode("koi8-r")),
    ]:  # fmt: skip
        yield case(label, data)
    for index, fragment in enumerate(PARSED):
        yield case(f"parse-{index}", wrap(rng.choice(["en", "de", "ja"]), fragment).encode())
    for label, page in [
        ("no-doctype", wrap("en", doctype="")),
        ("quirks", wrap("en", doctype='<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01//EN">')),
        ("xhtml", wrap("en", doctype='<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html>')),
        ("comment-first", "<!-- first -->" + wrap("en")),
        ("no-html", "".join(f"<p>{SENTENCES['en']}</p>" for _ in range(3))),
    ]:
        yield case(label, page.encode(), ".xhtml" if label == "xhtml" else ".html")
    for label, page in [("empty", ""), ("no-text", "<html><body><script>'text'</script></body></html>")]:
        name, data, found = case(label, page.encode(), expected="")
        yield name, data, {**found, "documents": [], "faults": True}


# Of WARC records.
HEAD = "WARC/1.0"


def warc_record(kind, body, headers=(), version=HEAD, end="\r\n", length=None, number=[0]):
    number[0] += 1
    lines = [version, f"WARC-Type: {kind}"]
    lines.append(f"WARC-Record-ID: <urn:uuid:00000000-0000-4000-8000-{number[0]:012}>")
    lines.append("WARC-Date: 2026-01-02T03:04:05Z")
    lines += [f"{name}: {value}" for name, value in headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return (end.join(lines) + end + end).encode() + body + (end + end).encode()


def response(body, status="200 OK", headers=(("Content-Type", "text/plain"),), version="HTTP/1.1", end="\r\n"):
    lines = [f"{version} {status}"] + [f"{name}: {value}" for name, value in headers]
    return (end.join(lines) + end + end).encode("latin-1") + body


def chunked(body, rng, extension=""):
    out = b""
    while body:
        count = rng.randint(1, 40)
        part, body = body[:count], body[count:]
        out += f"{rng.choice(['', '00'])}{len(part):{rng.choice('xX')}}{extension}\r\n".encode() + part + b"\r\n"
    return out + b"0\r\n\r\n"


class Brotli:
    """What warcio 1.8 asks of a decoder, which Brotli 1.2 does not have."""

    unused_data = None

    def __init__(self):
        self.decompress = brotli.Decompressor().process


BufferedReader.DECOMPRESSORS["br"] = Brotli


def read_warc(data):
    """The documents of warcio's records: pages and plain text of responses, resources and conversions."""
    documents, faults = [], False
    # HTTP has these names in any case, and both for gzip; warcio 1.8 knows them as they stand here.
    data = data.replace(b"Chunked", b"chunked").replace(b": x-gzip", b":   gzip")
    for record in ArchiveIterator(io.BytesIO(data), no_record_parse=False):
        if record.rec_type not in ("response", "resource", "conversion"):
            continue
        kind = record.rec_headers.get_header("Content-Type") or ""
        if record.http_headers is not None and record.rec_type == "response" and "http" in kind:
            if not record.http_headers.get_statuscode().startswith("2"):
                continue
            kind = record.http_headers.get_header("Content-Type") or ""
        payload = record.content_stream().read()
        media = kind.partition(";")[0].strip().lower()
        if record.rec_type == "conversion":
            media = "text/plain"
        if media not in ("", "text/plain", "text/html", "application/xhtml+xml"):
            continue
        if media in ("text/html", "application/xhtml+xml") or (not media and payload.strip().startswith(b"<")):
            text = read_page(payload, kind)
        else:
            charset = kind.lower().partition("charset=")[2].strip("\"' ").partition(";")[0]
            found = webencodings.lookup(charset) if charset else None
            text = payload.decode(found.codec_info.name if found else "utf-8")
        if not text.strip():
            faults = True
            continue
        id = record.rec_headers.get_header("WARC-Record-ID")
        url = record.rec_headers.get_header("WARC-Target-URI")
        documents.append({
            "text": text,
            "id": id.strip("<>") if id else None,
            "url": url.strip("<>") if url else None,
        })  # fmt: skip
    return documents, faults


def zstd(data):
    return zstandard.ZstdCompressor(level=3).compress(data)


HTTP = ("Content-Type", "application/http; msgtype=response")
PLAIN = ("Content-Type", "text/plain")


def odd_records(rng):
    """Records, each with a label."""
    uri = ("WARC-Target-URI", "http://example.org/a")
    text = (SENTENCES["de"] + "\n").encode()
    page = wrap("fr").encode()
    html_type = ("Content-Type", "text/html; charset=utf-8")

    def http(label, body, **more):
        return label, warc_record("response", response(body, **more), [uri, HTTP])

    def coded(label, coding, body):
        return http(f"coding-{label}", body, headers=[PLAIN, ("Content-Encoding", coding)])

    deflate = zlib.compressobj(wbits=-15)
    raw = deflate.compress(text) + deflate.flush()
    yield http("plain", text)
    yield http("page", page, headers=[html_type])
    yield http("xhtml", page, headers=[("Content-Type", "application/xhtml+xml; charset=utf-8")])
    yield http("other-case", page, headers=[("content-TYPE", "Text/HTML;Charset=UTF-8")])
    yield http("no-type-page", page, headers=[])
    yield http("no-type-text", text, headers=[])
    yield http("image", b"\x89PNG\r\n", headers=[("Content-Type", "image/png")])
    yield http("json", b"{}", headers=[("Content-Type", "application/json")])
    yield http("latin1", SENTENCES["fr"].encode("latin-1"), headers=[("Content-Type", "text/plain; charset=ISO-8859-1")])
    yield http("koi8", SENTENCES["ru"].encode("koi8-r"), headers=[("Content-Type", 'text/plain; charset="koi8-r"')])
    yield http("sjis", SENTENCES["ja"].encode("shift_jis"), headers=[("Content-Type", "text/plain;charset=x-sjis")])
    for status in ["200", "200 ", "201 Created", "203 Non-Authoritative", "204 No Content", "206 Partial Content",
                   "301 Moved", "304 Not Modified", "404 Not Found", "500 Oops"]:  # fmt: skip
        yield http(f"status-{status[:3]}", b"" if status[:3] in ("204", "304") else text, status=status)
    yield http("http10", text, version="HTTP/1.0")
    yield http("http2", text, version="HTTP/2")
    yield http("lf-only", text, end="\n")
    yield http("empty", b"")
    yield http("folded", text, headers=[PLAIN, ("X-Folded", "one\r\n two\r\n\tthree")])
    yield http("twice", text, headers=[PLAIN, ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")])
    yield http("umlaut-header", text, headers=[PLAIN, ("X-Name", "Grün")])
    yield http("chunked", chunked(text, rng), headers=[PLAIN, ("Transfer-Encoding", "chunked")])
    yield http("chunked-case", chunked(text, rng), headers=[PLAIN, ("transfer-encoding", "Chunked")])
    yield http("chunked-extension", chunked(text, rng, ";a=b"), headers=[PLAIN, ("Transfer-Encoding", "chunked")])
    yield http("chunked-not", text, headers=[PLAIN, ("Transfer-Encoding", "chunked")])
    yield http("chunked-gzip", chunked(gzip.compress(text, mtime=0), rng),
               headers=[PLAIN, ("Transfer-Encoding", "chunked"), ("Content-Encoding", "gzip")])  # fmt: skip
    yield http("chunked-page", chunked(page, rng), headers=[html_type, ("Transfer-Encoding", "chunked")])
    yield coded("gzip", "gzip", gzip.compress(text, mtime=0))
    yield coded("x-gzip", "x-gzip", gzip.compress(text, mtime=0))
    yield coded("gzip-case", "GZip", gzip.compress(text, mtime=0))
    yield coded("gzip-not", "gzip", text)
    yield coded("deflate", "deflate", zlib.compress(text))
    yield coded("deflate-raw", "deflate", raw)
    yield coded("deflate-level", "deflate", zlib.compress(text, 1))
    yield coded("deflate-not", "deflate", text)
    yield coded("br", "br", brotli.compress(text))
    yield coded("br-not", "br", text)
    yield coded("identity", "identity", text)
    yield coded("none", "", text)
    yield coded("utf8", "utf-8", text)
    yield "resource", warc_record("resource", text, [uri, PLAIN])
    yield "resource-page", warc_record("resource", page, [uri, html_type])
    yield "resource-image", warc_record("resource", b"\x89PNG", [uri, ("Content-Type", "image/png")])
    yield "conversion", warc_record("conversion", text, [uri, PLAIN])
    yield "request", warc_record("request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                                 [uri, ("Content-Type", "application/http; msgtype=request")])  # fmt: skip
    yield "metadata", warc_record("metadata", b"a: b\r\n", [uri, ("Content-Type", "application/warc-fields")])
    yield "revisit", warc_record("revisit", response(b""), [uri, HTTP])
    yield "warcinfo", warc_record("warcinfo", b"software: none\r\n", [("Content-Type", "application/warc-fields")])
    yield "continuation", warc_record("continuation", text, [uri, ("WARC-Segment-Number", "2")])
    yield "uri-in-angles", warc_record("conversion", text, [("WARC-Target-URI", "<http://example.org/b>"), PLAIN])
    yield "version-11", warc_record("conversion", text, [uri, PLAIN], version="WARC/1.1")
    yield "version-018", warc_record("conversion", text, [uri, PLAIN], version="WARC/0.18")
    yield "lf-record", warc_record("conversion", text, [uri, PLAIN], end="\n")
    yield "lower-names", warc_record("conversion", text, [("warc-target-uri", "http://example.org/c"),
                                                            ("content-type", "text/plain")])  # fmt: skip
    yield "folded-record", warc_record("conversion", text, [uri, PLAIN, ("X", "a\r\n b")])
    yield "colons", warc_record("conversion", text, [("WARC-Target-URI", "http://example.org:80/a:b"), PLAIN])
    yield "umlaut-uri", warc_record("conversion", text, [("WARC-Target-URI", "http://example.org/grün"), PLAIN])
    yield "no-space", warc_record("conversion", text, [uri, PLAIN]).replace(b"Content-Length: ", b"Content-Length:")
    yield "record-within", warc_record("conversion", text + b"\r\n\r\nWARC/1.0\r\nWARC-Type: x\r\n\r\n", [uri, PLAIN])


def warc(rng):
    number = 0
    others = [warc_record("conversion", f"{sentence(rng)}\n".encode(), [PLAIN]) for _ in range(8)]

    def case(label, parts, pack=0, expected=None, **more):
        nonlocal number
        number += 1
        data = b"".join(parts)
        documents, faults = expected or read_warc(data)
        extension, packed = [
            (".warc", data),
            (".warc.gz", b"".join(gzip.compress(part, mtime=0) for part in parts)),
            (".warc.gz", gzip.compress(data, mtime=0)),
            (".warc.zst", b"".join(zstd(part) for part in parts)),
            ("-warc", data),
        ][pack]
        return f"{number:03}-{label}{extension}", packed, answer(documents, faults, words=True, **more)

    odd = list(odd_records(rng))
    for label, record in odd:
        yield case(label, [others[0], record, others[1]], rng.choice([0, 0, 1, 1, 2, 3, 4]))
    for index in range(30):
        parts = [rng.choice(odd)[1] for _ in range(rng.randint(2, 6))]
        yield case("several", parts, rng.randrange(5))
    a, b, c = others[:3]
    wanted = lambda *records: read_warc(b"".join(records))
    for label, data, records, more in [
        ("blank-lines", a + b"\r\n\r\n\r\n" + b, (a, b), {}),
        ("no-end", a + b[:-4], (a, b), {}),
        ("one-end", a[:-2] + b, (a, b), {}),
        ("junk-first", b"junk\r\n" + a, (a,), {"faults": True}),
        ("junk-between", a + b"junk\r\n" + b, (a, b), {"faults": True}),
        ("cut-body", a + b[:-20], (a,), {"faults": True}),
        ("cut-header", a + b[:60], (a,), {"faults": True}),
        ("length-short", a + warc_record("conversion", b"x" * 40, [PLAIN], length=30) + c, (a, c), {"faults": True}),
        ("length-none", a + warc_record("conversion", b"x", [PLAIN]).replace(b"Content-Length: 1\r\n", b"") + c,
         (a, c), {"faults": True}),
        ("length-minus", a + warc_record("conversion", b"x", [PLAIN], length=-1) + c, (a, c), {"faults": True}),
        ("empty", b"", (), {"faults": True}),
    ]:  # fmt: skip
        documents, _ = wanted(*records)
        faults = more.get("faults", False)
        yield case(label, [data], expected=(documents, faults))


def wet(rng):
    number = 0
    for index in range(110):
        number += 1
        parts = []
        if rng.random() < 0.6:
            fields = b"Software-Info: ia-web-commons\r\nExtracted-Date: Mon\r\n"
            parts.append(warc_record("warcinfo", fields, [("Content-Type", "application/warc-fields")]))
        for _ in range(rng.randint(1, 5)):
            lines = [sentence(rng, list(SENTENCES)) for _ in range(rng.randint(1, 3))]
            text = rng.choice(["\n", "\r\n", "\n\n"]).join(lines) + rng.choice(["", "\n", "\n\n", "\r\n\r\n"])
            text = rng.choice([text] * 12 + ["", " \n", "\ufeff" + text, "WARC/1.0\r\n" + text, "\n" + text])
            headers = [
                ("WARC-Target-URI", f"http://example.org/{rng.randrange(999)}?q=%C3%BC&x=ü#f"),
                ("WARC-Identified-Content-Language", "eng"),
                ("WARC-Refers-To", "<urn:uuid:x>"),
                ("WARC-Block-Digest", "sha1:AAAA"),
                ("Content-Type", rng.choice(["text/plain", "text/plain; charset=utf-8", "text/plain;charset=UTF-8"])),
            ]
            rng.shuffle(headers)
            version = rng.choice(["WARC/1.0", "WARC/1.1"])
            parts.append(warc_record("conversion", text.encode(), headers, version=version))
        data = b"".join(parts)
        documents, faults = read_warc(data)
        for document in documents:
            # The mark at the start of a text is not of the text.
            document["text"] = document["text"].removeprefix("\ufeff")
        extension, packed = rng.choice([
            (".wet", data),
            (".warc.wet", data),
            (".warc.wet.gz", b"".join(gzip.compress(part, mtime=0) for part in parts)),
            (".wet.gz", gzip.compress(data, mtime=0)),
            (".wet.zst", zstd(data)),
        ])  # fmt: skip
        yield f"{number:03}-random{extension}", packed, answer(documents, faults or not documents)
