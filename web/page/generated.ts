// Made from Rust's types by `src/engine/typescript.rs`, which also checks that they still agree. Do not edit; to make it
// anew: KILN_WRITE_TYPES=1 cargo test --package kiln-engine --features typescript typescript

/** Attention of one layer on a text: `weights[head][query][key]`. */
export type AttentionMaps = {
  tokens: Array<string>;
  layer: number;
  weights: Array<Array<Array<number>>>;
};

/** Everything about the engine that does not change. */
export type Catalogue = {
  version: string;
  fields: Array<Field>;
  /** Each earlier name of a key with its name now. */
  renamed: Array<[string, string]>;
  presets: Array<Preset>;
  tasks: Array<Task>;
};

/** A key with the value of a run and that of its preset. */
export type Change = {
  key: string;
  value: unknown;
  preset: unknown;
};

/** A checkpoint that is on the disk, complete. */
export type CheckpointReport = {
  step: number;
  path: string;
  is_best: boolean;
};

/** Everything that decides what a run computes. */
export type Config = Record<string, Record<string, unknown>>;

/** Distribution of the elements of a tensor. Elements that are not finite are left out. */
export type Distribution = {
  mean: number;
  std: number;
  min: number;
  max: number;
  /** Euclidean norm. */
  norm: number;
  /** Counts in equal bins from `min` to `max`. */
  histogram: Array<number>;
};

/** A run as the visitor describes it, with the text read. */
export type EngineSpec = {
  preset: string;
  /** `key=value`, applied in order over the preset. */
  set: Array<string>;
  /** Text to train on instead of what the configuration names. */
  text: EngineText | null;
};

/** Text of the visitor. */
export type EngineText = {
  name: string;
  text: string;
};

/** One evaluation on the validation split. */
export type EvaluationReport = {
  step: number;
  /** Mean loss of the steps since the previous evaluation. */
  train_loss: number | null;
  val_loss: number;
  /**
   * Validation loss minus training loss. Early in training it may be below 0, since the training loss is a
   * mean over earlier steps, with dropout.
   */
  gap?: number | null;
  /** `exp` of the validation loss, of a language model only. */
  perplexity?: number | null;
  /**
   * Share of rows whose every target was the most likely token; only where targets are answers
   * (`data.answer_after`).
   */
  exact_match?: number | null;
  /** Mean F1 over the classes, for a classifier. */
  macro_f1?: number | null;
  /** Further figures of an objective that does not predict targets. */
  metrics?: { [key in string]: MetricValue };
  is_best: boolean;
  seconds: number;
};

/** Exposure of one canary. */
export type Exposure = {
  /** The text that was inserted. */
  text: string;
  /** Number of times that it was inserted. */
  repeat: number;
  /** Number of possible secrets. */
  candidates: number;
  /** Number of secrets that were scored, the inserted one included. */
  scored: number;
  /** Number of scored secrets that are at least as likely as the inserted one, which is one of them. */
  rank: number;
  /** Exposure in bits; an estimate if not all candidates were scored. */
  exposure: number;
  /** Negative log-likelihood of the inserted text, in nats. */
  loss: number;
};

/** Share of greedy continuations that are verbatim. */
export type Extraction = {
  prompts: number;
  /** Length of each prompt. */
  prompt_tokens: number;
  /** Length of each continuation. */
  new_tokens: number;
  /** Share of the prompts whose whole continuation is that of the text. */
  verbatim: number;
  /** Mean number of tokens that a continuation has in common with the text, from its beginning. */
  mean_common_tokens: number;
};

/** A key as a form shows it. */
export type Field = {
  key: string;
  help: string;
  kind: FieldKind;
  /** Values that a [`FieldKind::Choice`] accepts. */
  choices: Array<string>;
  /** Whether the key may have no value. */
  optional: boolean;
};

/** Kind of value that a key accepts. */
export type FieldKind =
  | "integer"
  | "number"
  | "boolean"
  | "choice"
  | "text"
  | "list";

/** Reason why the run ended. */
export type FinishReason =
  | "completed"
  | "stopped_at_step"
  | "early_stopped"
  | "interrupted";

