// Plan of the run: size, memory, time, or the reason why it cannot start.

import { el, fill, setText } from "../dom";
import { bytes, duration, measure, short, whole } from "../format";
import type { Planning } from "../planning";
import { term } from "../popover";
import { ProblemBox } from "../problem";
import type { Plan } from "../protocol";
import type { Measurement, Store } from "../store";

/** The live summary of the plan with the measurement of the machine. */
export function planPanel(store: Store, planning: Planning): HTMLElement {
  const problem = new ProblemBox("plan");
  const numbers = el("dl", { class: "numbers" });
  const time = el("p", { class: "hint", testid: "time-estimate", "aria-live": "polite" });
  const button = el("button", { type: "button", testid: "measure" });
  const faster = el("button", { type: "button", class: "quiet", testid: "use-faster", hidden: true });
  const element = el("section", { class: "plan stack", testid: "plan", "aria-label": "Plan" }, problem.element, numbers, time, el("div", { class: "actions" }, button, faster));

  button.addEventListener("click", () => (store.state.measuring ? planning.endMeasuring() : void planning.measure()));
  faster.addEventListener("click", () => {
    const best = fastest(store.state.measurements);
    if (best) store.change(["setup"], ({ setup }) => void (setup.device = best.probe.device));
    button.focus();
  });

  store.watch(["plan"], () => {
    const { plan, planProblem, planning: pending } = store.state;
    element.classList.toggle("pending", pending);
    problem.show(planProblem);
    numbers.hidden = plan === null;
    if (plan) fill(numbers, ...rows(plan).map(([name, value, detail]) => el("div", {}, el("dt", {}, name), el("dd", { title: detail }, value))));
  });
  store.watch(["plan", "measure", "setup", "devices", "run"], () => {
    const { plan, measuring, measurements, setup, devices } = store.state;
    setText(button, measuring ? "Cancel the measurement" : measurements.length > 0 ? "Measure again" : "Measure this machine");
    button.disabled = !measuring && (plan === null || store.state.run?.state === "running");
    setText(time, measuring ? `Timing a step on ${measuring === "cpu" ? "the CPU" : "WebGPU"}…` : plan ? estimate(plan, measurements, setup.device === "auto" ? devices?.chosen : setup.device) : "");
    time.hidden = time.textContent === "";
    const best = fastest(measurements);
    const current = setup.device === "auto" ? devices?.chosen : setup.device;
    faster.hidden = measurements.length < 2 || !best || best.probe.device === current;
    if (best) setText(faster, `Use ${best.probe.device === "cpu" ? "the CPU" : "WebGPU"}, which is faster here`);
  });
  return element;
}

function rows(plan: Plan): [string | HTMLElement, string, string][] {
  return [
    [term("parameter", "Parameters"), short(plan.parameters), whole(plan.parameters)],
    ["Memory, at least", bytes(plan.training_bytes), `${whole(plan.training_bytes)} bytes`],
    ["Tokens a step", whole(plan.tokens_per_step), `${measure(plan.flops_per_step)} operations a step`],
    [term("vocabulary", "Vocabulary"), whole(plan.vocab_size), "tokens"],
    ["Text", `${plan.train_tokens < 1e6 ? whole(plan.train_tokens) : short(plan.train_tokens)} tokens`, `${whole(plan.train_tokens)} to train on, ${whole(plan.val_tokens)} held out`],
    [term("epoch", "Passes over it"), passes(plan), ""],
  ];
}

function passes(plan: Plan): string {
  const share = (plan.tokens_per_step * lastStep(plan)) / plan.train_tokens;
  if (!Number.isFinite(share)) return "–";
  return share >= 100 ? short(Math.round(share)) : String(Number(share.toPrecision(2)));
}

function lastStep(plan: Plan): number {
  const most = Number(plan.config.train?.max_steps ?? 0);
  const end = Number(plan.config.train?.stop_after ?? 0);
  return end > 0 ? Math.min(end, most) : most;
}

/** Time of a step of another size than the one measured, roughly in proportion to its operations. */
function estimate(plan: Plan, measurements: Measurement[], device: string | undefined): string {
  if (measurements.length === 0) return "";
  return measurements
    .map(({ probe, flops_per_step }) => {
      const scale = flops_per_step > 0 ? plan.flops_per_step / flops_per_step : 1;
      const step = probe.step_seconds * scale;
      const name = probe.device === "cpu" ? "CPU" : "WebGPU";
      const about = Math.abs(scale - 1) < 1e-9 ? "" : "about ";
      const total = `${name}: ${about}${duration(step)} a step, ${about}${duration(step * lastStep(plan) + probe.first_step_seconds)} for ${whole(lastStep(plan))} steps`;
      return probe.device === device || measurements.length === 1 ? total : `${name}: ${about}${duration(step)} a step`;
    })
    .join(". ")
    .concat(".");
}

function fastest(measurements: Measurement[]): Measurement | undefined {
  const perOperation = ({ probe, flops_per_step }: Measurement): number => probe.step_seconds / Math.max(1, flops_per_step);
  return [...measurements].sort((a, b) => perOperation(a) - perOperation(b))[0];
}
