// The curves of the run on the page.

import uPlot from "uplot";
import { el, fill, throttled } from "../dom";
import { bytes, duration, measure, percent, short, tick, whole } from "../format";
import { term } from "../popover";
import type { Run, Store } from "../store";
import { Chart } from "./chart";
import type { Tab } from "./tabs";

/** The metrics tab. */
export function metricsTab(store: Store): Tab {
  const loss = new Chart({
    title: term("loss", "Loss"),
    name: "Loss",
    curves: [
      { name: "each step", color: "--train-raw", width: 1 },
      { name: "smoothed", color: "--train" },
      { name: "validation", color: "--validation", points: true },
      { name: "uniform guess", color: "--muted", width: 1, dash: [5, 5] },
    ],
    format: measure,
    tick,
  });
  const perplexity = new Chart({
    title: term("perplexity", "Perplexity"),
    name: "Perplexity",
    curves: [
      { name: "training", color: "--train" },
      { name: "validation", color: "--validation", points: true },
    ],
    format: measure,
    tick,
  });
  const gradient = new Chart({ title: term("gradient_norm", "Gradient norm"), name: "Gradient norm", curves: [{ name: "", color: "--train", width: 1.5 }], format: measure, tick });
  const rate = new Chart({ title: term("learning_rate", "Learning rate"), name: "Learning rate", curves: [{ name: "", color: "--train" }], format: measure, tick });
  const speed = new Chart({ title: term("tokens_per_second", "Tokens per second"), name: "Tokens per second", curves: [{ name: "", color: "--train", width: 1.5 }], format: short, tick });
  const memory = new Chart({
    title: "Memory",
    name: "Memory",
    curves: [
      { name: "WebAssembly", color: "--train" },
      { name: "GPU", color: "--validation" },
    ],
    format: bytes,
  });
  const gpuWork = new Chart({
    title: el("span", {}, term("dispatch", "Dispatches"), " and ", term("submit", "submits"), " a step"),
    name: "Dispatches and submits a step",
    curves: [
      { name: "dispatches", color: "--train" },
      { name: "submits", color: "--validation" },
    ],
    format: short,
    tick,
  });
  const accuracy = new Chart({ title: term("accuracy", "Task accuracy"), name: "Task accuracy", curves: [{ name: "", color: "--validation", points: true }], format: percent, tick: (value) => `${Math.round(value * 100)} %`, range: [0, 1] });

  const charts = el("div", { class: "charts", testid: "charts" }, loss.element, accuracy.element, perplexity.element, gradient.element, rate.element, speed.element, memory.element, gpuWork.element);
  const empty = el("div", { class: "empty" }, el("p", {}, "Press Start to train. The curves appear here as the model learns."));
  const table = el("table", { class: "data" });
  const details = el("details", { class: "minor" }, el("summary", {}, "The newest values as a table"), el("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "Newest values" }, table));
  const element = el("div", { class: "stack" }, empty, charts, details);

  const render = (): void => {
    const run = store.state.run;
    const history = run?.history;
    const some = history !== undefined && (history.curves.xs.length > 0 || history.evaluations.length > 0);
    empty.hidden = some;
    charts.hidden = !some;
    details.hidden = !some;
    if (!run || !history || !some) return;
    accuracy.element.hidden = !history.evaluations.some((report) => report.exact_match != null);
    memory.element.hidden = history.memory.xs.length === 0;
    gpuWork.element.hidden = history.gpuWork.xs.length === 0;
    if (element.offsetParent === null) return;
    drawLosses(run, loss, perplexity);
    const { xs, channels } = history.curves;
    gradient.set([xs, channels[2]!]);
    rate.set([xs, channels[3]!]);
    speed.set([xs, channels[4]!]);
    memory.set([history.memory.xs, ...history.memory.channels]);
    gpuWork.set([history.gpuWork.xs, ...history.gpuWork.channels]);
    accuracy.set([history.evaluations.map((report) => report.step), history.evaluations.map((report) => report.exact_match)]);
    if (details.open) fillTable(table, run);
  };
  // At most four times a second: drawing must never be what the machine is busy with.
  const soon = throttled(250, render);
  details.addEventListener("toggle", soon);
  store.watch(["run", "history"], soon);
  return { name: "Metrics", element, shown: soon };
}

function drawLosses(run: Run, loss: Chart, perplexity: Chart): void {
  const { xs, channels } = run.history.curves;
  const at = run.history.evaluations.map((report) => report.step);
  const validation = run.history.evaluations.map((report) => report.val_loss);
  const joined = uPlot.join([
    [xs, channels[0]!, channels[1]!],
    [at, validation],
  ]);
  const uniform = run.info?.uniform_loss ?? null;
  loss.set([...joined, Array.from(joined[0], () => uniform)] as uPlot.AlignedData);
  const choices = (values: ArrayLike<number | null | undefined> | undefined) =>
    Array.from(values ?? [], (value) => (value === null || value === undefined ? value : Math.exp(Math.min(value, 20))));
  perplexity.set([joined[0], choices(joined[2]), choices(joined[3])] as uPlot.AlignedData);
}

/** The charts for those who do not see them. */
function fillTable(table: HTMLElement, run: Run): void {
  const steps = run.history.newest(10);
  const evaluation = run.history.lastEvaluation;
  const head = ["Step", "Loss", "Gradient norm", "Learning rate", "Tokens per second", "Time"];
  fill(
    table,
    el("caption", {}, evaluation ? `Validation loss ${measure(evaluation.val_loss)}, perplexity ${measure(evaluation.perplexity)} at step ${whole(evaluation.step)}` : "No evaluation yet"),
    el("thead", {}, el("tr", {}, ...head.map((name) => el("th", { scope: "col" }, name)))),
    el(
      "tbody",
      {},
      ...steps.map((report) =>
        el("tr", {}, ...[whole(report.step), measure(report.loss), measure(report.grad_norm), measure(report.learning_rate), short(report.tokens_per_second), duration(report.seconds)].map((text) => el("td", {}, text))),
      ),
    ),
  );
}