/** Outcome of a run. */
export type FinishReport = {
  step: number;
  reason: FinishReason;
  best_val_loss: number | null;
  best_step: number | null;
  seconds: number;
  tokens: number;
  skipped_steps: number;
  peak_memory_bytes: number | null;
};

/**
 * One sentence without a full stop. Plain ones are made from text, those that name a key, a place or a command with
 * [`hint!`](crate::hint).
 */
export type Hint = Array<HintPart>;

/** A piece of a [`Hint`]. */
export type HintPart =
  | { "kind": "text", text: string, }
  | { "kind": "key", key: string, }
  | { "kind": "settings" } & Settings
  | { "kind": "place", place: Place, argument: string | null, preposition: string | null, }
  | { "kind": "command", command: string, }
  | { "kind": "command-line", parts: Hint, };

/** Largest differences between an operation and its reference, relative to the largest value of the reference. */
export type KernelDifference = {
  operation: string;
  forward: number;
  /** Difference of the worst gradient. */
  gradient: number;
};

/** Figures of what a model has learned by heart. */
export type Memorization = {
  /** Continuations of prompts from the training text; absent if it is too short for a prompt. */
  train?: Extraction | null;
  /** Continuations of prompts from the validation text, which the model has not seen. */
  validation?: Extraction | null;
  /** Overlaps of several kinds of texts with the training text. */
  overlaps: Array<OverlapReport>;
  canaries: Array<Exposure>;
  seconds: number;
};

/** Memorization of the training text by the trained model, at the end of a run. */
export type MemorizationReport = {
  step: number;
  memorization: Memorization;
};

/** A figure, or several of a kind, such as one for each expert. NaN where the log has no number. */
export type MetricValue =
  | number
  | Array<number>;

/** Warning of overfitting. */
export type OverfittingReport = {
  step: number;
  /** Number of evaluations in a row that showed it. */
  evaluations: number;
  val_loss: number;
  best_val_loss: number;
  best_step: number;
  train_loss: number;
  train_loss_at_best: number;
};

/** Longest verbatim overlaps of some texts with the training text. */
export type OverlapReport = {
  /** Kind of texts, such as `greedy text`. */
  texts: string;
  /** Number of texts. */
  count: number;
  /** Mean over the texts of the longest overlap of each, in tokens. */
  mean_tokens: number;
  /** Length of the longest overlap of all. */
  tokens: number;
  characters: number;
  /** The text of the longest overlap. */
  text: string;
  /** Document of the training split that contains it, counted from 0. */
  document: number;
  /** Position of its first token in that document. */
  offset: number;
};

/** One parameter tensor. */
export type ParameterReport = {
  /** Path of fields, for example `blocks.0.attention.qkv.weight`. */
  name: string;
  shape: Array<number>;
  weights: Distribution;
  /** Gradients of the loss of the first micro-batch of the next step, before clipping. */
  gradients: Distribution;
};

/** A place where the user chooses something: an option of the command line, a section of the page. */
export type Place =
  | "data"
  | "device"
  | "out"
  | "resume";

/** A run checked and resolved, before anything is built. */
export type Plan = {
  config: Config;
  /** Keys whose value is not the preset's. */
  changed: Array<Change>;
  parameters: number;
  /** The least memory that training holds, in bytes. */
  training_bytes: number;
  tokens_per_step: number;
  /** Floating-point operations of one optimizer step, forward and backward. */
  flops_per_step: number;
  train_tokens: number;
  val_tokens: number;
  vocab_size: number;
  /** Command that starts the same run on the desktop. */
  command: string;
};

/** A preset with its whole configuration. */
export type Preset = {
  name: string;
  description: string;
  /** Made for the page: small enough for a tab. */
  browser: boolean;
  /** The procedural task that it trains on, if any. */
  task: TaskName | null;
  config: Config;
};

/** A refusal or a failure, for people. */
export type Problem = {
  message: string;
  hint: Hint | null;
  /** The worker is of no use any more: begin a new one and resume from the last saved checkpoint. */
  fatal: boolean;
};

