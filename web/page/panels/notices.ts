// Notices: problems of the run and of the page, each with a way on.

import { asProblem } from "../client";
import { downloadCheckpoint } from "../checkpoint-files";
import { el } from "../dom";
import { duration, whole } from "../format";
import { ProblemBox } from "../problem";
import type { Session } from "../session";
import type { Store } from "../store";

/** Absences shorter than this changed nothing. */
const SHORT_ABSENCE = 5;

/** The boxes above the tabs. */
export function noticesPanel(store: Store, session: Session, showRuns: () => void): HTMLElement {
  const problem = new ProblemBox("run");
  const unsaved = new ProblemBox("unsaved");
  const note = new ProblemBox("note", "note");

  store.watch(["run", "problem"], () => {
    const { run, problem: general } = store.state;
    const failed = run?.state === "failed" ? run.problem : null;
    const recover =
      failed && run?.info != null &&
      el("button", { type: "button", class: "primary", testid: "recover", onclick: () => void session.recover() }, run.savedStep === null ? "Begin again: nothing was saved yet" : `Resume from the last save (step ${whole(run.savedStep)})`);
    const dismiss = general && !failed && el("button", { type: "button", testid: "dismiss", onclick: () => store.change(["problem"], (state) => void (state.problem = null)) }, "Dismiss");
    problem.show(failed ?? general, recover, dismiss);
  });
  store.watch(["run"], () => {
    const failing = store.state.run?.unsaved ?? null;
    unsaved.show(
      failing && { message: `Not saved: ${failing.message}`, hint: failing.hint ?? "training goes on; what is not saved is lost with the tab" },
      failing && el("button", { type: "button", class: "primary", testid: "download-now", onclick: () => void download(store, session) }, "Download checkpoint now"),
      failing && el("button", { type: "button", testid: "delete-old", onclick: showRuns }, "Delete old runs"),
    );
  });
  store.watch(["problem"], () => {
    const { note: text } = store.state;
    note.show(text === null ? null : { message: text, hint: null }, text !== null && el("button", { type: "button", onclick: () => store.change(["problem"], (state) => void (state.note = null)) }, "Dismiss"));
  });
  watchAbsence(store);
  warnBeforeLoss(store);
  return el("section", { class: "notices stack", "aria-label": "Notices" }, problem.element, unsaved.element, note.element);
}

async function download(store: Store, session: Session): Promise<void> {
  await downloadCheckpoint(store, session).catch((error: unknown) => store.change(["problem"], (state) => void (state.problem = asProblem(error))));
}

/** Browsers slow hidden tabs down; whoever comes back should know why the run is behind. */
function watchAbsence(store: Store): void {
  let left: number | null = null;
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      left = store.state.run?.state === "running" ? performance.now() : null;
    } else if (left !== null) {
      const seconds = (performance.now() - left) / 1000;
      left = null;
      if (seconds < SHORT_ABSENCE) return;
      store.change(["problem"], (state) => void (state.note = `The tab was in the background for ${duration(seconds)}. Training went on, but browsers slow such tabs down.`));
    }
  });
}

/** The browser's own question, asked only when leaving would lose steps. */
function warnBeforeLoss(store: Store): void {
  addEventListener("beforeunload", (event) => {
    const { run } = store.state;
    const step = run?.history.last?.step ?? 0;
    if (run && step > (run.savedStep ?? 0) && run.state !== "failed") event.preventDefault();
  });
}
