// Protocol between the page and its workers. The worker holds the engine (Rust, compiled to
// WebAssembly); the page only shows. Everything that the engine gives or takes is declared in `generated.ts`,
// which is made from Rust's own types; what is declared here crosses between page and worker only.

import type { AttentionMaps, Catalogue, EngineSpec, Hint, KernelDifference, ParameterReport, Plan, Problem as EngineProblem, RunInfo, TrainEvent } from "./generated";

export type * from "./generated";

/** A refusal or a failure, of the engine or of the page, whose own hints are text. */
export interface Problem extends Omit<EngineProblem, "hint"> {
  hint: Hint | string | null;
}

/** Text of the visitor. A Blob is handed on without a copy, so that passing it costs the same whatever its length. */
export interface OwnText {
  name: string;
  content: Blob;
}

/** A run as the visitor describes it. All of it but `text` goes into the URL. */
export interface RunSpec extends Omit<EngineSpec, "text"> {
  /** Text to train on instead of what the configuration names. */
  text: OwnText | null;
  device: "auto" | "webgpu" | "cpu";
}

export interface DeviceInfo {
  name: "webgpu" | "cpu";
  description: string;
  available: boolean;
  /** Emulated on the CPU; never chosen unasked. */
  software: boolean;
  /** Why it is not available, or not chosen. */
  reason: string | null;
}

export interface Devices {
  devices: DeviceInfo[];
  /** Device that `auto` stands for here. */
  chosen: "webgpu" | "cpu";
  why: string;
}

/** Seconds of one optimizer step of a plan, measured. */
export interface Probe {
  device: "webgpu" | "cpu";
  first_step_seconds: number;
  step_seconds: number;
}

export type RunState = "preparing" | "running" | "paused" | "finished" | "failed";

/** A run in the browser's storage. */
export interface StoredRun {
  /** Name of its folder. */
  id: string;
  /** As the visitor sees it. */
  name: string;
  spec: Omit<RunSpec, "text">;
  /** Name of the text, if it was the visitor's own. */
  text_name: string | null;
  step: number;
  last_step: number;
  loss: number | null;
  val_loss: number | null;
  state: RunState;
  /** Milliseconds since 1970. */
  saved_at: number;
  /** Bytes of its newest checkpoint. */
  bytes: number;
  /** Step of its best checkpoint. */
  best: number | null;
}

export interface Memory {
  /** Bytes of WebAssembly memory. */
  wasm: number;
  /** Bytes in buffers of the GPU; null on the CPU path. */
  gpu: number | null;
}

/** Work given to the GPU since the worker began. */
export interface GpuCounters {
  dispatches: number;
  submits: number;
}

/** Counters of the GPU, with the steps that the run had finished at that moment. */
export interface Counters extends GpuCounters {
  step: number;
}

/** Files of a checkpoint by name, in the desktop's format. */
export type CheckpointFiles = Record<string, Uint8Array>;

/** Calls to a worker that plans. None of these disturbs a run. */
export interface PlannerCalls {
  catalogue(): Catalogue;
  devices(): Devices;
  plan(spec: RunSpec): Plan;
  /** Times one step on a device that is not "auto"; seconds to minutes. */
  probe(spec: RunSpec, device: "webgpu" | "cpu"): Probe;
  /** Whether a device computes what it should; seconds to minutes. */
  kernel_differences(device: "webgpu" | "cpu"): KernelDifference[];
  stored_runs(): StoredRun[];
  delete_run(id: string): null;
  /** Renames a stored run; for a run that a worker holds, that worker is asked: it writes the run's record, too. */
  rename_run(id: string, name: string): null;
  /** The newest checkpoint and the log of a stored run. */
  read_run(id: string): { files: CheckpointFiles; events: TrainEvent[]; text: Blob | null };
}

/** Calls to a worker that trains; it holds one run. */
export interface RunnerCalls {
  /** Builds the model; `id` names the folder in the browser's storage. Does not train yet. */
  start(id: string, name: string, spec: RunSpec): RunInfo;
  /** Goes on from a stored run, in the folder of that run. */
  resume(id: string, device: RunSpec["device"]): RunInfo;
  /** Goes on from files of the desktop's format, as a new stored run. */
  load(id: string, name: string, files: CheckpointFiles, text: OwnText | null, device: RunSpec["device"]): RunInfo;
  /** Trains until paused or finished. Returns at once; a `state` message says how it went. */
  run(): null;
  /** Ends after the step in progress, saves, and gives the state reached. */
  pause(): null;
  /** One step, then paused. */
  step(): null;
  generate(prompt: string, max_new_tokens: number, temperature: number, top_k: number): string;
  attention(text: string, layer: number): AttentionMaps;
  parameters(): ParameterReport[];
  /** The whole state now. */
  checkpoint(): CheckpointFiles;
  memory(): Memory;
  counters(): Counters;
}

export type Calls = PlannerCalls & RunnerCalls;

/** Page to worker. */
export interface Request<K extends keyof Calls = keyof Calls> {
  id: number;
  call: K;
  args: Parameters<Calls[K]>;
}

/** Worker to page. */
export type Message =
  | { kind: "response"; id: number; value: unknown }
  | { kind: "refusal"; id: number; problem: Problem }
  | { kind: "event"; event: TrainEvent }
  | { kind: "state"; state: RunState }
  | { kind: "saved"; step: number; bytes: number }
  /** Saving failed (storage full, say): training goes on, the state is in memory. */
  | { kind: "unsaved"; problem: Problem }
  /** The run failed, or the worker as a whole. */
  | { kind: "problem"; problem: Problem };
