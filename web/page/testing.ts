// `window.kiln`: what the browser tests read. Nothing on the page uses it.

import type { Client } from "./client";
import type { Session } from "./session";
import type { Store } from "./store";

/** Makes a read-only view of the state and the workers' clients reachable. */
export function exposeToTests(store: Store, session: Session, planner: Client): void {
  Object.defineProperty(window, "kiln", {
    value: {
      /** A copy of the state in which a run has all its reports. */
      get state() {
        const { run, ...rest } = store.state;
        return { ...rest, run: run && { ...run, steps: run.history.steps, evaluations: run.history.evaluations, samples: run.history.samples, memory: run.history.memory.channels, history: undefined } };
      },
      /** The worker of the run on the page, if there is one. */
      get client() {
        return session.client;
      },
      planner,
    },
  });
}
