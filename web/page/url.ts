// The set-up in the address bar: `#preset=addition&set=train.seed%3D3&device=cpu`. What comes from
// there is anyone's: unknown parts are named and left out, never trusted and never thrown at.

import { isHidden } from "./setup/groups";
import { currentName } from "./specs";
import type { Catalogue, RunSpec } from "./protocol";
import type { Setup } from "./store";

const LONGEST_HASH = 20_000;
const DEVICES: RunSpec["device"][] = ["auto", "webgpu", "cpu"];

/** A hash read, what in it could not be used, and what is to be told of the rest. */
export interface Reading {
  setup: Setup;
  refused: string[];
  notes: string[];
}

/** The hash, with `#`, that brings this set-up back. */
export function toHash(setup: Setup): string {
  const parts = new URLSearchParams();
  parts.set("preset", setup.preset);
  for (const [key, value] of Object.entries(setup.overrides)) parts.append("set", `${key}=${value}`);
  if (setup.device !== "auto") parts.set("device", setup.device);
  return `#${parts.toString()}`;
}

/** Reads a hash against the catalogue, beginning from `start`. */
export function fromHash(hash: string, catalogue: Catalogue, start: Setup): Reading {
  const setup: Setup = { ...start, overrides: {} };
  const refused: string[] = [];
  const notes = new Set<string>();
  if (hash.length > LONGEST_HASH) {
    return { setup, notes: [], refused: [`the address is longer than ${LONGEST_HASH} characters`] };
  }
  // URLSearchParams never throws: broken escapes stay as they are.
  for (const [name, value] of new URLSearchParams(hash.replace(/^#/, ""))) {
    if (name === "preset") {
      if (catalogue.presets.some((preset) => preset.name === value)) setup.preset = value;
      else refused.push(`there is no preset ${quoted(value)}`);
    } else if (name === "device") {
      const device = DEVICES.find((known) => known === value);
      if (device) setup.device = device;
      else refused.push(`there is no device ${quoted(value)}`);
    } else if (name === "set") {
      const reason = readOverride(value, catalogue, setup, notes);
      if (reason) refused.push(reason);
    } else {
      refused.push(`${quoted(name)} means nothing here`);
    }
  }
  return { setup, refused, notes: [...notes] };
}

/** Takes one `key=value`, or says why not. */
function readOverride(text: string, catalogue: Catalogue, setup: Setup, notes: Set<string>): string | null {
  const at = text.indexOf("=");
  if (at < 0) return `${quoted(text)} is not of the form key=value`;
  const name = text.slice(0, at).trim();
  const key = currentName(catalogue, name);
  const value = text.slice(at + 1);
  if (!catalogue.fields.some((field) => field.key === key)) return `there is no setting ${quoted(key)}`;
  if (isHidden(key) || (key === "tokenizer.kind" && value.trim() === "file")) {
    return `${quoted(text)} names a file, and a tab has none`;
  }
  if (key !== name) notes.add(`${quoted(name)} is called ${quoted(key)} now`);
  setup.overrides[key] = value;
  return null;
}

function quoted(text: string): string {
  return `\`${text.length > 60 ? `${text.slice(0, 60)}…` : text}\``;
}
