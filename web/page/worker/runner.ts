// One run in this worker: trains in slices, and between them serves the calls of the page.

import type { AttentionMaps, CheckpointFiles, Counters, EngineText, FinishReason, Memory, Message, ParameterReport, Problem, RunInfo, RunSpec, RunState, SavedCheckpoint, Target as EngineTarget, TrainEvent } from "../protocol";
import { Run, open_webgpu } from "./wasm/kiln_web";
import { counted, devices, limits } from "./gpu";
import { RunStore } from "./storage";
import { wasmMemory } from "./engine";
import { type ReadSpec, readText } from "./text";

/** Length of a slice: long enough to waste nothing, short enough for buttons to feel at once. */
const SLICE_MILLISECONDS = 100;
/** A run is saved at least so often, whatever its configuration says. */
const AUTOSAVE_MILLISECONDS = 30_000;
/** Time that a browser may take to say that the GPU is lost. */
const LOST_MILLISECONDS = 500;
/** Below this many operations a step the CPU may beat a GPU: worth measuring. */
const SMALL_STEP_FLOPS = 2e10;

/** Where a run was told to stop early, it goes on: there is a button for stopping. */
const WITHOUT_STOP = ["train.stop_after=0"];

type DeviceName = "webgpu" | "cpu";

/** A device that the engine can be given. */
type Target = EngineTarget & { name: DeviceName };

/** A checkpoint as the engine hands it out. */
type Saved = SavedCheckpoint & { files: CheckpointFiles };

/** The run that this worker holds. */
export class Runner {
  private run: Run | null = null;
  private store: RunStore | null = null;
  private running = false;
  private ended = false;
  /** Reported but not yet in the store's log. */
  private events: TrainEvent[] = [];
  private lastSave = 0;
  private lastSavedStep = -1;
  private tail: Promise<unknown> = Promise.resolve();

  constructor(private readonly send: (message: Message) => void) {}

  async start(id: string, name: string, spec: ReadSpec): Promise<RunInfo> {
    const device = await this.choose(spec);
    const run = Run.start(spec, device, this.observe);
    return this.hold(run, id, name, spec, spec.text, device);
  }

  async resume(id: string, wanted: RunSpec["device"]): Promise<RunInfo> {
    const store = await RunStore.open(id);
    const newest = await store.newest();
    const { record } = store;
    const content = await store.text();
    const own = await readText(content && { name: record.text_name ?? "text", content });
    if (!newest) {
      // Ended before its first checkpoint: the same run from the beginning.
      const spec = { ...record.spec, device: wanted, text: own };
      return this.start(id, record.name, spec);
    }
    const device = await openWanted(wanted);
    this.run = await warm(Run.resume(newest.files, record.name, own, WITHOUT_STOP, device, this.observe), device);
    this.store = store;
    this.lastSavedStep = newest.step;
    return this.describe(device);
  }

  async load(id: string, name: string, files: CheckpointFiles, text: EngineText | null, wanted: RunSpec["device"]): Promise<RunInfo> {
    const device = await openWanted(wanted);
    const run = Run.resume(files, name, text, WITHOUT_STOP, device, this.observe);
    const info = await this.hold(run, id, name, { preset: "", set: [], device: wanted }, text, device);
    await this.save(false);
    return info;
  }

  /** Trains until paused or finished. */
  go(): void {
    if (this.running) return;
    this.running = true;
    this.lastSave = performance.now();
    this.held().restart_clock();
    this.send({ kind: "state", state: "running" });
    void this.loop();
  }

  async pause(): Promise<void> {
    this.running = false;
    await this.exclusive(async () => {
      if (this.ended || !this.run) return;
      await this.run.settle();
      await this.save(false);
      this.send({ kind: "state", state: "paused" });
    });
  }

  async step(): Promise<void> {
    this.running = false;
    await this.exclusive(async () => {
      const run = this.held();
      run.restart_clock();
      this.send({ kind: "state", state: "running" });
      await this.slice(0);
      if (this.ended) return;
      await run.settle();
      this.send({ kind: "state", state: "paused" });
    }).catch((error: unknown) => this.fail(error));
  }

