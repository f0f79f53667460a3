// Values that a description of a run stands for, without asking the engine.

import { shown } from "./format";
import { valueOf } from "./store";
import type { Refusal } from "./problem";
import type { Catalogue, RunSpec, StoredRun } from "./protocol";

/** Every key's value, as text: the preset's, or what was set over it. */
export function values(catalogue: Catalogue, spec: Pick<RunSpec, "preset" | "set">): Map<string, string> {
  const found = new Map<string, string>();
  const preset = catalogue.presets.find((known) => known.name === spec.preset);
  for (const { key } of catalogue.fields) found.set(key, shown(valueOf(preset, key)));
  for (const [key, value] of Object.entries(overrides(catalogue, spec.set))) found.set(key, value);
  return found;
}

/** The name that a key has now, if it had another earlier. */
export function currentName(catalogue: Catalogue, key: string): string {
  return catalogue.renamed.find(([earlier]) => earlier === key)?.[1] ?? key;
}

/** `key=value` lines as a table by the names that keys have now. */
export function overrides(catalogue: Catalogue, set: string[]): Record<string, string> {
  const entries = set.filter((text) => text.includes("=")).map((text) => {
    const at = text.indexOf("=");
    return [currentName(catalogue, text.slice(0, at).trim()), text.slice(at + 1)] as const;
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

/** Problem of a name that the visitor gives to a run. */
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
