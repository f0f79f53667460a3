// What the page and its workers say to each other. The worker holds the engine (Rust, compiled to
// WebAssembly); the page only shows. Events are those of `src/train/event.rs`, field for field.

/** A nested configuration as `src/config/mod.rs` defines it: section -> key -> value. */
export type Config = Record<string, Record<string, unknown>>;

/** What the form shows for one dotted key. */
export interface Field {
  /** For example `train.learning_rate`. */
  key: string;
  help: string;
  kind: "integer" | "number" | "boolean" | "choice" | "text" | "list";
  /** For `choice` only. */
  choices: string[];
}

export interface Preset {
  name: string;
  description: string;
  /** Made for the page: small enough for a tab. */
  browser: boolean;
  /** The procedural task that it trains on, if any. */
  task: string | null;
  config: Config;
}

export interface Task {
  name: string;
  description: string;
  /** One line as the model sees it, for example `12+34=46`. */
  example: string;
}

/** Everything about the engine that does not change. */
export interface Catalogue {
  version: string;
  fields: Field[];
  presets: Preset[];
  tasks: Task[];
}

/** Text of the visitor. A Blob is handed on without a copy, so that passing it costs the same whatever its length. */
export interface OwnText {
  name: string;
  content: Blob;
}

/** A run as the visitor describes it. All of it but `text` goes into the URL. */
export interface RunSpec {
  preset: string;
  /** `key=value`, applied in order over the preset. */
  set: string[];
  /** Text to train on instead of what the configuration names. */
  text: OwnText | null;
  device: "auto" | "webgpu" | "cpu";
}

/** A run checked and resolved, before anything is built. */
export interface Plan {
  config: Config;
  /** Keys whose value is not the preset's, with that value. */
  changed: { key: string; value: unknown; preset: unknown }[];
  parameters: number;
  /** A floor of what training holds in memory. */
  training_bytes: number;
  tokens_per_step: number;
  flops_per_step: number;
  train_tokens: number;
  val_tokens: number;
  vocab_size: number;
  /** The same run on the desktop. */
  command: string;
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
  /** What `auto` means here. */
  chosen: "webgpu" | "cpu";
  why: string;
}

/** Seconds of one optimizer step of a plan, measured. */
export interface Probe {
  device: "webgpu" | "cpu";
  first_step_seconds: number;
  step_seconds: number;
}

/** A refusal or a failure, for people. */
export interface Problem {
  message: string;
  hint: string | null;
  /** The worker is of no use any more: begin a new one and resume from the last saved checkpoint. */
  fatal: boolean;
}

export type RunState = "preparing" | "running" | "paused" | "finished" | "failed";

export interface RunInfo {
  device: string;
  parameters: number;
  vocab_size: number;
  train_tokens: number;
  val_tokens: number;
  tokens_per_step: number;
  flops_per_step: number;
  peak_flops: number | null;
  first_step: number;
  last_step: number;
  log_interval: number;
  /** Loss of guessing every token with equal probability, in nats. */
  uniform_loss: number;
  /** What the user should know before it runs, a sentence each. */
  notes?: string[];
}

export interface StepReport {
  step: number;
  loss: number;
  grad_norm: number;
  learning_rate: number;
  tokens: number;
  tokens_per_second: number;
  mfu: number | null;
  epoch: number;
  seconds: number;
}

export interface EvaluationReport {
  step: number;
  train_loss: number | null;
  val_loss: number;
  perplexity: number;
  /** Share of documents whose whole answer was right; procedural tasks only. */
  exact_match: number | null;
  is_best: boolean;
  seconds: number;
}

export interface SampleReport {
  step: number;
  text: string;
}

export interface FinishReport {
  step: number;
  reason: "completed" | "stopped_at_step" | "early_stopped" | "interrupted";
  best_val_loss: number | null;
  best_step: number | null;
  seconds: number;
  tokens: number;
  skipped_steps: number;
  peak_memory_bytes: number | null;
}

export type TrainEvent =
  | ({ type: "started" } & RunInfo)
  | ({ type: "step" } & StepReport)
  | ({ type: "evaluation" } & EvaluationReport)
  | ({ type: "sample" } & SampleReport)
  | { type: "checkpoint"; step: number; path: string; is_best: boolean }
  | { type: "skipped"; step: number; loss: number | null; batch: string }
  | ({ type: "finished" } & FinishReport);

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

/** Attention of one layer on a text: `weights[head][query][key]`. */
export interface AttentionMaps {
  tokens: string[];
  layer: number;
  weights: number[][][];
}

export interface Distribution {
  mean: number;
  std: number;
  min: number;
  max: number;
  /** Euclidean norm. */
  norm: number;
  /** Counts in 32 equal bins from `min` to `max`. */
  histogram: number[];
}

export interface ParameterReport {
  /** Dotted, as in `model.safetensors`' own naming of Kiln. */
  name: string;
  shape: number[];
  weights: Distribution;
  /** Of the loss of the next batch. */
  gradients: Distribution;
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

/** The same, with the steps that the run had finished at that moment. */
export interface Counters extends GpuCounters {
  step: number;
}

/** How far an operation is from its reference, relative to the largest number of that. */
export interface KernelDifference {
  operation: string;
  forward: number;
  /** Of the worst gradient. */
  gradient: number;
}

/** Files of a checkpoint by name, in the desktop's format. */
export type CheckpointFiles = Record<string, Uint8Array>;

/** What a worker that plans can be asked. None of these disturbs a run. */
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
  /** Of the worker that holds the run, if one does: it writes the run's record, too. */
  rename_run(id: string, name: string): null;
  /** The newest checkpoint and the log of a stored run. */
  read_run(id: string): { files: CheckpointFiles; events: TrainEvent[]; text: Blob | null };
}

/** What a worker that trains can be asked; it holds one run. */
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
  | { kind: "answer"; id: number; value: unknown }
  | { kind: "refusal"; id: number; problem: Problem }
  | { kind: "event"; event: TrainEvent }
  | { kind: "state"; state: RunState }
  | { kind: "saved"; step: number; bytes: number }
  /** Saving failed (storage full, say): training goes on, the state is in memory. */
  | { kind: "unsaved"; problem: Problem }
  /** The run failed, or the worker as a whole. */
  | { kind: "problem"; problem: Problem };
