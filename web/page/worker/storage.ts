// Runs in the browser's own storage (OPFS): `runs/ID/run.json`, `log.jsonl`, `text.txt` and a folder
// for each checkpoint, whose manifest is written last, so that a half-written one is never taken.

import type { CheckpointFiles, StoredRun, TrainEvent } from "../protocol";

const MANIFEST = "manifest.json";
const CHECKPOINT = /^step-(\d{6,})$/;
/** Checkpoints kept besides the best one. */
const KEPT = 1;

// The part of the file system that only workers have; TypeScript's library leaves it out for pages.
interface SyncHandle {
  write(bytes: Uint8Array, options?: { at: number }): number;
  truncate(size: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}
type FileHandle = FileSystemFileHandle & { createSyncAccessHandle?: () => Promise<SyncHandle> };
type Folder = FileSystemDirectoryHandle & { entries(): AsyncIterable<[string, FileSystemHandle]> };

async function runs(): Promise<Folder> {
  const root = await navigator.storage.getDirectory();
  return (await root.getDirectoryHandle("runs", { create: true })) as Folder;
}

/** The folder of one run. */
export class RunStore {
  private constructor(
    private readonly folder: Folder,
    /** Record that the list of runs shows. */
    readonly record: StoredRun,
  ) {}

  /** A new run; `text` is the visitor's own. */
  static async create(record: StoredRun, text: string | null): Promise<RunStore> {
    const folder = (await (await runs()).getDirectoryHandle(record.id, { create: true })) as Folder;
    const store = new RunStore(folder, record);
    if (text !== null) await write(folder, "text.txt", new TextEncoder().encode(text));
    await store.writeRecord();
    return store;
  }

  /** A run that is there already. */
  static async open(id: string): Promise<RunStore> {
    const folder = (await (await runs()).getDirectoryHandle(id)) as Folder;
    const record = JSON.parse(new TextDecoder().decode(await read(folder, "run.json"))) as StoredRun;
    return new RunStore(folder, record);
  }

  /** The visitor's own text, if the run has one. */
  async text(): Promise<Blob | null> {
    if (this.record.text_name === null) return null;
    return (await this.folder.getFileHandle("text.txt")).getFile();
  }

  /** Events that the run reported up to a step. */
  async events(step: number): Promise<TrainEvent[]> {
    const bytes = await read(this.folder, "log.jsonl").catch(() => new Uint8Array());
    const events: TrainEvent[] = [];
    for (const line of new TextDecoder().decode(bytes).split("\n")) {
      try {
        const event = JSON.parse(line) as TrainEvent;
        if (!("step" in event) || event.step <= step) events.push(event);
      } catch {
        // The last line of a log that was cut off.
      }
    }
    return events;
  }

  /** The newest complete checkpoint. */
  async newest(): Promise<{ step: number; files: CheckpointFiles } | null> {
    for (const step of (await this.steps()).reverse()) {
      const folder = (await this.folder.getDirectoryHandle(name(step))) as Folder;
      const files: CheckpointFiles = {};
      for await (const [file, handle] of folder.entries()) {
        if (handle.kind === "file") files[file] = await read(folder, file);
      }
      if (files[MANIFEST]) return { step, files };
    }
    return null;
  }

  /** Stores a checkpoint and the events since the last one; gives its size in bytes. */
  async save(step: number, files: CheckpointFiles, isBest: boolean, events: TrainEvent[], state: StoredRun["state"]): Promise<number> {
    const before = await this.steps();
    await this.remove(step);
    try {
      const folder = await this.folder.getDirectoryHandle(name(step), { create: true });
      for (const [file, bytes] of Object.entries(files)) {
        if (file !== MANIFEST) await write(folder, file, bytes);
      }
      await write(folder, MANIFEST, files[MANIFEST] ?? new Uint8Array());
      const lines = events.map((event) => `${JSON.stringify(event)}\n`).join("");
      await write(this.folder, "log.jsonl", new TextEncoder().encode(lines), true);
    } catch (error) {
      // What is half written may be what fills the storage.
      await this.remove(step).catch(() => undefined);
      throw error;
    }
    const { record } = this;
    record.step = step;
    record.bytes = Object.values(files).reduce((sum, bytes) => sum + bytes.length, 0);
    record.saved_at = Date.now();
    record.state = state;
    if (isBest) record.best = step;
    for (const event of events) {
      if (event.type === "step") record.loss = event.loss;
      if (event.type === "evaluation") record.val_loss = event.val_loss;
    }
    await this.writeRecord();
    const old = before.filter((other) => other !== step && other !== record.best);
    for (const other of old.slice(0, Math.max(0, old.length - KEPT + 1))) await this.remove(other);
    return record.bytes;
  }

  /** Gives the run another name. */
  async rename(name: string): Promise<void> {
    this.record.name = name;
    await this.writeRecord();
  }

  private async writeRecord(): Promise<void> {
    await write(this.folder, "run.json", new TextEncoder().encode(JSON.stringify(this.record)));
  }

  private async remove(step: number): Promise<void> {
    await this.folder.removeEntry(name(step), { recursive: true }).catch((error: unknown) => {
      if (!(error instanceof DOMException && error.name === "NotFoundError")) throw error;
    });
  }

  /** Steps of the checkpoints, ascending, complete or not. */
  private async steps(): Promise<number[]> {
    const steps: number[] = [];
    for await (const [entry] of this.folder.entries()) {
      const match = CHECKPOINT.exec(entry);
      if (match) steps.push(Number(match[1]));
    }
    return steps.sort((a, b) => a - b);
  }
}

/** Every run that has a record. */
export async function storedRuns(): Promise<StoredRun[]> {
  const records: StoredRun[] = [];
  for await (const [id] of (await runs()).entries()) {
    const store = await RunStore.open(id).catch(() => null);
    if (store) records.push(store.record);
  }
  return records;
}

/** Removes a run with everything in it. */
export async function deleteRun(id: string): Promise<void> {
  await (await runs()).removeEntry(id, { recursive: true });
}

function name(step: number): string {
  return `step-${String(step).padStart(6, "0")}`;
}

async function read(folder: FileSystemDirectoryHandle, file: string): Promise<Uint8Array> {
  const handle = await folder.getFileHandle(file);
  return new Uint8Array(await (await handle.getFile()).arrayBuffer());
}

async function write(folder: FileSystemDirectoryHandle, file: string, bytes: Uint8Array, append = false): Promise<void> {
  const handle = (await folder.getFileHandle(file, { create: true })) as FileHandle;
  if (!handle.createSyncAccessHandle) {
    const stream = await handle.createWritable({ keepExistingData: append });
    if (append) await stream.seek((await handle.getFile()).size);
    await stream.write(bytes as Uint8Array<ArrayBuffer>);
    return stream.close();
  }
  const access = await handle.createSyncAccessHandle();
  try {
    const start = append ? access.getSize() : 0;
    if (!append) access.truncate(0);
    // A full storage may write less than it was given without an error.
    if (access.write(bytes, { at: start }) !== bytes.length) throw new DOMException("the storage is full", "QuotaExceededError");
    access.flush();
  } finally {
    access.close();
  }
}