  generate(prompt: string, maxNewTokens: number, temperature: number, topK: number): Promise<string> {
    const seed = Math.floor(Math.random() * 2 ** 32);
    return this.exclusive(() => this.held().generate(prompt, maxNewTokens, temperature, topK, seed));
  }

  attention(text: string, layer: number): Promise<AttentionMaps> {
    return this.exclusive(() => this.held().attention(text, layer));
  }

  parameters(): Promise<ParameterReport[]> {
    return this.exclusive(() => this.held().parameters());
  }

  checkpoint(): Promise<CheckpointFiles> {
    return this.exclusive(async () => (await this.held().checkpoint()) as CheckpointFiles);
  }

  /** Between two slices, since the engine refuses to be asked while it waits for the GPU. */
  memory(): Promise<Memory> {
    return this.exclusive(async () => ({ wasm: wasmMemory(), gpu: this.run?.gpu_bytes() ?? null }));
  }

  /** Work counted between two slices, where it is that of whole steps. */
  counters(): Promise<Counters> {
    return this.exclusive(async () => ({ ...counted(), step: this.run?.step() ?? 0 }));
  }

  /** Renames the run that is held here; says whether it is this one. */
  rename(id: string, name: string): Promise<boolean> {
    return this.exclusive(async () => {
      if (this.store?.record.id !== id) return false;
      await this.store.rename(name);
      return true;
    });
  }

  /** The device was lost or the engine panicked: nothing of it may be touched any more. */
  abandon(): void {
    this.running = false;
    this.ended = true;
    this.run = null;
  }

  private readonly observe = (event: TrainEvent): void => {
    this.events.push(event);
    this.send({ kind: "event", event });
  };

  private async loop(): Promise<void> {
    try {
      while (this.running) {
        await this.exclusive(async () => {
          if (!this.running) return;
          await this.slice(SLICE_MILLISECONDS);
          if (!this.ended && performance.now() - this.lastSave > AUTOSAVE_MILLISECONDS) await this.save(false);
        });
        await breathe();
      }
    } catch (error) {
      await this.fail(error);
    }
  }

  /** Some steps, and what came due in them. */
  private async slice(milliseconds: number): Promise<void> {
    const run = this.held();
    const reason = (await run.advance(milliseconds)) as FinishReason | null;
    this.ended = reason !== null;
    const state: RunState = this.ended ? "finished" : "running";
    for (const saved of run.take_saved() as Saved[]) await this.keep(saved.step, saved.files, saved.is_best, state);
    if (this.ended) {
      this.running = false;
      this.send({ kind: "state", state });
    }
  }

  /** Saves now, unless this step is saved already. */
  private async save(isBest: boolean): Promise<void> {
    const run = this.held();
    if (run.step() === this.lastSavedStep || run.step() === 0) return;
    await this.keep(run.step(), (await run.checkpoint()) as CheckpointFiles, isBest, "paused");
  }

  private async keep(step: number, files: CheckpointFiles, isBest: boolean, state: RunState): Promise<void> {
    if (!this.store) return;
    try {
      const bytes = await this.store.save(step, files, isBest, this.events, state);
      this.events = [];
      this.lastSave = performance.now();
      this.lastSavedStep = step;
      this.send({ kind: "saved", step, bytes });
    } catch (error) {
      const full = error instanceof DOMException && error.name === "QuotaExceededError";
      const message = full ? "the browser's storage is full" : `the run could not be saved: ${text(error)}`;
      const hint = "training goes on in memory; download the checkpoint, or delete old runs to make room";
      this.lastSave = performance.now();
      this.send({ kind: "unsaved", problem: { message, hint, fatal: false } });
    }
  }

