// The bar with which a run is driven, and where it stands.

import { el, setText, throttled } from "../dom";
import { duration, measure, percent, short, whole } from "../format";
import { term } from "../popover";
import type { Session } from "../session";
import type { ShownState, Store } from "../store";

const TITLE = document.title;

type Action = "start" | "resume" | "pause" | "step" | "stop";

const SHOWN: Record<ShownState | "idle", Action[]> = {
  idle: ["start", "step"],
  preparing: ["pause", "step", "stop"],
  running: ["pause", "step", "stop"],
  paused: ["resume", "step", "stop"],
  stopped: ["start", "resume", "step"],
  finished: ["start", "step"],
  failed: ["start", "step"],
};
/** Where the focus goes when its button is gone. */
const HEIRS: Action[] = ["pause", "resume", "start"];

/** Start, pause, step, stop, resume, with progress and the numbers of the moment. */
export function transportPanel(store: Store, session: Session): HTMLElement {
  const buttons: Record<Action, HTMLButtonElement> = {
    start: action("start", "Start", "Start a new run with this set-up"),
    resume: action("resume", "Resume", "Train on"),
    pause: action("pause", "Pause", "Pause after the step in progress"),
    step: action("step", "Step", "Train a single step"),
    stop: action("stop", "Stop", "Save and end the run"),
  };
  for (const name of Object.keys(buttons) as Action[]) buttons[name].addEventListener("click", () => void session[name]());

  const state = el("p", { class: "state", testid: "state", role: "status", "aria-live": "polite" });
  const count = el("span", { class: "step-count", testid: "step-count" });
  const bar = el("progress", { max: 1, value: 0, "aria-label": "Progress of the run" });
  const numbers = {
    loss: el("dd", { testid: "train-loss" }),
    validation: el("dd", { testid: "val-loss" }),
    accuracy: el("dd", { testid: "accuracy" }),
    f1: el("dd", { testid: "macro-f1" }),
    speed: el("dd", { testid: "speed" }),
    elapsed: el("dd", { testid: "elapsed" }),
    left: el("dd", { testid: "eta" }),
  };
  const accuracy = el("div", {}, el("dt", {}, term("accuracy", "Accuracy")), numbers.accuracy);
  const f1 = el("div", {}, el("dt", {}, term("macro_f1", "F1")), numbers.f1);
  const readout = el(
    "dl",
    { class: "readout" },
    el("div", {}, el("dt", {}, term("loss", "Loss")), numbers.loss),
    el("div", {}, el("dt", {}, term("validation", "Validation")), numbers.validation),
    accuracy,
    f1,
    el("div", {}, el("dt", {}, term("tokens_per_second", "Tokens/s")), numbers.speed),
    el("div", {}, el("dt", {}, "Elapsed"), numbers.elapsed),
    el("div", {}, el("dt", {}, "Left"), numbers.left),
  );
  const element = el("section", { class: "transport", "aria-label": "Run" }, el("div", { class: "buttons" }, ...Object.values(buttons)), el("div", { class: "where" }, el("div", { class: "where-text" }, state, count), bar), readout);

  const renderState = (): void => {
    const { run, planProblem } = store.state;
    const name = run?.state ?? "idle";
    const shown = SHOWN[name].filter((action) => action !== "resume" || name !== "stopped" || session.client !== null || run?.savedStep != null);
    const focused = document.activeElement;
    for (const key of Object.keys(buttons) as Action[]) buttons[key].hidden = !shown.includes(key);
    const blocked = planProblem !== null || store.state.catalogue === null;
    buttons.start.disabled = blocked;
    buttons.step.disabled = name === "running" || name === "preparing" || (blocked && name !== "paused" && name !== "stopped");
    buttons.pause.disabled = name === "preparing" || session.awaited !== null;
    // One thing at a time is the obvious next one.
    buttons.resume.classList.toggle("primary", name === "paused");
    setText(buttons.stop, session.awaited === "stop" ? "Stop at once" : "Stop");
    setText(buttons.start, name === "idle" ? "Start" : "Start anew");
    if (focused instanceof HTMLButtonElement && focused.hidden) HEIRS.map((key) => buttons[key]).find((button) => !button.hidden && !button.disabled)?.focus();
    setText(state, session.awaited ? `${session.awaited === "stop" ? "Stopping" : "Pausing"} after the step in progress` : describe(store));
    state.dataset.state = name;
    element.dataset.state = name;
  };
  const renderNumbers = (): void => {
    const { run } = store.state;
    const last = run?.history.last ?? null;
    const evaluation = run?.history.lastEvaluation ?? null;
    const total = run?.info?.last_step ?? 0;
    const step = last?.step ?? run?.info?.first_step ?? 0;
    setText(count, run?.info ? `${whole(step)} / ${whole(total)}` : "");
    count.dataset.step = String(step);
    bar.value = total > 0 ? step / total : 0;
    document.title = run?.state === "running" && total > 0 ? `${Math.floor((100 * step) / total)} % · Kiln` : TITLE;
    readout.hidden = run === null;
    setNumber(numbers.loss, last?.loss, measure);
    setNumber(numbers.validation, evaluation?.val_loss, measure);
    accuracy.hidden = evaluation?.exact_match == null;
    setNumber(numbers.accuracy, evaluation?.exact_match, percent);
    f1.hidden = evaluation?.macro_f1 == null;
    setNumber(numbers.f1, evaluation?.macro_f1, measure);
    setNumber(numbers.speed, last?.tokens_per_second, short);
    setNumber(numbers.elapsed, last?.seconds, duration);
    const perStep = run?.info && last && last.tokens_per_second > 0 ? run.info.tokens_per_step / last.tokens_per_second : null;
    setNumber(numbers.left, perStep === null || run?.state === "finished" ? null : (total - step) * perStep, duration);
  };
  store.watch(["run", "plan", "catalogue"], renderState);
  // At most four times a second: a small model reports hundreds of steps in one.
  store.watch(["run", "history"], throttled(250, renderNumbers));
  return element;
}

function action(testid: Action, text: string, title: string): HTMLButtonElement {
  return el("button", { type: "button", class: testid === "start" || testid === "resume" ? "primary" : "", testid, title }, text);
}

function setNumber(element: HTMLElement, value: number | null | undefined, format: (value: number) => string): void {
  setText(element, value === null || value === undefined || !Number.isFinite(value) ? "–" : format(value));
  element.dataset.value = value === null || value === undefined ? "" : String(value);
}

/** Changes with the state only, never with each step: it is read aloud. */
function describe(store: Store): string {
  const { run } = store.state;
  if (!run && store.state.planProblem) return "Not ready: see the set-up";
  if (!run) return store.state.catalogue ? "Ready" : "Loading the engine";
  const step = run.history.last?.step ?? run.info?.first_step ?? 0;
  switch (run.state) {
    case "preparing":
      return "Preparing the model";
    case "running":
      return `Training on ${run.info?.device ?? "…"}`;
    case "paused":
      return `Paused at step ${whole(step)}`;
    case "stopped":
      return `Stopped at step ${whole(step)}${run.savedStep === null ? "" : ", saved"}`;
    case "failed":
      return `Failed at step ${whole(step)}`;
    case "finished":
      if (run.finish?.reason === "early_stopped") return `Finished early at step ${whole(step)}: no more improvement`;
      return `Finished all ${whole(step)} steps`;
  }
}
