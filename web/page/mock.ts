// An imitation of the engine's worker, to work on the page without the engine: `npm run dev`, then
// `?mock`. Never part of the production bundle. Losses are a formula, text is noise.

import type { Port } from "./client";
import { MOCK_CATALOGUE } from "./mock-catalogue";
import type { Calls, CheckpointFiles, Config, Distribution, Message, Plan, Problem, RunInfo, RunSpec, RunState, StoredRun, TrainEvent } from "./protocol";

const STORED = new Map<string, { run: StoredRun; events: TrainEvent[]; text: string | null }>();
const LETTERS = "0123456789+= ETAOINSHRDLUetaoinshrdlucmfwypvbgkqjxz.,\n";

/** Stands in for a `Worker`. */
export class MockWorker implements Port {
  onmessage: ((event: MessageEvent) => void) | null = null;
  onerror: ((event: ErrorEvent) => void) | null = null;
  onmessageerror: ((event: MessageEvent) => void) | null = null;
  private dead = false;
  private step = 0;
  private state: RunState = "preparing";
  private plan: Plan | null = null;
  private stored: StoredRun | null = null;
  private events: TrainEvent[] = [];
  private text: string | null = null;
  private began = 0;

  postMessage(message: unknown): void {
    const { id, call, args } = message as { id: number; call: keyof Calls; args: unknown[] };
    setTimeout(async () => {
      try {
        const named: Partial<Record<keyof Calls, keyof this>> = { plan: "makePlan", step: "oneStep" };
        const answer = await (this[named[call] ?? (call as keyof this)] as (...args: unknown[]) => unknown).apply(this, args);
        this.send({ kind: "answer", id, value: answer });
      } catch (error) {
        const problem: Problem = error instanceof Error ? { message: error.message, hint: null, fatal: false } : (error as Problem);
        this.send({ kind: "refusal", id, problem });
      }
    }, 5);
  }

  terminate(): void {
    this.dead = true;
  }

  catalogue() {
    return MOCK_CATALOGUE;
  }

  devices() {
    return {
      devices: [
        { name: "webgpu" as const, description: "WebGPU, imitated adapter", available: true, software: true, reason: "emulated on the CPU, slower than the CPU path" },
        { name: "cpu" as const, description: "CPU, WebAssembly with SIMD", available: true, software: false, reason: null },
      ],
      chosen: "cpu" as const,
      why: "the only WebGPU adapter here is emulated in software",
    };
  }

  makePlan(spec: RunSpec): Plan {
    const preset = MOCK_CATALOGUE.presets.find((known) => known.name === spec.preset);
    if (!preset) throw { message: `unknown preset \`${spec.preset}\``, hint: "choose one of the list", fatal: false };
    const config: Config = structuredClone(preset.config);
    const changed: Plan["changed"] = [];
    for (const text of spec.set) {
      const [key = "", value = ""] = [text.slice(0, text.indexOf("=")), text.slice(text.indexOf("=") + 1)];
      const [section = "", name = ""] = key.split(".");
      const before = preset.config[section]?.[name];
      if (before === undefined) throw { message: `unknown configuration key \`${key}\``, hint: null, fatal: false };
      const now = typeof before === "number" ? Number(value) : typeof before === "boolean" ? value === "true" : value;
      if (Number.isNaN(now) || value === "") throw { message: `invalid value \`${value}\` for \`${key}\`: expected a number`, hint: null, fatal: false };
      config[section]![name] = now;
      changed.push({ key, value: now, preset: before });
    }
    const model = config.model as Record<string, number>;
    const train = config.train as Record<string, number>;
    const [width, heads, layers, context] = [model.n_embd!, model.n_head!, model.n_layer!, model.block_size!];
    if (width % heads !== 0) throw { message: `invalid value \`${width}\` for \`model.n_embd\`: heads that don't divide the width: \`model.n_head\` is ${heads}`, hint: `use ${Math.ceil(width / heads) * heads}`, fatal: false };
    const parameters = layers * 12 * width * width + 65 * width + context * width;
    const tokens = train.batch_size! * context;
    const sets = spec.set.map((text) => ` --set ${/[^\w.=-]/.test(text) ? `'${text}'` : text}`).join("");
    return {
      config, changed, parameters, training_bytes: parameters * 16 + tokens * layers * width * 40, tokens_per_step: tokens,
      flops_per_step: 6 * parameters * tokens, train_tokens: spec.text?.text.length ?? 1_003_854, val_tokens: 111_540, vocab_size: 65,
      command: `kiln train --preset ${spec.preset}${sets}`,
    };
  }

