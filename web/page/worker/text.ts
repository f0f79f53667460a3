// The visitor's own text as the engine takes it: read from the Blob that the page hands on.

import type { OwnText, Problem, RunSpec } from "../protocol";

/** `OwnText`, read. */
export interface EngineText {
  name: string;
  text: string;
}

/** `RunSpec` with its text read. */
export type EngineSpec = Omit<RunSpec, "text"> & { text: EngineText | null };

/** The description as the engine takes it. */
export async function readSpec(spec: RunSpec): Promise<EngineSpec> {
  return { ...spec, text: await readText(spec.text) };
}

/** Reads a text, if there is one. */
export async function readText(own: OwnText | null): Promise<EngineText | null> {
  if (own === null) return null;
  const text = await own.content.text().catch(() => {
    throw { message: `\`${own.name}\` can no longer be read`, hint: "choose it again", fatal: false } satisfies Problem;
  });
  return { name: own.name, text };
}
