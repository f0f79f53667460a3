// What a description of a run amounts to, without asking the engine.

import { shown } from "./format";
import type { Refusal } from "./problem";
import type { Catalogue, RunSpec, StoredRun } from "./protocol";

/** Every key's value, as text: the preset's, or what was set over it. */
export function values(catalogue: Catalogue, spec: Pick<RunSpec, "preset" | "set">): Map<string, string> {
  const found = new Map<string, string>();
  const preset = catalogue.presets.find((known) => known.name === spec.preset);
  for (const [section, entries] of Object.entries(preset?.config ?? {})) {
    for (const [name, value] of Object.entries(entries)) found.set(`${section}.${name}`, shown(value));
  }
  for (const [key, value] of Object.entries(overrides(spec.set))) found.set(key, value);
  return found;
}

/** `key=value` lines as a table. */
export function overrides(set: string[]): Record<string, string> {
  const entries = set.filter((text) => text.includes("=")).map((text) => {
    const at = text.indexOf("=");
    return [text.slice(0, at).trim(), text.slice(at + 1)] as const;
  });
  return Object.fromEntries(entries);
}

/** A name that says what is special about a run: `addition · n_layer=2`. */
export function runName(spec: RunSpec, runs: StoredRun[]): string {
  const special = spec.set.filter((text) => text.length < 40).map((text) => text.slice(text.indexOf(".") + 1));
  const parts = [spec.preset, spec.text?.name, ...special.slice(0, 2), special.length > 2 ? `${special.length - 2} more` : null];
  const name = parts.filter(Boolean).join(" · ");
  const same = runs.filter((run) => run.name === name || run.name.startsWith(`${name} #`)).length;
  return same === 0 ? name : `${name} #${same + 1}`;
}

/** Characters that a name given by the visitor may have. */
const LONGEST_NAME = 60;

/** What is wrong with a name that the visitor gives to a run. */
export function refusedName(name: string): Refusal | null {
  const length = [...name].length;
  if (length === 0) return { message: "the name is empty", hint: "write at least one character" };
  if (length > LONGEST_NAME) return { message: `the name has ${length} characters`, hint: `leave at most ${LONGEST_NAME}` };
  return null;
}

/** A folder name that no earlier run has; sorts by time. */
export function newRunId(): string {
  const random = crypto.getRandomValues(new Uint16Array(1))[0]!.toString(36);
  return `run-${Date.now().toString(36)}-${random}`;
}