  /** Takes a new run and makes its folder. */
  private async hold(run: Run, id: string, name: string, spec: Omit<RunSpec, "text">, own: EngineText | null, target: Target): Promise<RunInfo> {
    this.run = await warm(run, target);
    const record = {
      id, name, spec: { preset: spec.preset, set: spec.set, device: spec.device },
      text_name: own?.name ?? null, step: run.step(), last_step: run.last_step(), loss: null, val_loss: null,
      state: "paused" as const, saved_at: Date.now(), bytes: 0, best: null,
    };
    try {
      this.store = await RunStore.create(record, own?.text ?? null);
    } catch (error) {
      this.send({ kind: "unsaved", problem: { message: `the browser's storage cannot be used: ${text(error)}`, hint: "the run is kept in memory only; download its checkpoint", fatal: false } });
    }
    return this.describe(target);
  }

  /** Describes the run that is about to start; nothing is trained for it. */
  private describe(target: Target): RunInfo {
    return this.held().info(target.description) as RunInfo;
  }

  /** Opens the device that is asked for, or the faster of the two. */
  private async choose(spec: ReadSpec): Promise<Target> {
    if (spec.device !== "auto") return open(spec.device);
    const { chosen } = await devices();
    if (chosen === "cpu") return open("cpu");
    const gpu = await open("webgpu");
    const cpu = await open("cpu");
    const trial = (device: Target) => Run.start(spec, device, () => undefined);
    const onGpu = trial(gpu);
    try {
      if ((onGpu.info("") as RunInfo).flops_per_step > SMALL_STEP_FLOPS) return gpu;
      const onCpu = trial(cpu);
      try {
        return (await best(onCpu)) < (await best(onGpu)) ? cpu : gpu;
      } finally {
        onCpu.free();
      }
    } finally {
      onGpu.free();
    }
  }

  private held(): Run {
    if (!this.run) throw { message: "there is no run in this worker", hint: null, fatal: false } satisfies Problem;
    return this.run;
  }

  private async fail(error: unknown): Promise<void> {
    this.running = false;
    const problem = asProblem(error);
    // A lost GPU fails whatever was being read first, and says only then that it is lost.
    if (problem.fatal) await new Promise((resolve) => setTimeout(resolve, LOST_MILLISECONDS));
    if (this.ended) return;
    this.send({ kind: "state", state: "failed" });
    this.send({ kind: "problem", problem });
  }

  /** The engine does one thing at a time; the rest waits its turn. */
  private exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = this.tail.then(work);
    this.tail = result.catch(() => undefined);
    return result;
  }
}

/** Opens a device for a run that is there already: `auto` is not measured anew. */
async function openWanted(wanted: RunSpec["device"]): Promise<Target> {
  return open(wanted === "auto" ? (await devices()).chosen : wanted);
}

let opening: Promise<void> | null = null;

/** Opens a device for the engine, or says why it cannot be. */
export async function open(name: DeviceName): Promise<Target> {
  if (name === "cpu") return { name, description: "cpu (WebAssembly)", ...(await limits(name)) };
  const found = (await devices()).devices.find((device) => device.name === name);
  if (!found?.available) throw { message: `WebGPU is not available: ${found?.reason}`, hint: "choose the CPU", fatal: false } satisfies Problem;
  // The engine can open it once.
  opening ??= open_webgpu();
  await opening;
  return { name, description: `webgpu (${found.description})`, ...(await limits(name)) };
}

/** The run, with all that its steps need compiled. */
async function warm(run: Run, { name }: Target): Promise<Run> {
  if (name === "webgpu") await run.warm_up();
  return run;
}

/** Seconds of the best of three steps; the first of them compiles. */
async function best(run: Run): Promise<number> {
  let seconds = Infinity;
  for (let i = 0; i < 3; i += 1) seconds = Math.min(seconds, await run.time_step());
  return seconds;
}

/** Lets messages in: a promise alone would not. */
function breathe(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Whatever was thrown, as a problem. */
export function asProblem(error: unknown): Problem {
  if (typeof error === "object" && error !== null && "message" in error && "fatal" in error) return error as Problem;
  // A trap of WebAssembly leaves its memory in no known state.
  const fatal = error instanceof WebAssembly.RuntimeError;
  const hint = fatal ? "the browser may have run out of memory; a smaller model or batch needs less" : null;
  return { message: text(error), hint, fatal };
}
