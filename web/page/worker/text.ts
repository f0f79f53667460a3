// The visitor's own text as the engine takes it: read from the Blob that the page hands on.

import type { EngineSpec, EngineText, OwnText, Problem, RunSpec } from "../protocol";

/** Description of a run that the engine takes, with the device that the worker is to choose for it. */
export type ReadSpec = EngineSpec & Pick<RunSpec, "device">;

/** The description with its text read. */
export async function readSpec(spec: RunSpec): Promise<ReadSpec> {
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
