// Keeps the plan in step with the set-up: asks the planner a moment after the last change, and
// measures the machine when asked to.

import { asProblem, type Client } from "./client";
import { debounced } from "./dom";
import type { DeviceInfo } from "./protocol";
import type { Store } from "./store";
import { toHash } from "./url";

/** Texts from this length on take so long to hand to the worker that every key stroke should not. */
const LONG_TEXT = 5_000_000;

/** Asks the planner worker. */
export class Planning {
  private newest = 0;
  private prober: Client | null = null;

  constructor(
    private readonly store: Store,
    private readonly planner: Client,
    private readonly makeClient: () => Client,
  ) {}

  /** Begins to follow the set-up; resolves with the first plan or refusal. */
  async follow(): Promise<void> {
    await this.plan();
    const soon = debounced(
      () => ((this.store.state.setup.text?.text.length ?? 0) > LONG_TEXT ? 1000 : 250),
      () => void this.plan(),
    );
    let first = true;
    this.store.watch(["setup"], () => {
      if (!first) {
        this.store.change(["plan"], (state) => void (state.planning = true));
        soon();
      }
      first = false;
    });
  }

  /** Plans now. An answer that was overtaken by a newer question is dropped. */
  async plan(): Promise<void> {
    this.newest += 1;
    const mine = this.newest;
    const hash = toHash(this.store.state.setup);
    if (location.hash !== hash) history.replaceState(null, "", hash);
    try {
      const plan = await this.planner.call("plan", this.store.spec);
      if (mine !== this.newest) return;
      this.store.change(["plan"], (state) => Object.assign(state, { plan, planProblem: null, planning: false }));
    } catch (error) {
      if (mine !== this.newest) return;
      this.store.change(["plan"], (state) => Object.assign(state, { plan: null, planProblem: asProblem(error), planning: false }));
    }
  }

  /** Times one step on each device that is worth it. A worker of its own, so that it can be given up. */
  async measure(): Promise<void> {
    const { plan, devices, setup } = this.store.state;
    if (!plan || !devices || this.prober) return;
    const prober = this.makeClient();
    this.prober = prober;
    const spec = this.store.spec;
    try {
      for (const device of worthMeasuring(devices.devices, setup.device)) {
        this.store.change(["measure"], (state) => void (state.measuring = device.name));
        const probe = await prober.call("probe", { ...spec, device: device.name }, device.name);
        this.store.change(["measure"], (state) => {
          const others = state.measurements.filter((known) => known.probe.device !== device.name);
          state.measurements = [...others, { probe, flops_per_step: plan.flops_per_step }];
        });
      }
    } catch (error) {
      if (this.prober === prober) this.store.change(["problem"], (state) => void (state.problem = { ...asProblem(error), fatal: false }));
    }
    prober.terminate();
    if (this.prober === prober) this.endMeasuring();
  }

  /** Gives a measurement up. */
  endMeasuring(): void {
    const prober = this.prober;
    this.prober = null;
    prober?.terminate();
    this.store.change(["measure"], (state) => void (state.measuring = null));
  }
}

/** The device asked for, or with `auto` all that are there; an emulated GPU only by name. */
function worthMeasuring(devices: DeviceInfo[], asked: string): DeviceInfo[] {
  return devices.filter((device) => device.available && (asked === "auto" ? !device.software : device.name === asked));
}
