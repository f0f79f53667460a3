// The page's whole state, and who wants to know when which part of it changed.

import type { History } from "./history";
import type { Catalogue, Devices, FinishReport, Plan, Preset, Probe, Problem, RunInfo, RunSpec, RunState, StoredRun } from "./protocol";
import type { NamedText } from "./text";

/** Set-up of the next run. */
export interface Setup {
  preset: string;
  /** Values unlike the preset's, by key, as the engine reads them. */
  overrides: Record<string, string>;
  text: NamedText | null;
  device: RunSpec["device"];
}

/** `stopped`: ended by the visitor; the worker is still there to look into and to go on with. */
export type ShownState = RunState | "stopped";

/** The run on the page. */
export interface Run {
  id: string;
  name: string;
  spec: Omit<RunSpec, "text">;
  state: ShownState;
  info: RunInfo | null;
  layers: number;
  history: History;
  savedStep: number | null;
  savedBytes: number | null;
  finish: FinishReport | null;
  problem: Problem | null;
  /** The last attempt to save failed. */
  unsaved: Problem | null;
}

/** A measurement and what it was of. */
export interface Measurement {
  probe: Probe;
  flops_per_step: number;
}

/** The state. Panels read it; only controllers (`session.ts`, `planning.ts`, `setup/`) change it. */
export interface State {
  catalogue: Catalogue | null;
  devices: Devices | null;
  setup: Setup;
  plan: Plan | null;
  planProblem: Problem | null;
  planning: boolean;
  measurements: Measurement[];
  measuring: string | null;
  run: Run | null;
  runs: StoredRun[];
  /** Something refused that is not about the plan or the run. */
  problem: Problem | null;
  /** Something to know, no problem. */
  note: string | null;
}

/** The parts of the state that can change. */
export type Topic = "catalogue" | "devices" | "setup" | "plan" | "measure" | "run" | "history" | "runs" | "problem";

/** The state with subscriptions by topic. */
export class Store {
  readonly state: State = {
    catalogue: null,
    devices: null,
    setup: { preset: "", overrides: {}, text: null, device: "auto" },
    plan: null,
    planProblem: null,
    planning: false,
    measurements: [],
    measuring: null,
    run: null,
    runs: [],
    problem: null,
    note: null,
  };
  private readonly listeners = new Map<Topic, Set<() => void>>();

  /** Calls `listener` now and after every change of one of the topics. */
  watch(topics: Topic[], listener: () => void): void {
    for (const topic of topics) {
      const set = this.listeners.get(topic) ?? new Set();
      set.add(listener);
      this.listeners.set(topic, set);
    }
    listener();
  }

  /** Changes the state and tells who watches the topics, each once. */
  change(topics: Topic[], mutate: (state: State) => void): void {
    mutate(this.state);
    const heard = new Set(topics.flatMap((topic) => [...(this.listeners.get(topic) ?? [])]));
    for (const listener of heard) listener();
  }

  /** The preset in use. */
  get preset(): Preset | null {
    return this.state.catalogue?.presets.find((preset) => preset.name === this.state.setup.preset) ?? null;
  }

  /** The set-up as the engine takes it. */
  get spec(): RunSpec {
    const { preset, overrides, text, device } = this.state.setup;
    return { preset, set: Object.entries(overrides).map(([key, value]) => `${key}=${value}`), text, device };
  }

  /** The value of a key in the preset in use. */
  presetValue(key: string): unknown {
    return valueOf(this.preset, key);
  }

  /** Whether a run holds its worker and goes on or may go on. */
  get busy(): boolean {
    const state = this.state.run?.state;
    return state === "preparing" || state === "running" || state === "paused";
  }
}

/** The value of a dotted key in a preset. */
export function valueOf(preset: Preset | null | undefined, key: string): unknown {
  return key.split(".").reduce<unknown>((tree, part) => (isSection(tree) ? tree[part] : undefined), preset?.config);
}

/** Whether a part of a configuration holds keys, and is no value. */
function isSection(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
