// Checkpoints as files of the visitor: one zip down, a zip or loose files up.

import type { CheckpointFiles } from "./protocol";
import type { Session } from "./session";
import type { Store } from "./store";
import { readZip, writeZip } from "./zip";

/** Without these a folder is no checkpoint. */
const WEIGHTS = "model.safetensors";

/** Downloads the checkpoint of the run on the page, as it is now. */
export async function downloadCheckpoint(store: Store, session: Session): Promise<void> {
  const run = store.state.run;
  if (!run) return;
  const files = await session.checkpoint();
  saveCheckpoint(files, run.name, session.client ? (run.history.last?.step ?? run.info?.first_step ?? 0) : (run.savedStep ?? 0));
}

/** Offers files as a zip download. */
export function saveCheckpoint(files: CheckpointFiles, name: string, step: number): void {
  const paths = Object.fromEntries(Object.entries(files).map(([file, content]) => [`checkpoint/${file}`, content]));
  const address = URL.createObjectURL(writeZip(paths));
  const link = document.createElement("a");
  link.href = address;
  link.download = `${name.replaceAll(/[^A-Za-z0-9]+/g, "-").replaceAll(/^-|-$/g, "").toLowerCase() || "kiln"}-step-${step}.zip`;
  link.click();
  // The browser reads the address after this turn; a minute is enough to begin.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Files chosen for upload: those of a zip, or loose ones, by bare name. */
export async function uploadedFiles(chosen: File[]): Promise<{ name: string; files: CheckpointFiles }> {
  const files: CheckpointFiles = {};
  for (const file of chosen) {
    const content = new Uint8Array(await file.arrayBuffer());
    const isZip = content[0] === 0x50 && content[1] === 0x4b;
    const found = isZip && chosen.length === 1 ? await readZip(content) : { [file.name]: content };
    for (const [path, bytes] of Object.entries(found)) files[path.split("/").at(-1) ?? path] = bytes;
  }
  if (!files[WEIGHTS]) throw new Error(`\`${WEIGHTS}\` is missing from what was chosen, so it is no checkpoint of Kiln`);
  const first = chosen[0]?.name ?? "checkpoint";
  return { name: chosen.length === 1 ? first.replace(/\.zip$/i, "") : "uploaded checkpoint", files };
}
