// Text that the visitor brings: read whole, or refused with the reason before anything is changed.

import { EngineError } from "./client";
import type { OwnText } from "./protocol";

/** Text, where it is from, and what the page shows of it. */
export interface NamedText extends OwnText {
  characters: number;
  beginning: string;
}

/** Characters of the beginning that are kept at hand. */
const BEGINNING = 24;

/** Bytes from which on a text is refused: browser and worker each hold it, and its tokens. */
export const LARGEST_TEXT = 200_000_000;

/** Text that has been found good before. */
export function namedText(name: string, text: string): NamedText {
  return { name, content: new Blob([text]), characters: text.length, beginning: text.trimStart().slice(0, BEGINNING) };
}

/** Checks pasted text. */
export function pastedText(text: string): NamedText {
  return named("pasted text", text);
}

/** Reads a chosen or dropped file. */
export async function fileText(file: File): Promise<NamedText> {
  if (file.size >= LARGEST_TEXT) throw tooLarge(file.name, file.size);
  const content = await file.arrayBuffer().catch(() => {
    throw refusal(`\`${file.name}\` cannot be read`, "choose it again; a folder cannot be used");
  });
  return decoded(file.name, new Uint8Array(content));
}

/** Fetches a text from an address that allows it. */
export async function urlText(address: string): Promise<NamedText> {
  const url = parseUrl(address);
  const response = await fetch(url, { credentials: "omit", referrerPolicy: "no-referrer" }).catch(() => {
    throw refusal(
      `the browser could not fetch \`${url.href}\``,
      "the site is unreachable or does not allow other pages to read it (no CORS header); save the file and choose it here instead",
    );
  });
  if (!response.ok) throw refusal(`\`${url.href}\` answered ${response.status} ${response.statusText}`.trim(), "check the address");
  const name = decodeURIComponentSafely(url.pathname.split("/").at(-1) || url.hostname);
  return decoded(name, await limitedBody(response, name));
}

function parseUrl(address: string): URL {
  try {
    const url = new URL(address.trim());
    if (url.protocol === "https:" || url.protocol === "http:") return url;
  } catch {
    // Falls through to the same refusal as a foreign scheme.
  }
  throw refusal(`\`${address.trim().slice(0, 80)}\` is no web address`, "it begins with https://");
}

/** The body of a response, given up once it grows too large. */
async function limitedBody(response: Response, name: string): Promise<Uint8Array> {
  const announced = Number(response.headers.get("content-length") ?? 0);
  if (announced >= LARGEST_TEXT) throw tooLarge(name, announced);
  const chunks: Uint8Array[] = [];
  let size = 0;
  const reader = response.body?.getReader();
  while (reader) {
    const { done, value } = await reader.read().catch(() => {
      throw refusal(`the connection broke while reading \`${name}\``, "try again");
    });
    if (done) break;
    size += value.length;
    if (size >= LARGEST_TEXT) {
      void reader.cancel();
      throw tooLarge(name, size);
    }
    chunks.push(value);
  }
  const whole = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    whole.set(chunk, offset);
    offset += chunk.length;
  }
  return whole;
}

/** Beginnings of files that are compressed: gzip, zip, zstd, xz and bzip2. */
const COMPRESSED = [[0x1f, 0x8b], [0x50, 0x4b, 3, 4], [0x28, 0xb5, 0x2f, 0xfd], [0xfd, 0x37, 0x7a, 0x58, 0x5a], [0x42, 0x5a, 0x68, 0x39]];
/** Byte order marks of UTF-16. */
const UTF_16 = [[0xff, 0xfe], [0xfe, 0xff]];

function decoded(name: string, content: Uint8Array): NamedText {
  const begins = (start: number[]): boolean => start.every((byte, index) => content[index] === byte);
  if (COMPRESSED.some(begins)) throw refusal(`\`${name}\` is compressed`, "unpack it and choose what comes out");
  if (UTF_16.some(begins)) throw refusal(`\`${name}\` is UTF-16`, "save it as UTF-8 in a text editor");
  if (content.includes(0)) {
    throw refusal(`\`${name}\` is a binary file, not text: it contains NUL bytes`, "export or convert it to plain text first");
  }
  try {
    return named(name, new TextDecoder("utf-8", { fatal: true }).decode(content));
  } catch (error) {
    if (error instanceof EngineError) throw error;
    throw refusal(`\`${name}\` is not valid UTF-8 text`, "save it as UTF-8 in a text editor");
  }
}

function named(name: string, text: string): NamedText {
  if (text.trim() === "") throw refusal(`\`${name}\` is empty: there is no text in it`, "a few thousand characters are a useful minimum");
  return namedText(name, text);
}

function decodeURIComponentSafely(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function tooLarge(name: string, size: number): EngineError {
  return refusal(
    `\`${name}\` is ${Math.round(size / 1e6)} MB; a tab takes texts below ${LARGEST_TEXT / 1e6} MB`,
    "cut out a part of it, or train on it with the desktop command",
  );
}

function refusal(message: string, hint: string): EngineError {
  return new EngineError({ message, hint, fatal: false });
}