  async probe(spec: RunSpec, device: "webgpu" | "cpu") {
    await wait(1200);
    const plan = this.makePlan(spec);
    const step = plan.flops_per_step / (device === "cpu" ? 2e10 : 2e9);
    return { device, first_step_seconds: step * 3, step_seconds: step };
  }

  stored_runs() {
    return [...STORED.values()].map(({ run }) => run);
  }

  delete_run(id: string) {
    STORED.delete(id);
    return null;
  }

  read_run(id: string) {
    const found = STORED.get(id);
    if (!found) throw { message: `there is no run \`${id}\``, hint: null, fatal: false };
    return { files: this.checkpoint(), events: found.events, text: found.text };
  }

  async start(id: string, name: string, spec: RunSpec): Promise<RunInfo> {
    await wait(300);
    this.plan = this.makePlan(spec);
    this.text = spec.text?.text ?? null;
    const { text, ...rest } = spec;
    this.stored = { id, name, spec: rest, text_name: text?.name ?? null, step: 0, last_step: Number(this.plan.config.train!.max_steps), loss: null, val_loss: null, state: "paused", saved_at: Date.now(), bytes: 0, best: null };
    return this.info();
  }

  async resume(id: string): Promise<RunInfo> {
    await wait(300);
    const found = STORED.get(id);
    if (!found) throw { message: `there is no run \`${id}\``, hint: null, fatal: false };
    this.stored = { ...found.run };
    this.events = [...found.events];
    this.step = found.run.step;
    this.plan = this.makePlan({ ...found.run.spec, text: null });
    return this.info();
  }

  async load(id: string, name: string, files: CheckpointFiles, text: RunSpec["text"], device: RunSpec["device"]): Promise<RunInfo> {
    if (!files["model.safetensors"]) throw { message: "checkpoint: `model.safetensors` is missing", hint: null, fatal: false };
    await this.start(id, name, { preset: "addition", set: [], text, device });
    this.step = 120;
    return this.info();
  }

  run() {
    this.began = performance.now();
    this.setState("running");
    void this.train();
    return null;
  }

  async pause() {
    await wait(50);
    this.setState("paused");
    this.save();
    return null;
  }

  async oneStep() {
    this.setState("running");
    await wait(20);
    this.advance();
    this.setState("paused");
    return null;
  }

  generate(prompt: string, count: number) {
    return prompt + noise(count);
  }

  attention(text: string, layer: number) {
    const tokens = [...(text || "12+34=46")].slice(0, 48);
    const weights = Array.from({ length: 4 }, (_, head) =>
      tokens.map((_, query) => {
        const raw = tokens.map((_, key) => (key > query ? 0 : Math.exp(3 * Math.sin(key * (head + 1) + query * 0.7 + layer))));
        const sum = raw.reduce((a, b) => a + b, 0);
        return raw.map((value) => value / sum);
      }),
    );
    return { tokens, layer, weights };
  }

  parameters() {
    const names = ["embedding.token", "embedding.position", ...[0, 1].flatMap((i) => [`blocks.${i}.attention.qkv.weight`, `blocks.${i}.attention.out.weight`, `blocks.${i}.mlp.up.weight`, `blocks.${i}.mlp.down.weight`]), "norm.weight"];
    return names.map((name, i) => ({ name, shape: name.startsWith("norm") ? [64] : [64, 64 * (1 + (i % 4))], weights: bell(0.02 * (1 + (i % 3))), gradients: bell(0.0004 * (1 + i)) }));
  }

  checkpoint(): CheckpointFiles {
    return { "model.safetensors": new Uint8Array(1000).map((_, i) => i), "kiln.toml": new TextEncoder().encode("[model]\nn_layer = 2\n") };
  }

  memory() {
    return { wasm: 48 * 2 ** 20 + this.step * 10, gpu: null };
  }

  counters() {
    return { dispatches: 0, submits: 0 };
  }

