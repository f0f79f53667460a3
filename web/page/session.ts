// The life of a run on the page: a fresh worker for each, started, paused, ended and brought back.

import { asProblem, EngineError, type Broadcast, type Client } from "./client";
import { throttled } from "./dom";
import { History } from "./history";
import { sentence } from "./problem";
import type { CheckpointFiles, Counters, RunInfo, RunSpec, StoredRun, TrainEvent } from "./protocol";
import { newRunId, overrides, runName, values } from "./specs";
import type { Run, Store } from "./store";
import type { NamedText } from "./text";

/** Delay after a response until a training worker is asked again for its memory and GPU work. */
const USE_INTERVAL = 3_000;

/** Holds the worker of the run on the page. */
export class Session {
  /** The worker of the run; none before the first and after a fatal problem. */
  client: Client | null = null;
  /** Button that was pressed last. After `stop`, the pause that the worker reports, sooner or later, is an end. */
  private wish: "pause" | "stop" | null = null;
  private readonly refreshSoon = throttled(1_000, () => void this.refreshRuns());
  private persisted = false;
  /** The last response of the worker that trains. */
  private counters: Counters | null = null;

  constructor(
    private readonly store: Store,
    private readonly planner: Client,
    private readonly makeClient: () => Client,
  ) {
    void this.followUse();
  }

  /** Begins a run from the set-up and trains. */
  async start(): Promise<void> {
    if (await this.prepare()) await this.ask("run");
  }

  /** Trains on. */
  async resume(): Promise<void> {
    if (!this.client) return this.recover();
    this.wish = null;
    await this.ask("run");
  }

  /** One step of the run, or of a new one. */
  async step(): Promise<void> {
    const state = this.store.state.run?.state;
    const ready = state === "paused" || (state === "stopped" && this.client !== null);
    if (ready) this.wish = null;
    if (ready || (await this.prepare())) await this.ask("step");
  }

  /** Ends after the step in progress. */
  async pause(): Promise<void> {
    this.wish = "pause";
    this.store.change(["run"], () => {});
    await this.ask("pause");
  }

  /** Ends the run, saved; a second time without waiting for the step in progress. */
  async stop(): Promise<void> {
    const run = this.store.state.run;
    if (!run) return;
    if (run.state === "running" && this.wish !== "stop") {
      this.wish = "stop";
      this.store.change(["run"], () => {});
      await this.ask("pause");
    } else if (run.state === "running" || run.state === "preparing") {
      this.dropClient();
    }
    if (this.store.state.run === run && run.state !== "failed" && run.state !== "finished") this.setState("stopped");
    void this.refreshRuns();
  }

  /** Call that waits for the step in progress. */
  get awaited(): "pause" | "stop" | null {
    return this.store.state.run?.state === "running" ? this.wish : null;
  }

  /** A new worker that goes on from the last save. */
  async recover(): Promise<void> {
    const run = this.store.state.run;
    if (run && (await this.open({ id: run.id, name: run.name, spec: run.spec }))) await this.ask("run");
  }

  /** Brings a stored run back, paused, with what it reported so far. */
  async open(stored: Pick<StoredRun, "id" | "name" | "spec">): Promise<boolean> {
    const run = this.newRun(stored.id, stored.name, stored.spec);
    return this.begin(run, async (client) => {
      // Before the runner takes the folder: two workers do not hold one file.
      const { files, events } = await this.planner.call("read_run", stored.id);
      run.layers = layersOf(files) ?? run.layers;
      for (const event of events) run.history.add(event);
      const info = await client.call("resume", stored.id, stored.spec.device);
      run.history.rewind(info.first_step);
      run.savedStep = info.first_step || null;
      return info;
    });
  }

  /** Goes on from checkpoint files, paused. */
  async load(name: string, files: CheckpointFiles): Promise<boolean> {
    const { text, device } = this.store.state.setup;
    // Its configuration is in the files, and may be no preset's.
    const run = this.newRun(newRunId(), name, { preset: "", set: [], device });
    run.layers = layersOf(files) ?? run.layers;
    return this.begin(run, (client) => client.call("load", run.id, name, files, text, device));
  }

  /** The checkpoint of the run on the page, now. */
  async checkpoint(): Promise<CheckpointFiles> {
    const run = this.store.state.run;
    // What a failed run holds is not what anyone wants to keep.
    if (this.client && run?.state !== "failed") return this.client.call("checkpoint");
    if (!run) throw new EngineError({ message: "there is no run yet", hint: null, fatal: false });
    const { files } = await this.planner.call("read_run", run.id);
    if (Object.keys(files).length === 0) throw new EngineError({ message: "nothing of this run has been saved yet", hint: null, fatal: false });
    return files;
  }

  /** Takes the run off the page, unsaved. */
  clear(): void {
    this.dropClient();
    this.store.change(["run", "history"], (state) => void (state.run = null));
  }

  /** Gives a stored run another name. */
  async rename(id: string, name: string): Promise<void> {
    const run = this.store.state.run;
    const here = run?.id === id;
    await ((here && this.client) || this.planner).call("rename_run", id, name);
    if (here) this.store.change(["run"], () => void (run.name = name));
    await this.refreshRuns();
  }

  /** Reads the list of stored runs again. */
  async refreshRuns(): Promise<void> {
    try {
      const runs = await this.planner.call("stored_runs");
      this.store.change(["runs"], (state) => void (state.runs = runs.sort((a, b) => b.saved_at - a.saved_at)));
    } catch (error) {
      this.store.change(["problem"], (state) => void (state.problem = asProblem(error)));
    }
  }