/** Description of a run, before its first step. */
export type RunInfo = {
  /** For example `cpu` or `wgpu:0 (NVIDIA H100)`. */
  device: string;
  parameters: number;
  vocab_size: number;
  train_tokens: number;
  val_tokens: number;
  /** Tokens of one optimizer step. */
  tokens_per_step: number;
  /** Floating-point operations of one optimizer step, forward and backward. */
  flops_per_step: number;
  /** Measured matrix-product peak of the device in FLOP/s, if it was measured. */
  peak_flops: number | null;
  /** Steps done before this process (resume). */
  first_step: number;
  last_step: number;
  /** Steps between readings of the loss, and between lines of a plain log. */
  log_interval: number;
  /** Loss of giving every token or class the same probability, in nats. A regression has none. */
  uniform_loss?: number | null;
  /**
   * Whether `exp` of a loss is a perplexity: the loss of a language model is over its vocabulary, that of
   * a classifier is over a few classes. Logs that do not say so are taken for those of language models.
   */
  has_perplexity: boolean;
  /** Notes for the user before the run starts, a sentence each: data that is left out, a learning rate that jumps. */
  notes?: Array<string>;
};

/** Text that the model has generated. */
export type SampleReport = {
  step: number;
  text: string;
  /** Reward of an answer that was sampled to train on. */
  reward?: number | null;
};

/** A checkpoint that came due; its files go beside this. */
export type SavedCheckpoint = {
  step: number;
  is_best: boolean;
};

/** A key and its value. */
export type Setting = {
  key: string;
  value: string;
  /** The value only stands for one that the user chooses: N, FILE. */
  is_placeholder: boolean;
};

/** Keys and the values to give them, made with [`set`], [`choose`] or [`entry`]. */
export type Settings = {
  settings: Array<Setting>;
  /** Whether they may come from a file: then the command line does not say `--set`. */
  in_file: boolean;
};

/** One optimizer step. `step` counts finished steps: the first report says 1. */
export type StepReport = {
  step: number;
  /** Mean cross entropy per target token, in nats. */
  loss: number;
  /** Global gradient norm before clipping. */
  grad_norm: number;
  learning_rate: number;
  /** Tokens read since the run began, over all resumes. */
  tokens: number;
  /** Over the time since the previous reports were read. */
  tokens_per_second: number;
  /** Share of the measured peak, if there is one. */
  mfu: number | null;
  /** Passes over the training split so far. */
  epoch: number;
  /** Seconds since this process began to train. */
  seconds: number;
  /**
   * Further figures of the objective by name. A mixture of experts has `router/load_balancing` and
   * `router/z`, both before their weights, and `router/expert`, the share of assignments of each expert.
   */
  metrics?: { [key in string]: MetricValue };
};

/** A device to train on, as the worker found it. */
export type Target = {
  /** `cpu`, or `webgpu` once that is opened. */
  name: string;
  /** For people. */
  description: string;
  /** The most bytes that one buffer may have. */
  largest: number;
  /** The most bytes that all may have. */
  available: number;
};

/** A procedural task. */
export type Task = {
  name: TaskName;
  description: string;
  /** One line as the model sees it, for example `12+34=46`. */
  example: string;
};

/** The procedural tasks (`data/tasks.rs`). */
export type TaskName =
  | "none"
  | "copy"
  | "reverse"
  | "sort"
  | "addition"
  | "modular-addition"
  | "parity"
  | "dyck"
  | "two-sum";

/** One evaluation of the tasks of `eval.suites`. */
export type TaskReport = {
  step: number;
  /** Metrics as `TASK/METRIC`, such as `arc_easy/acc`. */
  metrics: { [key in string]: MetricValue };
  seconds: number;
};

/** Something worth showing. Serialized with a `type` tag, one JSON object each, in `log.jsonl`. */
export type TrainEvent =
  | { "type": "started" } & RunInfo
  | { "type": "step" } & StepReport
  | { "type": "evaluation" } & EvaluationReport
  | { "type": "overfitting" } & OverfittingReport
  | { "type": "tasks" } & TaskReport
  | { "type": "sample" } & SampleReport
  | { "type": "checkpoint" } & CheckpointReport
  | { "type": "skipped", step: number, loss: number, grad_norm: number, batch: string, }
  | { "type": "finished" } & FinishReport
  | { "type": "memorization" } & MemorizationReport;