  /** For the console: what the page does when the worker dies, or the disk is full. */
  breakDown(kind: "fatal" | "nan" | "full"): void {
    if (kind === "full") return this.send({ kind: "unsaved", problem: { message: "the browser's storage is full", hint: "delete old runs", fatal: false } });
    const message = kind === "nan" ? `the loss became NaN at step ${this.step} (batch of stream)` : "the graphics device was lost: destroyed";
    this.state = "failed";
    this.send({ kind: "problem", problem: { message, hint: kind === "nan" ? "lower `train.learning_rate`" : null, fatal: kind === "fatal" } });
  }

  private info(): RunInfo {
    const plan = this.plan!;
    return {
      device: "cpu (imitated)", parameters: plan.parameters, vocab_size: plan.vocab_size, train_tokens: plan.train_tokens, val_tokens: plan.val_tokens, tokens_per_step: plan.tokens_per_step,
      flops_per_step: plan.flops_per_step, peak_flops: null, first_step: this.step, last_step: this.stored!.last_step, log_interval: 10, uniform_loss: Math.log(plan.vocab_size),
    };
  }

  private async train(): Promise<void> {
    this.event({ type: "started", ...this.info() });
    while (this.state === "running" && !this.dead) {
      this.advance();
      if (this.step >= this.stored!.last_step) {
        this.event({ type: "finished", step: this.step, reason: "completed", best_val_loss: 0.4, best_step: this.step, seconds: 1, tokens: 1, skipped_steps: 0, peak_memory_bytes: null });
        this.setState("finished");
        this.save();
      }
      if (this.step % Number(new URLSearchParams(location.search).get("mock") || 1) === 0) await wait(8);
    }
  }

  private advance(): void {
    this.step += 1;
    const { step } = this;
    const config = this.plan!.config.train as Record<string, number>;
    const loss = 0.35 + 3.8 * Math.exp(-step / 60) + 0.12 * Math.random();
    this.stored!.loss = loss;
    const rate = config.learning_rate! * Math.min(1, step / 20) * (0.55 + 0.45 * Math.cos((Math.PI * step) / config.max_steps!));
    const seconds = (performance.now() - this.began) / 1000;
    this.event({ type: "step", step, loss, grad_norm: 0.4 + Math.random() + (step % 97 === 0 ? 4 : 0), learning_rate: rate, tokens: step * 768, tokens_per_second: 9000 + 900 * Math.random(), mfu: null, epoch: step / 1300, seconds });
    if (step % config.eval_interval! === 0) {
      const val_loss = 0.4 + 3.8 * Math.exp(-step / 58);
      this.stored!.val_loss = val_loss;
      this.event({ type: "evaluation", step, train_loss: null, val_loss, perplexity: Math.exp(val_loss), exact_match: this.stored!.spec.preset === "addition" ? 1 - Math.exp(-step / 150) : null, is_best: true, seconds });
      this.save();
    }
    if (step % config.sample_interval! === 0) this.event({ type: "sample", step, text: noise(120) });
  }

  private save(): void {
    if (!this.stored) return;
    Object.assign(this.stored, { step: this.step, saved_at: Date.now(), bytes: 2_400_000, state: this.state });
    STORED.set(this.stored.id, { run: { ...this.stored }, events: [...this.events], text: this.text });
    this.send({ kind: "saved", step: this.step, bytes: 2_400_000 });
  }

  private setState(state: RunState): void {
    this.state = state;
    this.send({ kind: "state", state });
  }

  private event(event: TrainEvent): void {
    this.events.push(event);
    this.send({ kind: "event", event });
  }

  private send(message: Message): void {
    if (!this.dead) this.onmessage?.(new MessageEvent("message", { data: structuredClone(message) }));
  }
}

function wait(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function noise(count: number): string {
  return Array.from({ length: count }, () => LETTERS[Math.floor(Math.random() * LETTERS.length)]).join("");
}

function bell(std: number): Distribution {
  const histogram = Array.from({ length: 32 }, (_, i) => Math.round(1000 * Math.exp(-(((i - 15.5) / 6) ** 2))));
  return { mean: 0, std, min: -3 * std, max: 3 * std, norm: std * 64, histogram };
}
