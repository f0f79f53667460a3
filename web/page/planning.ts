// Keeps the plan in step with the set-up: asks the planner a moment after the last change, and
// measures the machine when asked to.

import { asProblem, type Client } from "./client";
import { debounced } from "./dom";
import type { DeviceInfo } from "./protocol";
import type { Store } from "./store";
import { toHash } from "./url";

/** Delay after the last change until the planner is asked. */
const DELAY_MILLISECONDS = 250;

/** Asks the planner worker. */
export class Planning {
  private asking = false;
  /** The set-up changed while the planner was at work. */
  private stale = false;
  private prober: Client | null = null;

  constructor(
    private readonly store: Store,
    private readonly planner: Client,
    private readonly makeClient: () => Client,
  ) {}

  /** Begins to follow the set-up; resolves with the first plan or refusal. */
  async follow(): Promise<void> {
    await this.plan();
    const soon = debounced(DELAY_MILLISECONDS, () => void this.plan());
    let first = true;
    this.store.watch(["setup"], () => {
      if (!first) {
        this.store.change(["plan"], (state) => void (state.planning = true));
        soon();
      }
      first = false;
    });
  }

  /**
   * Plans now, or once the planner is done: with a long text it takes longer than the next key stroke,
   * and what it was asked in between would only be out of date.
   */
  async plan(): Promise<void> {
    const hash = toHash(this.store.state.setup);
    if (location.hash !== hash) history.replaceState(null, "", hash);
    if (this.asking) {
      this.stale = true;
      return;
    }
    this.asking = true;
    do {
      this.stale = false;
      const found = await this.planner.call("plan", this.store.spec).then(
        (plan) => ({ plan, planProblem: null }),
        (error: unknown) => ({ plan: null, planProblem: asProblem(error) }),
      );
      if (!this.stale) this.store.change(["plan"], (state) => Object.assign(state, found, { planning: false }));
    } while (this.stale);
    this.asking = false;
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