  private async prepare(): Promise<boolean> {
    void this.persist();
    const spec: RunSpec = this.store.spec;
    const run = this.newRun(newRunId(), runName(spec, this.store.state.runs), { preset: spec.preset, set: spec.set, device: spec.device });
    return this.begin(run, (client) => client.call("start", run.id, run.name, spec));
  }

  /** Gives `run` the page and a fresh worker; says whether it is ready to train. */
  private async begin(run: Run, prepare: (client: Client) => Promise<RunInfo>): Promise<boolean> {
    this.dropClient();
    this.wish = null;
    this.counters = null;
    const client = this.makeClient();
    this.client = client;
    client.listen((message) => {
      if (this.store.state.run === run) this.hear(run, message);
    });
    this.store.change(["run", "history", "problem"], (state) => Object.assign(state, { run, problem: null }));
    try {
      const info = await prepare(client);
      if (this.client !== client) return false;
      run.info = info;
      const { notes = [] } = info;
      if (notes.length > 0) this.store.change(["problem"], (state) => void (state.note = notes.map(sentence).join(" ")));
      if (run.state === "preparing") run.state = info.first_step >= info.last_step ? "finished" : "paused";
      this.store.change(["run", "history"], () => {});
      return true;
    } catch (error) {
      if (this.client === client) this.fail(run, error);
      return false;
    }
  }

  private newRun(id: string, name: string, spec: Run["spec"]): Run {
    const { catalogue } = this.store.state;
    const layers = catalogue ? Number(values(catalogue, spec).get("model.n_layer")) : 1;
    return {
      id, name, spec, state: "preparing", info: null, layers: layers || 1, history: new History(),
      savedStep: null, savedBytes: null, finish: null, problem: null, unsaved: null,
    };
  }

  private async ask(call: "run" | "pause" | "step"): Promise<void> {
    const run = this.store.state.run;
    const client = this.client;
    if (!run || !client) return;
    try {
      await client.call(call);
    } catch (error) {
      if (this.client === client) this.fail(run, error);
    }
  }

  private hear(run: Run, message: Broadcast): void {
    if (message.kind === "event") this.hearEvent(run, message.event);
    else if (message.kind === "state") this.setState(message.state === "paused" && this.wish === "stop" ? "stopped" : message.state);
    else if (message.kind === "problem") this.fail(run, new EngineError(message.problem));
    else if (message.kind === "unsaved") this.store.change(["run"], () => void (run.unsaved = message.problem));
    else {
      this.store.change(["run"], () => Object.assign(run, { savedStep: message.step, savedBytes: message.bytes, unsaved: null }));
      this.refreshSoon();
    }
  }

  private hearEvent(run: Run, event: TrainEvent): void {
    run.history.add(event);
    if (event.type === "started") run.info = event;
    if (event.type === "finished") run.finish = event;
    this.store.change(event.type === "finished" || event.type === "started" ? ["run", "history"] : ["history"], () => {});
  }

  private setState(state: Run["state"]): void {
    const run = this.store.state.run;
    if (!run || run.state === state) return;
    this.store.change(["run"], () => void (run.state = state));
  }

  private fail(run: Run, error: unknown): void {
    const problem = asProblem(error);
    if (problem.fatal || run.info === null) this.dropClient();
    this.store.change(["run"], () => Object.assign(run, { state: "failed", problem }));
    void this.refreshRuns();
  }

  private dropClient(): void {
    this.client?.terminate();
    this.client = null;
  }

  private async followUse(): Promise<never> {
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, USE_INTERVAL));
      await this.readUse();
    }
  }

  private async readUse(): Promise<void> {
    const { client } = this;
    const run = this.store.state.run;
    if (!client || run?.state !== "running") {
      // What a pause is used for, looking inside say, is no work of a step.
      this.counters = null;
      return;
    }
    const memory = await client.call("memory").catch(() => null);
    const counters = await client.call("counters").catch(() => null);
    if (this.client !== client || !counters) return;
    const { history } = run;
    const { step } = counters;
    if (memory && step > (history.memory.xs.at(-1) ?? 0)) history.memory.push(step, [memory.wasm, memory.gpu ?? NaN]);
    const before = (this.counters ??= counters);
    const steps = step - before.step;
    if (steps === 0) return;
    this.counters = counters;
    const dispatches = counters.dispatches - before.dispatches;
    if (dispatches > 0) history.gpuWork.push(step, [dispatches / steps, (counters.submits - before.submits) / steps]);
  }

  /** Without it, the browser may clear the runs when the disk runs low. Asked once, at a click. */
  private async persist(): Promise<void> {
    if (this.persisted) return;
    this.persisted = true;
    await navigator.storage?.persist?.().catch(() => false);
  }
}

/** Sets the form to what a stored run was made with. */
export function setUpLike(store: Store, stored: StoredRun, text: NamedText | null): void {
  store.change(["setup"], (state) => {
    const { catalogue } = state;
    if (!catalogue?.presets.some((preset) => preset.name === stored.spec.preset)) return;
    state.setup = {
      preset: stored.spec.preset,
      overrides: overrides(catalogue, stored.spec.set),
      text,
      device: stored.spec.device,
    };
  });
}

/** The number of layers that a checkpoint's own configuration names. */
function layersOf(files: CheckpointFiles): number | null {
  const toml = files["kiln.toml"];
  const found = toml && /^\s*n_layer\s*=\s*(\d+)/m.exec(new TextDecoder().decode(toml));
  return found ? Number(found[1]) : null;
}
